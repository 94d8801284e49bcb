"""The one worker and what it is given: the next job when the guard lets it, and whatever comes of that.

loop      choose (admission.py), stage (staging.py), render (worker.py), note the outcome in the journal
tend      about once a second: sample what runs, stage what is next, end a worker that has been idle too long
outcomes  rendered; refused or failed; cancelled; put back to wait; died and tried again; interrupted by a stop
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from heygemd.common import log
from heygemd.common.aio import Later
from heygemd.common.errors import (
    Cancelled,
    EngineAway,
    EngineError,
    GpuMemoryError,
    HeygemdError,
    InputError,
    SetupError,
    StorageError,
    WorkerDied,
)
from heygemd.config.load import Config
from heygemd.contract.renderer import News, ProgressMessage, RenderRequest
from heygemd.guard.decide import Wait
from heygemd.scheduler.admission import Admission
from heygemd.scheduler.staging import Stager, task_of
from heygemd.scheduler.ticket import Deferred, Refused, Ticket
from heygemd.scheduler.worker import Worker
from heygemd.store.drops import Job, JobState, Journal, Store
from heygemd.store.states import DropState, now
from heygemd.watch.line import Line

RETRY_SECONDS = 5.0  # before a share that did not give a job's inputs is asked again
AWAY_SECONDS, AWAY_LONGEST = 10.0, 120.0  # before an engine's server is asked again: so much longer each time
TURN_SECONDS = 1.0
_DRAWING = ("render", "verify", "report")  # stages before which all that is learned of a template was kept


@dataclass
class Running:
    """The job that the worker has, as status shows it."""

    job: Job
    progress: dict[str, object] = field(default_factory=dict)
    cancelled: bool = False


@dataclass
class _Away:
    """How often in a row a job's server was busy or away, and how often that was called long."""

    times: int = 0
    alerts: int = 0


