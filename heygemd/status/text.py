"""What ``check``, ``status`` and ``jobs`` print: asked of the daemon, or read from the journal when it is down."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from heygemd.common.errors import HeygemdError
from heygemd.common.names import display
from heygemd.config.load import LINE_FOLDERS, Config
from heygemd.config.tables import TABLES
from heygemd.config.toml_schema import as_toml
from heygemd.contract import control
from heygemd.status import job_log
from heygemd.store.drops import Journal

_MOST = 20
"""So many of a kind are listed; ``--json`` gives all."""
_LIMIT, _ALL = 50, 1_000_000
_NOT_RUNNING = "daemon not running; this is what its journal says"

Row = Mapping[str, Any]


# ---------------------------------------------------------------- check


def check(config: Config, *, as_json: bool) -> None:
    """Print the configuration in force, and what a person should know about it."""
    found = notes(config)
    if as_json:
        facts = json.loads(json.dumps(asdict(config), default=str))
        print(json.dumps({"ok": True, "source": str(config.source), "config": facts, "notes": found}))
        return
    print("\n".join(_in_force(config)))
    for note in found:
        print(f"note: {note}")
    print(f"ok: {config.source}")


def _in_force(config: Config) -> Iterable[str]:
    for name in TABLES:
        yield f"[{name}]"
        yield from _settings(asdict(getattr(config, name)))
        yield ""
    for line in config.lines:
        yield "[[line]]"
        values = asdict(line)
        options, folders = values.pop("options"), values.pop("folders")
        yield from _settings(values | _given(options))
        for folder, its in folders.items():
            yield f"[line.folders.{json.dumps(folder, ensure_ascii=False)}]"
            yield from _settings(_given(its))
        yield ""


def _settings(values: Row) -> Iterable[str]:
    return (f"{name} = {display(as_toml(value))}" for name, value in values.items())


def _given(options: Row) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def notes(config: Config) -> list[str]:
    """What is not wrong in the file but may be on this machine, as sentences."""
    found = [f"socket: {e.message}" for e in _socket_problem(config.daemon.socket)]
    for line in config.lines:
        missing = [name for name in LINE_FOLDERS if not Path(getattr(line, name)).is_dir()]
        if missing:
            verb = "does" if len(missing) == 1 else "do"
            found.append(f"line {line.name}: {', '.join(missing)} {verb} not exist; the daemon makes what is missing")
        elif len({Path(getattr(line, n)).stat().st_dev for n in ("inbox", "processing", "done", "failed")}) > 1:
            found.append(
                f"line {line.name}: processing, done and failed must lie on the inbox's file system, "
                "because files are moved there, not copied"
            )
        found += [f"line {line.name}: library {folder} is not there" for folder in line.library if not folder.is_dir()]
    return found + _same_places(config) + _writable_by_all(config.source)


def _socket_problem(path: Path) -> list[HeygemdError]:
    try:
        control.check_length(path)
    except HeygemdError as error:
        return [error]
    return []


def _same_places(config: Config) -> list[str]:
    """Folders that differ as written and are the same through a link or mount, which the file cannot show."""
    seen: dict[tuple[int, int], str] = {}
    found = []
    for line in config.lines:
        for name in LINE_FOLDERS:
            folder = Path(getattr(line, name))
            if not folder.is_dir():
                continue
            stat = folder.stat()
            here = f"line {line.name}: {name}"
            other = seen.setdefault((stat.st_dev, stat.st_ino), here)
            if other != here:
                found.append(f"{here} ({folder}) is the same folder as that of {other}")
    return found


def _writable_by_all(source: Path) -> list[str]:
    if source.is_file() and source.stat().st_mode & 0o002:
        return [f"{source} may be written by everybody; it names programs to run: chmod o-w it"]
    return []


# ---------------------------------------------------------------- status


def status(config: Config, *, as_json: bool, every: float | None = None) -> None:
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


def jobs(
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
        print(f"heygemd: these are the newest {most}; --limit N shows more", file=sys.stderr)


def log(config: Config, job: str, *, as_json: bool) -> bool:
    """Print what the run log has of a job; whether it has anything.  SetupError where it cannot be read."""
    found = list(job_log.events(config.daemon.log_file, job))
    if as_json:
        print(json.dumps({"ok": bool(found), "job": job, "events": found}))
    else:
        print("\n".join(map(job_log.line, found)) or f"the run log has nothing of {display(job)}")
    return bool(found)


def _ask(config: Config, request: Row, read: Any) -> dict[str, Any]:
    try:
        reply = control.call(config.daemon.socket, request)
    except control.NoDaemon as nobody:
        return _offline(config, read, nobody)
    if not reply.get("ok"):
        raise HeygemdError(f"The daemon refused: {reply.get('error')}")
    return reply


def _offline(config: Config, read: Any, nobody: control.NoDaemon) -> dict[str, Any]:
    path = config.daemon.state_dir / "journal.sqlite"
    try:
        there = path.exists()
    except PermissionError:
        there = False
    if not there:
        raise control.NoDaemon(f"{nobody.message} There is no journal to read at {path} either.") from nobody
    journal = Journal.read_only(path)
    try:
        reply: dict[str, Any] = read(journal)
    finally:
        journal.close()
    inboxes = {line.name: str(line.inbox) for line in config.lines}
    lines = [line | {"inbox": inboxes.get(line["name"], "")} for line in reply.get("lines", [])]
    return {**reply, **({"lines": lines} if lines else {}), "daemon": "not running"}


def status_lines(reply: Row) -> list[str]:
    """The status as lines for a person."""
    if reply.get("state") == "stopped":
        head = _NOT_RUNNING
    else:
        up = f"process {reply.get('pid')}, up since {_when(reply.get('started'))}"
        head = f"heygemd {reply.get('version')}: {reply.get('state')}, {up}"
    return [
        head,
        *_section("lines", [_line_cells(line) for line in reply.get("lines", [])]),
        *_section("engines", _engine_cells(reply.get("guard") or {})),
        *_section("GPUs", _gpu_cells(reply.get("guard") or {})),
        *_section("running", [_running_cells(job) for job in reply.get("running", [])]),
        *_section("queue", [_queue_cells(job) for job in reply.get("queue", [])]),
        *_section("waiting in the inbox", [_waiting_cells(w) for w in reply.get("waiting", [])]),
        *_section("ended last", [_job_cells(job) for job in reply.get("recent", [])]),
        "",
        "jobs: " + (", ".join(f"{n} {state}" for state, n in reply.get("counts", {}).items()) or "none yet"),
    ]


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    more = [f"  … and {len(rows) - _MOST} more"] if len(rows) > _MOST else []
    count = f" ({len(rows)})" if len(rows) > 1 else ""
    return ["", f"{title}{count}", *(f"  {text}" for text in _table(rows[:_MOST])), *more]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns; the last one is as long as it is."""
    from rich.cells import cell_len  # the daemon imports this module, and needs no rich

    printable = [[display(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[i]) for row in printable) for i in range(len(printable[0]) - 1)]
    return [
        "  ".join([*(c + " " * (w - cell_len(c)) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in printable
    ]


def _line_cells(line: Row) -> list[str]:
    return [str(line["name"]), line["state"] or "-", line["watch"] or "-", line["problem"] or line["inbox"] or ""]


def _engine_cells(guard: Row) -> list[list[str]]:
    """Where each engine runs, as it was decided at start, and why."""
    return [[name, choice["device"], choice["reason"]] for name, choice in sorted(guard.get("devices", {}).items())]


def _gpu_cells(guard: Row) -> list[list[str]]:
    """The GPUs as the guard last saw them, which it does only while a job needs one."""
    rows = [
        [gpu["name"], f"{gpu['free_mib']} of {gpu['total_mib']} MiB free", ", ".join(gpu["holders"])]
        for gpu in guard.get("gpus", [])
    ]
    return rows + ([["-", "unavailable", guard["problem"]]] if guard.get("problem") else [])


def progress_words(job: Row) -> str:
    """``render 25 % of 200 frames, 24.0 frames a second, 1 min 5 s left``."""
    progress = str(job.get("stage") or "starting")
    if job.get("of"):
        progress += f" {100 * int(job.get('frame') or 0) // int(job['of'])} % of {job['of']} frames"
    if job.get("fps"):
        progress += f", {job['fps']:.1f} frames a second"
    if job.get("eta"):
        progress += f", {span_words(float(job['eta']))} left"
    return progress


def _running_cells(job: Row) -> list[str]:
    return [job["id"], job["line"], _path(job), progress_words(job)]


def _queue_cells(job: Row) -> list[str]:
    waits = job.get("deferred_reason")
    why = f"waits since {_when(job.get('deferred_since'))}: {waits}" if waits else f"since {_when(job['created'])}"
    return [job["id"], job["line"], job["priority"], job["state"], _path(job), why]


def _waiting_cells(entry: Row) -> list[str]:
    return [entry["line"], entry["path"], f"{entry['reason']} (since {_when(entry['since'])})"]


def _job_cells(job: Row) -> list[str]:
    when = _when(job.get("ended") or job.get("started") or job.get("created"))
    outcome = f"→ {job['film']}.mp4" if job["state"] == "delivered" and job.get("film") else ""
    if outcome and job.get("grade"):
        outcome += f"  {job['grade']}" + (", held for review" if job.get("held") else "")
    return [job["id"], when, job["state"], job["line"], _path(job), outcome or job.get("reason") or ""]


def _path(job: Row) -> str:
    return f"{job['folder']}/{job['name']}" if job.get("folder") else str(job["name"])


def _when(stamp: Any) -> str:
    """``2026-11-22 14:03:07`` of an ISO 8601 time."""
    return str(stamp)[:19].replace("T", " ") if stamp else "-"


def span_words(seconds: float) -> str:
    """``1 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
