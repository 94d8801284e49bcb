"""One line about the daemon's work, for systemd's status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from heygemd.contract.status import Progress


@dataclass(frozen=True, slots=True)
class DaemonWork:
    """Input of ``summary``: the current work."""

    state: str
    queued: int
    delivered: int
    name: str | None = None  #: the running job's
    number: int = 1  #: … its place in this stretch of work, from 1
    progress: Progress = field(default_factory=Progress)
    deferred: Sequence[tuple[str, str]] = ()  #: (reason, since as ISO 8601) of the queued jobs that are held back
    lost: Sequence[str] = ()  #: lines that do not answer


def summary(work: DaemonWork) -> str:
    """One line: ``job 3 of 17: lesson-12 render 41 %; 2 waiting since 14:02: …``."""
    parts = []
    if work.name is not None:
        of = work.number + work.queued
        parts.append(f"job {work.number} of {of}: {work.name} {work.progress.get('stage') or 'starting'}")
        if total := work.progress.get("of"):
            parts[0] += f" {100 * (work.progress.get('frame') or 0) // total} %"
    elif work.queued > len(work.deferred) or work.state != "running":
        parts.append(f"{work.state}, {work.queued} queued")
    if work.state != "running" and work.name is not None:
        parts.insert(0, work.state)
    if work.deferred:
        reason, since = min(work.deferred, key=lambda item: item[1])
        parts.append(f"{len(work.deferred)} waiting since {since[11:16]}: {reason}")
    if not parts:
        parts.append(f"idle, {work.delivered} delivered")
    return "; ".join([*parts, *(f"line {name} unavailable" for name in work.lost)])
