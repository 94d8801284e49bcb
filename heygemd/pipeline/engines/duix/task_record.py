"""Which task of the container's is made for which part: on the disk before the container hears of it.

chosen     the id is on the disk; the container may or may not have heard of it
sent       it has accepted the task
answered   it has told how the task ended, which it does once; its answer is kept here
collected  its film lies in the work folder, whole
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PHASES = ("", "chosen", "sent", "answered", "collected")


@dataclass(slots=True)
class ChunkTask:
    """One part's task.  ``spent``: earlier ids, whose leavings may still turn up; ``failures``: of how many of them the
    container, or what it made, was at fault."""

    code: str = ""
    phase: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    bytes: int = 0
    failures: int = 0
    spent: list[str] = field(default_factory=list)


class TaskRecord:
    """Every part's entry, in one small file.  What was written for other parts (``key``) is only remembered to be
    cleaned up after."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._entries: dict[int, ChunkTask] = {}
        self.orphans: list[str] = []  #: ids that belong to no part any more
        self._read()

    def _read(self) -> None:
        try:
            told = json.loads(self._path.read_text())
            entries = {int(number): _entry(value) for number, value in told["parts"].items()}
            self.orphans = [str(code) for code in told["orphans"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        if told.get("key") == self._key:
            self._entries = entries
        else:
            self.orphans += [code for entry in entries.values() for code in (*entry.spent, entry.code) if code]

    def of(self, number: int) -> ChunkTask:
        """The entry of a part; change it and ``save``."""
        return self._entries.setdefault(number, ChunkTask())

    def codes(self) -> list[str]:
        """Every id that was ever used for this film."""
        known = [code for entry in self._entries.values() for code in (*entry.spent, entry.code) if code]
        return [*self.orphans, *known]

    def save(self) -> None:
        """Write it; on return it is on the disk."""
        parts = {str(number): asdict(entry) for number, entry in self._entries.items()}
        part = self._path.with_suffix(".part")
        with part.open("w") as file:
            json.dump({"key": self._key, "parts": parts, "orphans": self.orphans}, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _entry(value: Mapping[str, Any]) -> ChunkTask:
    entry = ChunkTask(**value)
    if entry.phase not in PHASES:
        raise ValueError(entry.phase)
    return entry
