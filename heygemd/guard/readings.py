"""``Readings``: the machine at one moment, its GPUs and who holds their memory, its memory and its disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU.  Without a ``name`` its number belongs to another container's
    namespace and means nothing here."""

    pid: int
    name: str
    mib: int | None

    def __str__(self) -> str:
        size = f", {self.mib} MiB" if self.mib is not None else ""
        if not self.name:
            return f"pid unknown (container{size})"
        return f"{self.name} (process {self.pid}{size})"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it, which has a UUID of its own.

    ``shared``: it has no memory of its own (unified memory) and the machine's is given here.  ``utilisation``: percent
    of the last second or so; it and ``celsius`` are ``None`` where the driver does not say.
    """

    uuid: str
    index: int
    name: str
    total_mib: int
    used_mib: int
    free_mib: int
    driver: str = ""
    processes: tuple[Holder, ...] = ()
    shared: bool = False
    utilisation: int | None = None
    celsius: int | None = None
    mig: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """The machine at one moment.

    ``gpu_problem`` says why no GPU, or not every GPU, is to be seen; ``gpu_absent`` says that this will last: no
    driver is installed and none has been seen by this process; ``gpu_missing`` that none is in this machine as far
    as can be seen: no driver, or a driver that finds none; ``gpu_lost`` that one has fallen off the bus or must be
    reset, so that what runs on it will not end.  ``disks``: free MiB by the path that was asked for,
    ``disk_totals``: MiB in all; a path that could not be read is missing.  ``at``: when the GPUs were read, on the
    monotonic clock.
    """

    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str | None = None
    gpu_absent: bool = False
    gpu_missing: bool = False
    gpu_lost: bool = False
    ram_total_mib: int = 0
    ram_available_mib: int = 0
    cpu_count: int = 1
    cpu_model: str = ""
    disks: Mapping[Path, int] = field(default_factory=dict)
    disk_totals: Mapping[Path, int] = field(default_factory=dict)
    at: float = 0.0
