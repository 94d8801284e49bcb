"""What the daemon says on its control socket and to systemd."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from heygemd import __version__
from heygemd.common import log
from heygemd.common.errors import HeygemdError
from heygemd.scheduler.render_loop import Rendering
from heygemd.status.summary import Work, summary
from heygemd.store.drops import Job, JobState, Journal, Store
from heygemd.store.states import now
from heygemd.watch.line import Line


class Answers:
    """Status, and the orders that people give."""

    def __init__(
        self, journal: Journal, store: Store, lines: Mapping[str, Line], rendering: Rendering,
        reload: Callable[[bool], Awaitable[Mapping[str, object]]], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """``lines`` may come and go.  ``wake``: something has changed that may let a job start, or a film go out."""
        self._journal, self._store, self._lines, self._rendering = journal, store, lines, rendering
        self._reload, self._wake = reload, wake
        self.started = now()
        self._log = log.get()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request's reply.  Raises ``HeygemdError`` where it cannot be done."""
        command = request.get("cmd")
        if command == "ping":
            return {"pid": os.getpid(), "version": __version__}
        if command == "status":
            return self.status()
        if command == "jobs":
            states = set(request["states"]) if request.get("states") else None
            return {"jobs": self._journal.jobs(states, int(request.get("limit") or 100))}
        if command in ("pause", "resume"):
            self._rendering.paused = command == "pause"
            self._log.info("paused" if self._rendering.paused else "resumed")
            self._wake()
            return {"state": self.state}
        if command == "reload":
            return {**await self._reload(bool(request.get("wait")))}
        if command in ("cancel", "retry"):
            job = self._job(str(request.get("job", "")))
            if command == "cancel":
                self._rendering.cancel(job)
            else:
                await self._store.retry(job)
            self._wake()
            return {"job": job.id}
        raise HeygemdError(f"There is no command {command!r}.")

    def _job(self, job_id: str) -> Job:
        """A job by its id, or by its drop's id where that has only one job."""
        with contextlib.suppress(KeyError):
            return self._journal.job(job_id)
        jobs = self._journal.jobs_of(job_id)
        if len(jobs) == 1:
            return jobs[0]
        raise HeygemdError(
            f"There is no job {job_id!r}; 'heygemd jobs' lists them."
            if not jobs
            else f"Drop {job_id} holds {len(jobs)} jobs; name one: {jobs[0].id} to {jobs[-1].id}."
        )

    @property
    def state(self) -> str:
        """``running``, ``paused`` or ``stopping``."""
        return "stopping" if self._rendering.stopping else "paused" if self._rendering.paused else "running"

    def status(self) -> dict[str, Any]:
        """What ``heygemd status`` shows."""
        now_running, running = self._rendering.running, []
        if now_running is not None:
            running = [{**self._journal.row(now_running.job), "state": "running", **now_running.progress}]
        return {
            "pid": os.getpid(), "version": __version__, "started": self.started, "state": self.state,
            "lines": [line.row() for line in self._lines.values()], "running": running,
            "queue": [self._rendering.admission.deferrals.row(row) for row in self._journal.queue()],
            "guard": self._rendering.admission.status(),
            "waiting": [w for line in self._lines.values() for w in line.waiting],
            "recent": self._journal.recent(), "counts": self._journal.counts(),
        }  # fmt: skip

    def summary(self) -> str:
        """One line for systemd."""
        queued = self._journal.jobs_in(JobState.QUEUED)
        running = self._rendering.running
        work = Work(
            state=self.state, queued=len(queued), delivered=self._journal.counts().get("delivered", 0),
            name=running.job.request.name if running else None, number=self._rendering.ended_in_a_row + 1,
            progress=running.progress if running else {},
            deferred=[(j.deferred_reason or "", j.deferred_since) for j in queued if j.waits and j.deferred_since],
            lost=[name for name, line in self._lines.items() if line.problem],
        )  # fmt: skip
        return summary(work)
