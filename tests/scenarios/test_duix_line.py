"""The real daemon with a stand-in container in a process of its own: delivered once, whoever dies or is away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site import LOOKS, ROOT, Site


class Container:
    """A process that can be killed and started again on its port and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "temp").mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self, **faults: Any) -> None:
        argv = [sys.executable, "-m", "tests.fakes.duix", str(self.folder), str(self.port), json.dumps(faults)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline()

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "temp").iterdir())


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    container = Container(tmp_path / "shared")
    yield container
    container.kill()


@pytest.fixture
def line(site: Site, container: Container) -> Site:
    """A line whose films the container makes."""
    site.extra = (
        f'[duix]\nurl = "http://127.0.0.1:{container.port}"\nshared = "{container.folder}"\npoll_seconds = 0.05\n'
    )
    site.write_config()
    timeouts = {"Timeouts.busy": 2.0, "Timeouts.silence": 2.0}
    site.hurry = LOOKS | {
        "heygemd.common.aio": LOOKS["heygemd.common.aio"] | {"Pace.engine_away": 0.5},
        "heygemd.pipeline.engines.duix.submission": timeouts,
    }
    text = site.config.read_text().replace('engine = "command"', 'engine = "duix"')
    site.config.write_text(text.replace('allowed_engines = ["command", "footage"]', 'allowed_engines = ["duix"]'))
    return site


def drop(site: Site, media: Path) -> None:
    shutil.copy(media / "voice.wav", site.inbox / "lesson.wav")
    shutil.copy(media / "film.mp4", site.inbox / "lesson.mp4")


def delivered(site: Site) -> dict[str, Any]:
    """The film's log, once its inputs have moved on."""
    site.until(lambda: len(site.tree("done")) == 2, "the film is delivered", 120)
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"] and site.tree("failed") == []
    told: dict[str, Any] = json.loads((site.outbox / "lesson.json").read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(told, json.loads((ROOT / "heygemd" / "data" / "film-log.schema.json").read_text()))
    return told


def test_a_film_is_delivered_after_both_sides_were_killed_in_the_middle(
    line: Site, container: Container, media: Path
) -> None:
    container.start(hang=True)
    line.start()
    drop(line, media)
    line.until(lambda: '"duix_sent"' in (line.state / "heygemd.log").read_text(), "the task is accepted")
    line.kill()
    container.kill()
    line.start()
    line.until(lambda: "cannot be reached" in json.dumps(line.status()), "status says what the job waits for", 90)
    assert line.tree("failed") == []
    container.start()
    told = delivered(line)
    assert told["engine"]["name"] == "duix" and told["film"]["frames"] == 25
    assert told["deferrals"]["count"] >= 1 and "cannot be reached" in told["deferrals"]["last_reason"]
    assert container.names() == []
    assert line.stop() == 0
    sent = [event for event in line.events() if event["event"] == "duix_sent"]
    assert len(sent) == len({event["code"] for event in sent}) == 2


def test_a_busy_container_holds_up_nobody_else(line: Site, container: Container, media: Path) -> None:
    text = line.config.read_text().replace('allowed_engines = ["duix"]', 'allowed_engines = ["duix", "command"]')
    line.config.write_text(text + '[line.folders.other]\nengine = "command"\n')
    line.start()
    drop(line, media)
    line.until(lambda: "cannot be reached" in json.dumps(line.status()), "the job waits")
    (line.inbox / "other").mkdir()
    for name in ("voice.wav", "film.mp4"):
        shutil.copy(media / name, line.inbox / "other" / f"quick{Path(name).suffix}")
    line.until(lambda: "other/quick.mp4" in line.tree("outbox"), "the other film is delivered", 60)
    asked = lambda: [e for e in line.events() if e["event"] == "job_state" and e["to"] == "running"]  # noqa: E731
    line.until(lambda: len(asked()) >= 4, "the container is asked again", 60)
    waits = [event for event in line.events() if event["event"] == "job_deferred"]
    assert len(waits) == 1, "one wait, however often it is asked"
    assert "lesson.mp4" not in line.tree("outbox")
    assert line.stop() == 0


def test_a_full_folder_of_the_container_makes_the_job_wait_with_the_numbers(
    line: Site, container: Container, media: Path
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(container.folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        (container.folder / "temp").mkdir()
        ballast = container.folder / "ballast"
        ballast.write_bytes(bytes(60 << 20))
        container.start()
        line.start()
        drop(line, media)
        reason = lambda: str([row["deferred_reason"] for row in line.status().get("queue", [])])  # noqa: E731
        line.until(lambda: "MiB are free" in reason(), "the job waits for room", 60)
        assert f"MiB of disk for {container.folder} and 1 MiB must stay free" in reason()
        assert container.names() == [] and line.tree("failed") == []
        ballast.unlink()
        told = delivered(line)
        assert told["attempts"] == 1 and f"for {container.folder}" in told["deferrals"]["last_reason"]
        assert [event["kind"] for event in line.events() if event["event"] == "job_deferred"] == ["disk"]
    finally:
        line.kill()
        container.kill()
        subprocess.run(["umount", "-l", str(container.folder)], check=False)
