"""``heygemd status``, ``jobs`` and ``log``: from the daemon, or from its journal while it does not run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from heygemd.common import errors
from heygemd.common.errors import HeygemdError
from heygemd.common.exits import FAILED, OK
from heygemd.common.names import display
from heygemd.config import load
from heygemd.config.load import Config
from heygemd.contract import control
from heygemd.contract.status import Json, Status, line_row, make, read_jobs, read_status
from heygemd.status import job_log
from heygemd.status.text import job_lines, status_lines
from heygemd.store.drops import Journal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LIMIT, _ALL = 50, 1_000_000


def command(args: argparse.Namespace) -> int:
    """Show the daemon's state."""

    show_status(load.load_or_default(args.config), as_json=args.json, every=args.watch)
    return OK


def jobs(args: argparse.Namespace) -> int:
    """The jobs, the newest first."""

    states = set(args.state or ()) | ({"failed", "cancelled"} if args.failed else set())
    show_jobs(load.load_or_default(args.config), states or None, args.limit, as_json=args.json, ago=args.since)
    return OK


def log(args: argparse.Namespace) -> int:
    """Show a job's log."""

    return OK if show_log(load.load_or_default(args.config), args.job, as_json=args.json) else FAILED


# ---------------------------------------------------------------- status


def show_status(config: Config, *, as_json: bool, every: float | None = None) -> None:
    """Print the status of the daemon, or of its journal; with ``every`` repeat it after that number of seconds.

    Raises NoDaemon if there is neither.
    """

    def ask() -> Json:
        return _ask(config, {"cmd": "status"}, lambda journal: {"ok": True, **_offline_status(config, journal)})

    if every is not None:
        _watch(ask, every, as_json=as_json)
    elif as_json:
        print(json.dumps(ask()))
    elif sys.stdout.isatty():
        _print_in_colour(read_status(ask()))
    else:
        print("\n".join(status_lines(read_status(ask()))))


def _offline_status(config: Config, journal: Journal) -> Status:
    inboxes = {line.name: str(line.inbox) for line in config.lines}
    lines = [line_row(name, inbox=inboxes.get(name, "")) for name in journal.line_names()]
    return make(lines=lines, queue=journal.queue(), recent=journal.recent(), counts=journal.counts())


def _print_in_colour(status: Status) -> None:
    from rich.console import Console  # rich is loaded only by a command that needs a terminal

    from heygemd.status.terminal import StatusScreen

    console = Console(highlight=False)
    console.print(StatusScreen(console.width, datetime.now().astimezone(), cut=False).of(status))


def _watch(ask: Callable[[], Json], seconds: float, *, as_json: bool) -> None:
    """Show the status again after each interval until interrupted: live on a terminal, one below the other elsewhere.

    An error of the first ``ask`` goes on to the caller; a later one is shown.
    """
    from rich.console import Console

    reply = ask()
    console = Console(highlight=False)
    try:
        if as_json or not console.is_terminal or console.is_dumb_terminal:
            _watch_plain(reply, ask, seconds, as_json=as_json)
        else:
            _watch_live(reply, ask, seconds, console)
    except KeyboardInterrupt:  # the usual way to end it
        if not as_json and not console.is_terminal:
            sys.stdout.flush()


def _watch_plain(reply: Json, ask: Callable[[], Json], seconds: float, *, as_json: bool) -> None:
    while True:
        print(json.dumps(reply) if as_json else "\n".join([*_plain(reply), ""]), flush=True)
        time.sleep(seconds)
        reply = _asked(ask)


def _plain(reply: Json) -> list[str]:
    return status_lines(read_status(reply)) if reply.get("ok", True) else [f"heygemd: {_error(reply)}"]


def _watch_live(reply: Json, ask: Callable[[], Json], seconds: float, console: Console) -> None:
    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_framed(reply, console), refresh=True)
            time.sleep(seconds)
            reply = _asked(ask)


def _asked(ask: Callable[[], Json]) -> Json:
    try:
        return ask()
    except HeygemdError as error:
        return {"ok": False, "error": error.message}


def _error(reply: Json) -> str:
    return display(str(reply.get("error")))


def _framed(reply: Json, console: Console) -> RenderableType:
    """The status in a terminal of this size, with a last line that says how to leave it."""
    from rich.console import Group
    from rich.text import Text

    from heygemd.status.terminal import StatusScreen

    now, size = datetime.now().astimezone(), console.size
    if not reply.get("ok", True):
        return Text(f"heygemd\n\n{_error(reply)}", style="red")
    clock = Text(f"{now:%H:%M:%S}  Ctrl-C to quit", style="dim", no_wrap=True, overflow="ellipsis")
    return Group(StatusScreen(size.width, now, cut=True).of(read_status(reply), size.height - 1), clock)


# ---------------------------------------------------------------- jobs and log


def show_jobs(
    config: Config, states: set[str] | None, limit: int | None, *, as_json: bool, ago: timedelta | None = None
) -> None:
    """Print jobs, newest first, with ``ago`` only those of that time.  Raises NoDaemon if there is neither a daemon
    nor a journal.

    Without a ``limit`` at most 50 are printed, with ``ago`` all.  A note on stderr says if some were left out.
    """
    most = limit or (_LIMIT if ago is None else _ALL)
    request = {"cmd": "jobs", "states": sorted(states) if states else None, "limit": most + 1}
    reply = _ask(config, request, lambda journal: {"ok": True, "jobs": journal.jobs(states, most + 1)})
    rows = read_jobs(reply)
    if ago is not None:
        rows = job_log.since(rows, ago, datetime.now().astimezone())
    shown, more = rows[:most], len(rows) > most
    if as_json:
        print(json.dumps({**reply, "jobs": shown, "more": more}))
        return
    print("\n".join(job_lines(shown)))
    if more:
        print(f"heygemd: the newest {most} jobs are shown; --limit N shows more", file=sys.stderr)


def show_log(config: Config, job: str, *, as_json: bool) -> bool:
    """Print a job's log entries; false if there are none.  Raises ``SetupError`` if the log cannot be read."""
    events = list(job_log.events(config.daemon.log_file, job))
    if as_json:
        print(json.dumps({"ok": bool(events), "job": job, "events": events}))
    else:
        print("\n".join(map(job_log.line, events)) or f"the run log has no entries for {display(job)}")
    return bool(events)


# ---------------------------------------------------------------- asking


def _ask(config: Config, request: Json, read: Callable[[Journal], Json]) -> Json:
    """The daemon's reply, or what ``read`` makes of its journal."""
    try:
        reply = control.call(config.daemon.socket, request)
    except errors.NoDaemon as nobody:
        return _offline(config.daemon.state_dir / "journal.sqlite", read, nobody)
    if not reply.get("ok"):
        raise HeygemdError(f"The daemon refused: {reply.get('error')}")
    return reply


def _offline(path: Path, read: Callable[[Journal], Json], nobody: errors.NoDaemon) -> Json:
    try:
        there = path.exists()
    except PermissionError:
        there = False
    if not there:
        raise errors.NoDaemon(f"{nobody.message} There is no journal at {path} either.") from nobody
    journal = Journal.read_only(path)
    try:
        return {**read(journal), "daemon": "not running"}
    finally:
        journal.close()
