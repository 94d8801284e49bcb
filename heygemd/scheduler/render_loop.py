"""The one worker and its jobs: the next job when the guard lets it, and its outcome.

loop    choose (admission.py), stage (staging.py), render (worker.py), note the outcome (outcomes.py)
tend    about once a second: sample the running job, stage the next one, end a worker that has been idle too long
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from heygemd.common import log
from heygemd.common.aio import Later, Pace
from heygemd.common.errors import Cancelled, EngineError, HeygemdError, InputError, SetupError, StorageError, WorkerDied
from heygemd.config.live import Live
from heygemd.contract.renderer import News, ProgressMessage, RenderRequest
from heygemd.scheduler.admission import Admission
from heygemd.scheduler.outcomes import Outcomes
from heygemd.scheduler.staging import Stager, task_of
from heygemd.scheduler.ticket import Deferred, Refused, Ticket
from heygemd.scheduler.worker import Worker
from heygemd.store.drops import DropStore, Job, JobState, Journal
from heygemd.store.states import DropState, now

_DRAWING = ("render", "verify", "report")  # stages before which everything learned of a template was kept


class LineState(Protocol):
    """What the scheduler needs to know of a line."""

    @property
    def open(self) -> bool:
        """Whether its folders answer."""

    @property
    def full(self) -> str | None:
        """Why its outbox has no room, if it has none."""

    @property
    def paused(self) -> bool:
        """Whether a person has paused it."""


@dataclass
class Running:
    """The job that the worker has, as status shows it."""

    job: Job
    progress: dict[str, object] = field(default_factory=dict)
    cancelled: bool = False


class Rendering:
    """The worker, what is staged for it, and who lets jobs start."""

    def __init__(
        self, live: Live, journal: Journal, store: DropStore, lines: Mapping[str, LineState], later: Later,
        wake: Callable[[], None], pace: Pace,
    ) -> None:  # fmt: skip
        """``lines`` may come and go.  ``wake`` is called when a job's work has ended."""
        self._live, self._journal, self._store, self._lines, self._later = live, journal, store, lines, later
        self._pace = pace
        self.worker = Worker(stall_seconds=live.now.limits.stall_seconds)
        self._limit_worker()
        self.stager = Stager(store)
        self.admission = Admission(live, journal, store, lambda: self.worker.pid, pace, frame_of=self.stager.frame)
        self._outcomes = Outcomes(live, journal, self.admission, later, pace)
        self.running: Running | None = None
        self.paused = self.stopping = False
        self.ended_in_a_row = 0  #: jobs since the queue was last empty
        self.heard_at = 0.0  #: when a renderer last sent a message, Unix time
        self.work = asyncio.Event()
        self._wake = wake
        self._log = log.get()

    async def loop(self) -> None:
        """One job after the other, until ``stopping``."""
        while not self.stopping:
            self.work.clear()
            chosen = None if self.paused else await self.admission.choose(self._ready())
            if isinstance(chosen, Refused):
                self._outcomes.end(chosen.job, JobState.FAILED, EngineError(chosen.reason))
                self._wake()
                continue
            if chosen is not None and not self.stopping:
                self._limit_worker()
                job = await self._render(chosen)
                self.ended_in_a_row += job.state is not JobState.QUEUED
                continue
            if chosen is None and not self._journal.jobs_in(JobState.QUEUED):
                self.ended_in_a_row = 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.work.wait(), self._pace.turn)

    async def tend(self) -> None:
        """Called about once a second, while the loop does whatever it does."""
        await self.worker.rest()
        gpu_lost = await self.admission.sampling.sample()
        if gpu_lost is not None:
            self.worker.give_up(gpu_lost)
        self._stage_ahead()

    def _stage_ahead(self) -> None:
        """Copy and probe the next job's inputs while the worker is busy with another."""
        ready, limits = self._ready(), self._live.now.limits
        in_hand = [self.running.job.id] if self.running is not None else []
        self.stager.only([*in_hand, *(job.id for job in ready)])
        if ready and (in_hand or len(self.admission.deferrals)) and not self.stopping and not self.paused:
            settings = self.admission.estimates.settings(ready[0])
            self.stager.ahead(ready[0], settings, self.admission.sampling.disk_in_use_mib() + limits.free_disk_mib)
            drawing = self.running is not None and self.running.progress.get("stage") in _DRAWING
            if drawing and self.admission.has_memory_for(ready[0]):
                self.stager.plan(ready[0], settings, limits.nice)

    def cancel(self, job: Job) -> None:
        """End a queued or running job.  Raises ``HeygemdError`` for any other."""
        if job.state is JobState.RUNNING and self.running is not None and self.running.job.id == job.id:
            self.break_off()
        elif job.state is JobState.QUEUED:
            self._outcomes.end(job, JobState.CANCELLED, Cancelled("Cancelled before it started."))
        else:
            raise HeygemdError(f"{job.id} is {job.state.value}; only a queued or running job can be cancelled.")
        self._wake()

    def break_off(self) -> None:
        """End the running job, wherever it is: being staged, about to begin, or in the worker."""
        if self.running is not None:
            self.running.cancelled = True
            self.stager.cancel(self.running.job.id)
            self.worker.cancel()

    def interrupt(self) -> None:
        """The loop was ended in the middle of a job: it is queued again."""
        if self.running is not None:
            job = self._journal.job(self.running.job.id)
            if job.state is JobState.RUNNING:
                self._outcomes.requeue(job)

    async def close(self) -> None:
        """End everything that was started here."""
        await self.stager.close()
        await self.admission.close()
        await self.worker.stop()

    def _limit_worker(self) -> None:
        """The limits in force are those of the next job; the running one keeps its own."""
        limits = self._live.now.limits
        self.worker.stall_seconds, self.worker.idle_seconds = limits.stall_seconds, limits.idle_seconds
        self.worker.max_seconds, self.worker.max_jobs = limits.max_hours * 3600, limits.max_jobs

    def _ready(self) -> list[Job]:
        """The queued jobs, in order, whose line is reachable and whose time has come."""
        held = {drop.id: drop.line for drop in self._journal.drops(DropState.HELD)}
        open_lines = {name for name, line in self._lines.items() if line.open and not line.full and not line.paused}
        queued = self._journal.jobs_in(JobState.QUEUED)
        return [job for job in queued if held.get(job.drop_id) in open_lines and self._later.due(job.id)]

    async def _render(self, ticket: Ticket) -> Job:
        """One job: stage, render, and its outcome into the journal."""
        job = self._journal.set_job(
            ticket.job, JobState.RUNNING, attempts=ticket.job.attempts + 1, started=now(), reason=None, reason_code=None
        )
        self.running = Running(job)
        try:
            job = await self._make(job, ticket)
        except (Cancelled, Deferred, StorageError, WorkerDied, InputError, EngineError, SetupError) as error:
            job = await self._outcomes.failed(job, ticket, error, stopping=self.stopping)
        finally:
            self.admission.sampling.finish(ticket, job)
        if job.state is not JobState.QUEUED:
            self._outcomes.settled(job)
        self.running = None
        self._wake()
        return job

    async def _make(self, job: Job, ticket: Ticket) -> Job:
        await self.worker.use(ticket.device, self._live.now.limits.nice)
        await self.worker.warm(ticket.settings.engine)
        staged, probed = await self.stager.take(job, ticket.settings)
        await self.stager.planned(job)
        await self.admission.confirm(ticket)
        task = task_of(self._store, job, staged, probed, ticket.settings)
        job = self._journal.set_job(job, JobState.RUNNING, inputs={**staged, "settings": ticket.settings.flat()})
        if self.running is not None and self.running.cancelled:
            raise Cancelled("Cancelled before it started.")
        result = await self.worker.run(RenderRequest(task), self._hear)
        await self._store.keep_film(job)
        return self._journal.set_job(job, JobState.RENDERED, result={**result, "rendered": now()})

    def _hear(self, message: News) -> None:
        if self.running is None:
            return
        self.heard_at = time.time()
        if isinstance(message, ProgressMessage):
            self.running.progress = message.to_json()
        else:
            write = self._log.warning if message.level == "warning" else self._log.info
            write(message.name, job=self.running.job.id, **message.fields)
