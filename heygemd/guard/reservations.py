"""Reservations of GPU memory, through small files in one folder by which daemons on one GPU agree.

The folder is ``/run/heygemd`` where the system made it.
``<UUID>.lock`` is held for the moment in which a daemon decides about a GPU.  ``<UUID>.<daemon>.hold`` says how much
one of them has reserved; its owner holds a lock on it for as long as the job runs, so that the kernel itself takes a
dead daemon's reservation away.  NVML shows memory only once it is allocated: the reservation covers the time before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from heygemd.common.errors import SetupError
from heygemd.guard.host import is_below
from heygemd.guard.readings import Gpu


@dataclass(frozen=True, slots=True)
class Reserved:
    """GPU memory that another daemon (process ``pid``) has reserved."""

    pid: int
    mib: int


class Reservations:
    """This daemon's view of the folder, and its own one reservation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._me = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._mine: tuple[Path, int] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def deciding(self, uuid: str) -> Iterator[bool]:
        """Hold the GPU's lock during a decision; false if another daemon is deciding."""
        lock = _open(self.folder / f"{_safe(uuid)}.lock")
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    def others(self, uuid: str) -> list[Reserved]:
        """GPU memory that other living daemons have reserved."""
        reserved = []
        for path in self.folder.glob(f"{_safe(uuid)}.*.hold"):
            if self._mine is None or path != self._mine[0]:
                held = _held(path)
                if held is not None:
                    reserved.append(held)
        return reserved

    def taken(self, gpu: Gpu) -> int:
        """MiB of a GPU that others have reserved and have not allocated yet.

        Where the driver does not name their processes (containers), all of it counts: rather wait than collide.
        """
        missing = 0
        for reserved in self.others(gpu.uuid):
            allocated = sum(h.mib or 0 for h in gpu.processes if is_below(h.pid, reserved.pid))
            missing += max(reserved.mib - allocated, 0)
        return missing

    def reserve(self, uuid: str, mib: int) -> None:
        """Reserve ``mib`` MiB of a GPU; only while ``deciding``."""
        self.release()
        path = self.folder / f"{_safe(uuid)}.{self._me}.hold"
        hold = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(hold, fcntl.LOCK_EX)
        os.write(hold, json.dumps({"pid": os.getpid(), "mib": mib}).encode())
        self._mine = (path, hold)

    def release(self) -> None:
        """Give the reservation back."""
        if self._mine is not None:
            path, hold = self._mine
            path.unlink(missing_ok=True)
            os.close(hold)
            self._mine = None

    def sweep(self, uuid: str) -> None:
        """Remove reservations of dead daemons; only while ``deciding``."""
        for path in self.folder.glob(f"{_safe(uuid)}.*.hold"):
            if (self._mine is None or path != self._mine[0]) and _held(path) is None:
                path.unlink(missing_ok=True)


def place(wanted: Path, fallback: Path) -> tuple[Path, bool]:
    """The folder to agree in, and whether other daemons will find it: a folder that the system has not made for us,
    or that we may not write to, is replaced by one of our own."""
    if wanted != Path() and wanted.is_dir() and os.access(wanted, os.W_OK | os.X_OK):
        return wanted, True
    return fallback, False


def _held(path: Path) -> Reserved | None:
    """The reservation of a living owner; ``None`` if the owner is dead."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _parse(os.pread(file, 4096, 0))
    finally:
        os.close(file)


def _parse(data: bytes) -> Reserved:
    try:
        values: Mapping[str, int] = json.loads(data)
        return Reserved(int(values["pid"]), int(values["mib"]))
    except (ValueError, KeyError, TypeError):
        return Reserved(0, 0)  # written this very moment, under the lock that the caller will ask for


def _open(path: Path) -> int:
    """Open for locking.  In a folder that everybody may write to, the kernel refuses ``O_CREAT`` on another's file."""
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags | os.O_CLOEXEC, 0o644)
    raise SetupError(f"{path} cannot be created; set lock_dir in [guard] to a folder that heygemd can write to")


def _safe(uuid: str) -> str:
    return "".join(c if c.isalnum() or c == "-" else "_" for c in uuid)
