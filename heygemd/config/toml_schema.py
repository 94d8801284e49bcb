"""Checks a TOML table against declared keys and names every fault at once.  Knows no key of heygemd's own.

A key is declared as a dataclass field ``name: Annotated[type, Rule("meaning", …)] = default``; the type says
what TOML may hold: ``str int float bool Path tuple[str, ...] tuple[Path, ...]``.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from heygemd.common.errors import Fault

_TEXTS, _PATHS = tuple[str, ...], tuple[Path, ...]
_SENTENCE: dict[Any, str] = {
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
    """What a key means and may hold.

    ``check`` gets the converted value and returns what is wrong with it, the end of a sentence, or ``None``.
    """

    doc: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    check: Callable[[Any], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One declared key; ``shown`` is how its default reads in TOML, ``None`` means that it must be given."""

    name: str
    kind: Any
    rule: Rule
    shown: str | None


def keys_of(cls: type[Any]) -> dict[str, Key]:
    """The declared keys of a dataclass, in order; fields without a ``Rule`` are not the table's own."""
    hints = get_type_hints(cls, include_extras=True)
    declared = (_declared(f, hints[f.name]) for f in fields(cls))
    return {k.name: k for k in declared if k is not None}


def _declared(f: Field[Any], hint: Any) -> Key | None:
    kind, *extras = get_args(hint) or (None,)
    rule = next((extra for extra in extras if isinstance(extra, Rule)), None)
    shown = None if f.default is MISSING else as_toml(f.default)
    return Key(f.name, kind, rule, shown) if rule else None


def as_toml(value: Any) -> str:
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
    table: Mapping[str, Any],
    where: str,
    base: Path,
    faults: list[Fault],
    *,
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The values that ``table`` gives, converted; what is wrong with them is added to ``faults``.

    Relative paths are taken from the folder ``base``.  ``elsewhere`` maps keys of other tables to these
    tables' names, for the hint where a key stands in the wrong one.
    """
    values: dict[str, Any] = {}
    for name, raw in table.items():
        declared = keys.get(name)
        if declared is None:
            faults.append(Fault(where, f"unknown key {name!r}" + _hint(name, keys, elsewhere or {})))
            continue
        problem, value = _convert(declared, raw, base)
        if problem:
            faults.append(Fault(f"{where} {name}", problem))
        else:
            values[name] = value
    missing = [name for name, k in keys.items() if k.shown is None and name not in table]
    faults += [Fault(where, f"{name!r} is missing") for name in missing]
    return values


def _hint(name: str, keys: Mapping[str, Key], elsewhere: Mapping[str, str]) -> str:
    if name in elsewhere:
        return f"; it belongs in {elsewhere[name]}"
    return guess(name, keys)


def _convert(declared: Key, raw: Any, base: Path) -> tuple[str | None, Any]:
    """What is wrong with ``raw``, or ``None``, and the value."""
    kind, rule = declared.kind, declared.rule
    if not _fits(kind, raw):
        return f"must be {_SENTENCE[kind]}, not {_said(raw)}", None
    value: Any = raw
    if kind is float:
        value = float(raw)
    elif kind in (_TEXTS, _PATHS):
        value = tuple(raw)
    problem = _text_problem(rule, value) if isinstance(value, str | tuple) else _number_problem(rule, value)
    if problem:
        return problem, None
    if kind is Path:
        value = _path(value, base)
    elif kind == _PATHS:
        value = tuple(_path(v, base) for v in value)
    return (rule.check(value) if rule.check else None), value


def _fits(kind: Any, raw: Any) -> bool:
    if kind in (_TEXTS, _PATHS):
        return isinstance(raw, list) and all(isinstance(v, str) for v in raw)
    if kind in (str, Path):
        return isinstance(raw, str)
    if kind is bool:
        return isinstance(raw, bool)
    # In Python True is a number; in a configuration it is a mistake.
    wanted = int if kind is int else (int, float)
    return isinstance(raw, wanted) and not isinstance(raw, bool)


def _said(raw: Any) -> str:
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
