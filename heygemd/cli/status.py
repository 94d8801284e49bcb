"""``heygemd status``, ``jobs`` and ``log``: from the daemon, or from its journal when it is down."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timedelta
from typing import Any

from heygemd.common import errors
from heygemd.common.errors import HeygemdError
from heygemd.common.exits import FAILED, OK
from heygemd.common.names import display
from heygemd.config import load
from heygemd.config.load import Config
from heygemd.contract import control
from heygemd.status import job_log
from heygemd.status.text import Row, _job_cells, _table, status_lines
from heygemd.store.drops import Journal

_LIMIT, _ALL = 50, 1_000_000


def command(args: argparse.Namespace) -> int:
    """What the daemon is doing."""

    show_status(load.load_or_default(args.config), as_json=args.json, every=args.watch)
    return OK


def jobs(args: argparse.Namespace) -> int:
    """The jobs, the newest first."""

    states = set(args.state or ()) | ({"failed", "cancelled"} if args.failed else set())
    show_jobs(load.load_or_default(args.config), states or None, args.limit, as_json=args.json, ago=args.since)
    return OK


def log(args: argparse.Namespace) -> int:
    """What the run log has of a job."""

    return OK if show_log(load.load_or_default(args.config), args.job, as_json=args.json) else FAILED


def show_status(config: Config, *, as_json: bool, every: float | None = None) -> None:
    """Print what the daemon does, or what its journal says, and with ``every`` again after so many seconds.

    NoDaemon where there is neither.
    """
    from heygemd.status import terminal  # rich is loaded only by who shows something

    def ask() -> dict[str, Any]:
        return _ask(config, {"cmd": "status"}, lambda journal: journal.status())

    if every is not None:
        terminal.watch(ask, every, as_json=as_json)
    elif as_json:
        print(json.dumps(ask()))
    elif sys.stdout.isatty():
        terminal.once(ask())
    else:
        print("\n".join(status_lines(ask())))


def show_jobs(
    config: Config, states: set[str] | None, limit: int | None, *, as_json: bool, ago: timedelta | None = None
) -> None:
    """Print jobs, newest first; those of the last ``ago``.  NoDaemon where there is neither a daemon nor a journal.

    Without a ``limit`` it is 50, or all there are within ``ago``.  That some were left out is said.
    """
    most = limit or (_LIMIT if ago is None else _ALL)
    request = {"cmd": "jobs", "states": sorted(states) if states else None, "limit": most + 1}
    reply = _ask(config, request, lambda journal: {"ok": True, "jobs": journal.jobs(states, most + 1)})
    found = reply.get("jobs", [])
    if ago is not None:
        found = job_log.since(found, ago, datetime.now().astimezone())
    reply |= {"jobs": found[:most], "more": len(found) > most}
    if as_json:
        print(json.dumps(reply))
        return
    rows = reply["jobs"]
    print("\n".join(_table([_job_cells(job) for job in rows])) if rows else "no jobs")
    if reply["more"]:
        print(f"heygemd: the newest {most} jobs are shown; --limit N shows more", file=sys.stderr)


def show_log(config: Config, job: str, *, as_json: bool) -> bool:
    """Print what the run log has of a job; whether it has anything.  SetupError where it cannot be read."""
    found = list(job_log.events(config.daemon.log_file, job))
    if as_json:
        print(json.dumps({"ok": bool(found), "job": job, "events": found}))
    else:
        print("\n".join(map(job_log.line, found)) or f"the run log has no entries for {display(job)}")
    return bool(found)


def _ask(config: Config, request: Row, read: Any) -> dict[str, Any]:
    try:
        reply = control.call(config.daemon.socket, request)
    except errors.NoDaemon as nobody:
        return _offline(config, read, nobody)
    if not reply.get("ok"):
        raise HeygemdError(f"The daemon refused: {reply.get('error')}")
    return reply


def _offline(config: Config, read: Any, nobody: errors.NoDaemon) -> dict[str, Any]:
    path = config.daemon.state_dir / "journal.sqlite"
    try:
        there = path.exists()
    except PermissionError:
        there = False
    if not there:
        raise errors.NoDaemon(f"{nobody.message} There is no journal at {path} either.") from nobody
    journal = Journal.read_only(path)
    try:
        reply: dict[str, Any] = read(journal)
    finally:
        journal.close()
    inboxes = {line.name: str(line.inbox) for line in config.lines}
    lines = [line | {"inbox": inboxes.get(line["name"], "")} for line in reply.get("lines", [])]
    return {**reply, **({"lines": lines} if lines else {}), "daemon": "not running"}
