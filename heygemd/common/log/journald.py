"""The log handler that sends events with their fields to systemd's journal.

An administrator reads them with ``journalctl -u heygemd HEYGEMD_JOB=20261122-213838-4c493b.1``.

The journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry, ``NAME=value`` lines, or for
a value with line ends ``NAME``, its length as 64 bits little-endian, and its bytes.  Fields of ours begin with
``HEYGEMD_``; ``MESSAGE_ID`` is the same for all events of one name, on every machine and for ever.

Ours and no library's: the protocol is one datagram; python-systemd is compiled against libsystemd, and the limit of
entries and the message ids would be ours with any library.
"""

from __future__ import annotations

import logging
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from structlog.typing import EventDict, WrappedLogger

SOCKET = Path("/run/systemd/journal/socket")
PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
VALUE_BYTES = 16 << 10
"""Longer values are cut; a datagram of more than the socket's buffer (some 200 KiB) would be refused."""
FIELDS = 40
BURST, BURST_SECONDS = 1000, 30.0
"""The most entries in that time, below the unit's LogRateLimit; further ones are counted, and their number is sent."""

_IDS = uuid.UUID("d3f7f1a6-3c0b-5d0e-9a58-6f2d1c8b7e41")
"""The namespace of our message ids; never to be changed."""
_LEFT_OUT = frozenset({"time", "level"})


@cache
def message_id(event: str) -> str:
    """The 128 bits that name an event's class: ``journalctl MESSAGE_ID=…``."""
    return uuid.uuid5(_IDS, event).hex


def entry(message: str, event: Mapping[str, object]) -> bytes:
    """One datagram for ``event`` (a structlog event dict); ``message`` is its sentence for people."""
    name, level = str(event.get("event", "")), str(event.get("level", "info"))
    fields = {
        "MESSAGE": message, "PRIORITY": str(PRIORITY.get(level, 6)), "SYSLOG_IDENTIFIER": "heygemd",
        "MESSAGE_ID": message_id(name),
    }  # fmt: skip
    if "job" in event and "drop" not in event:
        event = {**event, "drop": str(event["job"]).rpartition(".")[0]}
    for key, value in list(event.items())[:FIELDS]:
        if key not in _LEFT_OUT and value is not None:
            fields[_name(key)] = str(value)
    return b"".join(_field(name, value) for name, value in fields.items())


def _name(key: str) -> str:
    """``HEYGEMD_JOB`` for ``job``: upper case letters, digits and ``_``, at most 64."""
    return "HEYGEMD_" + re.sub(r"[^A-Z0-9_]", "_", key.upper())[:56]


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")[:VALUE_BYTES]
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


class Handler(logging.Handler):
    """Sends each event to the journal.  ``words`` makes the sentence for people from it.

    ``render`` must be the last processor of its formatter: there the event is seen whole.
    """

    def __init__(
        self,
        words: Callable[[Mapping[str, object]], str],
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises OSError where no journal listens at ``path`` (``SOCKET``)."""
        super().__init__()
        path = path or SOCKET
        self._words, self._path, self._clock = words, path, clock
        self._event: Mapping[str, object] = {}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
            trial.connect(str(path))
        self._to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._to.setblocking(False)  # a journal that is being restarted must not hold the daemon up
        self._since, self._sent, self._dropped = clock(), 0, 0

    def render(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        """The processor that sees the event (under the handler's lock, as ``emit`` is)."""
        self._event = event
        return self._words(event)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one event; events that the journal refuses are only in the run log."""
        try:
            text = self.format(record)
            if self._may_send():
                self._send(entry(text, self._event))
        except (ValueError, TypeError):
            self.handleError(record)

    def _may_send(self) -> bool:
        now = self._clock()
        if now - self._since >= BURST_SECONDS:
            dropped, self._since, self._sent, self._dropped = self._dropped, now, 0, 0
            if dropped:
                event = {"event": "events_left_out", "level": "warning", "count": dropped}
                self._send(entry(self._words(event), event))
        self._sent += 1
        if self._sent > BURST:
            self._dropped += 1
            return False
        return True

    def _send(self, data: bytes) -> None:
        try:
            self._to.sendto(data, str(self._path))
        except OSError:  # the journal is away or behind, or the entry is too large
            self._dropped += 1

    def close(self) -> None:
        """Close the socket."""
        self._to.close()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """An event that cannot be sent is dropped: there is no other place to report it."""
        del record
