"""The exit codes of the command ``heygemd``, and the errors that they belong to."""

from __future__ import annotations

from heygemd.common.errors import (
    Cancelled,
    ConfigError,
    EngineError,
    HeygemdError,
    InputError,
    Misuse,
    NoDaemon,
    SetupError,
    WorkerDied,
)

OK, UNEXPECTED, MISUSE, FAILED, NO_DAEMON, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES = {
    OK: "success; with run --once: every job was delivered",
    UNEXPECTED: "unexpected error",
    MISUSE: "wrong usage, or a fault in the configuration",
    FAILED: "a film failed; with run --once: at least one job failed",
    NO_DAEMON: "no daemon answers, and there is no journal to read",
    MISSING: "this machine lacks something; see heygemd doctor",
    INTERRUPTED: "interrupted",
}

_CODE_OF: tuple[tuple[type[HeygemdError], int], ...] = (
    (NoDaemon, NO_DAEMON),
    (ConfigError, MISUSE),
    (SetupError, MISSING),
    (Cancelled, INTERRUPTED),
    (InputError, FAILED),
    (EngineError, FAILED),
    (WorkerDied, FAILED),
)


def exit_code(error: HeygemdError) -> int:
    """The exit code that belongs to an error."""
    if isinstance(error, Misuse):
        return MISUSE
    return next((code for kind, code in _CODE_OF if isinstance(error, kind)), UNEXPECTED)
