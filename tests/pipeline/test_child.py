"""The child as a real process, spoken to in JSON lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.common.errors import EngineError
from heygemd.contract.job import CommandSettings, Task
from heygemd.pipeline import __main__ as child_module
from heygemd.pipeline.__main__ import Reporter, answer
from tests.pipeline.films import QUICK, numbered, tone

MUX = ("ffmpeg", "-v", "error", "-y", "-i", "{video}", "-i", "{audio}", "-map", "0:v", "-map", "1:a", "{output}")


class Talk:
    """One child and its pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heygemd.pipeline"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.serial = 0

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.serial += 1
        self.process.stdin.write(json.dumps({"id": str(self.serial), **request}) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert told["id"] == str(self.serial)
        return told

    def ask(self, **request: Any) -> list[dict[str, Any]]:
        self.send(**request)
        told = [self.hear()]
        while told[-1]["type"] not in ("done", "failed"):
            told.append(self.hear())
        return told

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def child() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.end()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("job")
    settings = replace(QUICK, engine="command", command=CommandSettings(MUX))
    return Task(tone(folder / "a.wav", 1.0), numbered(folder / "v.mp4", 25), folder, "教程 1.wav", "é.mp4", settings)


def test_a_task_travels_unchanged(job: Task) -> None:
    assert Task.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_one_child_does_many_tasks_and_stays_light(child: Talk, job: Task) -> None:
    assert child.ask(task="ping")[-1]["result"]["pid"] == child.process.pid
    told = child.ask(task="probe", path=str(job.video), name="é.mp4", kind="video")
    assert told[-1]["result"]["video"]["codec"] == "h264"
    told = child.ask(task="render", job=job.to_json())
    assert told[-1]["type"] == "done"
    assert told[-1]["result"]["verified"] is True
    assert {line["type"] for line in told} == {"progress", "event", "done"}
    assert {"stage", "frame", "of", "fps", "eta"} <= told[0].keys()
    maps = Path(f"/proc/{child.process.pid}/maps").read_text()
    assert not [heavy for heavy in ("torch", "cv2", "scipy") if f"/{heavy}/" in maps]


def test_a_refusal_is_told_and_the_child_goes_on(child: Talk, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    told = child.ask(task="probe", path=str(tmp_path / "x"), name="空.mp4", kind="video")
    error = told[-1]["error"]
    assert (told[-1]["type"], error["code"], error["reason"]) == ("failed", "input", "empty_file")
    assert error["message"].startswith("空.mp4 is empty")
    assert child.ask(task="dance")[-1]["error"]["code"] == "engine"
    assert child.ask(task="ping")[-1]["type"] == "done"


def test_the_end_of_stdin_ends_everything(child: Talk, job: Task, tmp_path: Path) -> None:
    note = tmp_path / "alive"
    code = f"import time\nwhile True: open({str(note)!r}, 'a').write('x'); time.sleep(.05)"
    argv = (sys.executable, "-c", code, "{audio}", "{video}", "{output}")
    slow = replace(job, settings=replace(job.settings, command=CommandSettings(argv)))
    child.send(task="render", job=slow.to_json())
    _await(note.exists)
    assert child.process.stdin is not None
    child.process.stdin.close()
    child.process.wait(10)
    _await_rest(note)


def test_the_daemon_s_kill_reaches_the_command_and_its_children(child: Talk, job: Task, tmp_path: Path) -> None:
    note = tmp_path / "alive"
    loop = f"while true; do echo x >> {note}; sleep 0.05; done"
    argv = ("sh", "-c", f"({loop}) & wait", "{audio}", "{video}", "{output}")
    slow = replace(job, settings=replace(job.settings, command=CommandSettings(argv)))
    child.send(task="render", job=slow.to_json())
    _await(note.exists)
    os.killpg(child.process.pid, signal.SIGKILL)
    _await_rest(note)


def _await(condition: Any) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited 10 s in vain")


def _await_rest(note: Path) -> None:
    """The file must stop growing."""

    def rests() -> bool:
        size = note.stat().st_size
        time.sleep(0.3)
        return note.stat().st_size == size

    _await(rests)


def test_progress_is_told_at_most_four_times_a_second_and_at_the_end() -> None:
    out, now = StringIO(), [0.0]
    tell = Reporter(out, "7", clock=lambda: now[0])
    for frame in range(101):
        now[0] = frame / 50
        tell.progress("render", frame, 100)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert 8 <= len(lines) <= 10
    assert (lines[0]["frame"], lines[-1]["frame"]) == (0, 100)
    middle = lines[4]
    assert middle["fps"] == pytest.approx(50, abs=1)
    assert middle["eta"] == pytest.approx((100 - middle["frame"]) / 50, abs=0.1)


def test_the_first_frame_is_told_at_once_and_a_silent_stage_says_that_it_goes_on() -> None:
    out, now = StringIO(), [0.0]
    tell = Reporter(out, "7", clock=lambda: now[0])
    tell.again()
    assert out.getvalue() == "", "there is nothing to repeat"
    tell.progress("render", 0, 100)
    now[0] = 0.01
    tell.progress("render", 1, 100)
    for now[0] in (1.0, 1.5, 1.6, 3.0):
        tell.again()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    told = [(line["frame"], line.get("again", False)) for line in lines]
    assert told == [(0, False), (1, False), (1, True), (1, True)]
    assert lines[-1]["eta"] > lines[-2]["eta"] > lines[1]["eta"], "what was expected moves away"


def test_two_seconds_never_pass_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_AGAIN_SECONDS", 0.02)
    out, deadline = StringIO(), time.monotonic() + 30
    tell = Reporter(out, "7")
    with tell.repeating():
        tell.progress("join", 0, 0)
        while len(out.getvalue().splitlines()) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) >= 4 and [line["stage"] for line in lines] == ["join"] * len(lines)


def test_numpy_s_numbers_and_paths_can_be_told() -> None:
    out = StringIO()
    Reporter(out, "1").event("measured", value=np.float32(0.5), places=np.arange(2), path=Path("/a"))
    told = json.loads(out.getvalue())
    assert (told["value"], told["places"], told["path"], told["level"]) == (0.5, [0, 1], "/a", "info")


def test_a_defect_fails_the_task_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr(child_module, "_ping", broken)
    out = StringIO()
    answer({"id": "1", "task": "ping"}, Reporter(out, "1"))
    error = json.loads(out.getvalue())["error"]
    assert error["code"] == "engine"
    assert "ZeroDivisionError" in error["detail"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"crv": 3}, "job.settings.crv is unknown"),
        ({"crf": "3"}, "job.settings.crf must be int, not '3'"),
        ({"duix": {"seconds": None}}, "job.settings.duix.seconds must be float, not None"),
        ({"label": {"colour": "red"}}, "job.settings.label.colour is unknown"),
    ],
)
def test_a_request_with_an_unknown_or_ill_typed_key_is_refused(settings: dict[str, Any], problem: str) -> None:
    out = StringIO()
    task = {"audio": "a", "video": "v", "work": "w", "audio_name": "a", "video_name": "v", "settings": settings}
    answer({"id": "1", "task": "render", "job": task}, Reporter(out, "1"))
    error = json.loads(out.getvalue())["error"]
    assert error["code"] == "engine" and problem in error["message"]


def test_temporary_files_of_a_film_lie_in_its_work_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def lipsync(*_: Any) -> Any:
        seen.append(tempfile.gettempdir())
        raise EngineError("enough seen")

    monkeypatch.setattr("heygemd.pipeline.lipsync", lipsync)
    before = tempfile.gettempdir()
    task = Task(tmp_path / "a", tmp_path / "v", tmp_path, "a", "v", QUICK)
    answer({"task": "render", "job": task.to_json()}, Reporter(StringIO(), "1"))
    assert seen == [str(tmp_path)] and tempfile.gettempdir() == before


def test_matrices_are_multiplied_by_one_thread_and_nobody_else_is_told_so() -> None:
    code = """
import os, sys
from heygemd.pipeline.__main__ import _load_arithmetic
_load_arithmetic()
import numpy
numpy.ones((500, 500)) @ numpy.ones((500, 500))
sys.exit(len(os.listdir("/proc/self/task")) != 1 or "OPENBLAS_NUM_THREADS" in os.environ)
"""
    own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], env=own).returncode == 0
