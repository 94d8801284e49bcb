"""The run log: whole JSON lines whatever a name holds, rotation, short lines for people."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from heygemd.common import log
from heygemd.common.errors import SetupError


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The logging of the test run as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_an_event_is_one_line_of_json_with_what_is_bound(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    log.setup(file=file)
    log.get(job="ab").bind(line="main").info("job_started", attempts=1)
    (event,) = events(file)
    assert list(event)[:3] == ["time", "level", "event"]
    assert event | {"time": ""} == {
        "time": "", "level": "info", "event": "job_started", "job": "ab", "line": "main", "attempts": 1,
    }  # fmt: skip


def test_times_are_local_with_their_offset(tmp_path: Path) -> None:
    log.setup(file=tmp_path / "run.log")
    log.get().info("tick")
    stamp = datetime.fromisoformat(events(tmp_path / "run.log")[0]["time"])
    assert stamp.utcoffset() == datetime.now().astimezone().utcoffset()


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", "老师 😀.wav".encode(), b"two\nlines\r\x1b[31m.mp3"])
def test_any_name_of_a_file_can_be_logged_and_read_back(tmp_path: Path, name: bytes) -> None:
    log.setup(file=tmp_path / "run.log")
    log.get().warning("file_waits", name=os.fsdecode(name), path=Path(os.fsdecode(name)))
    (event,) = events(tmp_path / "run.log")
    assert os.fsencode(event["name"]) == name == os.fsencode(event["path"])


def test_the_file_is_for_user_and_group_and_starts_anew_at_its_size(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "run.log"
    log.setup(file=file, max_mib=1, keep=2)
    for _ in range(50):
        log.get().info("padding", text="x" * 100_000)
    assert sorted(p.name for p in file.parent.iterdir()) == ["run.log", "run.log.1", "run.log.2"]
    assert all(p.stat().st_size <= 1 << 20 for p in file.parent.iterdir())
    assert all(p.stat().st_mode & 0o137 == 0 for p in file.parent.iterdir())


def test_levels_below_the_asked_one_are_left_out(tmp_path: Path) -> None:
    log.setup("warning", tmp_path / "run.log")
    log.get().info("small")
    log.get().error("large")
    assert [e["event"] for e in events(tmp_path / "run.log")] == ["large"]


def test_what_libraries_say_becomes_an_event_that_names_them(tmp_path: Path) -> None:
    log.setup(file=tmp_path / "run.log")
    logging.getLogger("asyncio").warning("took %s s", 3)
    logging.getLogger("watchdog.observers").info("chatter")
    (event,) = events(tmp_path / "run.log")
    assert (event["event"], event["library"], event["message"]) == ("library_said", "asyncio", "took 3 s")


def test_an_exception_is_told_whole(tmp_path: Path) -> None:
    log.setup(file=tmp_path / "run.log")
    try:
        raise KeyError("lost")
    except KeyError:
        log.get().error("unexpected_error", exc_info=True)
    assert "KeyError: 'lost'" in events(tmp_path / "run.log")[0]["exception"]


def test_a_second_setup_replaces_the_first(tmp_path: Path) -> None:
    log.setup(file=tmp_path / "a.log")
    log.setup(file=tmp_path / "b.log")
    log.get().info("once")
    assert log.file() == tmp_path / "b.log"
    assert (tmp_path / "a.log").read_text() == ""
    assert len(events(tmp_path / "b.log")) == 1


def test_a_place_that_cannot_be_written_is_told_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"Set \[daemon\] log_file"):
        log.setup(file=tmp_path / "file" / "run.log")


def test_a_disk_that_is_full_stops_nobody(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    full = tmp_path / "run.log"
    full.symlink_to("/dev/full")
    log.setup(file=full)
    for _ in range(3):
        log.get().info("tick")
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_terminal_gets_short_lines_without_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    log.setup(terminal=True)
    log.get(job="ab").warning("file_waits", name="a b\n\x1b[2J.wav", since=None)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning: file_waits job=ab name='a b\\n\\x1b\[2J.wav' since=None", line)


def test_a_journal_without_its_socket_gets_priorities_instead_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        stat = os.fstat(stream.fileno())
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        monkeypatch.setattr("heygemd.common.log.journald.SOCKET", tmp_path / "nobody")
        log.setup(file=tmp_path / "run.log")
        log.get().error("disk_full")
    assert (tmp_path / "stderr").read_text() == "<3>error: disk_full\n"


def test_a_stderr_that_is_not_the_journals_gets_no_priorities(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:123")  # inherited from a service further up
    log.setup(terminal=True)
    log.get().error("disk_full")
    assert "<3>" not in capsys.readouterr().err


def test_without_setup_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    log.get().warning("nobody_listens")
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "")
