"""The life of a drop and its jobs on disk: claim, stage, publish, file, recover.

The order is the promise: record, then move; publish last.

    claim     journal CLAIMING → processing/<drop>/request.json → the inputs, one rename each → journal HELD
    stage     inputs → local copies under names of ours, hashed; read again while they change
    publish   journal PUBLISHING(name) → both parts in the outbox, fsynced → journal REVEALING
              → rename the film → rename the log → journal DELIVERED
    file      journal FILING(name) → processing/<drop>/ → done/ or failed/ → journal ENDED

A part disappears only by being renamed, so once REVEALING is in the journal a part that is gone was delivered, even
if somebody has already taken the film away.  ``recovery.py`` takes up each drop and job where the journal says it was.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from heygemd.common import log
from heygemd.common.errors import EngineError, HeygemdError, InputError, StorageError
from heygemd.common.names import display, free_name, safe_component
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES, DropRequest, Source
from heygemd.config.load import LINE_FOLDERS, Config, LineConfig
from heygemd.share.client import Share, ShareError
from heygemd.share.nofollow import BARRED, sync_folder
from heygemd.share.owner import Hold
from heygemd.store import receipts
from heygemd.store.journal import Journal
from heygemd.store.receipts import machine_facts
from heygemd.store.states import (
    ENDED,
    Drop,
    DropState,
    Job,
    JobState,
    StagedConsent,
    StagedInput,
    StagedInputs,
    now,
)

__all__ = ["Drop", "DropState", "Job", "JobState", "Journal", "Store"]

BYTES_PER_SECOND = 2e6  # slower than any share worth the name; sets the deadline of a copy
_BESIDE = (".mp4", ".report.html", ".json")  # what a film comes with
_KNOWN = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES


class Store:
    """Moves drops and jobs through their states.  Raises ``StorageError`` where a folder did not answer: try later."""

    def __init__(self, config: Config, journal: Journal, shares: Mapping[str, Share]) -> None:
        self.config = config
        self.journal = journal
        self.shares = shares
        self.lines = {line.name: line for line in config.lines}
        self.work = config.daemon.work_dir
        self._holds: dict[str, Hold] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._log = log.get()

    # ------------------------------------------------------------ places

    def line(self, drop: Drop) -> LineConfig:
        """The line of a drop."""
        return self.lines[drop.line]

    def held(self, drop: Drop) -> str:
        """``processing/<drop>``."""
        return os.path.join(self.line(drop).processing, drop.id)

    def outbox(self, drop: Drop) -> str:
        """The outbox folder in which the drop's films appear."""
        return os.path.join(self.line(drop).outbox, drop.request.folder)

    def outlet(self, drop: Drop, job: Job) -> str:
        """Where the job's film goes: the outbox, or the same subfolder of review/ for a film that is held."""
        held = (job.result or {}).get("held", False)
        return os.path.join(self.line(drop).review, drop.request.folder) if held else self.outbox(drop)

    def _is_held(self, drop: Drop, job: Job) -> bool:
        """Decided once, and journalled: a configuration that changes meanwhile must not move a film's parts."""
        grade = ((job.result or {}).get("quality") or {}).get("grade")
        return grade == "poor" and self.line(drop).on_poor == "hold"

    def scratch(self, job: Job) -> Path:
        """The job's local work folder."""
        return self.work / job.drop_id / str(job.number)

    def input_bytes(self, job: Job) -> tuple[int, int]:
        """The sizes of the job's sound and picture as they were claimed; 0 for what cannot be told.

        Of a library file it is the size now; libraries are local or mounted for good.
        """
        drop = self.journal.drop(job.drop_id)
        sizes = {path: stamp.size for move in drop.request.moves for path, stamp in move.stamps.items()}
        found = []
        for source in (job.request.audio, job.request.video):
            size = sizes.get(source.path, 0) if source else 0
            if source and source.library:
                with contextlib.suppress(OSError):
                    size = os.stat(source.path).st_size
            found.append(size)
        return found[0], found[1]

    async def outbox_free_mib(self, line: str) -> int:
        """What may still be written to a line's outbox, in MiB.  Raises ``StorageError``."""
        free: int = await self.shares[line].do("free_mib", str(self.lines[line].outbox))
        return free

    async def _do(self, drop: Drop, operation: str, *args: Any, size: int = 0) -> Any:
        share = self.shares[drop.line]
        return await share.do(operation, *args, seconds=share.seconds + size / BYTES_PER_SECOND)

    # ------------------------------------------------------------ the line

    async def look_at(self, line: LineConfig) -> dict[str, Any]:
        """Make sure that the line's folders are there and ours, and that no other daemon holds them."""
        folders = {name: str(getattr(line, name)) for name in LINE_FOLDERS}
        known, hold, at = self.journal.marker(line.name), self.hold(line.name), time.monotonic()
        found: dict[str, Any] = await self.shares[line.name].do("open_line", folders, known, hold.me(), hold.stale(at))
        rival = hold.rival(found["held_by"], at)
        if rival is not None:
            raise StorageError(rival)
        if found["marker"] != known:
            self.journal.set_marker(line.name, found["marker"])
        return found

    def hold(self, line: str) -> Hold:
        """Our claim to a line."""
        if line not in self._holds:
            self._holds[line] = Hold(self.config.daemon.state_dir)
        return self._holds[line]

    # ------------------------------------------------------------ claim

    async def claim(self, line: LineConfig, request: DropRequest) -> Drop:
        """Take a settled drop out of the inbox."""
        drop_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        submitter = None
        if request.moves:
            first = os.path.join(line.inbox, request.moves[0].source)
            submitter = await self.shares[line.name].do("owner", first)
        return await self.take(self.journal.add_drop(drop_id, line.name, request, submitter))

    async def take(self, drop: Drop) -> Drop:
        """Move the inputs of a CLAIMING drop; safe to do again."""
        folder, inbox = self.held(drop), self.line(drop).inbox
        await self._do(drop, "open_drop", folder, receipts.request_record(drop))
        gone = set()
        for move in drop.request.moves:
            source, target = os.path.join(inbox, move.source), os.path.join(folder, move.target)
            if await self._do(drop, "move", source, target) == "gone":
                gone.add(move.target)
        if gone and len(gone) == len(drop.request.moves):
            await self._do(drop, "discard_drop", folder)
            self.journal.forget_drop(drop)
            return drop
        if gone:
            await self.look_at(self.line(drop))  # a share that went away has not lost them
        sources = {os.path.dirname(os.path.join(inbox, move.source)) for move in drop.request.moves}
        await self._do(drop, "sync_folders", [folder, os.path.dirname(folder), *sorted(sources)])
        drop = self.journal.set_drop(drop, DropState.HELD)
        for job in self.journal.jobs_of(drop.id):
            problem = job.request.problem or _vanished(job, gone)
            if problem and job.state not in ENDED:
                code = job.request.problem_code if job.request.problem else "request"
                self.journal.set_job(job, JobState.FAILED, reason=problem, reason_code=code)
        await self.file_if_over(drop)
        return drop

    # ------------------------------------------------------------ stage

    async def stage(self, job: Job) -> StagedInputs:
        """Copy the job's inputs to the work folder; return ``{"audio": {path, name, sha256, size}, "video": …}``, and
        under ``"consents"`` a list of the same, whose copies are not kept.

        Raises ``InputError`` where an input cannot be read.
        """
        drop = self.journal.drop(job.drop_id)
        staged: list[StagedInput] = []
        for role, source in (("audio", job.request.audio), ("video", job.request.video)):
            assert source is not None
            suffix = os.path.splitext(source.path)[1].lower()
            local = self.scratch(job) / f"{role}{suffix if suffix in _KNOWN else ''}"
            copy = await self._stage_steady(drop, source, str(local))
            name = display(os.path.basename(source.path))
            staged.append({"path": str(local), "name": name, "sha256": copy["sha256"], "size": copy["size"]})
        consents = [await self._read_consent(drop, job, source) for source in job.request.consents]
        return {"audio": staged[0], "video": staged[1], "consents": consents}

    async def _read_consent(self, drop: Drop, job: Job, source: Source) -> StagedConsent:
        local = self.scratch(job) / "consent"
        copy = await self._stage_steady(drop, source, str(local))
        local.unlink()
        name = display(os.path.basename(source.path))
        return {"name": name, "library": source.library, "sha256": copy["sha256"], "size": copy["size"]}

    async def _stage_steady(self, drop: Drop, source: Source, local: str) -> dict[str, Any]:
        path = source.path if source.library else os.path.join(self.held(drop), source.path)
        while True:
            try:
                copy: dict[str, Any] = await self._do(drop, "stage", path, local, size=1 << 34)
            except ShareError as error:
                raise _staging_error(error, source, path) from error
            if copy.pop("steady"):
                return copy
            self._log.warning("input_still_changing", drop=drop.id, file=display(source.path))
            await asyncio.sleep(self.config.intake.settle_seconds)

    # ------------------------------------------------------------ publish

    async def keep_film(self, job: Job) -> None:
        """Bring what the worker has made to the disk, before the journal says that it is there.

        Raises ``EngineError`` where there is no film, ``StorageError`` where the disk refuses: try later.
        """
        try:
            await asyncio.to_thread(_bring_to_disk, self.scratch(job))
        except FileNotFoundError:
            raise EngineError("The renderer says that the film is made, but there is none.") from None
        except OSError as error:
            raise StorageError(f"The film could not be kept in the work folder: {error.strerror}.") from error

    async def publish(self, job: Job) -> Job:
        """Bring a RENDERED, PUBLISHING or REVEALING job to DELIVERED; safe to do again after any death."""
        drop = self.journal.drop(job.drop_id)
        while job.state in (JobState.RENDERED, JobState.PUBLISHING, JobState.REVEALING):
            if job.state is JobState.RENDERED:
                result = {**(job.result or {}), "held": self._is_held(drop, job)}
                job = self.journal.set_job(job, JobState.RENDERED, result=result)
                base = await self._free_base(self.outlet(drop, job), drop, job.request.name, _BESIDE)
                job = self.journal.set_job(job, JobState.PUBLISHING, base=base)
            if job.state is JobState.PUBLISHING:
                job = await self._write_parts(drop, job)
            if job.state is JobState.REVEALING:
                job = await self._reveal(drop, job)
        if job.state is JobState.DELIVERED:
            shutil.rmtree(self.scratch(job), ignore_errors=True)
        return job

    async def _write_parts(self, drop: Drop, job: Job) -> Job:
        film, result = self.scratch(job) / "film.mp4", job.result or {}
        if not film.exists():
            return self.journal.set_job(job, JobState.QUEUED, base=None, result=None)
        size = film.stat().st_size
        sha256 = await self._do(drop, "put", str(film), self._part(drop, job, "mp4"), size=size)
        page = self.scratch(job) / "report.html"
        if has_page := page.exists():
            await self._do(drop, "put", str(page), self._part(drop, job, "report.html"), size=page.stat().st_size)
        result = {**result, "film_file": {"sha256": sha256, "bytes": size}, "has_page": has_page}
        job = self.journal.set_job(job, JobState.PUBLISHING, result=result)
        receipt = receipts.to_bytes(receipts.film_log(drop, job, machine=machine_facts()))
        await self._do(drop, "write_part", self._part(drop, job, "json"), _b64(receipt))
        return self.journal.set_job(job, JobState.REVEALING)

    async def _reveal(self, drop: Drop, job: Job) -> Job:
        final = os.path.join(self.outlet(drop, job), job.base or "")
        if await self._show(drop, self._part(drop, job, "mp4"), f"{final}.mp4") == "taken":
            return self.journal.set_job(job, JobState.RENDERED, base=None)
        for suffix in ("report.html", "json") if (job.result or {}).get("has_page") else ("json",):
            part = self._part(drop, job, suffix)
            if await self._show(drop, part, f"{final}.{suffix}") == "taken":
                # Somebody took the name in this instant; the film is out, so this gets one that is surely free.
                await self._show(drop, part, f"{final}.{job.id}.{suffix}")
        return self.journal.set_job(job, JobState.DELIVERED)

    async def _show(self, drop: Drop, part: str, final: str) -> str:
        line = self.line(drop)
        root = next((r for r in (line.review, line.outbox) if Path(final).is_relative_to(r)), line.outbox)
        answer: str = await self._do(drop, "reveal", part, final, str(root))
        return answer

    def _part(self, drop: Drop, job: Job, suffix: str) -> str:
        return os.path.join(self.outlet(drop, job), f".heygemd-{job.id}.{suffix}.part")

    async def _free_base(self, folder: str, drop: Drop, name: str, suffixes: tuple[str, ...]) -> str:
        """``name``, or ``name (2)`` … such that none of its files exists in ``folder``, in whatever case."""
        names = {_fold(n) for n in await self._do(drop, "listing", folder)}
        return free_name(name, lambda base: any(_fold(base + suffix) in names for suffix in suffixes))

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
                drop = await self._deliver_batch_log(drop, jobs)
            done = bool(jobs) and all(job.state is JobState.DELIVERED for job in jobs)
            if not done:
                text = receipts.reason_text(drop, jobs, self.config.daemon.language).encode("utf-8", "backslashreplace")
                await self._do(drop, "write_whole", os.path.join(self.held(drop), "reason.txt"), _b64(text))
            drop = await self._choose_home(drop, "done" if done else "failed")
        if drop.state is DropState.FILING:
            drop = await self._file(drop)
        return drop

    async def _deliver_batch_log(self, drop: Drop, jobs: list[Job]) -> Drop:
        part = os.path.join(self.outbox(drop), f".heygemd-{drop.id}.batch.part")
        while True:
            if not drop.batch_ready:
                base = await self._free_base(self.outbox(drop), drop, drop.request.name, (".batch.json",))
                drop = self.journal.set_drop(drop, drop.state, batch=base)
                await self._do(drop, "write_part", part, _b64(receipts.to_bytes(receipts.batch_log(drop, jobs))))
                drop = self.journal.set_drop(drop, drop.state, batch_ready=1)
            final = os.path.join(self.outbox(drop), f"{drop.batch}.batch.json")
            if await self._show(drop, part, final) != "taken":
                return drop
            drop = self.journal.set_drop(drop, drop.state, batch_ready=0)

    async def _choose_home(self, drop: Drop, verdict: str) -> Drop:
        above = _parent(drop)
        try:
            there = await self._do(drop, "listing", os.path.join(self._shelf(drop, verdict), above))
        except ShareError as error:
            if not above or error.errno not in BARRED:
                raise
            above = ""  # a file or a link has the name of the subfolder: it must not hold up the drop for ever
            there = await self._do(drop, "listing", self._shelf(drop, verdict))
        names = {_fold(n) for n in there}
        home = os.path.join(above, free_name(safe_component(drop.request.name), lambda base: _fold(base) in names))
        return self.journal.set_drop(drop, DropState.FILING, verdict=verdict, home=home)

    async def _file(self, drop: Drop) -> Drop:
        assert drop.verdict is not None and drop.home is not None
        while True:
            target = os.path.join(self._shelf(drop, drop.verdict), drop.home or "")
            if await self._do(drop, "file_drop", self.held(drop), target) not in ("taken", "barred"):
                break
            drop = await self._choose_home(drop, drop.verdict)
        drop = self.journal.set_drop(drop, DropState.ENDED, ended=now())
        shutil.rmtree(self.work / drop.id, ignore_errors=True)
        return drop

    def _shelf(self, drop: Drop, verdict: str) -> str:
        line = self.line(drop)
        return str(line.done if verdict == "done" else line.failed)

    # ------------------------------------------------------------ again

    async def retry(self, job: Job) -> Job:
        """Queue an ended, undelivered job again; its drop's folder comes back from failed/."""
        async with self._alone(job.drop_id):
            return await self._retry(self.journal.job(job.id))

    async def _retry(self, job: Job) -> Job:
        drop = self.journal.drop(job.drop_id)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise HeygemdError(f"{job.id} is {job.state}; only a failed or cancelled job can be tried again.")
        if job.request.problem:
            raise HeygemdError(f"{job.id} cannot be tried again as it is: {job.request.problem}")
        if drop.line not in self.lines:
            raise HeygemdError(f"{job.id} belongs to line {drop.line}, which is not configured any more.")
        if drop.state is DropState.FILING:
            drop = await self._file(drop)
        if drop.state is DropState.ENDED and drop.home is None:
            raise HeygemdError(f"The inputs of {job.id} were removed after their time; drop them into the inbox again.")
        if drop.state is DropState.ENDED:
            drop = self.journal.set_drop(drop, DropState.RETURNING, ended=None, batch_ready=0)
        if drop.state is DropState.RETURNING:
            await self.give_back(drop)
        return self.journal.set_job(
            job, JobState.QUEUED, attempts=0, reason=None, reason_code=None, ended=None, result=None, base=None,
            started=None,
        )  # fmt: skip

    async def give_back(self, drop: Drop) -> Drop:
        """Bring the folder of a RETURNING drop back into processing/.  Raises ``HeygemdError`` where it is gone."""
        assert drop.verdict is not None and drop.home is not None
        source = os.path.join(self._shelf(drop, drop.verdict), drop.home)
        if await self._do(drop, "move", source, self.held(drop)) == "gone":
            self.journal.set_drop(drop, DropState.ENDED, ended=now())
            raise HeygemdError(f"The inputs are not in {source} any more; drop them into the inbox again.")
        return self.journal.set_drop(drop, DropState.HELD, home=None, verdict=None)


