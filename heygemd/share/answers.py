"""What the operations answer, as data, and the checks with which it is read from the child's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from heygemd.share.owner import OwnerRecord

Moved = Literal["moved", "already", "gone"]
Taken = Literal["moved", "already", "gone", "changed"]
PutBack = Literal["moved", "gone", "taken"]
Revealed = Literal["moved", "taken", "gone"]
LaidDown = Literal["moved", "taken"]
Filed = Literal["moved", "gone", "taken", "barred"]
Removed = Literal["removed", "gone", "changed"]

_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True)
class LineOpened:
    """A line whose folders are there.

    ``marker`` is for the journal; ``blind``: inotify sees no changes there; ``held_by``: another daemon that holds it.
    """

    marker: str
    blind: bool
    held_by: OwnerRecord | None


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A local copy of an input: its hash, its size in bytes, and whether the input stood still while it was read."""

    sha256: str
    size: int
    steady: bool


@dataclass(frozen=True, slots=True)
class RemovedFiles:
    """How many files were removed, and the paths of those that stayed, relative to the drop's folder."""

    removed: int
    left: tuple[str, ...]


# ---------------------------------------------------------------- reading; a TypeError is a fault of ours


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {value!r}")
    return value


def number(value: object) -> int:
    """A whole number."""
    if not isinstance(value, int):
        raise TypeError(f"a number was expected, not {value!r}")
    return value


def texts(value: object) -> list[str]:
    """A list of strings."""
    return [text(item) for item in items(value)]


def items(value: object) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        raise TypeError(f"a list was expected, not {value!r}")
    return value


def table(value: object) -> Mapping[str, object]:
    """An object with string keys."""
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {value!r}")
    return value


def choice(value: object, choices: tuple[_Choice, ...]) -> _Choice:
    """One of a few words."""
    for one in choices:
        if value == one:
            return one
    raise TypeError(f"one of {choices} was expected, not {value!r}")


def line_opened(value: object) -> LineOpened:
    """The answer of ``open_line``."""
    answer = table(value)
    other = answer["held_by"]
    held_by = None if other is None else OwnerRecord.from_json(table(other))
    return LineOpened(text(answer["marker"]), bool(answer["blind"]), held_by)


def staged_file(value: object) -> StagedFile:
    """The answer of ``stage``."""
    answer = table(value)
    return StagedFile(text(answer["sha256"]), number(answer["size"]), bool(answer["steady"]))


def removed_files(value: object) -> RemovedFiles:
    """The answer of ``remove_filed``."""
    answer = table(value)
    return RemovedFiles(number(answer["removed"]), tuple(texts(answer["left"])))
