"""The inputs of jobs, copied to the local disk and looked at: for the next job already while another one runs.

What is staged ahead is not copied again when its turn comes, its media need not be probed again, and the guard knows
the size of its frames.  Where its template is known, its plan is made too, in a child of its own that ends with it, so
that the first frame follows at once.  All that is a favour: where it fails, the job's turn says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from heygemd.common import log
from heygemd.common.aio import ended
from heygemd.common.errors import Cancelled, HeygemdError, InputError, StorageError
from heygemd.contract.job import Probed, Settings, Task
from heygemd.contract.renderer import LookRequest, NamedFile, PlanRequest
from heygemd.guard import host, needs
from heygemd.scheduler.worker import Worker
from heygemd.store.drops import DropStore, Job
from heygemd.store.states import StagedInputs

LOOK_SECONDS = 120.0
PLAN_NICE = 5  # more than the renderer, which must not be held up


@dataclass(frozen=True, slots=True)
class _Staged:
    inputs: StagedInputs
    probed: Probed | None


class Stager:
    """The staging of one job, ahead of or at its turn."""

    def __init__(self, store: DropStore) -> None:
        self._store = store
        self._tasks: dict[str, asyncio.Task[_Staged]] = {}
        self._plans: dict[str, asyncio.Task[None]] = {}
        self._frames: dict[str, str] = {}  # by job

    def ahead(self, job: Job, settings: Settings, keep_free_mib: int) -> None:
        """Begin to stage a job whose turn is still to come, if nothing else is on its way and the disk has room for
        that beside ``keep_free_mib``."""
        if job.id in self._tasks or any(not task.done() for task in self._tasks.values()):
            return
        wanted = sum(self._store.input_bytes(job)) >> 20
        if (host.disk_free_mib(self._store.work) or 0) >= wanted + keep_free_mib:
            self._begin(job, settings)

    async def take(self, job: Job, settings: Settings) -> tuple[StagedInputs, Probed | None]:
        """The job's inputs as ``Store.stage`` returns them, and what probing them has found, ``None`` where it failed.
        Raises ``InputError`` where one cannot be read, ``StorageError``: try later, ``Cancelled``.
        """
        staged = await _result(self._tasks[job.id]) if job.id in self._tasks else None
        if staged is None or isinstance(staged, InputError | StorageError) or not _intact(staged):
            staged = await _result(self._begin(job, settings))
        if isinstance(staged, HeygemdError):
            raise staged
        return staged.inputs, staged.probed

    def plan(self, job: Job, settings: Settings, nice: int) -> None:
        """Begin to make the plan of a job that is staged, once; ``nice`` is the renderer's."""
        task = self._tasks.get(job.id)
        if job.id in self._plans or task is None or not task.done() or task.cancelled() or task.exception():
            return
        staged = task.result()
        if staged.probed is not None:
            request = PlanRequest(task_of(self._store, job, staged.inputs, staged.probed, settings))
            self._plans[job.id] = asyncio.create_task(_plan(request, nice + PLAN_NICE))

    async def planned(self, job: Job) -> None:
        """Wait for a plan that is being made: what is left of it takes less than to begin anew."""
        if job.id in self._plans:
            await asyncio.wait([self._plans[job.id]])

    def cancel(self, job_id: str) -> None:
        """Stop staging it, ahead or at its turn; ``take`` raises ``Cancelled``."""
        for tasks in (self._tasks, self._plans):
            if job_id in tasks:
                tasks.pop(job_id).cancel()

    def frame(self, job_id: str) -> str:
        """The size class of the job's frames; empty if not known yet."""
        return self._frames.get(job_id, "")

    def only(self, names: Collection[str]) -> None:
        """Forget what was staged for any but these jobs; their work folders are not ours."""
        for name in [name for name in self._tasks if name not in names]:
            self.cancel(name)
            self._frames.pop(name, None)

    async def close(self) -> None:
        """Cancel the running stagings."""
        await ended([*self._tasks.values(), *self._plans.values()])

    def _begin(self, job: Job, settings: Settings) -> asyncio.Task[_Staged]:
        task = self._tasks[job.id] = asyncio.create_task(self._stage(job, settings))
        task.add_done_callback(_seen)
        if job.id in self._plans:
            self._plans.pop(job.id).cancel()
        return task

    async def _stage(self, job: Job, settings: Settings) -> _Staged:
        inputs = await self._store.stage(job)
        probed = await _look(inputs, settings)
        if probed is not None:
            self._frames[job.id] = needs.frame_class(*probed.frame)
        return _Staged(inputs, probed)


async def _look(inputs: StagedInputs, settings: Settings) -> Probed | None:
    """Facts of the staged files; ``None`` if they cannot be used, which the job itself reports better."""
    worker = Worker(stall_seconds=LOOK_SECONDS)
    audio, video = (NamedFile(Path(file["path"]), file["name"]) for file in (inputs["audio"], inputs["video"]))
    try:
        return await worker.run(LookRequest(audio, video, settings), lambda _: None)
    except HeygemdError:
        return None
    finally:
        await worker.stop()


async def _plan(request: PlanRequest, nice: int) -> None:
    """Have a plan made; a failure is left to the render to tell."""
    worker = Worker(stall_seconds=LOOK_SECONDS, nice=min(nice, 19))
    try:
        await worker.run(request, lambda _: None)
    except HeygemdError as error:
        log.get().info("plan_not_made_ahead", reason=error.message)
    finally:
        await worker.stop()


def task_of(store: DropStore, job: Job, staged: StagedInputs, probed: Probed | None, settings: Settings) -> Task:
    """A staged job as the renderer's task."""
    audio, video = staged["audio"], staged["video"]
    return Task(
        Path(audio["path"]), Path(video["path"]), store.scratch(job), audio["name"], video["name"], settings, probed
    )


async def _result(task: asyncio.Task[_Staged]) -> _Staged | HeygemdError:
    """What came of it; a failure is a value here, because another try may follow."""
    await asyncio.wait([task])  # which, unlike awaiting the task, leaves a cancellation of the task to us
    if task.cancelled():
        return Cancelled("Cancelled before it started.")
    error = task.exception()
    if error is not None and not isinstance(error, HeygemdError):
        raise error
    return error or task.result()


def _intact(staged: _Staged | HeygemdError) -> bool:
    """A work folder goes when its drop has ended; one that is asked for again begins anew."""
    if isinstance(staged, HeygemdError):
        return True
    files = [(Path(file["path"]), file["size"]) for file in (staged.inputs["audio"], staged.inputs["video"])]
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def _seen(task: asyncio.Task[_Staged]) -> None:
    """A failure that nobody waits for is no news."""
    if not task.cancelled():
        task.exception()
