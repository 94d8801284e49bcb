"""Values out of JSON that another process wrote: checked, or a default where a program such as ffprobe wrote none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import TypeVar

Json = Mapping[str, object]
T = TypeVar("T", str, int, bool)


def json_object(text: str | bytes) -> Json:
    """The JSON object that ``text`` is.  Raises ``ValueError`` where it is anything else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is due, not {type(value).__name__}")
    return value


def member(data: Json, key: str) -> Json:
    """The object under ``key``; an empty one if it is missing."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def members(data: Json, key: str) -> list[Json]:
    """The objects in the list under ``key``; none if the list is missing."""
    value = data.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def texts(data: Json, key: str) -> list[str]:
    """The list of strings under ``key``.  Raises ``ValueError`` if it is missing."""
    value = data.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value!r} where a list is due")
    return [str(entry) for entry in value]


def exactly(kind: type[T], data: Json, key: str) -> T:
    """The value under ``key``, of this type.  Raises ``ValueError`` if it is missing or of another."""
    value = data.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {value!r} where {kind.__name__} is due")
    return value


def or_none(kind: type[T], data: Json, key: str) -> T | None:
    """As ``exactly``, or ``None`` where that is what stands there."""
    return None if data[key] is None else exactly(kind, data, key)


def number(value: object) -> float:
    """What was written as a number or as its digits; 0 where it is neither, such as ``N/A``."""
    try:
        return float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        return 0.0


def fraction(value: object) -> Fraction:
    """What was written as ``30000/1001`` or as a number; 0 where it is neither."""
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)


def words(value: object) -> str | None:
    """What was written as text; ``None`` for nothing and for ffprobe's names of nothing."""
    return None if value in (None, "", "unknown", "unspecified", "reserved") else str(value)
