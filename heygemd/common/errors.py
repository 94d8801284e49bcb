"""The errors of all rooms, as one small tree.

HeygemdError            a sentence for a person: what, which file, why, what to do
├── ConfigError         config.toml is faulty (all faults at once); exit code 2
├── InputError          the user's file or manifest is at fault; the job fails, trying again would not help
├── EngineError         an engine could not do the job; the job fails
│   ├── GpuMemoryError  it ran out of GPU memory; the job goes on with a smaller batch, or waits
│   └── EngineAway      a server that an engine needs is busy or does not answer; the job waits
├── StorageError        a line's folder did not answer or refused; the work waits and is tried again
├── WorkerDied          the child process ended without a result; the job is tried again a few times
├── Cancelled           somebody asked for it
└── SetupError          something is missing on this machine (ffmpeg, a GPU, a folder); says the cure

Raised everywhere, caught once per process: at the job's boundary in the daemon, at ``main`` in the command line,
at the request's boundary in the child.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

FULL = (errno.ENOSPC, errno.EDQUOT)
"""errno values of a full disk or an exceeded quota."""


class HeygemdError(Exception):
    """Base of all.  ``str(error)`` is one or two sentences for a person; ``code`` is for machines."""

    code = "error"

    def __init__(self, message: str, *, detail: str = "") -> None:
        """``detail`` is text for administrators, such as the last lines of ffmpeg's stderr."""
        super().__init__(message)
        self.message = message
        self.detail = detail


class InputError(HeygemdError):
    """The user's file or manifest is at fault."""

    code = "input"

    def __init__(self, message: str, *, detail: str = "", reason: str = "input") -> None:
        """``reason`` is a short stable word such as ``no_face``, ``empty_file``, ``not_media``."""
        super().__init__(message, detail=detail)
        self.reason = reason


class EngineError(HeygemdError):
    """An engine could not do the job."""

    code = "engine"


class GpuMemoryError(EngineError):
    """An engine ran out of GPU memory in the middle of its work."""

    code = "gpu_memory"


class EngineAway(EngineError):
    """A server that an engine needs is busy or does not answer."""

    code = "engine_away"


class StorageError(HeygemdError):
    """A line's folder did not answer or refused."""

    code = "storage"


class WorkerDied(HeygemdError):
    """The child process ended without a result."""

    code = "worker"


class Cancelled(HeygemdError):
    """A person cancelled the job."""

    code = "cancelled"


class SetupError(HeygemdError):
    """Something is missing on this machine."""

    code = "setup"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration or manifest: its place and its description."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(HeygemdError):
    """config.toml is faulty; carries every fault at once."""

    code = "config"

    def __init__(self, source: str, faults: list[Fault]) -> None:
        lines = "\n".join(f"  {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"{source}: {count}\n{lines}")
        self.source = source
        self.faults = faults


class NoDaemon(SetupError):
    """No daemon answers at the socket."""

    code = "no_daemon"


class Misuse(HeygemdError):
    """The command was used wrongly; nothing was done."""

    code = "misuse"