def _bring_to_disk(folder: Path) -> None:
    for name in ("report.html", "film.mp4"):
        if name == "film.mp4" or (folder / name).exists():
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(str(folder))


def _vanished(job: Job, gone: set[str]) -> str | None:
    for source in (job.request.audio, job.request.video, *job.request.consents):
        if source is not None and not source.library and source.path in gone:
            return f"{display(source.path)} disappeared from the inbox before it could be taken; drop it again."
    return None


def _staging_error(error: ShareError, source: Source, path: str) -> HeygemdError:
    name = display(os.path.basename(source.path))
    reasons: Mapping[int, tuple[str, str]] = {
        errno.EACCES: (
            "unreadable",
            f"{name} cannot be read: permission denied. Make it readable for heygemd's user.",
        ),
        errno.EPERM: (
            "unreadable",
            f"{name} cannot be read: permission denied. Make it readable for heygemd's user.",
        ),
        errno.ENOENT: ("missing", f"{name} is not there any more; drop it again."),
        errno.ELOOP: ("not_regular", f"{name} is a symbolic link or lies behind one; copy the file itself."),
        errno.EINVAL: ("not_regular", f"{name} is not a regular file; copy the file itself."),
    }
    if error.errno in reasons and error.path == path:  # else it is our own copy that could not be made
        reason, message = reasons[error.errno]
        return InputError(message, reason=reason)
    return StorageError(f"{name} could not be copied to the work folder: {error}")


def _parent(drop: Drop) -> str:
    """The subfolder of done/ and failed/: a job folder's own name is the drop's, so only what is above it."""
    return os.path.dirname(drop.request.folder) if drop.request.kind == "folder" else drop.request.folder


def _fold(name: str) -> str:
    return name.casefold()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
