"""Which jobs wait, since when and for what.  A job that must wait is deferred, not failed.

One log event when that begins, one when it ends, an error after ``alert_hours``; it costs no attempt.  A job's row
in the journal changes with the kind of the reason, not with numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from heygemd.common import log
from heygemd.config.live import Live
from heygemd.contract.status import JobRow
from heygemd.guard.decide import Wait
from heygemd.store.drops import Job, JobState, Journal
from heygemd.store.states import now


@dataclass(slots=True)
class _Deferral:
    since: str
    wait: Wait
    alerts: int = 0


class Deferrals:
    """The queued jobs that wait for something that the guard has named."""

    def __init__(self, journal: Journal, live: Live) -> None:
        self._journal, self._live = journal, live
        self._waiting: dict[str, _Deferral] = {}
        self._log = log.get()

    def __len__(self) -> int:
        return len(self._waiting)

    def only(self, names: Collection[str]) -> None:
        """Forget all but these jobs."""
        self._waiting = {key: value for key, value in self._waiting.items() if key in names}

    def note(self, job: Job, wait: Wait) -> None:
        """The guard has decided that this queued job must wait."""
        deferral = self._waiting.get(job.id)
        if deferral is None:
            if wait.settling:
                return  # a moment to look twice is no deferral
            deferral = self.begin(job, wait)
        elif not wait.settling:
            if wait.kind != deferral.wait.kind:
                self._journal.set_job(job, JobState.QUEUED, deferred_reason=wait.reason)
            deferral.wait = wait
        deferral.alerts = self.alert(job, deferral.alerts)

    def alert(self, job: Job, alerts: int) -> int:
        """Log an error when a job has waited for another ``alert_hours``; ``alerts``: number of such periods that were
        logged.  Returns the new number."""
        deferral, every = self._waiting.get(job.id), self._live.now.guard.alert_hours * 3600
        if deferral is None or _seconds_since(deferral.since) < every * (alerts + 1):
            return alerts
        self._log.error("job_waits_long", job=job.id, deferred_since=deferral.since, reason=deferral.wait.reason)
        return int(_seconds_since(deferral.since) // every)

    def begin(self, job: Job, wait: Wait) -> _Deferral:
        """Record a deferral; keeps its start time across restarts."""
        if job.waits and job.deferred_since is not None:
            self._waiting[job.id] = _Deferral(job.deferred_since, wait)
            return self._waiting[job.id]
        since = now()
        self._log.warning("job_deferred", job=job.id, reason=wait.reason, kind=wait.kind, holders=holders(wait))
        self._journal.set_job(
            job, JobState.QUEUED, deferred_since=since, deferred_reason=wait.reason, deferrals=job.deferrals + 1
        )
        self._waiting[job.id] = _Deferral(since, wait)
        return self._waiting[job.id]

    def end(self, job_id: str) -> None:
        """The job starts."""
        ended = self._waiting.pop(job_id, None)
        if ended is not None:
            waited = round(_seconds_since(ended.since))
            self._log.info("job_admitted", job=job_id, deferred_since=ended.since, waited_seconds=waited)

    def kinds(self) -> dict[str, str]:
        """Each job's cause of waiting, by its id."""
        return {key: deferral.wait.kind for key, deferral in self._waiting.items()}

    def row(self, row: JobRow) -> JobRow:
        """A queued job's row with its current cause of waiting."""
        deferral = self._waiting.get(row["id"])
        if deferral is None:
            return row
        wait = deferral.wait
        return {
            **row, "deferred_since": deferral.since, "deferred_reason": wait.reason, "holders": holders(wait),
            "deferred_kind": wait.kind, "deferred_values": dict(wait.values),
        }  # fmt: skip


def holders(wait: Wait) -> list[str]:
    """The processes that hold what is waited for, as text."""
    return [str(holder) for holder in wait.holders]


def _seconds_since(stamp: str) -> float:
    return (datetime.now().astimezone() - datetime.fromisoformat(stamp)).total_seconds()
