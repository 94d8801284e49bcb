"""``heygemd log JOB``: a job's entries in the run log and the rotated logs next to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from heygemd.common.errors import SetupError
from heygemd.common.names import display
from heygemd.contract.status import JobRow, Json

_SPAN = re.compile(r"(\d+)([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHOWN_FIRST = ("time", "level", "event", "job", "drop")


def span(text: str) -> timedelta:
    """``30m``, ``12h``, ``7d`` or ``2w`` as a time span.  Raises ``ValueError``."""
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a time span such as 30m, 12h, 7d or 2w")
    return timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})


def since(jobs: Sequence[JobRow], ago: timedelta, now: datetime) -> list[JobRow]:
    """The jobs that ended, or were asked for, within that time."""
    return [job for job in jobs if now - datetime.fromisoformat(job["ended"] or job["created"]) <= ago]


def events(log_file: Path, job: str) -> Iterator[Json]:
    """The job's events, the oldest first, and those of its drop that name no job.

    ``job`` is a job's id or a drop's.  Raises ``SetupError`` where there is no log that can be read.
    """
    drop = job.rpartition(".")[0] or job
    files = sorted(log_file.parent.glob(f"{log_file.name}.*"), key=_age, reverse=True)
    for file in [*files, log_file]:
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
                yield from (event for line in lines if (event := _of(line, job, drop)) is not None)
        except OSError as error:
            if file == log_file:
                raise SetupError(f"The run log {log_file} cannot be read: {error.strerror}.") from error


def _age(path: Path) -> int:
    """The number behind a rotated log's name: the higher, the older."""
    tail = path.suffix[1:]
    return int(tail) if tail.isdigit() else 0


def _of(line: str, job: str, drop: str) -> Json | None:
    """The event in this line if it is about the job."""
    if job not in line and drop not in line:
        return None
    try:
        event = json.loads(line)
    except ValueError:  # the line that a death cut short
        return None
    if not isinstance(event, dict):
        return None
    about = event.get("job")
    mine = about in (job, drop) or str(about).startswith(f"{job}.") or (about is None and event.get("drop") == drop)
    return event if mine else None


def line(event: Json) -> str:
    """One event for a person."""
    rest = {key: value for key, value in event.items() if key not in _SHOWN_FIRST}
    words = " ".join(f"{key}={display(str(value))}" for key, value in rest.items() if value not in (None, ""))
    return f"{str(event.get('time'))[:19].replace('T', ' ')}  {event.get('event')!s:24} {words}".rstrip()
