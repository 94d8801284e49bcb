"""The life of a drop and its jobs on disk: claim, stage, publish, file, recover.

The order is the promise: record, then move; publish last.

    claim     journal CLAIMING → processing/<drop>/request.json → the inputs, one rename each → journal HELD  (claim.py)
    stage     inputs → local copies under names of ours, hashed; read again while they change                 (stage.py)
    publish   journal PUBLISHING(name) → both parts in the outbox, fsynced → journal REVEALING
              → rename the film → rename the log → journal DELIVERED                                        (publish.py)
    file      journal FILING(name) → processing/<drop>/ → done/ or failed/ → journal ENDED

An input that is not as it was when it settled is not taken: all that was moved goes back into the inbox, the journal
forgets the drop, and it settles again.  A part disappears only by being renamed, so once REVEALING is in the journal a
part that is gone was delivered, even if somebody has already taken the film away.  ``recovery.py`` takes up each drop
and job where the journal says it was.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from weakref import WeakValueDictionary

from heygemd.common.errors import HeygemdError, StorageError
from heygemd.common.names import free_name, safe_component
from heygemd.common.request import DropRequest
from heygemd.config.live import Live
from heygemd.config.load import LINE_FOLDERS, Config, LineConfig
from heygemd.share.answers import LineOpened
from heygemd.share.client import ShareClient, ShareError
from heygemd.share.nofollow import BARRED
from heygemd.share.owner import Hold
from heygemd.store import receipts
from heygemd.store.claim import Claims
from heygemd.store.journal import Journal
from heygemd.store.places import Places
from heygemd.store.publish import Publishing, casefolded
from heygemd.store.stage import Staging
from heygemd.store.states import ENDED, Drop, DropState, Job, JobState, now

__all__ = ["Drop", "DropState", "DropStore", "Job", "JobState", "Journal"]


class DropStore:
    """Moves drops and jobs through their states.  Raises ``StorageError`` if a folder did not answer: retry later."""

    def __init__(self, live: Live, journal: Journal, shares: Mapping[str, ShareClient]) -> None:
        """``shares``: of the lines that are open, by name; they may come and go."""
        self._live = live
        self.journal = journal
        self.shares = shares
        self.lines = live.lines
        self.work = live.now.daemon.work_dir
        self.places = places = Places(self.lines, self.work)
        self.held, self.outbox, self.outlet, self.scratch = places.held, places.outbox, places.outlet, places.scratch
        self._claims = Claims(places, journal, shares, lambda drop: self.look_at(places.line(drop)))
        self._staging = Staging(places, journal, shares, lambda: self.config.intake.settle_seconds)
        self._publishing = Publishing(places, journal, shares)
        self.stage, self.input_bytes = self._staging.stage, self._staging.input_bytes
        self.keep_film, self.publish = self._publishing.keep_film, self._publishing.publish
        self._holds: dict[str, Hold] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._live.now

    # ------------------------------------------------------------ the line

    async def look_at(self, line: LineConfig) -> LineOpened:
        """Make sure that the line's folders are there and ours, and that no other daemon holds them."""
        folders = {name: str(getattr(line, name)) for name in LINE_FOLDERS}
        marker, hold, at = self.journal.marker(line.name), self.hold(line.name), time.monotonic()
        opened = await self.shares[line.name].open_line(folders, marker, hold.me(), hold.stale(at))
        rival = hold.rival(opened.held_by, at)
        if rival is not None:
            raise StorageError(rival)
        if opened.marker != marker:
            self.journal.set_marker(line.name, opened.marker)
        return opened

    def hold(self, line: str) -> Hold:
        """Our claim to a line."""
        if line not in self._holds:
            self._holds[line] = Hold(self.config.daemon.state_dir)
        return self._holds[line]

    async def outbox_free_mib(self, line: str) -> int:
        """Free space in a line's outbox, in MiB.  Raises ``StorageError``."""
        return await self.shares[line].free_mib(str(self.lines[line].outbox))

    # ------------------------------------------------------------ claim

    async def claim(self, line: LineConfig, request: DropRequest) -> Drop:
        """Take a settled drop out of the inbox; see ``take``."""
        drop_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        submitter = None
        if request.moves:
            submitter = await self.shares[line.name].owner(os.path.join(line.inbox, request.moves[0].source))
        return await self.take(self.journal.add_drop(drop_id, line.name, request, submitter))

    async def take(self, drop: Drop) -> Drop:
        """Move the inputs of a CLAIMING drop; safe to do again.

        The drop is HELD, or still CLAIMING and not in the journal any more: it was given back.
        """
        drop = await self._claims.take(drop)
        if drop.state is DropState.HELD:
            await self.file_if_over(drop)
        return drop

    # ------------------------------------------------------------ file

    async def file_if_over(self, drop: Drop) -> Drop:
        """Once the last job of a HELD drop has ended: batch log, reason, and its folder to done/ or failed/."""
        async with self._alone(drop.id):
            return await self._file_if_over(self.journal.drop(drop.id))

    def _alone(self, drop_id: str) -> asyncio.Lock:
        """The claim, the delivery and a person who asks for a retry may all come to one drop at the same time."""
        lock = self._locks.get(drop_id) or asyncio.Lock()
        self._locks[drop_id] = lock
        return lock

    async def _file_if_over(self, drop: Drop) -> Drop:
        jobs = self.journal.jobs_of(drop.id)
        if drop.state is DropState.HELD and all(job.state in ENDED for job in jobs):
            if len(jobs) > 1:
                drop = await self._publishing.batch_log(drop, jobs)
            done = bool(jobs) and all(job.state is JobState.DELIVERED for job in jobs)
            if not done:
                text = receipts.reason_text(drop, jobs, self.config.daemon.language).encode("utf-8", "backslashreplace")
                await self.shares[drop.line].write_whole(os.path.join(self.held(drop), "reason.txt"), text)
            drop = await self._choose_home(drop, "done" if done else "failed")
        if drop.state is DropState.FILING:
            drop = await self._file(drop)
        return drop

    async def _choose_home(self, drop: Drop, verdict: str) -> Drop:
        share, above = self.shares[drop.line], self.places.above_home(drop)
        try:
            there = await share.listing(os.path.join(self.places.shelf(drop, verdict), above))
        except ShareError as error:
            if not above or error.errno not in BARRED:
                raise
            above = ""  # a file or a link has the name of the subfolder: it must not hold up the drop for ever
            there = await share.listing(self.places.shelf(drop, verdict))
        names = {casefolded(n) for n in there}
        home = os.path.join(above, free_name(safe_component(drop.request.name), lambda base: casefolded(base) in names))
        return self.journal.set_drop(drop, DropState.FILING, verdict=verdict, home=home)

    async def _file(self, drop: Drop) -> Drop:
        assert drop.verdict is not None
        share = self.shares[drop.line]
        while await share.file_drop(self.held(drop), self.places.home(drop)) in ("taken", "barred"):
            drop = await self._choose_home(drop, drop.verdict)
        drop = self.journal.set_drop(drop, DropState.ENDED, ended=now())
        shutil.rmtree(self.work / drop.id, ignore_errors=True)
        return drop

    # ------------------------------------------------------------ again

    async def retry(self, job: Job) -> Job:
        """Queue an ended, undelivered job again; its drop's folder comes back from failed/."""
        async with self._alone(job.drop_id):
            return await self._retry(self.journal.job(job.id))

    async def _retry(self, job: Job) -> Job:
        drop = self.journal.drop(job.drop_id)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise HeygemdError(f"{job.id} is {job.state}; only a failed or cancelled job can be retried.")
        if job.request.problem:
            raise HeygemdError(f"{job.id} cannot be retried unchanged: {job.request.problem}")
        if drop.line not in self.lines or drop.line not in self.shares:
            raise HeygemdError(f"{job.id} belongs to line {drop.line}, which is no longer configured.")
        if drop.state is DropState.FILING:
            drop = await self._file(drop)
        if drop.state is DropState.ENDED and drop.home is None:
            raise HeygemdError(
                f"The inputs of {job.id} were deleted when their retention time ended; drop them into the inbox again."
            )
        if drop.state is DropState.ENDED:
            drop = self.journal.set_drop(drop, DropState.RETURNING, ended=None, batch_ready=0)
        if drop.state is DropState.RETURNING:
            await self.give_back(drop)
        return self.journal.set_job(
            job, JobState.QUEUED, attempts=0, reason=None, reason_code=None, ended=None, result=None, base=None,
            started=None,
        )  # fmt: skip

    async def give_back(self, drop: Drop) -> Drop:
        """Move the folder of a RETURNING drop back to processing/.  Raises ``HeygemdError`` if it is missing."""
        source = self.places.home(drop)
        if await self.shares[drop.line].move(source, self.held(drop)) == "gone":
            self.journal.set_drop(drop, DropState.ENDED, ended=now())
            raise HeygemdError(f"The inputs are no longer in {source}; drop them into the inbox again.")
        return self.journal.set_drop(drop, DropState.HELD, home=None, verdict=None)
