"""The run log: structlog set up for a file, a terminal and the journal; one named event a line.

The file holds JSON lines (time with offset, level, event, then what is bound) and a new file is begun at a size.  A
terminal or the journal of systemd gets the same events as short lines.  Names of files are bytes that people
typed: what is not UTF-8 and what would move a terminal's cursor is escaped, never an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from heygemd.common.errors import SetupError
from heygemd.common.log import journald

_FIRST = ("time", "level", "event")
_LIBRARIES = ("watchdog", "asyncio")
_COLOUR = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_HOLDS_QUIET_SECONDS = 60.0


def get(**bound: object) -> FilteringBoundLogger:
    """A logger with ``bound`` in each of its events; ``.bind(job=…)`` binds more.

    Event names are ``snake_case`` words: ``log.get(job="ab12").info("job_started", line="main")``.
    """
    logger: FilteringBoundLogger = structlog.get_logger("heygemd", **bound)
    return logger


def setup(
    level: str = "info",
    file: Path | None = None,
    max_mib: int = 20,
    keep: int = 5,
    terminal: bool = False,
) -> None:
    """Say where events go; called once by a process, again to change it.

    ``file`` gets JSON lines (mode 0640, ``keep`` older ones of ``max_mib`` MiB).  ``terminal`` asks for short
    lines on stderr; under systemd they go to its journal anyway, each with its fields.
    Raises SetupError where the file cannot be written.
    """
    handlers: list[logging.Handler] = []
    if file is not None:
        handlers.append(_file_handler(file, max_mib, keep))
    journal = _is_journal(sys.stderr)
    if journal and (native := _journal_handler()):
        handlers.append(native)
    elif terminal or journal or file is None:
        handlers.append(_stderr_handler(sys.stderr, journal))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _FileHandler | _StderrHandler | journald.Handler)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd has connected this very stream to its journal (systemd.exec(5), ``$JOURNAL_STREAM``)."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file at all, as in tests
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def on_terminal() -> bool:
    """Whether short lines go to stderr."""
    return any(isinstance(handler, _StderrHandler) for handler in logging.getLogger().handlers)


def file() -> Path | None:
    """The run log that ``setup`` has opened, if any."""
    handlers = (h for h in logging.getLogger().handlers if isinstance(h, _FileHandler))
    return next((Path(h.baseFilename) for h in handlers), None)


def _time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["time"] = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return event


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    _time,
    structlog.processors.format_exc_info,
]


def _formatter(renderer: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        foreign_pre_chain=[*_SHARED, _library],
    )


def _library(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Converts records of the standard logging module to structlog events."""
    record = event.get("_record")
    message = event.pop("event", "")
    return {
        **event,
        "event": "library_said",
        "library": getattr(record, "name", str(logger)),
        "message": message,
    }


def as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """One line of JSON: time, level and event first.  Other types are written as text."""
    ordered = {k: event[k] for k in _FIRST if k in event} | {k: v for k, v in event.items() if k not in _FIRST}
    return json.dumps(ordered, ensure_ascii=False, default=str)


class HumanForm:
    """One short line: ``14:03:07 job_started line=main name='a b.wav'``."""

    def __init__(self, *, journal: bool = False, colour: bool = False) -> None:
        self.journal = journal
        self.colour = colour

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        level, text = str(event.get("level", "info")), words(event)
        if self.journal:  # the journal has its own clock; <n> is its priority (sd-daemon(3))
            return f"<{journald.PRIORITY.get(level, 6)}>{text}"
        if self.colour and level in _COLOUR:
            text = f"{_COLOUR[level]}{text}\x1b[0m"
        return f"{str(event.get('time', ''))[11:19]} {text}"


def words(event: Mapping[str, object]) -> str:
    """An event as one short line, without its time."""
    level = str(event.get("level", "info"))
    rest = " ".join(f"{k}={_shown(v)}" for k, v in event.items() if k not in _FIRST)
    mark = "" if level in ("info", "debug") else f"{level}: "
    return f"{mark}{_plain(str(event.get('event', '')))} {rest}".rstrip()


def _shown(value: object) -> str:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    text = str(value)
    plain = _plain(text)
    return plain if plain == text and text and not any(c in text for c in " ='\"") else f"'{plain}'"


def _plain(text: str) -> str:
    """Without anything that could end the line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


class _FileHandler(RotatingFileHandler):
    """Rotates by size, is readable for the group, and survives a full disk."""

    _complained = -_HOLDS_QUIET_SECONDS

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o640)

        # A lone surrogate (a byte that is not UTF-8) becomes \udcff, which is also how JSON writes it.
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=opener)

    def close(self) -> None:
        """Close the file; lines that a full disk refused are lost."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not stop the work: reported on stderr, seldom."""
        del record
        if time.monotonic() - self._complained > _HOLDS_QUIET_SECONDS:
            type(self)._complained = time.monotonic()
            print(f"heygemd: cannot write {self.baseFilename}: {sys.exc_info()[1]}", file=sys.stderr)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """A class of its own, so that ``setup`` removes only our own handler."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Where stderr itself is gone there is no other place to report it."""
        del record


def _file_handler(file: Path, max_mib: int, keep: int) -> logging.Handler:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        handler = _FileHandler(file, maxBytes=max_mib << 20, backupCount=keep)
    except OSError as error:
        why = error.strerror or error
        raise SetupError(
            f"The run log {file} cannot be written: {why}. Set [daemon] log_file, or give this user write permission."
        ) from error
    handler.setFormatter(_formatter(as_json))
    return handler


def _stderr_handler(stream: TextIO, journal: bool) -> logging.Handler:
    handler = _StderrHandler(stream)
    handler.setFormatter(_formatter(HumanForm(journal=journal, colour=not journal and stream.isatty())))
    return handler


def _journal_handler() -> logging.Handler | None:
    """The journal's handler; ``None`` if no journal listens, as in some containers."""
    try:
        handler = journald.Handler(words)
    except OSError:
        return None
    handler.setFormatter(_formatter(handler.render))
    return handler


structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=False,
)
# Without setup() (in the command line, in tests) events go nowhere instead of to stdout.
logging.getLogger("heygemd").addHandler(logging.NullHandler())
