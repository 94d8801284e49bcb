"""What becomes of a job whose work ended without a film.

ended      cancelled, refused or failed: it does not run again unless somebody asks
put back   it waits for memory, a GPU or an engine's server, at no cost to it
postponed  its share did not give its inputs: tried again later
died       the renderer's process died: tried again, at most ``attempts`` times
requeued   the daemon stopped it: queued as if it had never begun
"""

from __future__ import annotations

from dataclasses import dataclass

from heygemd.common import log
from heygemd.common.aio import Later, Pace
from heygemd.common.errors import Cancelled, EngineAway, GpuMemoryError, HeygemdError, StorageError, WorkerDied
from heygemd.config.live import Live
from heygemd.guard.decide import Wait
from heygemd.scheduler.admission import Admission
from heygemd.scheduler.ticket import Deferred, Ticket
from heygemd.store.drops import Job, JobState, Journal
from heygemd.store.states import now


@dataclass(slots=True)
class _Away:
    """How often in a row a job's server was busy or away, and how often that was logged as long."""

    times: int = 0
    alerts: int = 0


class Outcomes:
    """Writes into the journal what came of a job."""

    def __init__(self, live: Live, journal: Journal, admission: Admission, later: Later, pace: Pace) -> None:
        self._live, self._journal, self._admission, self._later, self._pace = live, journal, admission, later, pace
        self._away: dict[str, _Away] = {}  # by job
        self._log = log.get()

    async def failed(self, job: Job, ticket: Ticket, error: HeygemdError, *, stopping: bool) -> Job:
        """The job as it is after its work ended with ``error``.  ``stopping``: the daemon is about to end."""
        if isinstance(error, Cancelled):
            return self.requeue(job) if stopping else self.end(job, JobState.CANCELLED, error)
        if isinstance(error, Deferred):
            return self._admission.put_back(job, error.wait)
        if isinstance(error, StorageError):
            return self._postpone(job, error)
        sampling = self._admission.sampling
        if isinstance(error, GpuMemoryError) and ticket.device is not None and not sampling.had_all(ticket):
            wait = sampling.outgrown(ticket)
            self._log.warning("gpu_memory_ran_out", job=job.id, reason=wait.reason, detail=error.detail)
            return self._admission.put_back(job, wait)
        if isinstance(error, EngineAway):
            return self._wait_for_server(job, ticket.job, error)
        lost = await sampling.lost(ticket, error)
        if lost is not None:
            self._log.error("gpu_lost", job=job.id, reason=lost.reason, detail=error.message)
            return self._admission.put_back(job, lost)
        if isinstance(error, WorkerDied):
            return self.requeue(job) if stopping else self._died(job, error)
        return self.end(job, JobState.FAILED, error)

    def settled(self, job: Job) -> None:
        """The job has left the queue: its server is not waited for any more."""
        self._away.pop(job.id, None)

    def end(self, job: Job, state: JobState, error: HeygemdError) -> Job:
        """The job has ended without a film: ``state`` is FAILED or CANCELLED."""
        reason = getattr(error, "reason", error.code)
        self._log.warning("job_ended_badly", job=job.id, state=state, reason=error.message, detail=error.detail)
        return self._journal.set_job(job, state, reason=error.message, reason_code=reason)

    def requeue(self, job: Job) -> Job:
        """Back into the queue at no cost to the job: the daemon stopped it."""
        self._log.info("job_interrupted", job=job.id)
        return self._journal.set_job(job, JobState.QUEUED, attempts=max(0, job.attempts - 1))

    def _died(self, job: Job, error: WorkerDied) -> Job:
        if job.attempts >= self._live.now.limits.attempts:
            message = f"{error.message} Attempts: {job.attempts}."
            return self.end(job, JobState.FAILED, WorkerDied(message, detail=error.detail))
        self._log.warning("worker_died", job=job.id, reason=error.message, detail=error.detail)
        self._later.wait(job.id, self._pace.turn * job.attempts)
        return self._journal.set_job(job, JobState.QUEUED)

    def _wait_for_server(self, job: Job, before: Job, error: EngineAway) -> Job:
        """The server that makes the film is busy or away; nothing is wrong with the job.

        As long as the reason stays the same it is one deferral, however often the server is asked.  ``before``: the
        job before this try.
        """
        if before.waits and before.deferred_reason == error.message:
            job = self._journal.set_job(job, JobState.QUEUED, started=before.started)
        else:
            self._away[job.id] = _Away()
        away = self._away.setdefault(job.id, _Away())
        away.times += 1
        self._later.wait(job.id, min(self._pace.engine_away * away.times, self._pace.engine_away_longest))
        job = self._admission.put_back(job, Wait(error.message, error.code))
        away.alerts = self._admission.deferrals.alert(job, away.alerts)
        return job

    def _postpone(self, job: Job, error: StorageError) -> Job:
        self._log.warning("job_postponed", job=job.id, reason=error.message)
        self._later.wait(job.id, self._pace.retry)
        return self._journal.set_job(
            job, JobState.QUEUED, attempts=job.attempts - 1, deferred_since=job.deferred_since or now(),
            deferred_reason=error.message, deferrals=job.deferrals + 1,
        )  # fmt: skip
