"""Checks a TOML table against keys declared on a dataclass and names every fault at once; knows none of our own keys.

A key is declared as a dataclass field ``name: Annotated[type, Rule("meaning", …)] = default``; the type says
what TOML may hold: ``str int float bool Path tuple[str, ...] tuple[Path, ...]``.

Ours and no library's: pydantic and its like report a key's value, but neither "did you mean" nor the table where a
misplaced key belongs, and this one declaration is the default file and the README's table of settings too.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, TypeVar, get_args, get_type_hints

from heygemd.common.errors import Fault

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Made = TypeVar("Made")
Setting = str | int | float | bool | Path | tuple[str, ...] | tuple[Path, ...]
"""A checked and converted value."""

_TEXTS, _PATHS = tuple[str, ...], tuple[Path, ...]
_SENTENCE: dict[type | GenericAlias, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path in quotes",
    _TEXTS: "a list of texts in quotes",
    _PATHS: "a list of paths in quotes",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Meaning and limits of a key.

    ``check`` gets the converted value and returns what is wrong with it, the end of a sentence, or ``None``.
    """

    doc: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    check: Callable[..., str | None] | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One declared key; ``shown`` is how its default reads in TOML, ``None`` means that it must be given."""

    name: str
    kind: type | GenericAlias
    rule: Rule
    shown: str | None


def keys_of(cls: type[DataclassInstance]) -> dict[str, Key]:
    """The declared keys of a dataclass, in order; fields without a ``Rule`` are not the table's own."""
    hints = get_type_hints(cls, include_extras=True)
    declared = (_declared(f, hints[f.name]) for f in fields(cls))
    return {k.name: k for k in declared if k is not None}


def _declared(f: Field[object], hint: object) -> Key | None:
    kind, *extras = get_args(hint) or (None,)
    rule = next((extra for extra in extras if isinstance(extra, Rule)), None)
    shown = None if f.default is MISSING else as_toml(f.default)
    return Key(f.name, kind, rule, shown) if rule else None


def as_toml(value: object) -> str:
    """A default as it would be written in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(as_toml(v) for v in value) + "]"
    text = "" if value == Path() else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def guess(word: str, known: Iterable[str]) -> str:
    """``"; did you mean …?"`` where something close is known, else nothing."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def read_values(
    keys: Mapping[str, Key],
    table: Mapping[str, object],
    where: str,
    base: Path,
    faults: list[Fault],
    *,
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Setting]:
    """The converted values of ``table``; faults are appended to ``faults``.

    Relative paths are taken from the folder ``base``.  ``elsewhere`` maps keys of other tables to these
    tables' names, for the hint where a key stands in the wrong one.
    """
    values: dict[str, Setting] = {}
    for name, raw in table.items():
        declared = keys.get(name)
        if declared is None:
            faults.append(Fault(where, f"unknown key {name!r}" + _hint(name, keys, elsewhere or {})))
            continue
        value = _convert(f"{where} {name}", declared, raw, base)
        if isinstance(value, Fault):
            faults.append(value)
        else:
            values[name] = value
    missing = [name for name, k in keys.items() if k.shown is None and name not in table]
    faults += [Fault(where, f"{name!r} is missing") for name in missing]
    return values


def build(cls: Callable[..., Made], values: Mapping[str, object]) -> Made:
    """A dataclass from values that were checked against its own keys."""
    return cls(**values)


def _hint(name: str, keys: Mapping[str, Key], elsewhere: Mapping[str, str]) -> str:
    if name in elsewhere:
        return f"; it belongs in {elsewhere[name]}"
    return guess(name, keys)


def _convert(where: str, declared: Key, raw: object, base: Path) -> Setting | Fault:
    """The value that ``raw`` stands for, or what is wrong with it."""
    kind, rule = declared.kind, declared.rule
    written = _written(kind, raw)
    if written is None:
        return Fault(where, f"must be {_SENTENCE[kind]}, not {_described(raw)}")
    problem = _text_problem(rule, written) if isinstance(written, str | tuple) else _number_problem(rule, written)
    if problem:
        return Fault(where, problem)
    value: Setting = written
    if kind is Path and isinstance(written, str):
        value = _path(written, base)
    elif kind == _PATHS and isinstance(written, tuple):
        value = tuple(_path(text, base) for text in written)
    problem = rule.check(value) if rule.check else None
    return Fault(where, problem) if problem else value


def _written(kind: type | GenericAlias, raw: object) -> str | int | float | tuple[str, ...] | None:
    """``raw`` as TOML has it, where it is of the declared kind; paths are still texts."""
    if kind in (_TEXTS, _PATHS):
        return tuple(raw) if isinstance(raw, list) and all(isinstance(v, str) for v in raw) else None
    if kind in (str, Path):
        return raw if isinstance(raw, str) else None
    if isinstance(raw, bool):  # in Python True is a number; in a configuration it is a mistake
        return raw if kind is bool else None
    if kind is float:
        return float(raw) if isinstance(raw, int | float) else None
    return raw if kind is int and isinstance(raw, int) else None


def _described(raw: object) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, str):
        return f"the text {raw!r}"
    if isinstance(raw, list):
        return "a list" if all(isinstance(v, str) for v in raw) else "a list that is not all text"
    if isinstance(raw, dict):
        return "a table"
    return str(raw)


def _text_problem(rule: Rule, value: str | tuple[str, ...]) -> str | None:
    for text in (value,) if isinstance(value, str) else value:
        if any(ord(c) < 32 or ord(c) == 127 for c in text):
            return f"has a control character in {text!r}"
        if rule.choices and text not in rule.choices:
            return f"{text!r} is none of {', '.join(rule.choices)}" + guess(text, rule.choices)
    return None


def _number_problem(rule: Rule, value: float) -> str | None:
    if not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if rule.low is not None and value < rule.low:
        return f"must be at least {rule.low:g}, not {value:g}"
    if rule.high is not None and value > rule.high:
        return f"must be at most {rule.high:g}, not {value:g}"
    return None


def _path(text: str, base: Path) -> Path:
    """Absolute and without ``..``; the empty text stays the empty path, which means: not given.

    Nothing is asked of the file system: a share that hangs must not keep a configuration from being read.
    """
    return Path(os.path.normpath(base / text)) if text else Path()
