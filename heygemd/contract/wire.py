"""Typed data as plain JSON values, and back with every key and every type checked.

``plain`` writes dataclasses; ``build`` reads one.  ``checked`` is for data that stays a dictionary (a ``TypedDict``).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from heygemd.common.errors import EngineError

T = TypeVar("T")


class NotUnderstood(EngineError):
    """Data from the other process has an unknown key, lacks one, or holds a value of another type."""


def plain(value: object) -> object:
    """Dataclasses as dictionaries, tuples as lists, paths as text; everything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return table(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def table(value: object) -> dict[str, object]:
    """The fields of a dataclass instance as plain values, in order."""
    assert is_dataclass(value) and not isinstance(value, type)
    return {field.name: plain(getattr(value, field.name)) for field in fields(value)}


def build(kind: type[T], data: object, where: str = "") -> T:
    """The inverse of ``plain`` for the dataclass ``kind``; absent keys take their defaults.

    Raises ``NotUnderstood`` for a key that is unknown or missing and for a value of another type; the message names it
    below ``where``.
    """
    value = _object(kind, data, where)
    assert isinstance(value, kind)
    return value


def checked(kind: type[T], data: object, where: str = "", *, whole: bool = False) -> T:
    """``data`` itself, once it is certain that it is what the ``TypedDict`` ``kind`` says; more keys do no harm.

    ``whole``: no key may be absent, even one that ``kind`` does not require.  Raises ``NotUnderstood``.
    """
    if _fits(data, kind, where, whole):
        return data
    raise _wrong(where, kind, data)


def _fits(data: object, kind: type[T], where: str, whole: bool) -> TypeGuard[T]:
    _typed_dict(kind, data, where, whole=whole)
    return True


def _wrong(where: str, wanted: object, data: object) -> NotUnderstood:
    name = wanted.__name__ if isinstance(wanted, type) else str(wanted)
    return NotUnderstood(f"{where or 'the data'} must be {name}, not {data!r:.80}.")


def _value(hint: object, data: object, where: str) -> object:
    """``data`` as the type ``hint``."""
    origin = get_origin(hint)
    if hint is object:
        return data
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), data, where)
    if origin is Literal:
        if data in get_args(hint):
            return data
        raise _wrong(where, hint, data)
    if isinstance(origin, type):
        return _container(origin, get_args(hint), data, where)
    assert isinstance(hint, type), hint
    if is_typeddict(hint):
        return _typed_dict(hint, data, where)
    return _object(hint, data, where) if is_dataclass(hint) else _scalar(hint, data, where)


def _scalar(kind: type, data: object, where: str) -> object:
    if kind is Path and isinstance(data, str):
        return Path(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise _wrong(where, kind, data)
    return data


def _union(hints: Sequence[object], data: object, where: str) -> object:
    problem: NotUnderstood | None = None
    # The first problem is told: that of what may be there, not that of None.  An int that may be one stays one.
    for hint in sorted(hints, key=lambda hint: (hint is types.NoneType, hint is float)):
        try:
            return _value(hint, data, where)
        except NotUnderstood as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _container(origin: type, hints: Sequence[object], data: object, where: str) -> object:
    if issubclass(origin, Mapping):
        return {key: _value(hints[1], inner, f"{where}.{key}") for key, inner in mapping(data, where).items()}
    if not isinstance(data, list | tuple):
        raise _wrong(where, list, data)
    inner = [hints[0]] * len(data) if hints[-1] is ... or origin is not tuple else hints
    if len(inner) != len(data):
        raise NotUnderstood(f"{where} must have {len(inner)} values, not {len(data)}.")
    values = [_value(hint, one, f"{where}[{n}]") for n, (hint, one) in enumerate(zip(inner, data, strict=True))]
    return tuple(values) if origin is tuple else values


def mapping(data: object, where: str) -> Mapping[str, object]:
    """``data`` as an object with text keys and any values.  Raises ``NotUnderstood``."""
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise _wrong(where, "an object with text keys", data)
    return data


@cache
def _hints(kind: type) -> dict[str, object]:
    return dict(get_type_hints(kind))


def _object(kind: type, data: object, where: str) -> object:
    assert is_dataclass(kind), kind
    given, hints = mapping(data, where), _hints(kind)
    known = {field.name: field for field in fields(kind)}
    inner = _below(where)
    for key in given:
        if key not in known:
            raise NotUnderstood(f"{inner(key)} is unknown.")
    for name, field in known.items():
        if name not in given and _is_required(field):
            raise NotUnderstood(f"{inner(name)} is missing.")
    return kind(**{key: _value(hints[key], value, inner(key)) for key, value in given.items()})


def _is_required(field: Field[object]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _typed_dict(kind: type, data: object, where: str, *, whole: bool = False) -> object:
    given, inner = mapping(data, where), _below(where)
    required: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
    for name, hint in _hints(kind).items():
        if name in given:
            _value(hint, given[name], inner(name))
        elif whole or name in required:
            raise NotUnderstood(f"{inner(name)} is missing.")
    return data


def _below(where: str) -> Callable[[str], str]:
    return lambda name: f"{where}.{name}" if where else name
