"""Tasks end, also those that have missed the first call."""

from __future__ import annotations

import asyncio
import contextlib

from heygemd.common import aio


def test_a_task_that_swallowed_its_first_cancellation_is_ended_all_the_same(monkeypatch) -> None:
    """A daemon that had done all its work once waited for ever for a line's task to end."""
    monkeypatch.setattr(aio, "AGAIN_SECONDS", 0.01)

    async def deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def story() -> bool:
        task = asyncio.create_task(deaf_once())
        await asyncio.sleep(0)
        await asyncio.wait_for(aio.ended([task]), 5)
        return task.cancelled()

    assert asyncio.run(story())


def test_the_failure_of_a_task_does_not_stop_the_end_of_the_others() -> None:
    async def fails() -> None:
        raise RuntimeError("at once")

    async def story() -> list[bool]:
        both = [asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(60))]
        await asyncio.sleep(0)
        await aio.ended(both)
        return [task.done() for task in both]

    assert asyncio.run(story()) == [True, True]
