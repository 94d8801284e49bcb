"""``heygemd bench``: measures how long a film takes on this machine, from claim to published, and its memory.

The template is made here: the shipped portrait filmed by a moving, grainy camera and made to speak by the default
engine, encoded at a stated rate; or it is the operator's own.  Each run is the real daemon on a line of its own.  Its
seconds are set against a bare ``ffmpeg`` transcode of the same template in the same run, because machines differ and
are shared: ratios can be compared, seconds hardly.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.common.errors import EngineError, InputError, SetupError
from heygemd.contract.job import Settings, Task
from heygemd.guard.host import cpu_model
from heygemd.scheduler.worker import render_once
from heygemd.store.receipts import machine_facts
from heygemd.trials import bench_network, portrait_film
from heygemd.trials.temporary_daemon import ConfigTables, TemporaryLine, start_daemon, stop_daemon

SAMPLE_SECONDS = 0.25
TURNS = 3
RATE = "6M"
"""Bit rate of the made template: that of a decent camera phone at 720p."""


@dataclass(frozen=True, slots=True)
class Case:
    """One template to measure; its height gives its size (16:9 if generated)."""

    name: str
    height: int
    seconds: int


CASES = (Case("720p25-60s", 720, 60),)
FULL_CASES = (*CASES, Case("1080p25-180s", 1080, 180), Case("1080p25-300s", 1080, 300))


@dataclass(frozen=True, slots=True)
class Run:
    """What one film cost.

    ``ratio_to_transcode``: seconds from claim to published over those of the bare transcode; ``times_realtime``:
    seconds of film per second of work; ``cpu_ratio``: processor time of all processes, the daemon's own start and end
    included, over that of the transcode, which hardly depends on what else the machine does; ``peak_rss_bytes``: the
    largest sum of the resident memory of the daemon and all its children, sampled four times a second.
    """

    name: str
    ratio_to_transcode: float
    times_realtime: float
    cpu_ratio: float
    peak_rss_bytes: int
    seconds: float
    transcode_seconds: float
    renderer: str | None
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Rig:
    """What is measured: the engine, and the folder of the models that it may need."""

    engine: str
    models: Path

    def settings(self, report: str) -> ConfigTables:
        """The daemon's settings for one run."""
        return {
            "daemon": {"models_dir": self.models},
            "intake": {"settle_readings": 1, "settle_seconds": 0.0, "poll_seconds": 0.2, "rescan_seconds": 0.5},
            "limits": {"nice": 0, "free_disk_mib": 1, "free_ram_mib": 1},
            "render": {"engine": self.engine},
            "quality": {"report": report},
            "line": {"allowed_engines": (self.engine,)},
        }


def run(video: Path | None, *, full: bool, as_json: bool, engine: str = "footage") -> int:
    """Measure and print.  Raises ``InputError``, ``SetupError`` or ``EngineError``."""
    runs: list[Run] = []
    network: bench_network.NetworkSpeed | None = None
    with tempfile.TemporaryDirectory(prefix="heygemd-bench-") as home:
        rig = Rig(engine, Path(home) / "models")
        if engine == "wav2lip":
            _note("the network alone")
            network = bench_network.prepare(Path(home), rig.models)
            if not as_json:
                bench_network.print_network(network)
        for case in _cases(video, full):
            folder = Path(home) / case.name
            folder.mkdir()
            template, sound = _material(video, case, folder)
            runs += _measure(case, template, sound, folder, rig)
            shutil.rmtree(folder)
            if not as_json:
                _print_runs(runs[-TURNS:], heading=len(runs) == TURNS)
    if as_json:
        machine = {**machine_facts(), "cpu": cpu_model()}
        result = {"engine": engine, "network": network, "runs": [asdict(r) for r in runs], "machine": machine}
        print(json.dumps(result, indent=1))
    return 0


def _cases(video: Path | None, full: bool) -> tuple[Case, ...]:
    if video is None:
        return FULL_CASES if full else CASES
    if not video.is_file():
        raise InputError(f"--video {video} does not exist.", reason="missing")
    return (Case(video.stem, 0, 0),)


# What is measured


def _material(video: Path | None, case: Case, folder: Path) -> tuple[Path, Path]:
    """The template and a sound as long as it is."""
    if video is not None:
        seconds = _seconds(video)
        return video, _speech(folder / "speech.wav", seconds)
    sound = _speech(folder / "speech.wav", case.seconds)
    return _speaking_template(case, sound, folder), sound


def _speech(path: Path, seconds: float) -> Path:
    """The shipped sentence, over and over."""
    flac = path.with_suffix(".flac")
    portrait_film.write_speech(flac)
    _ffmpeg("-stream_loop", "-1", "-i", flac, "-t", f"{seconds:.3f}", path)
    return path


