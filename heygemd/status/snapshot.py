"""What the metrics are taken from: the daemon at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heygemd.guard.readings import Gpu


@dataclass(frozen=True, slots=True)
class LineSnapshot:
    """One line; ``outbox_free_mib`` is ``None`` until its share has answered."""

    name: str
    reachable: bool
    full: bool
    waiting: int  #: files in the inbox that are not taken yet
    outbox_free_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon; ``at``, ``started``, ``progress`` and ``gpus_at`` are Unix times, ``queue_age`` is in seconds.

    ``unfinished``: number of jobs by (state, engine).  ``deferred``: number of queued jobs that must wait, by cause.
    ``disks``: free MiB by what the disk is for.  ``gpus`` as the guard read them last, at ``gpus_at``.
    """

    up: bool
    at: float
    started: float
    progress: float
    paused: bool = False
    unfinished: Mapping[tuple[str, str], int] = field(default_factory=dict)
    deferred: Mapping[str, int] = field(default_factory=dict)
    queue_age: float = 0.0
    lines: Sequence[LineSnapshot] = ()
    disks: Mapping[str, int] = field(default_factory=dict)
    free_disk_mib: int = 0
    gpus: Sequence[Gpu] = ()
    gpus_at: float | None = None
    gpu_problem: bool = False
