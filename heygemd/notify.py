"""What systemd is told: READY, STATUS, WATCHDOG, STOPPING.  Outside systemd all of it does nothing."""

from __future__ import annotations

import os
import time

import sdnotify

STATUS_SECONDS = 2.0


class Notifier:
    """Speaks to ``$NOTIFY_SOCKET``."""

    def __init__(self) -> None:
        self._to = sdnotify.SystemdNotifier()
        self._watchdog = "WATCHDOG_USEC" in os.environ
        self._said = 0.0

    def ready(self) -> None:
        """Everything is watched."""
        self._to.notify("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._to.notify("STOPPING=1")

    def beat(self, summary: str) -> None:
        """Called once a turn of the main loop, which ends where one of its tasks has died.

        Everything that those tasks wait for has a deadline (a share, a renderer that reports nothing), so a turning
        loop is a living daemon, and a long copy or a slow frame does not get it killed.
        """
        now = time.monotonic()
        if self._watchdog:
            self._to.notify("WATCHDOG=1")
        if now - self._said >= STATUS_SECONDS:
            self._said = now
            # sdnotify drops what does not fit Latin-1 without a word; a name in Chinese is escaped instead.
            self._to.notify("STATUS=" + summary.encode("ascii", "backslashreplace").decode().replace("\n", " "))
