"""Checked readers of JSON that another process or another program wrote: a value of the expected type, or a default.

A row is one JSON object.  Each reader takes the row and a key; a missing key and a value of another type give the
default, so that nothing foreign can raise an error far from where it was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Row = Mapping[str, object]


def row(source: Row, key: str) -> Row:
    """The object under ``key``; an empty one where there is none."""
    value = source.get(key)
    return value if isinstance(value, Mapping) else {}


def rows(source: Row, key: str) -> Sequence[Row]:
    """The objects in the list under ``key``; entries that are no objects are left out."""
    value = source.get(key)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []


def text(source: Row, key: str, default: str = "") -> str:
    """The text under ``key``."""
    value = source.get(key)
    return value if isinstance(value, str) else default


def texts(source: Row, key: str) -> list[str]:
    """The texts in the list under ``key``; entries that are no texts are left out."""
    value = source.get(key)
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list | tuple) else []


def number(source: Row, key: str, default: float = 0.0) -> float:
    """The number under ``key``; ``true`` and ``false`` are no numbers."""
    value = source.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def whole(source: Row, key: str, default: int = 0) -> int:
    """The whole number under ``key``; a fraction is cut off, as ``int`` does."""
    value = whole_or_none(source, key)
    return default if value is None else value


def whole_or_none(source: Row, key: str) -> int | None:
    """The same, ``None`` where there is no number."""
    value = source.get(key)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
