"""The journal's native protocol, against a socket of the test's own."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heygemd.common import log
from heygemd.common.log import journald


def parse(data: bytes) -> dict[str, str]:
    """What journald makes of a datagram."""
    fields = {}
    while data:
        head, _, data = data.partition(b"\n")
        if b"=" in head:
            name, _, value = head.partition(b"=")
        else:
            length = int.from_bytes(data[:8], "little")
            name, value, data = head, data[8 : 8 + length], data[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A journal that listens; the log is set up as under systemd."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "socket"))
    listener.settimeout(2)
    monkeypatch.setattr(journald, "SOCKET", tmp_path / "socket")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with (tmp_path / "stderr").open("w") as stream:
        stat = os.fstat(stream.fileno())
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        log.setup(file=tmp_path / "run.log")
        yield listener
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    listener.close()


def heard(journal: socket.socket) -> dict[str, str]:
    return parse(journal.recv(1 << 20))


def test_an_event_arrives_with_its_fields_and_nothing_on_stderr(journal: socket.socket, tmp_path: Path) -> None:
    log.get(line="main").info("film_delivered", job="20261122-1.2", seconds=1.5, path="/srv/课程.mp4", since=None)
    fields = heard(journal)
    assert fields == {
        "MESSAGE": "film_delivered line=main job=20261122-1.2 seconds=1.5 path=/srv/课程.mp4 since=None",
        "PRIORITY": "6", "SYSLOG_IDENTIFIER": "heygemd", "MESSAGE_ID": journald.message_id("film_delivered"),
        "HEYGEMD_EVENT": "film_delivered", "HEYGEMD_JOB": "20261122-1.2", "HEYGEMD_DROP": "20261122-1",
        "HEYGEMD_LINE": "main", "HEYGEMD_SECONDS": "1.5", "HEYGEMD_PATH": "/srv/课程.mp4",
    }  # fmt: skip
    assert (tmp_path / "stderr").read_text() == ""
    assert "film_delivered" in (tmp_path / "run.log").read_text()


def test_a_value_with_line_ends_cannot_forge_a_field(journal: socket.socket) -> None:
    log.get().error("worker_died", reason="first\nPRIORITY=0\nlast", name=os.fsdecode(b"caf\xe9"))
    fields = heard(journal)
    assert fields["PRIORITY"] == "3"
    assert fields["HEYGEMD_REASON"] == "first\nPRIORITY=0\nlast"
    assert fields["HEYGEMD_NAME"] == "caf\\udce9"


def test_the_id_of_an_event_is_the_same_for_ever() -> None:
    assert journald.message_id("film_delivered") == "ecbeef3fea10557c8d4b622ed50aee0c"
    assert journald.message_id("film_delivered") != journald.message_id("job_state")


def test_a_long_value_is_cut_so_that_the_entry_fits(journal: socket.socket) -> None:
    log.get().info("library_said", text="x" * 1_000_000)
    assert len(heard(journal)["HEYGEMD_TEXT"]) == journald.VALUE_BYTES


def test_what_a_library_says_arrives_too(journal: socket.socket) -> None:
    logging.getLogger("asyncio").warning("took %s s", 3)
    fields = heard(journal)
    assert (fields["HEYGEMD_EVENT"], fields["HEYGEMD_LIBRARY"], fields["PRIORITY"]) == ("library_said", "asyncio", "4")


def test_a_flood_is_bounded_and_told_of_afterwards(tmp_path: Path) -> None:
    now = [0.0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.setblocking(False)
        handler = journald.Handler(log.words, tmp_path / "socket", clock=lambda: now[0])
        record = logging.LogRecord("heygemd", logging.INFO, "", 0, "tick", None, None)
        taken = 0
        for _ in range(journald.BURST + 50):
            handler.emit(record)
            try:
                listener.recv(1 << 16)
                taken += 1
            except BlockingIOError:
                pass
        assert taken == journald.BURST
        now[0] = journald.BURST_SECONDS
        handler.emit(record)
        assert parse(listener.recv(1 << 16))["HEYGEMD_COUNT"] == "50"
        handler.close()


def test_a_journal_that_is_away_for_a_moment_holds_nobody_up(journal: socket.socket, tmp_path: Path) -> None:
    (tmp_path / "socket").unlink()
    journal.close()
    log.get().info("into_the_void")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "socket"))
        again.settimeout(2)
        log.get().info("heard_again")
        assert parse(again.recv(1 << 16))["HEYGEMD_EVENT"] == "heard_again"


def test_no_journal_at_all_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        journald.Handler(log.words, tmp_path / "nobody")
