"""The commands on the control socket, and the status that they and systemd show."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from heygemd import __version__
from heygemd.common import log
from heygemd.common.errors import HeygemdError
from heygemd.contract import status as contract_status
from heygemd.contract.status import LineRow, Status, WaitingRow
from heygemd.scheduler.render_loop import Rendering
from heygemd.status.summary import DaemonWork, summary
from heygemd.store.drops import DropStore, Job, JobState, Journal
from heygemd.store.states import now
from heygemd.watch.line import WatchedLine

JOBS_SHOWN = 100  # by ``jobs`` without a limit


class Reloads(Protocol):
    """Reads the configuration again."""

    def reload(self, *, wait: bool) -> Awaitable[Mapping[str, object]]:
        """Returns the reply; raises ``HeygemdError`` where the file is refused."""


class Commands:
    """Carries out what is asked on the control socket."""

    def __init__(
        self, journal: Journal, store: DropStore, lines: Mapping[str, WatchedLine], rendering: Rendering,
        reloading: Reloads, wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """``lines`` may come and go.  ``wake``: something has changed that may let a job start, or a film be
        delivered."""
        self._journal, self._store, self._lines, self._rendering = journal, store, lines, rendering
        self._reloading, self._wake = reloading, wake
        self.started = now()
        self._log = log.get()

    async def handle(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """The reply to one request.  Raises ``HeygemdError`` where it is refused."""
        command = request.get("cmd")
        if command == "ping":
            return {"pid": os.getpid(), "version": __version__}
        if command == "status":
            return {**self.status()}
        if command == "jobs":
            return {"jobs": self._journal.jobs(_states(request), _limit(request))}
        if command in ("pause", "resume"):
            self._rendering.paused = command == "pause"
            self._log.info("paused" if self._rendering.paused else "resumed")
            self._wake()
            return {"state": self.state}
        if command == "reload":
            return await self._reloading.reload(wait=bool(request.get("wait")))
        if command in ("cancel", "retry"):
            job = self._job(str(request.get("job", "")))
            if command == "cancel":
                self._rendering.cancel(job)
            else:
                await self._store.retry(job)
            self._wake()
            return {"job": job.id}
        raise HeygemdError(f"The daemon has no command {command!r}.")

    def _job(self, job_id: str) -> Job:
        """A job by its id, or by its drop's id if that has only one job."""
        with contextlib.suppress(KeyError):
            return self._journal.job(job_id)
        jobs = self._journal.jobs_of(job_id)
        if len(jobs) == 1:
            return jobs[0]
        raise HeygemdError(
            f"No job has the id {job_id!r}; 'heygemd jobs' lists all jobs."
            if not jobs
            else f"Drop {job_id} has {len(jobs)} jobs; give the id of one: {jobs[0].id} to {jobs[-1].id}."
        )

    # ------------------------------------------------------------ status

    @property
    def state(self) -> str:
        """``running``, ``paused`` or ``stopping``."""
        return "stopping" if self._rendering.stopping else "paused" if self._rendering.paused else "running"

    def status(self) -> Status:
        """The data of ``heygemd status``."""
        job, admission = self._rendering.running, self._rendering.admission
        return contract_status.make(
            pid=os.getpid(), version=__version__, started=self.started, state=self.state,
            lines=[_line_row(line) for line in self._lines.values()],
            running=[contract_status.running_row(self._journal.row(job.job), job.progress)] if job else [],
            queue=[admission.deferrals.row(row) for row in self._journal.queue()], guard=admission.status(),
            waiting=[row for line in self._lines.values() for row in _waiting_rows(line)],
            recent=self._journal.recent(), counts=self._journal.counts(),
        )  # fmt: skip

    def summary(self) -> str:
        """One line for systemd."""
        queued = self._journal.jobs_in(JobState.QUEUED)
        running = self._rendering.running
        work = DaemonWork(
            state=self.state, queued=len(queued), delivered=self._journal.counts().get("delivered", 0),
            name=running.job.request.name if running else None, number=self._rendering.ended_in_a_row + 1,
            progress=contract_status.read_progress(running.progress if running else {}),
            deferred=[(j.deferred_reason or "", j.deferred_since) for j in queued if j.waits and j.deferred_since],
            lost=[name for name, line in self._lines.items() if line.problem],
        )  # fmt: skip
        return summary(work)


def _states(request: Mapping[str, object]) -> set[str] | None:
    """The states that a request names; ``None``: it names none."""
    states = request.get("states")
    return {str(state) for state in states} if isinstance(states, list) and states else None


def _limit(request: Mapping[str, object]) -> int:
    """The number of rows that a request allows.  Raises ``HeygemdError`` where it is no whole number."""
    limit = request.get("limit") or JOBS_SHOWN
    if not isinstance(limit, int):
        raise HeygemdError(f"'limit' must be a whole number, not {limit!r}.")
    return limit


def _line_row(line: WatchedLine) -> LineRow:
    return contract_status.line_row(
        line.name, root=str(line.settings.root), inbox=str(line.settings.inbox), watch=line.watch,
        state="unavailable" if not line.open else "full" if line.full else "paused" if line.paused else "ok",
        problem=line.problem or line.obstacles.problem, paused=line.paused,
        orders=[
            {"at": logged.at, "order": logged.order, "code": logged.reply.code, "values": logged.reply.values}
            for logged in line.order_replies
        ],
    )  # fmt: skip


def _waiting_rows(line: WatchedLine) -> list[WaitingRow]:
    rows: list[WaitingRow] = []
    for file in line.waiting:
        row: WaitingRow = {"line": line.name, "path": file.path, "reason": file.reason, "since": file.since}
        if file.code is not None and file.values is not None:
            row |= {"code": file.code, "values": file.values}
        rows.append(row)
    return rows
