"""Ending asyncio tasks for certain."""

from __future__ import annotations

import asyncio
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
