"""Notices to systemd: READY, STATUS, WATCHDOG, STOPPING.  Outside systemd all of it does nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import sdnotify

STATUS_SECONDS = 2.0
STATUS_LETTERS = 300
"""systemctl shows one line; a name may have 255 bytes."""


class Notifier:
    """Speaks to ``$NOTIFY_SOCKET``."""

    def __init__(self) -> None:
        self._to = sdnotify.SystemdNotifier()
        self._watchdog = "WATCHDOG_USEC" in os.environ
        self._status_at = -STATUS_SECONDS

    def ready(self) -> None:
        """Every line has been looked at, or found unavailable."""
        self._to.notify("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._to.notify("STOPPING=1")

    def more_time(self, seconds: float) -> None:
        """Start or stop goes on for at least ``seconds`` from now; must be called again before they have passed."""
        self._to.notify(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def beat(self, summary: Callable[[], str]) -> None:
        """Called once a turn of the main loop, which ends where one of its tasks has died.

        Everything that those tasks wait for has a deadline (a share, a renderer that reports nothing), so a turning
        loop is a living daemon, and a long copy or a slow frame does not get it killed.
        """
        now = time.monotonic()
        if self._watchdog:
            self._to.notify("WATCHDOG=1")
        if now - self._status_at >= STATUS_SECONDS:
            self._status_at = now
            self._to.notify("STATUS=" + plain(summary()).replace("\\", "\\\\"))  # systemd takes one \\ of two away


def plain(text: str) -> str:
    """One line of printable ASCII: sdnotify drops what does not fit Latin-1 without a word, so a name in Chinese is
    escaped.
    """
    escaped = text.encode("ascii", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else " " for c in escaped)
    return line if len(line) <= STATUS_LETTERS else line[: STATUS_LETTERS - 3] + "..."
