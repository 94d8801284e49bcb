"""Crash recovery at startup: a function of the journal and of the files on disk.

    interrupted   before any share is touched: what says "running" is queued again, unowned work is cleared
    line          once a line's folders answer: claims, returns and filings are finished, unknown drops adopted

A drop in ``processing/`` that the journal does not know (it was lost) is taken up again from its ``request.json``.
What of it was delivered is told by the logs in the outbox, and by a log that was still to be revealed: its film was
whole.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping

from heygemd.common import log
from heygemd.common.errors import HeygemdError, StorageError
from heygemd.common.names import display
from heygemd.common.request import DropRequest
from heygemd.config.load import LineConfig
from heygemd.share.client import UNREADABLE, ShareClient, ShareError
from heygemd.share.nofollow import BARRED
from heygemd.store.drops import DropStore
from heygemd.store.states import Drop, DropState, Job, JobState

DEATHS = 2  # of the daemon are not the job's fault, unless they go on
_LARGEST = 1 << 24


def interrupted(store: DropStore) -> None:
    """First step, before any share is accessed: mark running jobs as interrupted; delete unowned work."""
    journal = store.journal
    for job in journal.jobs_in(JobState.RUNNING):
        if job.attempts >= store.config.limits.attempts + DEATHS:
            reason = f"The job was interrupted {job.attempts} times in a row and is not tried again."
            journal.set_job(job, JobState.FAILED, reason=reason, reason_code="interrupted")
        else:
            journal.set_job(job, JobState.QUEUED)
    for job in journal.jobs_in(JobState.RENDERED):
        if not (store.scratch(job) / "film.mp4").exists():
            journal.set_job(job, JobState.QUEUED, result=None)
    open_drops = {d.id for d in journal.drops(*(s for s in DropState if s is not DropState.ENDED))}
    store.work.mkdir(parents=True, exist_ok=True)
    for entry in store.work.iterdir():
        if entry.is_dir() and entry.name not in open_drops:
            shutil.rmtree(entry, ignore_errors=True)


async def line(store: DropStore, settings: LineConfig) -> None:
    """Once a line's folders answer: finish whatever was interrupted in them.  Raises ``StorageError``: try later."""
    journal = store.journal
    for drop in _of(store, settings, DropState.CLAIMING):
        await store.take(drop)
    for drop in _of(store, settings, DropState.RETURNING):
        try:
            await store.give_back(drop)
        except StorageError:
            raise
        except HeygemdError as error:
            log.get().warning("retry_given_up", drop=drop.id, reason=error.message)
    for name in sorted(await store.shares[settings.name].listing(str(settings.processing))):
        if not name.startswith("."):
            await _account_for(store, settings, name)
    for drop in _of(store, settings, DropState.HELD, DropState.FILING):
        try:
            await store.file_if_over(journal.drop(drop.id))
        except ShareError as error:
            if error.errno not in BARRED:
                raise
            log.get().warning("delivery_postponed", drop=drop.id, reason=error.message)  # others must not wait for it


def _of(store: DropStore, settings: LineConfig, *states: DropState) -> list[Drop]:
    return [drop for drop in store.journal.drops(*states) if drop.line == settings.name]


async def _account_for(store: DropStore, settings: LineConfig, name: str) -> None:
    """One folder in processing/: a drop that is known, one that was filed and is back, one to be adopted, or none."""
    journal = store.journal
    try:
        drop = journal.drop(name)
    except KeyError:
        await _adopt(store, settings, name)
        return
    if drop.state is DropState.ENDED:  # the move was lost with the power, or somebody has put it back by hand
        log.get().warning("drop_filed_again", drop=name, line=settings.name)
        journal.set_drop(drop, DropState.FILING)


