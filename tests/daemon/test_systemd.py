"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from heygemd.daemon.systemd import STATUS_LETTERS, Notifier, plain
from heygemd.status.summary import DaemonWork, summary


def work(**given: object) -> DaemonWork:
    return DaemonWork(**{"state": "running", "queued": 0, "delivered": 4, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (work(), "idle, 4 delivered"),
        (work(queued=2), "running, 2 queued"),
        (work(state="paused", queued=2), "paused, 2 queued"),
        (work(name="lesson"), "job 1 of 1: lesson starting"),
        (
            work(name="lesson-12", number=3, queued=14, progress={"stage": "render", "frame": 41, "of": 100}),
            "job 3 of 17: lesson-12 render 41 %",
        ),
        (work(state="stopping", name="lesson"), "stopping; job 1 of 1: lesson starting"),
        (
            work(queued=2, deferred=[("later", "2026-11-22T15:00:01+00:00"), ("memory", "2026-11-22T14:02:59+00:00")]),
            "2 waiting since 14:02: memory",
        ),
        (work(lost=["nas"]), "idle, 4 delivered; line nas unavailable"),
    ],
)
def test_the_summary_is_what_a_person_wants_to_see(now: DaemonWork, told: str) -> None:
    assert summary(now) == told


def test_the_status_is_one_short_line_of_ascii_whatever_a_name_holds() -> None:
    assert plain("课程\n\x1b[2J \udce9") == "\\u8bfe\\u7a0b  [2J \\udce9"
    assert len(plain("x" * 1000)) == STATUS_LETTERS


def test_the_messages_arrive_as_systemd_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        notifier = Notifier()
        notifier.more_time(15)
        notifier.beat(lambda: "课")
        notifier.beat(lambda: "so soon again")
        notifier.ready()
        notifier.stopping()
        heard = [manager.recv(4096) for _ in range(6)]
    assert heard == [
        b"EXTEND_TIMEOUT_USEC=15000000", b"WATCHDOG=1", b"STATUS=\\\\u8bfe", b"WATCHDOG=1", b"READY=1", b"STOPPING=1",
    ]  # fmt: skip
