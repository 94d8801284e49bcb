"""A real daemon on a temporary line: its folders, its configuration, how it is started, asked and stopped."""

from __future__ import annotations

import contextlib
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

from heygemd.common.checked import Row
from heygemd.common.errors import EngineError, SetupError
from heygemd.common.spawn import environment, python
from heygemd.config.toml_schema import Setting, as_toml
from heygemd.contract import control
from heygemd.status.progress import ProgressView, Show

DAEMON = (*python("heygemd"), "run")
START_SECONDS = 60.0  # a daemon that has not answered by then will not
STOP_SECONDS = 30.0
POLL_SECONDS = 0.3
SOCKET_PATH_BYTES = 100  # the kernel's limit for AF_UNIX is 107
OUTPUT_LINES = 15
Ask = Callable[[str], Row]
ConfigTables = Mapping[str, Mapping[str, Setting]]
"""Values by key by table; those of the one line are in the table ``line``."""


@dataclass(frozen=True, slots=True)
class TemporaryLine:
    """A line and its daemon's own files; all of it is under ``home``."""

    home: Path

    @property
    def line(self) -> Path:
        """The line's root."""
        return self.home / "line"

    @property
    def state(self) -> Path:
        """The daemon's state_dir."""
        return self.home / "state"

    @property
    def socket(self) -> Path:
        """The daemon's socket, by a path as short as can be."""
        return self.home / "s"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.home / "config.toml"

    @property
    def output(self) -> Path:
        """The daemon's output."""
        return self.home / "daemon.txt"

    def write_config(self, name: str, settings: ConfigTables) -> None:
        """Write the configuration: the line ``name`` with these settings, everything else at its default."""
        places = {"state_dir": self.state, "socket": self.socket}
        tables = {**settings, "daemon": {**settings.get("daemon", {}), **places}}
        line = {"name": name, "root": self.line, **tables.pop("line", {})}
        parts = [_table(f"[{table}]", values) for table, values in tables.items()]
        self.config.write_text("\n".join([*parts, _table("[[line]]", line)]), encoding="utf-8")

    def last_output(self) -> str:
        """The last lines that the daemon printed."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-OUTPUT_LINES:]) or "(nothing)"


def _table(heading: str, values: Mapping[str, Setting]) -> str:
    return "".join(f"{row}\n" for row in (heading, *(f"{key} = {as_toml(value)}" for key, value in values.items())))


@contextlib.contextmanager
def temporary_line(name: str, settings: ConfigTables) -> Iterator[TemporaryLine]:
    """A configured line in a temporary folder, removed at the end."""
    home = Path(tempfile.mkdtemp(prefix=f"heygemd-{name}-"))
    if len(os.fsencode(TemporaryLine(home).socket)) > SOCKET_PATH_BYTES:
        home.rmdir()
        home = Path(tempfile.mkdtemp(prefix=f"heygemd-{name}-", dir="/tmp"))
    stage = TemporaryLine(home)
    try:
        for folder in (stage.line, stage.state):
            folder.mkdir()
        stage.write_config(name, settings)
        yield stage
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start_daemon(stage: TemporaryLine, *options: str) -> subprocess.Popen[bytes]:
    """Start ``heygemd run`` on the line; its output goes to ``stage.output``.

    It runs in a session of its own, so that Ctrl-C reaches only us and we decide when it ends.
    """
    with stage.output.open("wb") as output:
        return subprocess.Popen(
            [*DAEMON, *options, "--config", str(stage.config)], stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, env=environment(),
        )  # fmt: skip


@contextlib.contextmanager
def running_daemon(stage: TemporaryLine, show: Show) -> Iterator[Ask]:
    """The real daemon, and how to ask it; stopped at the end, always."""
    show.tell(ProgressView("starting the daemon"))
    daemon = start_daemon(stage)

    def ask(command: str) -> Row:
        try:
            reply = control.call(stage.socket, {"cmd": command}, timeout=30)
        except SetupError as error:
            try:
                code = daemon.wait(POLL_SECONDS)  # it hangs up a moment before it is gone
            except subprocess.TimeoutExpired:
                raise error from None
            raise EngineError(f"The daemon exited with code {code}. Its output:\n{stage.last_output()}") from error
        if not reply["ok"]:
            raise EngineError(f"The daemon refused '{command}': {reply['error']}")
        return reply

    try:
        _wait_for_start(ask, stage)
        yield ask
    finally:
        stop_daemon(daemon)


def _wait_for_start(ask: Ask, stage: TemporaryLine) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(SetupError):
            ask("ping")
            return
    problem = f"The daemon did not answer within {START_SECONDS:.0f} seconds."
    raise SetupError(f"{problem} Its output:\n{stage.last_output()}")


def stop_daemon(daemon: subprocess.Popen[bytes]) -> None:
    """Stop it as an administrator would; kill it and its children where that takes too long."""
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal was closed) end the command as Ctrl-C does: with the daemon stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
