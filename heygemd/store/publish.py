"""A rendered film into the outbox: its parts first, whole and durable, then their names."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from heygemd.common.errors import EngineError, StorageError
from heygemd.common.names import free_name
from heygemd.share.answers import Revealed
from heygemd.share.client import ShareClient
from heygemd.share.nofollow import sync_folder
from heygemd.store import receipts
from heygemd.store.journal import Journal
from heygemd.store.places import Places
from heygemd.store.receipts import machine_facts
from heygemd.store.states import Drop, Job, JobState

_BESIDE = (".mp4", ".report.html", ".json")  # what a film comes with


class Publishing:
    """Brings RENDERED jobs to DELIVERED, and the logs of batches into the outbox."""

    def __init__(self, places: Places, journal: Journal, shares: Mapping[str, ShareClient]) -> None:
        self._places, self._journal, self._shares = places, journal, shares

    async def keep_film(self, job: Job) -> None:
        """Sync the worker's files to disk before the journal records them.

        Raises ``EngineError`` where there is no film, ``StorageError`` where the disk refuses: try later.
        """
        try:
            await asyncio.to_thread(_bring_to_disk, self._places.scratch(job))
        except FileNotFoundError:
            raise EngineError("The renderer reported a film, but there is none.") from None
        except OSError as error:
            raise StorageError(f"The film could not be kept in the work folder: {error.strerror}.") from error

    async def publish(self, job: Job) -> Job:
        """Bring a RENDERED, PUBLISHING or REVEALING job to DELIVERED; safe to do again after any death."""
        drop = self._journal.drop(job.drop_id)
        while job.state in (JobState.RENDERED, JobState.PUBLISHING, JobState.REVEALING):
            if job.state is JobState.RENDERED:
                result = {**(job.result or {}), "held": self._is_held(drop, job)}
                job = self._journal.set_job(job, JobState.RENDERED, result=result)
                base = await self._free_base(self._places.outlet(drop, job), drop, job.request.name, _BESIDE)
                job = self._journal.set_job(job, JobState.PUBLISHING, base=base)
            if job.state is JobState.PUBLISHING:
                job = await self._write_parts(drop, job)
            if job.state is JobState.REVEALING:
                job = await self._reveal(drop, job)
        if job.state is JobState.DELIVERED:
            shutil.rmtree(self._places.scratch(job), ignore_errors=True)
        return job

    async def _write_parts(self, drop: Drop, job: Job) -> Job:
        share, film, result = self._shares[drop.line], self._places.film(job), job.result or {}
        if not film.exists():
            return self._journal.set_job(job, JobState.QUEUED, base=None, result=None)
        size = film.stat().st_size
        sha256 = await share.put(str(film), self._places.part(drop, job, "mp4"), size=size)
        page = self._places.scratch(job) / "report.html"
        if has_page := page.exists():
            await share.put(str(page), self._places.part(drop, job, "report.html"), size=page.stat().st_size)
        result = {**result, "film_file": {"sha256": sha256, "bytes": size}, "has_page": has_page}
        job = self._journal.set_job(job, JobState.PUBLISHING, result=result)
        receipt = receipts.to_bytes(receipts.film_log(drop, job, machine=machine_facts()))
        await share.write_part(self._places.part(drop, job, "json"), receipt)
        return self._journal.set_job(job, JobState.REVEALING)

    async def _reveal(self, drop: Drop, job: Job) -> Job:
        final = os.path.join(self._places.outlet(drop, job), job.base or "")
        if await self._show(drop, self._places.part(drop, job, "mp4"), f"{final}.mp4") == "taken":
            return self._journal.set_job(job, JobState.RENDERED, base=None)
        for suffix in ("report.html", "json") if (job.result or {}).get("has_page") else ("json",):
            part = self._places.part(drop, job, suffix)
            if await self._show(drop, part, f"{final}.{suffix}") == "taken":
                # Somebody took the name in this instant; the film is out, so this gets one that is surely free.
                await self._show(drop, part, f"{final}.{job.id}.{suffix}")
        return self._journal.set_job(job, JobState.DELIVERED)

    async def _show(self, drop: Drop, part: str, final: str) -> Revealed:
        return await self._shares[drop.line].reveal(part, final, self._places.root_of(drop, final))

    def _is_held(self, drop: Drop, job: Job) -> bool:
        """Decided once, and journalled: a configuration that changes meanwhile must not move a film's parts."""
        grade = ((job.result or {}).get("quality") or {}).get("grade")
        return grade == "poor" and self._places.line(drop).on_poor == "hold"

    async def _free_base(self, folder: str, drop: Drop, name: str, suffixes: tuple[str, ...]) -> str:
        """``name``, or ``name (2)`` …, so that none of its files exists in ``folder``, in any case."""
        names = {casefolded(n) for n in await self._shares[drop.line].listing(folder)}
        return free_name(name, lambda base: any(casefolded(base + suffix) in names for suffix in suffixes))

    # ------------------------------------------------------------ the log of a batch

    async def batch_log(self, drop: Drop, jobs: list[Job]) -> Drop:
        """Deliver the log of a drop with several jobs; safe to do again after any death."""
        part = self._places.batch_part(drop)
        while True:
            if not drop.batch_ready:
                base = await self._free_base(self._places.outbox(drop), drop, drop.request.name, (".batch.json",))
                drop = self._journal.set_drop(drop, drop.state, batch=base)
                log = receipts.to_bytes(receipts.batch_log(drop, jobs))
                await self._shares[drop.line].write_part(part, log)
                drop = self._journal.set_drop(drop, drop.state, batch_ready=1)
            final = os.path.join(self._places.outbox(drop), f"{drop.batch}.batch.json")
            if await self._show(drop, part, final) != "taken":
                return drop
            drop = self._journal.set_drop(drop, drop.state, batch_ready=0)


def casefolded(name: str) -> str:
    """A key under which names that a share may take for one are equal."""
    return name.casefold()


def _bring_to_disk(folder: Path) -> None:
    for name in ("report.html", "film.mp4"):
        if name == "film.mp4" or (folder / name).exists():
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(str(folder))
