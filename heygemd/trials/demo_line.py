"""A temporary line with a daemon of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from heygemd.common.errors import EngineError, SetupError
from heygemd.common.spawn import environment, python
from heygemd.contract import control
from heygemd.status.progress import Show, View

DAEMON = (*python("heygemd"), "run")
START_SECONDS = 60.0  # a daemon that has not answered by then will not
STOP_SECONDS = 30.0
POLL_SECONDS = 0.3
SOCKET_PATH_BYTES = 100  # the kernel's limit for AF_UNIX is 107
CONFIG = """\
[daemon]
state_dir = {state}
socket = {socket}
stop_seconds = 10.0

[intake]
poll_seconds = 0.5
rescan_seconds = 2.0
settle_readings = 2
settle_seconds = 1.0

[limits]
attempts = 1
free_disk_mib = 256
free_ram_mib = 256

[[line]]
name = "demo"
root = {root}
"""
Ask = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """The temporary line: everything of it lies under ``home``, which goes when the demo ends."""

    home: Path

    @property
    def line(self) -> Path:
        return self.home / "line"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def socket(self) -> Path:
        return self.home / "s"

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    @property
    def output(self) -> Path:
        """What the daemon prints."""
        return self.home / "daemon.txt"


@contextlib.contextmanager
def temporary_line() -> Iterator[Stage]:
    home = Path(tempfile.mkdtemp(prefix="heygemd-demo-"))
    if len(os.fsencode(Stage(home).socket)) > SOCKET_PATH_BYTES:
        home.rmdir()
        home = Path(tempfile.mkdtemp(prefix="heygemd-demo-", dir="/tmp"))
    stage = Stage(home)
    try:
        for folder in (stage.line, stage.state):
            folder.mkdir()
        # A JSON string is a TOML string for every path that mkdtemp gives.
        places = {"state": stage.state, "socket": stage.socket, "root": stage.line}
        text = CONFIG.format(**{k: json.dumps(str(v), ensure_ascii=False) for k, v in places.items()})
        stage.config.write_text(text, encoding="utf-8")
        yield stage
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def running_daemon(stage: Stage, show: Show) -> Iterator[Ask]:
    """The real daemon, and how to ask it; stopped at the end, always.

    It runs in a session of its own, so that Ctrl-C reaches only us and its end is ours to order.
    """
    show.tell(View("starting the daemon"))
    argv = [*DAEMON, "--config", str(stage.config)]
    with stage.output.open("wb") as output:
        daemon = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(),
        )

    def ask(command: str) -> Mapping[str, Any]:
        try:
            reply = control.call(stage.socket, {"cmd": command}, timeout=30)
        except SetupError as error:
            try:
                code = daemon.wait(POLL_SECONDS)  # it hangs up a moment before it is gone
            except subprocess.TimeoutExpired:
                raise error from None
            raise EngineError(f"The daemon exited with code {code}. Its output:\n{_said(stage)}") from error
        if not reply["ok"]:
            raise EngineError(f"The daemon refused '{command}': {reply['error']}")
        return reply

    try:
        _wait_for_start(ask, stage)
        yield ask
    finally:
        _stop(daemon)


def _wait_for_start(ask: Ask, stage: Stage) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(SetupError):
            ask("ping")
            return
    raise SetupError(f"The daemon did not answer within {START_SECONDS:.0f} seconds. Its output:\n{_said(stage)}")


def _said(stage: Stage) -> str:
    """The last lines that the daemon printed."""
    lines = stage.output.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-15:]) or "(nothing)"


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal was closed) end the demo as Ctrl-C does: with the daemon stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
