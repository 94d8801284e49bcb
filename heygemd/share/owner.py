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
from pathlib import Path
from typing import Any

from heygemd.share import nofollow

OWNER = ".heygemd-owner"
BEAT_SECONDS = 30.0
STALE_SECONDS = 150.0  # a share may have been away for a while, and its daemon with it
LOCK_TRIES, LOCK_PAUSE_SECONDS = 20, 0.05
_LONGEST = 4096
Record = dict[str, Any]


# ---------------------------------------------------------------- in the daemon


class Hold:
    """One daemon's claim to one line."""

    def __init__(self, state_dir: Path) -> None:
        """``state_dir`` is for people: it says which daemon it is."""
        pid = os.getpid()
        self._me: Record = {
            "id": secrets.token_hex(8), "host": socket.gethostname(), "pid": pid, "began": _began(pid),
            "machine": _machine(), "boot": _boot(), "kernel": _kernel(), "state_dir": os.fsdecode(state_dir),
        }  # fmt: skip
        self._other: tuple[str, int] = ("", 0)
        self._other_since = 0.0

    def me(self) -> Record:
        """What to write now."""
        return {**self._me, "beat": int(time.monotonic() // BEAT_SECONDS)}

    def rival(self, found: Record | None, now: float) -> str | None:
        """A sentence about the other that was found to hold the line, where there is one.

        ``now`` is on one monotonic clock.  One whose number does not change is called dead by ``stale``.
        """
        if found is None:
            self._other = ("", 0)
            return None
        seen = (found["id"], found["beat"])
        if seen != self._other:
            self._other, self._other_since = seen, now
        return (
            f"Another heygemd (process {found.get('pid')} on {found.get('host')}, state folder "
            f"{found.get('state_dir')}) uses this line. Two on one inbox would make each film twice: stop one of "
            "them, or give it another inbox."
        )

    def stale(self, now: float) -> list[Any] | None:
        """The ``[id, beat]`` of another that has given no sign of life for too long."""
        silent = self._other != ("", 0) and now - self._other_since >= STALE_SECONDS
        return list(self._other) if silent else None


def _began(pid: int) -> str:
    """When a process began, in ticks of its kernel; empty where there is none."""
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


def hold(folder: str, me: Record, stale: list[Any] | None) -> Record | None:
    """Hold the line whose ``processing/`` this is, or say who does.  Again: the same."""
    with nofollow.folder(folder) as place:
        fd = os.open(OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=place)
    try:
        _lock(fd)
        found = _parsed(os.pread(fd, _LONGEST, 0))
        if found is not None and found.get("id") != me["id"] and not _dead(found, me, stale):
            return found
        if found != me:
            data = json.dumps(me).encode()
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


def leave(folder: str, me: Record) -> None:
    """Give the line up, if it is held by us."""
    with contextlib.suppress(FileNotFoundError), nofollow.folder(folder) as place:
        fd = os.open(OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        try:
            found = _parsed(os.pread(fd, _LONGEST, 0))
        finally:
            os.close(fd)
        if found is not None and found.get("id") == me["id"]:
            os.unlink(OWNER, dir_fd=place)


def _parsed(data: bytes) -> Record | None:
    """What the file says; a file cut short by a death, or written by somebody else, says nothing."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data)
        kinds = {"id": str, "pid": int, "beat": int}
        if isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
            return found
    return None


def _dead(found: Record, me: Record, stale: list[Any] | None) -> bool:
    if found.get("kernel") == me["kernel"]:
        return _began(found["pid"]) != found.get("began")
    if found.get("machine") == me["machine"] and found.get("boot") != me["boot"]:
        return True  # it ended with the power, or with the reboot
    return stale is not None and [found.get("id"), found.get("beat")] == stale
