"""A drop's inputs out of the inbox, and back into it where one of them has changed since it settled."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping

from heygemd.common import log
from heygemd.common.names import display, folded, free_name
from heygemd.common.request import Move, Stamp
from heygemd.share.client import ShareClient, ShareError
from heygemd.share.nofollow import BARRED
from heygemd.store import receipts
from heygemd.store.journal import Journal
from heygemd.store.places import Places
from heygemd.store.states import ENDED, Drop, DropState, Job, JobState


class Claims:
    """Brings a CLAIMING drop to HELD, or to nothing; each step may be repeated after a death.

    A drop that is given back stays CLAIMING until its last input is in the inbox: a start that finds it in the middle
    compares the stamps again, and comes to the same end.
    """

    def __init__(
        self, places: Places, journal: Journal, shares: Mapping[str, ShareClient],
        check_line: Callable[[Drop], Awaitable[object]],
    ) -> None:  # fmt: skip
        """``check_line`` raises ``StorageError`` where the drop's line is not there."""
        self._places, self._journal, self._shares, self._check_line = places, journal, shares, check_line
        self._log = log.get()

    async def take(self, drop: Drop) -> Drop:
        """Move the inputs of a CLAIMING drop.  The drop is still CLAIMING, and no longer in the journal, where all its
        inputs were gone or one of them has changed: it may settle again."""
        share, folder = self._shares[drop.line], self._places.held(drop)
        await share.open_drop(folder, receipts.request_record(drop))
        gone = set[str]()
        for move in drop.request.moves:
            answer = await share.take_input(self._in_inbox(drop, move), self._in_drop(drop, move), _stamps_of(move))
            if answer == "changed":
                return await self._give_back(drop, move)
            if answer == "gone":
                gone.add(move.target)
        if gone and len(gone) == len(drop.request.moves):
            return await self._forget(drop)
        if gone:
            await self._check_line(drop)  # a share that went away has not lost them
        await self._sync(drop)
        return self._hold(drop, gone)

    def _hold(self, drop: Drop, gone: set[str]) -> Drop:
        drop = self._journal.set_drop(drop, DropState.HELD)
        for job in self._journal.jobs_of(drop.id):
            problem = job.request.problem or _vanished(job, gone)
            if problem and job.state not in ENDED:
                code = job.request.problem_code if job.request.problem else "request"
                self._journal.set_job(job, JobState.FAILED, reason=problem, reason_code=code)
        return drop

    # ------------------------------------------------------------ back

    async def _give_back(self, drop: Drop, changed: Move) -> Drop:
        """Bring every input that was moved back into the inbox under its own name, and forget the drop."""
        self._log.warning("drop_given_back", drop=drop.id, line=drop.line, changed=display(changed.source))
        for move in drop.request.moves:
            await self._put_back(drop, move)
        await self._sync(drop)
        return await self._forget(drop)

    async def _put_back(self, drop: Drop, move: Move) -> None:
        share, source, target = self._shares[drop.line], self._in_drop(drop, move), self._in_inbox(drop, move)
        while True:
            try:
                if await share.put_back(source, target) != "taken":
                    return
                names = await share.listing(os.path.dirname(target))
            except ShareError as error:
                inbox = str(self._places.line(drop).inbox)
                if error.errno not in BARRED or os.path.dirname(target) == inbox:
                    raise
                target = os.path.join(inbox, os.path.basename(target))  # something else is in the folder's place
                continue
            # Somebody has put a newer file there meanwhile: both stay.
            target = _beside(target, [*names, os.path.basename(target)])

    async def _forget(self, drop: Drop) -> Drop:
        folders = {os.path.dirname(move.target) for move in drop.request.moves} - {""}
        whole = {"/".join(path.split("/")[:depth]) for path in folders for depth in range(1, path.count("/") + 2)}
        await self._shares[drop.line].discard_drop(self._places.held(drop), sorted(whole))
        self._journal.forget_drop(drop)
        return drop

    # ------------------------------------------------------------ pieces

    def _in_inbox(self, drop: Drop, move: Move) -> str:
        return os.path.join(self._places.line(drop).inbox, move.source)

    def _in_drop(self, drop: Drop, move: Move) -> str:
        return os.path.join(self._places.held(drop), move.target)

    async def _sync(self, drop: Drop) -> None:
        """Make durable what was moved, before the journal relies on it."""
        folder = self._places.held(drop)
        sources = {os.path.dirname(self._in_inbox(drop, move)) for move in drop.request.moves}
        await self._shares[drop.line].sync_folders([folder, os.path.dirname(folder), *sorted(sources)])


def _stamps_of(move: Move) -> dict[str, Stamp]:
    """A move's stamps by path below its source: a file's own at ``""``."""
    return {path[len(move.target) :].lstrip("/"): stamp for path, stamp in move.stamps.items()}


def _beside(path: str, names: Iterable[str]) -> str:
    """A name that is free in the folder of ``path``: ``a (2).mp4`` for ``a.mp4``."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    there = {folded(one) for one in names}
    return os.path.join(folder, free_name(stem, lambda base: folded(base + suffix) in there) + suffix)


def _vanished(job: Job, gone: set[str]) -> str | None:
    for source in (job.request.audio, job.request.video, *job.request.consents):
        if source is not None and not source.library and source.path in gone:
            return f"{display(source.path)} disappeared from the inbox before it could be taken; drop it again."
    return None
