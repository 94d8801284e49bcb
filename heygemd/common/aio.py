"""Two helpers for asyncio: ``ended`` cancels tasks until they have ended, ``Later`` holds back a second attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

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
