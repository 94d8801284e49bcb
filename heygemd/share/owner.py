"""Who holds a line.  Two daemons on one inbox would take up each other's drops and deliver them twice.

A daemon writes who it is into ``processing/.heygemd-owner`` and a new number every half minute.  Another one that finds
the file leaves the line alone as long as that one lives: on the same machine the kernel says so; of another machine it
is believed for as long as the number changes, watched on one's own clock (times of other machines are never compared).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from heygemd.share import nofollow

OWNER = ".heygemd-owner"
BEAT_SECONDS = 30.0
STALE_SECONDS = 150.0  # a share may have been away for a while, and its daemon with it
LOCK_TRIES, LOCK_PAUSE_SECONDS = 20, 0.05
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """What a daemon writes about itself into the owner file; ``beat`` is the number that changes while it lives."""

    id: str
    pid: int
    beat: int
    host: str = ""
    began: str = ""
    machine: str = ""
    boot: str = ""
    kernel: str = ""
    state_dir: str = ""

    def to_json(self) -> dict[str, str | int]:
        """The file's content; ``from_json`` reads it back equal."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, object]) -> OwnerRecord:
        """The inverse of ``to_json``.  Raises ``ValueError`` without an id, a process and a number."""
        name, pid, beat = data.get("id"), data.get("pid"), data.get("beat")
        if not (isinstance(name, str) and isinstance(pid, int) and isinstance(beat, int)):
            raise ValueError("the owner file lacks 'id', 'pid' or 'beat'")
        rest = {key: str(data.get(key, "")) for key in ("host", "began", "machine", "boot", "kernel", "state_dir")}
        return OwnerRecord(name, pid, beat, **rest)


# ---------------------------------------------------------------- in the daemon


class Hold:
    """One daemon's claim to one line."""

    def __init__(self, state_dir: Path) -> None:
        """``state_dir`` is for people: it identifies the daemon."""
        pid = os.getpid()
        self._me = OwnerRecord(
            secrets.token_hex(8), pid, 0, host=socket.gethostname(), began=_began(pid), machine=_machine(),
            boot=_boot(), kernel=_kernel(), state_dir=os.fsdecode(state_dir),
        )  # fmt: skip
        self._other: tuple[str, int] = ("", 0)
        self._other_since = 0.0

    def me(self) -> OwnerRecord:
        """What to write now."""
        return replace(self._me, beat=int(time.monotonic() // BEAT_SECONDS))

    def rival(self, holder: OwnerRecord | None, now: float) -> str | None:
        """A sentence about the other daemon that holds the line; ``None`` if there is none.

        ``now`` is on one monotonic clock.  One whose number does not change is called dead by ``stale``.
        """
        if holder is None:
            self._other = ("", 0)
            return None
        sign_of_life = (holder.id, holder.beat)
        if sign_of_life != self._other:
            self._other, self._other_since = sign_of_life, now
        return (
            f"Another heygemd (process {holder.pid} on {holder.host}, state folder "
            f"{holder.state_dir}) uses this line. Two on one inbox would make each film twice: stop one of "
            "them, or give it another inbox."
        )

    def stale(self, now: float) -> tuple[str, int] | None:
        """The id and number of another daemon that has given no sign of life for too long."""
        silent = self._other != ("", 0) and now - self._other_since >= STALE_SECONDS
        return self._other if silent else None


def _began(pid: int) -> str:
    """Start time of a process in kernel ticks; empty if it does not exist."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _machine() -> str:
    """The same after a reboot; clones of one disk have at least other names."""
    with contextlib.suppress(OSError):
        return f"{Path('/etc/machine-id').read_text().strip()} {socket.gethostname()}"
    return secrets.token_hex(8)


def _boot() -> str:
    """The same until a reboot."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return secrets.token_hex(8)


def _kernel() -> str:
    """The same for processes that see each other's numbers: one boot, one namespace of processes."""
    with contextlib.suppress(OSError):
        return f"{_boot()} {Path('/proc/self/ns/pid').readlink()}"
    return secrets.token_hex(8)


# ---------------------------------------------------------------- on the share


def hold(folder: str, me: OwnerRecord, stale: tuple[str, int] | None) -> OwnerRecord | None:
    """Hold the line whose ``processing/`` this is, or say who does.  Again: the same."""
    with nofollow.folder(folder) as place:
        fd = os.open(OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=place)
    try:
        _lock(fd)
        holder = _parsed(os.pread(fd, _LONGEST, 0))
        if holder is not None and holder.id != me.id and not _dead(holder, me, stale):
            return holder
        if holder != me:
            data = json.dumps(me.to_json()).encode()
            os.ftruncate(fd, os.pwrite(fd, data, 0))
    finally:
        os.close(fd)
    return None


def _lock(fd: int) -> None:
    """While it is decided.  On a share without locks two who begin in one instant may both think that they hold it; a
    lock of a machine that is gone must not stop us for long."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        except OSError:
            return
        else:
            return


def leave(folder: str, me: OwnerRecord) -> None:
    """Give the line up, if it is held by us."""
    with contextlib.suppress(FileNotFoundError), nofollow.folder(folder) as place:
        fd = os.open(OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        try:
            holder = _parsed(os.pread(fd, _LONGEST, 0))
        finally:
            os.close(fd)
        if holder is not None and holder.id == me.id:
            os.unlink(OWNER, dir_fd=place)


def _parsed(data: bytes) -> OwnerRecord | None:
    """What the file says; ``None`` for a file cut short by a death, or written by somebody else."""
    with contextlib.suppress(ValueError, RecursionError):
        record = json.loads(data)
        if isinstance(record, dict):
            return OwnerRecord.from_json(record)
    return None


def _dead(holder: OwnerRecord, me: OwnerRecord, stale: tuple[str, int] | None) -> bool:
    if holder.kernel == me.kernel:
        return _began(holder.pid) != holder.began
    if holder.machine == me.machine and holder.boot != me.boot:
        return True  # it ended with the power, or with the reboot
    return (holder.id, holder.beat) == stale
