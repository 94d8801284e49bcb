"""What keeps a line's films and drops from their folders: no room, or a folder that refuses."""

from __future__ import annotations

from heygemd.common import log


class Obstacles:
    """By drop, why its film or its inputs could not be put in place the last time."""

    def __init__(self, line: str) -> None:
        """``line`` is the line's name, for the log."""
        self._no_room: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._log = log.get(line=line)

    @property
    def full(self) -> str | None:
        """The system's message when the outbox had no room; no job of this line begins until it has."""
        return next(iter(self._no_room.values()), None)

    @property
    def problem(self) -> str | None:
        """The message to show: no room before a refusal."""
        return self.full or next(iter(self._refused.values()), None)

    def no_room(self, drop_id: str, problem: str) -> None:
        """A film or log of this drop found no room."""
        if not self._no_room:
            self._log.error("line_full", problem=problem)
        self._no_room[drop_id] = problem

    def refused(self, drop_id: str, problem: str) -> None:
        """A film or folder of this drop could not be put in place; those of other drops may."""
        self._refused[drop_id] = problem

    def passed(self, drop_id: str) -> None:
        """A film, log or folder of this drop was put in place."""
        self._refused.pop(drop_id, None)
        if self._no_room.pop(drop_id, None) and not self._no_room:
            self._log.info("line_has_room")
