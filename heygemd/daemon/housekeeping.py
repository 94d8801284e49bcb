"""Retention: inputs in done/ and failed/, films held in review/, and cached faces are removed after their days.

Only files that heygemd filed, by the journal, are removed, and of these only the unchanged ones: a file that somebody
has put there, or has changed, stays, and its folder with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from heygemd.common import log
from heygemd.common.errors import StorageError
from heygemd.common.names import display
from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.contract.template_cache import CacheFolder
from heygemd.store.drops import DropState, Job, JobState, Journal
from heygemd.store.states import Drop
from heygemd.watch.line import WatchedLine

FIRST_SECONDS, ROUND_SECONDS = 60.0, 3600.0  # after the start, and between two rounds
AT_ONCE = 50  # drops of a line that are looked up together
OURS = ("request.json", "reason.txt")
"""Names of the files that the daemon adds to a drop's folder."""

Verdict = Literal["done", "failed"]


def inputs_of(drop: Drop) -> list[tuple[str, int, int]]:
    """The files that were filed with a drop, as path in its folder, size, mtime_ns.  Pure."""
    stamps = {path: stamp for move in drop.request.moves for path, stamp in move.stamps.items()}
    return [(path, stamp.size, stamp.mtime_ns) for path, stamp in stamps.items()]


def folder_of(line: LineConfig, drop: Drop) -> str | None:
    """Folder of an ended drop's inputs; ``None`` if they were deleted."""
    if drop.home is None or drop.verdict is None:
        return None
    return str((line.done if drop.verdict == "done" else line.failed) / drop.home)


@dataclass(frozen=True, slots=True)
class DeliveredFilm:
    """A film that was delivered, by the journal.  ``base``: its absolute path without the ending; ``size`` in bytes."""

    base: str
    size: int
    job: str

    @staticmethod
    def of(line: LineConfig, drop: Drop, job: Job) -> DeliveredFilm | None:
        """The job's film; ``None`` if none was delivered or it was deleted."""
        if job.state is not JobState.DELIVERED or not job.base:
            return None
        result = job.result or {}
        folder = line.review if result.get("held") else line.outbox
        file = result.get("film_file")
        return DeliveredFilm(str(folder / drop.request.folder / job.base), file["bytes"] if file else 0, job.id)


class Housekeeper:
    """Goes round about once an hour: a task of the daemon that nothing else waits for."""

    def __init__(self, live: Live, journal: Journal, lines: Mapping[str, WatchedLine]) -> None:
        """``lines`` may come and go."""
        self._live, self._journal, self._lines = live, journal, lines
        self._log = log.get()

    async def run(self) -> None:
        """Go on until cancelled."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            await self.round(datetime.now().astimezone())
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self, at: datetime) -> None:
        """Remove everything whose days have passed at ``at``; a share that does not answer waits for the next round."""
        await self.forget_faces()
        for line in list(self._lines.values()):
            if line.open:
                with contextlib.suppress(StorageError):  # the line itself says that its share is gone
                    await self._tidy(line, at)

    async def forget_faces(self) -> None:
        """Remove cached analyses of templates that are too old or too large, in an idle daemon too."""
        render, folder = self._live.now.render, self._live.now.daemon.state_dir / "cache"
        if not folder.is_dir():
            return
        try:
            cache = CacheFolder(folder, render.cache_mib << 20, render.cache_days * 86_400.0)
            forgotten = await asyncio.to_thread(cache.prune)
        except OSError as error:
            self._log.warning("faces_not_forgotten", problem=str(error))
            return
        if forgotten:
            self._log.info("faces_forgotten", entries=forgotten, cache_days=render.cache_days)

    async def _tidy(self, line: WatchedLine, at: datetime) -> None:
        settings = line.settings
        for verdict, days in (("done", settings.done_days), ("failed", settings.failed_days)):
            if days:
                await self._remove_drops(line, verdict, (at - timedelta(days=days)).isoformat(), days)
        if settings.review_days:
            await self._remove_held(line, (at - timedelta(days=settings.review_days)).isoformat())

    async def _remove_drops(self, line: WatchedLine, verdict: str, before: str, days: float) -> None:
        while drops := self._journal.filed_before(line.settings.name, verdict, before, AT_ONCE):
            for drop in drops:
                if not await self._remove_inputs(line, drop, days):
                    return  # somebody has just taken it up again: the next round looks again

    async def _remove_inputs(self, line: WatchedLine, drop: Drop, days: float) -> bool:
        """Whether they were there to be removed.  Operations of a share keep their order, so that a drop which is
        ENDED when this one is asked for lies there until it is done."""
        folder = folder_of(line.settings, drop)
        if folder is None or self._journal.drop(drop.id) != drop:
            return False
        gone = await line.share.remove_filed(folder, inputs_of(drop), OURS)
        if self._journal.drop(drop.id) != drop:
            return False
        self._journal.set_drop(drop, DropState.ENDED, home=None)
        self._log.info(
            "inputs_removed", line=drop.line, drop=drop.id, folder=display(folder), days=days,
            files=gone.removed, left=[display(name) for name in gone.left],
        )  # fmt: skip
        return True

    async def _remove_held(self, line: WatchedLine, before: str) -> None:
        while jobs := self._journal.held_before(line.settings.name, before, AT_ONCE):
            for job in jobs:
                film = DeliveredFilm.of(line.settings, self._journal.drop(job.drop_id), job)
                if film is not None:
                    what = await line.share.remove_film(film.base, film.size, film.job)
                    self._log.info("held_film_removed", line=line.settings.name, job=job.id, film=display(film.base),
                                   days=line.settings.review_days, found=what)  # fmt: skip
                self._journal.set_job(job, JobState.DELIVERED, ended=job.ended, base=None)
