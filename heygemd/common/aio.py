"""Helpers for asyncio: cancel tasks until they end, hold back a second attempt, the daemon's waits between turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

AGAIN_SECONDS = 1.0


async def ended(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: ``wait_for`` of Python 3.11 swallows a cancellation that comes in the very moment in which
    what it waits for is done (bpo-37658), and the task goes on as if nobody had asked.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


class Later:
    """The earliest time of the next attempt, by key."""

    def __init__(self) -> None:
        self._not_before: dict[str, float] = {}

    def wait(self, key: str, seconds: float) -> None:
        """The next attempt is due in ``seconds``."""
        self._not_before[key] = time.monotonic() + seconds

    def due(self, key: str) -> bool:
        """Whether the next attempt may be made; true for a key that nobody has held back."""
        if self._not_before.get(key, 0.0) > time.monotonic():
            return False
        self._not_before.pop(key, None)
        return True


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits of the daemon, in seconds.  Made once at its start and passed to each task; tests make a faster one."""

    turn: float = 1.0  #: main loop, render loop and delivery: between two turns, unless something wakes them
    start_turn: float = 0.1  #: main loop, until every line has been looked at
    retry: float = 5.0  #: before a share that refused, or did not answer, is tried again
    breath: float = 0.1  #: at least, between two scans of an inbox, however many events arrive
    queue_first: float = 1.0  #: between two looks at a queue that waits: grows from this …
    queue_longest: float = 4.0  #: … to this
    sample: float = 2.0  #: between two measurements of the running job
    free_space: float = 10.0  #: how long a folder's free space is taken from its last answer
    status_page: float = 4.0  #: between two looks at the status pages: a share may be slow, people read slower
    metrics: float = 5.0  #: between two readings; Prometheus asks about every 15 s
    engine_away: float = 10.0  #: before an engine's server that is away is asked again; this much longer each time …
    engine_away_longest: float = 120.0  #: … up to this
