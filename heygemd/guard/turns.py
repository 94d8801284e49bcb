"""Chooses the next job of the queue: a small one may overtake one that waits for the GPU, within a limit.  Pure.

What counts against overtaking is the time that a waiting job *lost* by it: it would have fitted, and another of our
jobs was running.  Time in which strangers held the memory is not lost by us, so a card that is never free for the
big job does not stop the small ones.  A job that has lost ``ageing`` seconds is not overtaken any more: the GPU is
kept for it until it starts, or for ``ageing`` seconds at most, after which its count begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from heygemd.guard.decide import Go, Need, Never, Verdict, Wait

Key = TypeVar("Key")
MOST = 32
"""The most unlike needs that are judged for one choice."""


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Key]):
    """A job that could be next."""

    key: Key
    need: Need


@dataclass(slots=True)
class Choice(Generic[Key]):
    """The choice from the queue: who may start, who can never start, and who waits for what."""

    chosen: Candidate[Key] | None = None
    go: Go | None = None
    never: tuple[Candidate[Key], Never] | None = None
    waiting: list[tuple[Candidate[Key], Wait]] = field(default_factory=list)
    behind: list[Candidate[Key]] = field(default_factory=list)  #: with the need of one that waits

    @property
    def overtaken(self) -> list[Candidate[Key]]:
        """Who stood before the chosen one and waits for the GPU that it gets."""
        if self.go is None or self.go.device is None:
            return []
        before = [*(candidate for candidate, _ in self.waiting), *self.behind]
        return [candidate for candidate in before if candidate.need.ways]


def choose_next(
    queue: Iterable[Candidate[Key]], judge: Callable[[Need], Verdict], kept_for: Key | None = None
) -> Choice[Key]:
    """The first in the queue that may start; an impossible one ends the search.

    A need equal to one that waits is not judged again: it would wait for the same.
    """
    choice: Choice[Key] = Choice()
    judged: list[Need] = []
    kept = False
    for candidate in queue:
        if candidate.need in judged:
            choice.behind.append(candidate)
            continue
        if len(judged) >= MOST:
            break
        if kept and candidate.need.ways:
            continue
        verdict = judge(candidate.need)
        if isinstance(verdict, Never):
            choice.never = (candidate, verdict)
            return choice
        if isinstance(verdict, Go):
            choice.chosen, choice.go = candidate, verdict
            return choice
        judged.append(candidate.need)
        choice.waiting.append((candidate, verdict))
        kept = kept or candidate.key == kept_for
    return choice


class Ageing(Generic[Key]):
    """Who has lost how much, and for whom the GPU is kept.  Times in seconds on the caller's clock."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.lost: dict[Key, float] = {}
        self.kept: Key | None = None
        self._until = 0.0

    def lose(self, key: Key, seconds: float) -> None:
        """Another job that overtook this one ran for so long while this one would have fitted."""
        self.lost[key] = self.lost.get(key, 0.0) + seconds

    def keep_for(self, now: float, queue: Sequence[Key]) -> Key | None:
        """For whom the GPU is kept: the first in the queue that has lost too much, for a time that has an end."""
        if self.kept is not None and (now >= self._until or self.kept not in queue):
            self.forget(self.kept)
        if self.kept is None:
            self.kept = next((key for key in queue if self.lost.get(key, 0.0) >= self.limit), None)
            self._until = now + self.limit
        return self.kept

    def forget(self, key: Key) -> None:
        """It has started, it is gone, or its time is over."""
        self.lost.pop(key, None)
        if self.kept == key:
            self.kept = None
