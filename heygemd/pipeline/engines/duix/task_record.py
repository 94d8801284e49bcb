"""Which task of the container's is made for which chunk: on the disk before the container hears of it.

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

from heygemd.pipeline.media.json_fields import Json, exactly, json_object, member, texts

PHASES = ("", "chosen", "sent", "answered", "collected")


@dataclass(slots=True)
class ChunkTask:
    """One chunk's task.  ``spent``: earlier ids, whose files may still turn up; ``failures``: how many of them failed
    through a fault of the container or of what it made."""

    code: str = ""
    phase: str = ""
    answer: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    failures: int = 0
    spent: list[str] = field(default_factory=list)


class TaskRecord:
    """Every chunk's task, in one small file.  Ids written for other chunks (``key``) are only kept so that their files
    are removed."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._tasks: dict[int, ChunkTask] = {}
        self.orphans: list[str] = []  #: ids that belong to no part any more
        self._read()

    def _read(self) -> None:
        try:
            data = json_object(self._path.read_text())
            chunks = member(data, "parts")
            tasks = {int(number): _task(member(chunks, number)) for number in chunks}
            self.orphans = texts(data, "orphans")
        except (OSError, ValueError):
            return
        if data.get("key") == self._key:
            self._tasks = tasks
        else:
            self.orphans += _codes(tasks)

    def of(self, number: int) -> ChunkTask:
        """The task of a chunk; change it and ``save``."""
        return self._tasks.setdefault(number, ChunkTask())

    def codes(self) -> list[str]:
        """Every id that was ever used for this film."""
        return [*self.orphans, *_codes(self._tasks)]

    def save(self) -> None:
        """Write it; on return it is on the disk."""
        parts = {str(number): asdict(task) for number, task in self._tasks.items()}
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


def _codes(tasks: Mapping[int, ChunkTask]) -> list[str]:
    return [code for task in tasks.values() for code in (*task.spent, task.code) if code]


def _task(data: Json) -> ChunkTask:
    """Raises ``ValueError`` where a field is missing or of another type."""
    phase = exactly(str, data, "phase")
    if phase not in PHASES:
        raise ValueError(phase)
    return ChunkTask(
        code=exactly(str, data, "code"),
        phase=phase,
        answer={key: str(value) for key, value in member(data, "answer").items()},
        bytes=exactly(int, data, "bytes"),
        failures=exactly(int, data, "failures"),
        spent=texts(data, "spent"),
    )
