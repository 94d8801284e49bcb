"""Checks of single values in ``config.toml`` that go beyond kind, choices and limits.

Each function takes a value and says what is wrong with it, ``None`` where nothing is.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from heygemd.common.request import LABEL_LETTERS

_LINE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def not_home(path: Path) -> str | None:
    """A path that a service can find."""
    return "starts with ~, which a service cannot resolve; write the full path" if "~" in path.parts else None


def not_empty(path: Path) -> str | None:
    """A path that was written."""
    return "must not be empty" if path == Path() else not_home(path)


def none_empty(paths: tuple[Path, ...]) -> str | None:
    """Paths that were written."""
    return next((problem for p in paths if (problem := not_empty(p))), None)


def line_name(name: str) -> str | None:
    """The name of a line."""
    if _LINE_NAME.fullmatch(name) and name.strip("."):
        return None
    return f"{name!r} must be 1 to 64 characters of A-Z a-z 0-9 . _ -"


def some(engines: tuple[str, ...]) -> str | None:
    """At least one engine."""
    return None if engines else "must name at least one engine"


def hours(span: str) -> str | None:
    """Hours of the day, or none."""
    clock = r"([01]\d|2[0-3]):[0-5]\d"
    return None if not span or re.fullmatch(f"{clock}-{clock}", span) else f"{span!r} is not like 08:00-18:00"


def prom(path: Path) -> str | None:
    """A file for node_exporter, or none."""
    if path != Path() and path.suffix != ".prom":
        return f"{str(path)!r} must end in .prom; node_exporter reads no other files"
    return not_home(path)


def private_url(url: str) -> str | None:
    """Footage of people goes there, so it must be a place that the operator owns."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        return f"is not an address: {error}"
    if parts.scheme != "http" or not host or port == 0 or parts.username or parts.path.strip("/") or parts.query:
        return f"{url!r} is not like http://127.0.0.1:8383"
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        inside = address.is_loopback or (address.is_private and not address.is_unspecified)
        return None if inside else f"{host} is a public address; only this machine and private networks are allowed"
    return None if host == "localhost" else f"{host!r} is a host name; write localhost or a private address"


def placeholders(argv: tuple[str, ...]) -> str | None:
    """An argv that names all three files, or none at all."""
    missing = [p for p in ("{audio}", "{video}", "{output}") if not any(p in a for a in argv)] if argv else []
    return f"lacks {', '.join(missing)}: the program needs all three files" if missing else None


def label_text(text: str) -> str | None:
    """A text that can be drawn over a picture."""
    if len(text) > LABEL_LETTERS:
        return f"is longer than {LABEL_LETTERS} characters"
    return None if text.isprintable() else "must be one line of visible characters"