class Rendering:
    """The worker, what is staged for it, and who lets jobs start."""

    def __init__(
        self, config: Config, journal: Journal, store: Store, lines: Mapping[str, Line], later: Later,
        wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """``lines`` may come and go.  ``wake`` is called when a job's work has ended."""
        self.config, self.journal, self.store, self.lines, self.later = config, journal, store, lines, later
        self.worker = Worker(stall_seconds=config.limits.stall_seconds)
        self._limit_worker()
        self.stager = Stager(store)
        self.admission = Admission(config, journal, store, lambda: self.worker.pid, frame_of=self.stager.frame)
        self.running: Running | None = None
        self.paused = self.stopping = False
        self.ended_in_a_row = 0  #: jobs since the queue was last empty
        self.heard_at = 0.0  #: when a renderer last told of progress, Unix time
        self.work = asyncio.Event()
        self._away_jobs: dict[str, _Away] = {}
        self._wake = wake
        self._log = log.get()

    async def loop(self) -> None:
        """One job after the other, until ``stopping``."""
        while not self.stopping:
            self.work.clear()
            turn = None if self.paused else await self.admission.choose(self._ready())
            if isinstance(turn, Refused):
                self.end(turn.job, JobState.FAILED, EngineError(turn.reason))
                self._wake()
                continue
            if turn is not None and not self.stopping:
                self._limit_worker()
                job = await self._render(turn)
                self.ended_in_a_row += job.state is not JobState.QUEUED
                continue
            if turn is None and not self.journal.jobs_in(JobState.QUEUED):
                self.ended_in_a_row = 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.work.wait(), TURN_SECONDS)

    async def tend(self) -> None:
        """What is to be done about once a second, whatever else goes on."""
        await self.worker.rest()
        gone = await self.admission.sample()
        if gone is not None:
            self.worker.give_up(gone)
        self._stage_ahead()

    def _stage_ahead(self) -> None:
        """Copy and look at what comes next while the worker is at something else."""
        ready = self._ready()
        hand = [self.running.job.id] if self.running is not None else []
        self.stager.only([*hand, *(job.id for job in ready)])
        if ready and (hand or len(self.admission.deferrals)) and not self.stopping and not self.paused:
            settings = self.admission.settings(ready[0])
            self.stager.ahead(ready[0], settings, self.admission.disk_in_use_mib() + self.config.limits.free_disk_mib)
            drawing = self.running is not None and self.running.progress.get("stage") in _DRAWING
            if drawing and self.admission.has_memory_for(ready[0]):
                self.stager.plan(ready[0], settings, self.config.limits.nice)

    def cancel(self, job: Job) -> None:
        """End a queued or running job.  Raises ``HeygemdError`` for any other."""
        if job.state is JobState.RUNNING and self.running is not None and self.running.job.id == job.id:
            self.break_off()
        elif job.state is JobState.QUEUED:
            self.end(job, JobState.CANCELLED, Cancelled("Cancelled before it was begun."))
        else:
            raise HeygemdError(f"{job.id} is {job.state.value}; only a queued or running job can be cancelled.")
        self._wake()

    def break_off(self) -> None:
        """End what runs, wherever it is: being staged, about to begin, or in the worker."""
        if self.running is not None:
            self.running.cancelled = True
            self.stager.cancel(self.running.job.id)
            self.worker.cancel()

    def heed(self, config: Config) -> None:
        """Go by these settings from the next job on."""
        self.config = config
        self.admission.heed(config)

    def interrupt(self) -> None:
        """The loop was ended in the middle of a job: it is queued again."""
        if self.running is not None:
            job = self.journal.job(self.running.job.id)
            if job.state is JobState.RUNNING:
                self._requeue(job)

    async def close(self) -> None:
        """End everything that was started here."""
        await self.stager.close()
        await self.admission.close()
        await self.worker.stop()

    def _limit_worker(self) -> None:
        """The limits in force are those of the next job; the running one keeps its own."""
        limits = self.config.limits
        self.worker.stall_seconds, self.worker.idle_seconds = limits.stall_seconds, limits.idle_seconds
        self.worker.max_seconds, self.worker.max_jobs = limits.max_hours * 3600, limits.max_jobs

    def _ready(self) -> list[Job]:
        """The queued jobs, in order, whose line is reachable and whose time has come."""
        held = {drop.id: drop.line for drop in self.journal.drops(DropState.HELD)}
        open_lines = {name for name, line in self.lines.items() if line.open and not line.full and not line.paused}
        queued = self.journal.jobs_in(JobState.QUEUED)
        return [job for job in queued if held.get(job.drop_id) in open_lines and self.later.due(job.id)]

    async def _render(self, ticket: Ticket) -> Job:
        """One job: stage, render, and whatever came of it into the journal."""
        job = self.journal.set_job(
            ticket.job, JobState.RUNNING, attempts=ticket.job.attempts + 1, started=now(), reason=None, reason_code=None
        )
        self.running = Running(job)
        try:
            job = await self._make(job, ticket)
        except Cancelled as error:
            job = self._requeue(job) if self.stopping else self.end(job, JobState.CANCELLED, error)
        except Deferred as error:
            job = self.admission.put_back(job, error.wait)
        except StorageError as error:
            job = self._postpone(job, error)
        except (WorkerDied, InputError, EngineError, SetupError) as error:
            job = await self._failed(job, ticket, error)
        finally:
            self.admission.finish(ticket, job)
        if job.state is not JobState.QUEUED:
            self._away_jobs.pop(job.id, None)
        self.running = None
        self._wake()
        return job

    async def _make(self, job: Job, ticket: Ticket) -> Job:
        await self.worker.use(ticket.device, self.config.limits.nice)
        await self.worker.warm(ticket.settings.engine)
        staged, probed = await self.stager.take(job, ticket.settings)
        await self.stager.planned(job)
        await self.admission.confirm(ticket)
        task = task_of(self.store, job, staged, probed, ticket.settings)
        job = self.journal.set_job(job, JobState.RUNNING, inputs={**staged, "settings": ticket.settings.flat()})
        if self.running is not None and self.running.cancelled:
            raise Cancelled("Cancelled before it was begun.")
        result = await self.worker.run(RenderRequest(task), self._hear)
        await self.store.keep_film(job)
        return self.journal.set_job(job, JobState.RENDERED, result={**result, "rendered": now()})

    async def _failed(self, job: Job, ticket: Ticket, error: HeygemdError) -> Job:
        """A failure is the job's own, the worker's, which may pass, or that of a GPU that is full or gone."""
        if isinstance(error, GpuMemoryError) and ticket.device is not None and not self.admission.had_all(ticket):
            wait = self.admission.outgrown(ticket)
            self._log.warning("gpu_memory_ran_out", job=job.id, reason=wait.reason, detail=error.detail)
            return self.admission.put_back(job, wait)
        if isinstance(error, EngineAway):
            return self._away(job, ticket.job, error)
        gone = await self.admission.lost(ticket, error)
        if gone is not None:
            self._log.error("gpu_lost", job=job.id, reason=gone.reason, detail=error.message)
            return self.admission.put_back(job, gone)
        return self._died(job, error) if isinstance(error, WorkerDied) else self.end(job, JobState.FAILED, error)

    def _hear(self, message: News) -> None:
        if self.running is None:
            return
        self.heard_at = time.time()
        if isinstance(message, ProgressMessage):
            self.running.progress = message.to_json()
        else:
            write = self._log.warning if message.level == "warning" else self._log.info
            write(message.name, job=self.running.job.id, **message.fields)

    # ------------------------------------------------------------ outcomes

    def end(self, job: Job, state: JobState, error: HeygemdError) -> Job:
        """The job is over, and not well."""
        reason = getattr(error, "reason", error.code)
        self._log.warning("job_ended_badly", job=job.id, state=state, reason=error.message, detail=error.detail)
        return self.journal.set_job(job, state, reason=error.message, reason_code=reason)

    def _died(self, job: Job, error: WorkerDied) -> Job:
        if self.stopping:
            return self._requeue(job)
        if job.attempts >= self.config.limits.attempts:
            message = f"{error.message} It was tried {job.attempts} times."
            return self.end(job, JobState.FAILED, WorkerDied(message, detail=error.detail))
        self._log.warning("worker_died", job=job.id, reason=error.message, detail=error.detail)
        self.later.wait(job.id, TURN_SECONDS * job.attempts)
        return self.journal.set_job(job, JobState.QUEUED)

    def _away(self, job: Job, before: Job, error: EngineAway) -> Job:
        """The server that makes the film is busy or away: nothing is wrong with the job.  While it is so for one and
        the same reason it is one wait, however often it was asked."""
        if before.waits and before.deferred_reason == error.message:
            job = self.journal.set_job(job, JobState.QUEUED, started=before.started)
        else:
            self._away_jobs[job.id] = _Away()
        away = self._away_jobs.setdefault(job.id, _Away())
        away.times += 1
        self.later.wait(job.id, min(AWAY_SECONDS * away.times, AWAY_LONGEST))
        job = self.admission.put_back(job, Wait(error.message, error.code))
        away.alerts = self.admission.deferrals.alert(job, away.alerts)
        return job

    def _requeue(self, job: Job) -> Job:
        """Back into the queue at no cost to the job: we are the ones who stopped."""
        self._log.info("job_interrupted", job=job.id)
        return self.journal.set_job(job, JobState.QUEUED, attempts=max(0, job.attempts - 1))

    def _postpone(self, job: Job, error: StorageError) -> Job:
        self._log.warning("job_postponed", job=job.id, reason=error.message)
        self.later.wait(job.id, RETRY_SECONDS)
        return self.journal.set_job(
            job, JobState.QUEUED, attempts=job.attempts - 1, deferred_since=job.deferred_since or now(),
            deferred_reason=error.message, deferrals=job.deferrals + 1,
        )  # fmt: skip