async def _adopt(store: DropStore, settings: LineConfig, name: str) -> None:
    """Take up a drop that the journal does not know."""
    share, folder = store.shares[settings.name], str(settings.processing / name)
    try:
        record = json.loads(await share.read(f"{folder}/request.json", _LARGEST))
        request = DropRequest.from_json(record["request"])
    except (ShareError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ShareError) and error.errno not in UNREADABLE:
            raise  # it may be there all the same
        if isinstance(error, ShareError) and error.errno == errno.ENOENT:
            await share.discard_drop(folder)  # a claim that died before it had said what it was
        log.get().warning("unknown_folder_in_processing", line=settings.name, folder=display(name))
        return
    if not _honest(request, settings):
        log.get().error(
            "request_refused", line=settings.name, folder=display(name), reason="it names files outside the drop"
        )
        return
    log.get().warning("drop_adopted", drop=name, line=settings.name)
    drop = store.journal.add_drop(name, settings.name, request, record.get("submitter"))
    await _recall_deliveries(store, drop)
    await store.take(drop)


def _honest(request: DropRequest, settings: LineConfig) -> bool:
    """Whether a record names nothing but what intake could have named: people may write where processing/ is shared."""
    inner = [path for move in request.moves for path in (move.source, move.target)] + [request.folder]
    libraries: list[str] = []
    for job in request.jobs:
        for source in (job.audio, job.video, *job.consents):
            if source is not None:
                (libraries if source.library else inner).append(source.path)
        inner.append(job.name)
    climbing = any(path.startswith("/") or ".." in path.split("/") for path in inner)
    known = [os.path.realpath(folder) + os.sep for folder in settings.library]
    return not climbing and all(os.path.realpath(path).startswith(tuple(known)) for path in libraries)


async def _recall_deliveries(store: DropStore, drop: Drop) -> None:
    """Parts of an adopted drop that were delivered or about to be."""
    review = str(store.places.line(drop).review / drop.request.folder)
    share = store.shares[drop.line]
    logs = [
        (folder, name)
        for folder in (store.outbox(drop), review)
        for name in await _names(share, folder)
        if name.endswith((".json", ".json.part"))
    ]
    read = [(name, await _log(store, drop, f"{folder}/{name}")) for folder, name in logs if _may_be_ours(name, drop)]
    for job in store.journal.jobs_of(drop.id):
        mine = next(((name, record) for name, record in read if record.get("job") == job.id), None)
        if mine is not None:
            _recall(store, job, mine[1], mine[0])
    for name, record in read:
        if "jobs" in record and _table(record.get("drop")).get("id") == drop.id:
            store.journal.set_drop(drop, drop.state, batch=name.removesuffix(".batch.json"), batch_ready=1)


async def _names(share: ShareClient, folder: str) -> list[str]:
    try:
        return await share.listing(folder)
    except ShareError as error:
        if error.errno not in BARRED:
            raise
        return []  # something else is in its place: what was delivered there has been taken away with it


def _may_be_ours(name: str, drop: Drop) -> bool:
    """An outbox may hold thousands of logs; few are read."""
    begins = (f".heygemd-{drop.id}.", drop.request.name, *(job.name for job in drop.request.jobs))
    return name.startswith(begins)


async def _log(store: DropStore, drop: Drop, path: str) -> Mapping[str, object]:
    """A film's log; empty if the file is not a whole one."""
    try:
        record = json.loads(await store.shares[drop.line].read(path, _LARGEST))
    except ValueError:
        return {}
    except ShareError as error:
        if error.errno not in UNREADABLE:
            raise
        return {}
    return _table(record)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _recall(store: DropStore, job: Job, record: Mapping[str, object], name: str) -> None:
    """A log that was not revealed yet was written after its film, so both are whole: the delivery goes on there."""
    if not name.endswith(".part"):
        store.journal.set_job(job, JobState.DELIVERED, base=name.removesuffix(".json"))
        return
    base = str(_table(record.get("film")).get("file", "")).removesuffix(".mp4")
    if base and "/" not in base:
        result = {"held": bool(record.get("held_for_review")), "has_page": bool(record.get("report"))}
        store.journal.set_job(job, JobState.REVEALING, base=base, result=result)
