"""Long films by the real daemon: memory that does not grow with length, and an hour that runs through.

Two figures are printed.  The sum of the resident memory (RSS) of the daemon and its children counts what they share
once for each, so it is on the safe side; the sum of the proportional memory (PSS) counts it once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.spawn import environment, python
from heygemd.contract import control
from heygemd.trials import bench
from tests.site import ROOT, ffmpeg

pytestmark = pytest.mark.slow
SPEECH = ROOT / "heygemd" / "data" / "demo_speech.flac"
MOST_MIB = 1536
GROWTH = 1.10


def mib_of(pid: int, what: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Peak:
    """The largest sums seen, MiB, and who held the larger part of the first."""

    rss: float = 0.0
    pss: float = 0.0
    holders: str = ""

    def watch(self, root: int, over: threading.Event) -> None:
        while not over.wait(0.2):
            found = {pid: mib_of(pid, "Rss") for pid in bench._family(root)}
            if sum(found.values()) > self.rss:
                self.rss = sum(found.values())
                self.holders = ", ".join(f"{mib:.0f}" for mib in sorted(found.values(), reverse=True)[:4])
            self.pss = max(self.pss, sum(mib_of(pid, "Pss") for pid in found))


def speech(path: Path, seconds: int) -> Path:
    ffmpeg("-stream_loop", -1, "-i", SPEECH, "-t", seconds, "-ar", 16000, "-ac", 1, path)
    return path


def daemon_makes(folder: Path, video: Path, audio: Path, quality: str = "on") -> tuple[Peak, dict[str, Any]]:
    """One film by a daemon of its own that knows nothing of the template; its peak and its log."""
    inbox = folder / "line" / "inbox"
    inbox.mkdir(parents=True)
    config = folder / "config.toml"
    places = {"state": json.dumps(str(folder / "state")), "root": json.dumps(str(folder / "line"))}
    places |= {"models": json.dumps(str(folder / "models")), "engine": "footage"}
    config.write_text(bench.CONFIG.format(report=quality, **places))
    for source in (video, audio):
        shutil.copy(source, inbox / f"film{source.suffix}")
    with (folder / "said").open("wb") as said:
        daemon = subprocess.Popen(
            [*python("heygemd"), "run", "--once", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=said,
            stderr=said, env=environment(),
        )  # fmt: skip
    peak, over, began = Peak(), threading.Event(), time.monotonic()
    watcher = threading.Thread(target=peak.watch, args=(daemon.pid, over))
    watcher.start()
    code = daemon.wait()
    over.set()
    watcher.join()
    assert code == 0, [path.read_text() for path in folder.rglob("reason.txt")] or (folder / "said").read_text()
    log = json.loads((folder / "line" / "outbox" / "film.json").read_text())
    stages = ", ".join(f"{stage['name']} {stage['seconds']:.0f}" for stage in log["stages"])
    print(
        f"\n{video.name} under {audio.name}: {log['film']['frames']} frames in {time.monotonic() - began:.0f} s; peak "
        f"of daemon and children {peak.rss:.0f} MiB (RSS: {peak.holders} …), {peak.pss:.0f} MiB (PSS); {stages}"
    )
    shutil.rmtree(folder)
    return peak, log


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Peak]:
    """A folder with a speaking template of a minute of 720p25, ``template-1min.mp4``, and the peak of its film."""
    folder = tmp_path_factory.mktemp("minute")
    made = bench._speaking_template(bench.Case("short", 720, 15), speech(folder / "short.wav", 15), folder)
    template = folder / "template-1min.mp4"
    ffmpeg("-stream_loop", 3, "-i", made, "-c", "copy", template)
    made.unlink()
    return folder, daemon_makes(folder / "run", template, speech(folder / "speech-1min.wav", 60))[0]


@pytest.mark.parametrize("length", [1, 10], ids=["to and fro", "a template as long"])
def test_ten_minutes_take_hardly_more_memory_than_one(minute: tuple[Path, Peak], tmp_path: Path, length: int) -> None:
    folder, one = minute
    template = folder / "template-1min.mp4"
    if length > 1:
        template = tmp_path / f"template-{length}min.mp4"
        ffmpeg("-stream_loop", length - 1, "-i", folder / "template-1min.mp4", "-c", "copy", template)
    ten, log = daemon_makes(tmp_path / "run", template, speech(tmp_path / "speech-10min.wav", 600))
    growth = [100 * (now / before - 1) for now, before in ((ten.rss, one.rss), (ten.pss, one.pss))]
    print(f"ten minutes against one: {growth[0]:+.1f} % (RSS), {growth[1]:+.1f} % (PSS)")
    assert log["film"]["frames"] == 15_000
    assert ten.rss <= GROWTH * one.rss and ten.rss <= MOST_MIB


def test_the_first_frame_of_the_next_film_follows_at_once(minute: tuple[Path, Peak], tmp_path: Path) -> None:
    """Of a template that is known, while another film of it is rendered; the seconds are printed, not judged."""
    folder, _ = minute
    inbox, socket = tmp_path / "line" / "inbox", tmp_path / "state" / "heygemd.sock"
    inbox.mkdir(parents=True)
    config = tmp_path / "config.toml"
    places = {"state": json.dumps(str(tmp_path / "state")), "root": json.dumps(str(tmp_path / "line"))}
    places |= {"models": json.dumps(str(tmp_path / "models")), "engine": "footage"}
    config.write_text(bench.CONFIG.format(report="off", **places))
    daemon = subprocess.Popen([*python("heygemd"), "run", "--config", str(config)], env=environment())
    ended: dict[str, float] = {}
    begun: dict[str, float] = {}
    try:
        while not socket.exists():
            time.sleep(0.05)
        for name, seconds in (("a", 8), ("b", 30), ("c", 60)):
            shutil.copy(speech(tmp_path / "speech.wav", seconds), inbox / f"{name}.wav")
            shutil.copy(folder / "template-1min.mp4", inbox / f"{name}.mp4")
            while not any(path.name.startswith(name) for path in (tmp_path / "line" / "processing").rglob("*.mp4")):
                time.sleep(0.05)
        before = ""
        while "c" not in begun:
            row = next(iter(control.call(socket, {"cmd": "status"})["running"]), {})
            name = row.get("name", "")
            if before and name != before:
                ended[before] = time.monotonic()
            if row.get("stage") == "render" and row.get("frame"):
                begun.setdefault(name, time.monotonic())
            before = name or before
            time.sleep(0.005)
    finally:
        daemon.terminate()
        daemon.wait()
    print(f"\nfrom the end of a film to the first frame of the next, of a minute: {begun['c'] - ended['b']:.2f} s")
    log = [json.loads(line) for line in (tmp_path / "state" / "heygemd.log").read_text().splitlines()]
    assert [entry["event"] for entry in log if entry.get("job") == row["id"]].count("plan_recalled") == 1


def test_an_hour_runs_through(tmp_path: Path) -> None:
    """A small picture at five a second: what grows with the length of the sound is as much as at any rate."""
    still, template = tmp_path / "portrait.jpg", tmp_path / "template.mp4"
    shutil.copy(ROOT / "heygemd" / "data" / "portrait.jpg", still)
    sway = "crop=432:324:'8+4*sin(n/4)':'4+3*sin(n/3)',scale=480:360,format=yuv420p"
    ffmpeg("-loop", 1, "-i", still, "-vf", sway, "-r", 5, "-t", 30, template)
    peak, log = daemon_makes(tmp_path / "run", template, speech(tmp_path / "speech-1h.flac", 3600))
    assert log["film"]["frames"] == 18_000 and log["film"]["seconds"] == pytest.approx(3600, abs=0.2)
    assert peak.rss <= MOST_MIB
