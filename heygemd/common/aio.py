"""Ending asyncio tasks for certain, and trying things again later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

AGAIN_SECONDS = 1.0


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
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
    """What is to be tried again, and not before when."""

    def __init__(self) -> None:
        self._not_before: dict[str, float] = {}

    def wait(self, key: str, seconds: float) -> None:
        """Not before so many seconds have passed."""
        self._not_before[key] = time.monotonic() + seconds

    def due(self, key: str) -> bool:
        """Whether its time has come."""
        if self._not_before.get(key, 0.0) > time.monotonic():
            return False
        self._not_before.pop(key, None)
        return True
