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
    OK: "done; with run --once: everything was delivered",
    UNEXPECTED: "an unexpected error",
    MISUSE: "wrong use, or a fault in the configuration",
    FAILED: "a film could not be made; with run --once: at least one",
    NO_DAEMON: "no daemon answers, and there is nothing to read",
    MISSING: "something is missing on this machine; doctor says what",
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
