"""The command engine: no shell, a deadline, nothing left running, the result verified like any other."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import EngineError, SetupError
from heygemd.contract.job import CommandSettings, Quiet, Settings, Task
from heygemd.pipeline import lipsync
from heygemd.pipeline.engines.command import fill
from tests.pipeline.films import QUICK, numbered, tone

MUX = ("ffmpeg", "-v", "error", "-y", "-i", "{video}", "-i", "{audio}", "-map", "0:v", "-map", "1:a", "-c:v", "copy")
PLACES = ("{audio}", "{video}", "{output}")


class Ear(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def progress(self, stage: str, frame: int, of: int) -> None:
        self.heard.append((stage, frame, of))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Two seconds of film, two seconds of sound, a command that joins them."""
    video, audio = numbered(tmp_path / "v.mp4", 50), tone(tmp_path / "a.wav", 2.0)
    work = tmp_path / "work"
    work.mkdir()
    settings = replace(QUICK, engine="command", command=CommandSettings((*MUX, "{output}"), 20.0))
    return Task(audio, video, work, "lesson.wav", "lesson.mp4", settings)


def commanded(task: Task, *argv: str, seconds: float = 20.0, **changes: Any) -> Task:
    return replace(task, settings=replace(task.settings, command=CommandSettings(argv, seconds), **changes))


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *PLACES)


def test_the_program_s_film_is_measured_and_delivered(task: Task) -> None:
    told = lipsync(replace(task, settings=replace(task.settings, report="on")), Quiet()).to_json()
    assert told["film"] == str(task.work / "film.mp4")
    assert (task.work / "film.mp4").is_file()
    assert told["engine"]["name"] == "command"
    assert told["verified"] is True
    assert told["output"]["frames"] == 50
    assert [stage["name"] for stage in told["stages"]] == ["probe", "command", "verify", "report"]
    assert told["quality"]["grade"] is None and "no face" in told["quality"]["problem"]
    assert told["inputs"]["audio"]["audio"]["sample_rate"] == 16000


def test_places_are_filled_in_anywhere_and_never_by_a_shell() -> None:
    settings = Settings(command=CommandSettings(("run", "--in={video}", "{audio}", "-o", "{output}", "$(id); `id`")))
    argv = fill(settings, Path("/a b.wav"), Path("/{output}.mp4"), Path("/o.mp4"))
    assert argv == ["run", "--in=/{output}.mp4", "/a b.wav", "-o", "/o.mp4", "$(id); `id`"]


def test_a_faulty_template_names_every_fault() -> None:
    with pytest.raises(SetupError, match=r"\{film\} is unknown, \{video\} is missing, \{output\} is missing"):
        fill(Settings(command=CommandSettings(("run", "{audio}", "{film}"))), Path("a"), Path("v"), Path("o"))
    with pytest.raises(SetupError, match="has no command"):
        fill(Settings(), Path("a"), Path("v"), Path("o"))


def test_a_failing_program_is_quoted(task: Task) -> None:
    broken = commanded(task, *python("import sys; print('no licence', file=sys.stderr); sys.exit(7)"))
    with pytest.raises(EngineError, match=r"exit code 7.*no licence") as caught:
        lipsync(broken, Quiet())
    assert caught.value.detail == "no licence"
    assert not (task.work / "film.mp4").exists()


def test_a_program_that_leaves_no_film_has_failed(task: Task) -> None:
    (task.work / "command.mp4").write_bytes(b"of an earlier attempt")
    with pytest.raises(EngineError, match="wrote no film"):
        lipsync(commanded(task, *python("pass")), Quiet())


def test_a_film_that_is_none_is_refused(task: Task) -> None:
    junk = commanded(task, *python("import sys; open(sys.argv[3], 'w').write('hello')"))
    with pytest.raises(EngineError, match="finished film cannot be read"):
        lipsync(junk, Quiet())
    assert not (task.work / "film.mp4").exists()


def test_a_film_of_another_length_is_refused(task: Task) -> None:
    with pytest.raises(EngineError, match=r"sound lasts 1\.\d+ s instead of 2\.000 s"):
        lipsync(commanded(task, *MUX, "-t", "1.4", "{output}"), Quiet())


def test_a_program_without_end_is_ended_with_all_it_started(task: Task, tmp_path: Path) -> None:
    note = tmp_path / "alive"
    code = (
        "import subprocess, sys, time, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        'child = \'import sys, time\\nwhile True: open(sys.argv[1], "a").write("x"); time.sleep(.05)\'\n'
        f"subprocess.Popen([sys.executable, '-c', child, {str(note)!r}])\n"
        "print('working', flush=True)\n"
        "time.sleep(600)\n"
    )
    ear = Ear()
    began = time.monotonic()
    with pytest.raises(EngineError, match="took longer than 2 seconds") as caught:
        lipsync(commanded(task, *python(code), seconds=2.0), ear)
    assert time.monotonic() - began < 15
    assert caught.value.detail == "working"
    assert ("command", 0, 0) in ear.heard
    size = note.stat().st_size
    assert size > 0
    time.sleep(0.4)
    assert note.stat().st_size == size


def test_a_missing_program_is_a_fault_of_the_machine(task: Task) -> None:
    with pytest.raises(SetupError, match="/opt/none is not installed"):
        lipsync(commanded(task, "/opt/none", *PLACES), Quiet())


def test_an_engine_that_is_not_there_says_what_is(task: Task) -> None:
    with pytest.raises(SetupError, match='"musetalk" is not installed'):
        lipsync(replace(task, settings=replace(task.settings, engine="musetalk")), Quiet())