def _speaking_template(case: Case, sound: Path, folder: Path) -> Path:
    """The portrait, filmed, made to speak, grained and encoded at ``RATE``: a test face, not a still."""
    _note(f"making a template: {case.name}")
    film, work = folder / "portrait.mp4", folder / "speaking"
    portrait_film.make_portrait_film(film, case.seconds)
    work.mkdir()
    settings = Settings(preset="ultrafast", crf=12, report="off")
    task = Task(sound, film, work, sound.name, film.name, settings)
    result = render_once(task, lambda _message: None)
    template = folder / "template.mp4"
    width = case.height * 16 // 9
    picture = f"scale=-2:{case.height},pad={width}:{case.height}:(ow-iw)/2:0:gray,noise=alls=4:allf=t:all_seed=7"
    _ffmpeg(
        "-i", result["film"], "-vf", picture, "-c:v", "libx264", "-preset", "veryfast", "-b:v", RATE,
        "-pix_fmt", "yuv420p", "-c:a", "copy", template,
    )  # fmt: skip
    return template


def _transcode(template: Path, folder: Path) -> tuple[float, float]:
    """Seconds of the bare transcode that everything is compared with, and its processor time."""
    began, used = time.monotonic(), _children_cpu()
    out = folder / "transcoded.mp4"
    _ffmpeg("-i", template, "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", out)
    out.unlink()
    return time.monotonic() - began, _children_cpu() - used


def _measure(case: Case, template: Path, sound: Path, folder: Path, rig: Rig) -> list[Run]:
    """The same pair three times: alone, with whatever the first has left in the cache, and measured at the end."""
    stage, runs = TemporaryLine(folder), []
    (stage.line / "inbox").mkdir(parents=True)
    for turn, report in (("first", "off"), ("cached", "off"), ("reported", "on")):
        _note(f"{case.name}, {turn}")
        stage.write_config("bench", rig.settings(report))
        before = _transcode(template, folder)
        used = _children_cpu()
        shutil.copy(template, stage.line / "inbox" / f"{turn}{template.suffix}")
        shutil.copy(sound, stage.line / "inbox" / f"{turn}{sound.suffix}")
        peak = _run_once(stage)
        used = _children_cpu() - used
        after = _transcode(template, folder)
        bare, bare_cpu = ((a + b) / 2 for a, b in zip(before, after, strict=True))
        log: Row = json.loads((stage.line / "outbox" / f"{turn}.json").read_text())
        runs.append(_run(f"{case.name}-{turn}", log, bare, used / bare_cpu, peak))
    return runs


def _run_once(stage: TemporaryLine) -> int:
    """One ``run --once``; the peak of its memory in bytes."""
    daemon, peak = start_daemon(stage, "--once"), 0
    try:
        while daemon.poll() is None:
            peak = max(peak, sum(_resident(pid) for pid in _family(daemon.pid)))
            time.sleep(SAMPLE_SECONDS)
    finally:
        stop_daemon(daemon)
    if daemon.returncode:
        reasons = " ".join(path.read_text() for path in stage.home.rglob("reason.txt"))
        problem = f"The run exited with code {daemon.returncode}. {reasons}".strip()
        raise EngineError(problem, detail=stage.last_output())
    return peak


def _run(name: str, log: Row, bare: float, cpu_ratio: float, peak: int) -> Run:
    """The row of one run from its film's log; ``bare``: seconds of the transcode."""
    times, engine = checked.row(log, "times"), checked.row(log, "engine")
    claimed, published = (datetime.fromisoformat(checked.text(times, key)) for key in ("claimed", "published"))
    seconds = (published - claimed).total_seconds()
    stages = checked.rows(log, "stages")
    return Run(
        name=name,
        ratio_to_transcode=round(seconds / bare, 3),
        times_realtime=round(checked.number(checked.row(log, "film"), "seconds") / seconds, 3),
        cpu_ratio=round(cpu_ratio, 3),
        peak_rss_bytes=peak,
        seconds=round(seconds, 2),
        transcode_seconds=round(bare, 2),
        renderer=checked.text(engine, "renderer") or None,
        stages={checked.text(stage, "name"): checked.number(stage, "seconds") for stage in stages},
    )


# The pieces


def _family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    todo = [pid]
    while todo:
        one = todo.pop()
        yield one
        todo += children.get(one, [])


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _children_cpu() -> float:
    """Seconds of processor time of all children that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(video: Path) -> float:
    argv = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", f"file:{video}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    try:
        return float(done.stdout)
    except ValueError:
        raise InputError(f"--video {video}: its length cannot be determined.", detail=done.stderr) from None


def _ffmpeg(*args: object) -> None:
    argv = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, args)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=7200)
    except FileNotFoundError as error:
        raise SetupError("ffmpeg is not installed (Debian, Ubuntu: apt-get install ffmpeg).") from error
    if done.returncode:
        raise SetupError("ffmpeg failed during the benchmark.", detail=done.stderr[-2000:])


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_runs(runs: list[Run], *, heading: bool) -> None:
    if heading:
        heads = f"{'× bare ffmpeg':>14} {'× its CPU':>10} {'× real time':>12} {'peak memory':>12}"
        print(f"{'run':24} {'seconds':>8} {heads}  stages")
    for one in runs:
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.stages.items())
        print(
            f"{one.name:24} {one.seconds:8.1f} {one.ratio_to_transcode:14.2f} {one.cpu_ratio:10.2f} "
            f"{one.times_realtime:12.2f} {one.peak_rss_bytes / 2**20:8.0f} MiB  {stages}"
        )
