"""Typed data across a process boundary: written as plain JSON, read back equal, and refused if anything is off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest

from heygemd.contract import wire


@dataclass(frozen=True)
class Inner:
    seconds: float = 1.0
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    place: Path
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    pair: tuple[int, int] | None = None
    facts: Mapping[str, object] | None = None
    on: bool = False


class Base(TypedDict):
    name: str


class Row(Base, total=False):
    parts: list[Base]
    share: float | None


WHOLE = Outer(Path("/x"), "b", Inner(2.5, ("é", "")), (1, 2), {"any": [1, None]}, True)


@pytest.mark.parametrize("value", [WHOLE, Outer(Path("y"))])
def test_what_is_written_is_read_back_equal(value: Outer) -> None:
    assert wire.build(Outer, json.loads(json.dumps(wire.table(value)))) == value


def test_a_whole_number_is_a_float_where_a_float_is_wanted() -> None:
    built = wire.build(Inner, {"seconds": 3})
    assert built == Inner(3.0) and isinstance(built.seconds, float)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "it.place is missing"),
        ({"place": "x", "plaice": "x"}, "it.plaice is unknown"),
        ({"place": 1}, "it.place must be Path, not 1"),
        ({"place": "x", "kind": "c"}, "it.kind must be"),
        ({"place": "x", "on": 1}, "it.on must be bool, not 1"),
        ({"place": "x", "inner": {"seconds": True}}, "it.inner.seconds must be float, not True"),
        ({"place": "x", "inner": {"seconds": "1"}}, "it.inner.seconds must be float, not '1'"),
        ({"place": "x", "inner": {"words": ["a", 2]}}, r"it.inner.words\[1\] must be str, not 2"),
        ({"place": "x", "inner": {"words": "ab"}}, "it.inner.words must be list, not 'ab'"),
        ({"place": "x", "inner": []}, "it.inner must be an object"),
        ({"place": "x", "pair": [1]}, "it.pair must have 2 values, not 1"),
        ({"place": "x", "pair": [1, 2.5]}, r"it.pair\[1\] must be int, not 2.5"),
        ([], "it must be an object"),
    ],
)
def test_a_fault_is_named_with_its_place(data: Any, problem: str) -> None:
    with pytest.raises(wire.NotUnderstood, match=problem):
        wire.build(Outer, data, "it")


def test_a_table_is_returned_as_it_is_once_it_fits() -> None:
    row = {"name": "a", "parts": [{"name": "b"}], "share": None, "more": 1}
    assert wire.checked(Row, row) is row
    assert wire.checked(Row, {"name": "a"}) == {"name": "a"}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "name is missing"),
        ({"name": "a", "parts": [{}]}, r"parts\[0\].name is missing"),
        ({"name": "a", "share": "b"}, "share must be float, not 'b'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(data: Any, problem: str) -> None:
    with pytest.raises(wire.NotUnderstood, match=problem):
        wire.checked(Row, data)


def test_a_whole_table_has_every_key() -> None:
    with pytest.raises(wire.NotUnderstood, match="parts is missing"):
        wire.checked(Row, {"name": "a"}, whole=True)
