"""The status on a terminal: it fits, it tells the same, and no name can steer the terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from heygemd.contract.status import read_status
from heygemd.status import terminal as status_terminal
from heygemd.status.terminal import Section, StatusScreen
from tests.cli.test_main import daemon

NOW = datetime.fromisoformat("2026-11-26T12:00:00+08:00")
SINCE = "2026-11-26T11:00:00.000+08:00"
HOSTILE = "[bold red]x[/] \x1b[31m\x1b]0;title\x07\x9b2J\r\n\t\u202egnp.mp4 很长的名字😀"
LINE = {"name": "main", "root": "/l", "inbox": "/l/inbox", "watch": "inotify", "state": "ok", "problem": None}
JOB: dict[str, Any] = {
    "id": "20261126-1.1", "drop": "d", "line": "main", "name": "lesson", "folder": "", "state": "queued",
    "priority": "normal", "created": SINCE, "started": None, "ended": SINCE, "reason": None, "film": None,
    "grade": None, "held": False, "deferred_since": None, "deferred_reason": None,
}  # fmt: skip


def reply(queue: int = 3, name: str = "lesson") -> dict[str, Any]:
    """A status in which there is something of every kind."""
    job, gone = JOB | {"name": name, "folder": name}, {"name": "nas", "state": "unavailable", "problem": name}
    waits = {"deferred_since": SINCE, "deferred_reason": f"no room, {name}", "holders": [name]}
    return {
        "ok": True, "pid": 7, "version": "0.1.0", "started": SINCE, "state": "running", "lines": [LINE, LINE | gone],
        "running": [job | {"stage": "render", "frame": 50, "of": 200, "fps": 24.0, "eta": 65.4}],
        "queue": [job | waits, *[job] * (queue - 1)],
        "waiting": [{"line": "main", "path": name, "reason": "no partner yet", "since": SINCE}],
        "recent": [
            job | {"state": "delivered", "film": name, "grade": "poor", "held": True},
            job | {"state": "failed", "reason": f"No face was found in {name}."},
        ],
        "counts": {"delivered": 1, "queued": queue},
        "guard": {
            "devices": {"footage": {"device": "cpu", "reason": name}}, "problem": name,
            "gpus": [{"name": name, "free_mib": 1, "total_mib": 2, "utilisation": 3, "holders": [name]}],
        },
    }  # fmt: skip


def drawn(told: dict[str, Any], width: int, height: int | None) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height or 25, highlight=False, legacy_windows=False)
    console.print(StatusScreen(width, NOW, cut=height is not None).of(read_status(told), height))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("height", [1, 5, 8, 12, 24, 60, 200])
@pytest.mark.parametrize("width", [10, 24, 46, 80, 200])
def test_it_fits_any_terminal_whatever_the_names(width: int, height: int) -> None:
    lines = drawn(reply(40, HOSTILE), width, height)
    assert len(lines) <= max(height, 3)
    assert all(cell_len(line) <= width for line in lines)
    assert all(char.isprintable() for line in lines for char in line)


def test_brackets_in_a_name_are_letters_and_escapes_are_shown() -> None:
    text = "\n".join(drawn(reply(name=HOSTILE), 2000, 200))
    assert r"[bold red]x[/] \x1b[31m\x1b]0;title\x07\x9b2J\x0d\x0a\x09\u202egnp.mp4 很长的名字😀" in text


def test_what_runs_what_waits_and_why_is_told() -> None:
    assert drawn(reply(queue=2), 100, 100) == [
        "heygemd 0.1.0  running  process 7, up for 1 h 0 min",
        "",
        "running",
        "  ━━━━━━                   lesson/lesson  render 25 % of 200 frames, 24.0 frames per second, 1 min …",
        "",
        "troubles (2)",
        "  line nas unavailable: lesson",
        "  GPU unavailable: lesson",
        "",
        "queue (2)",
        "    1  lesson/lesson  waits 1 h 0 min: no room, lesson (lesson)",
        "    2  lesson/lesson  waits for its turn",
        "",
        "waiting in the inbox",
        "  main  lesson  no partner yet, 1 h 0 min",
        "",
        "ended last (2)",
        "  11-26 11:00  lesson/lesson.mp4  poor  held for review",
        "  11-26 11:00  lesson/lesson  failed  No face was found in lesson.",
        "",
        "GPUs",
        "  lesson  1 of 2 MiB free, 3 % busy  used by lesson",
        "",
        "engines",
        "  footage  cpu  lesson",
        "",
        "lines",
        "  main  ok  inotify  /l/inbox",
        "",
        "jobs: 1 delivered, 2 queued",
    ]  # fmt: skip


def test_printed_once_it_names_jobs_and_cuts_no_reason() -> None:
    text = " ".join(" ".join(drawn(reply(30, "a name that is " + "long " * 30), 60, None)).split())
    assert "20261126-1.1" in text and "… and 10 more" in text
    assert "No face was found in a name that is " + "long " * 29 in text


@pytest.mark.parametrize("height", range(40))
def test_parts_share_the_height_and_say_what_they_leave_out(height: int) -> None:
    parts = [Section(title, ["x"] * count, count) for title, count in (("a", 1), ("b", 9), ("c", 4), ("d", 2))]
    kept = status_terminal.fitted(parts, height)
    assert sum(part.lines(len(part.rows)) for part in kept) <= height
    assert [part.title for part in kept] == ["a", "b", "c", "d"][: len(kept)]  # the last go first
    if height >= sum(part.lines(part.count) for part in parts):
        assert [len(part.rows) for part in kept] == [1, 9, 4, 2]


# ---------------------------------------------------------------- a real terminal


class Terminal:
    """A pseudo-terminal of 80 columns with a command on it."""

    def __init__(self, *words: str, cwd: Path, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        environment = {**os.environ, "TERM": "xterm-256color", **environment}
        command = [sys.executable, "-m", "heygemd", *words]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.text = ""
        self._over = False

    def until(self, true: Callable[[str], bool]) -> str:
        """All that was written, once that is true of it."""
        ends = time.monotonic() + 60
        while not true(self.text) and time.monotonic() < ends:
            if select.select([self.ours], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.ours, 65536).decode(errors="replace")
                except OSError:  # the last of the other side has closed it
                    self._over = True
                    break
        assert true(self.text), self.text
        return self.text

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        self.until(lambda _: self._over)
        return self.process.wait(60)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text('[daemon]\nstate_dir = "s"\n')
    return tmp_path


def test_the_live_view_draws_again_and_leaves_the_terminal_as_it_was(here: Path) -> None:
    replies: dict[str, Any] = {"status": reply(name=HOSTILE)}
    with daemon(here / "s" / "heygemd.sock", replies) as asked:
        terminal = Terminal("status", "--watch", "0.2", cwd=here)
        terminal.until(lambda text: "Ctrl-C to quit" in text)
        replies["status"] = reply(name="another")
        terminal.until(lambda text: "another" in text and len(asked) >= 3)
    terminal.until(lambda text: "No heygemd daemon answers" in text)  # and it goes on
    assert terminal.interrupt() == 0
    text = terminal.text
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1 and text.rindex("\x1b[?25h") > 0
    assert "\x1b]0;" not in text and "\x9b" not in text and "[bold red]" in text
    assert "Traceback" not in text


def test_a_terminal_gets_colours_once_and_a_pipe_gets_plain_lines(here: Path) -> None:
    with daemon(here / "s" / "heygemd.sock", {"status": reply()}):
        terminal = Terminal("status", cwd=here)
        terminal.until(lambda text: "jobs: 1 delivered" in text)
        assert terminal.process.wait(30) == 0 and "\x1b[1m" in terminal.text and "\x1b[?1049h" not in terminal.text
        dumb = Terminal("status", cwd=here, NO_COLOR="1", TERM="dumb")
        dumb.until(lambda text: "jobs: 1 delivered" in text)
        assert "\x1b" not in dumb.text
        piped = subprocess.run([sys.executable, "-m", "heygemd", "status"], cwd=here, capture_output=True, text=True)
    assert piped.stdout.startswith("heygemd 0.1.0: running, process 7") and "\x1b" not in piped.stdout


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_watched_in_a_pipe_it_is_told_again_and_again(here: Path, words: tuple[str, ...]) -> None:
    with daemon(here / "s" / "heygemd.sock", {"status": reply()}):
        command = [sys.executable, "-m", "heygemd", "status", "--watch", "0.2", *words]
        with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            if words:
                told = [json.loads(watching.stdout.readline()) for _ in range(3)]
                assert told[0] == told[2] == reply()
            else:
                while not re.match("heygemd 0.1.0: running", watching.stdout.readline()):
                    pass
            watching.send_signal(signal.SIGINT)
            watching.stdout.read()
    assert watching.returncode == 0


def test_nobody_to_watch_is_said_at_once(here: Path) -> None:
    command = [sys.executable, "-m", "heygemd", "status", "--watch"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and "There is no journal at" in done.stderr
