"""Finished films into the outboxes, drops that have ended into done/ or failed/.

Beside the rendering, so that a slow share does not hold up the next job.  A share that refuses is tried again later;
one that is full pauses its line until there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from heygemd.common import log
from heygemd.common.aio import Later, Pace
from heygemd.common.errors import FULL, StorageError
from heygemd.share.client import ShareError
from heygemd.store.drops import DropStore, Job, JobState, Journal
from heygemd.store.states import ENDED, DropState
from heygemd.watch.line import WatchedLine


class Delivery:
    """Takes jobs from RENDERED to DELIVERED and drops from HELD to ENDED."""

    def __init__(
        self, journal: Journal, store: DropStore, lines: Mapping[str, WatchedLine], later: Later, pace: Pace
    ) -> None:
        """``lines`` may come and go."""
        self._journal, self._store, self._lines, self._later, self._pace = journal, store, lines, later, pace
        self.news = asyncio.Event()
        self._log = log.get()

    async def loop(self, render: asyncio.Task[None]) -> None:
        """Until ``render`` has ended, and once more after it."""
        render.add_done_callback(lambda _: self.news.set())
        while not render.done():
            self.news.clear()
            await self._deliver()
            if not render.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), self._pace.turn)
        await self._deliver()

    async def _deliver(self) -> None:
        """Publish rendered films and file ended drops; a share that refuses is tried again later."""
        for job in self._journal.jobs_in(JobState.REVEALING, JobState.PUBLISHING, JobState.RENDERED):
            await self._try(job.drop_id, job)
        for drop in self._journal.drops(DropState.HELD, DropState.FILING):
            if all(job.state in ENDED for job in self._journal.jobs_of(drop.id)):
                await self._try(drop.id, None)

    async def _try(self, drop_id: str, job: Job | None) -> None:
        """Publish the job, or file its drop; note on the line how that went."""
        drop = self._journal.drop(drop_id)
        line = self._lines.get(drop.line)
        if line is None or not line.open or not self._later.due(drop_id):
            return
        try:
            await line.check()
            if job is not None:
                job = await self._store.publish(job)
                if job.state is JobState.DELIVERED:
                    self._log.info("film_delivered", job=job.id, film=f"{job.base}.mp4", line=drop.line)
            else:
                await self._store.file_if_over(drop)
            line.obstacles.passed(drop_id)
        except StorageError as error:
            if isinstance(error, ShareError) and error.errno in FULL:
                line.obstacles.no_room(drop_id, error.message)
            else:
                self._log.warning("delivery_postponed", drop=drop_id, reason=error.message)
                line.obstacles.refused(drop_id, error.message)
            self._later.wait(drop_id, self._pace.retry)
            line.wake()
