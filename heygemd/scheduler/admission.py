"""Which queued job starts next, when the guard lets it.

    choose    look at the queue with fresh readings; the first job that may start gets a ticket and its GPU
    confirm   read again right before the work begins: staging may have taken minutes
    put_back  a job that had begun waits again

What a job needs is in ``estimates``, whether that is free in ``judge``, who waits in ``deferrals``, and what a running
job takes in ``sampling``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from heygemd.common import log
from heygemd.common.aio import Pace
from heygemd.config.live import Live
from heygemd.contract.status import GpuRow, GuardRow
from heygemd.guard import machine
from heygemd.guard.decide import Go, Need, Wait
from heygemd.guard.devices import TorchBuild, torch_build
from heygemd.guard.readings import Gpu, Readings
from heygemd.guard.turns import Ageing, Candidate, Choice, choose_next
from heygemd.scheduler.deferrals import Deferrals
from heygemd.scheduler.estimates import EngineDevices, Estimates
from heygemd.scheduler.free_space import FolderSpace, OutboxSpace
from heygemd.scheduler.judge import Judge
from heygemd.scheduler.sampling import Sampling
from heygemd.scheduler.ticket import Deferred, Refused, Ticket
from heygemd.store.drops import DropStore, Job, JobState, Journal
from heygemd.store.states import DropState

JITTER = (0.75, 1.25)  # so that two daemons do not keep meeting
GROWTH = 1.6  # of the wait between two looks at a queue that waits


class NextLook:
    """When an unchanged queue that waits is looked at again."""

    def __init__(self, live: Live, pace: Pace) -> None:
        self._live, self._pace = live, pace
        self._names: list[str] = []
        self._config = live.now
        self._at, self._delay = 0.0, pace.queue_first

    def is_new(self, names: list[str]) -> bool:
        """Whether this queue, or the configuration, is another than at the last look."""
        if names == self._names and self._config is self._live.now:
            return False
        self._names, self._config, self._delay = names, self._live.now, self._pace.queue_first
        return True

    def is_due(self) -> bool:
        """Whether its time has come."""
        return time.monotonic() >= self._at

    def at_once(self) -> None:
        """The next look is due, whatever the queue is then."""
        self._names = []

    def soon(self) -> None:
        """Look again after the shortest wait."""
        self._at = time.monotonic() + self._pace.queue_first

    def later(self, *, settling: bool) -> None:
        """Nothing may start: look again after a wait that grows, unless readings are ``settling``."""
        if not settling:
            self._delay = min(self._delay * GROWTH, self._pace.queue_longest)
        self._at = time.monotonic() + (self._pace.queue_first if settling else self._delay) * random.uniform(*JITTER)


class Admission:
    """Decides which job of the queue starts; one at a time."""

    def __init__(
        self,
        live: Live,
        journal: Journal,
        store: DropStore,
        worker_pid: Callable[[], int | None],
        pace: Pace,
        reader: Callable[..., Readings] = machine.read,
        *,
        frame_of: Callable[[str], str] = lambda _: "",
        torch: TorchBuild | None = None,
    ) -> None:
        """``worker_pid``: the worker's process, whose GPU memory is ours to use again.  ``frame_of``: a job's frame
        size as far as it is known.  ``torch``: its build, where it is not to be looked up."""
        self._live, self._journal = live, journal
        self.judge = Judge(live, (store.work, live.now.daemon.state_dir), reader, worker_pid)
        self._devices = EngineDevices(live, reader, torch or torch_build())
        self.estimates = Estimates(live, journal, store, self._devices, frame_of)
        self.deferrals = Deferrals(journal, live)
        self._ageing: Ageing[str] = Ageing(live.now.guard.ageing_minutes * 60)
        self.sampling = Sampling(self.judge, self.estimates, self._ageing, worker_pid, pace)
        self.next_look = NextLook(live, pace)
        self.outboxes = OutboxSpace(store, pace.free_space)
        self._folders = FolderSpace("duix", lambda: live.now.intake.share_seconds, pace.free_space)
        self._log = log.get()
        if self._devices.now.some_cuda:
            self.judge.warn_if_not_shared()

    # ------------------------------------------------------------ who is next

    async def choose(self, jobs: Sequence[Job]) -> Ticket | Refused | None:
        """The first of these queued jobs that may start now; for the others, what they wait for is noted."""
        names = [job.id for job in jobs]
        if self.next_look.is_new(names):
            self.deferrals.only(set(names))
        elif not self.next_look.is_due():
            return None
        devices = self._devices.now  # with no job in the queue too: what a reload changes is logged at once
        if not jobs:
            return None
        readings = await self.judge.read(gpus=any(devices.may_use_gpu(self.estimates.engine(job)) for job in jobs))
        if self.judge.watching.coming_back(readings):
            self.next_look.soon()
            return None
        lines = {drop.id: drop.line for drop in self._journal.drops(DropState.HELD)}
        readings = await self._with_free_space(readings, jobs, lines)
        # While we asked, somebody may have cancelled one; from here to the ticket nothing is waited for.
        by_id = {job.id: job for job in self._journal.jobs_in(JobState.QUEUED) if job.drop_id in lines}
        queued = [by_id[name] for name in names if name in by_id]
        # Their needs are computed one after the other: a queue may be long, and mostly its first job may start.
        queue = (Candidate(job.id, self.estimates.need(job, lines[job.drop_id], readings)) for job in queued)
        turn = choose_next(queue, lambda need: self.judge.decide(need, readings), self._keep_for(names))
        for candidate, wait in turn.waiting:
            self.deferrals.note(by_id[candidate.key], wait)
        if turn.never is not None:
            return Refused(by_id[turn.never[0].key], turn.never[1].reason)
        ticket = self._begin(turn, by_id, readings)
        if ticket is None:
            settling = any(wait.settling for _, wait in turn.waiting) or turn.chosen is not None
            self.next_look.later(settling=settling)
        return ticket

    async def _with_free_space(self, readings: Readings, jobs: Sequence[Job], lines: Mapping[str, str]) -> Readings:
        """The readings with the free space of outboxes and shared folders; ``lines``: names by drop."""
        await self.outboxes.ask({lines[job.drop_id] for job in jobs if job.drop_id in lines})
        engines = [self.estimates.engine(job) for job in jobs]
        await self._folders.ask({str(path) for engine in engines for path in self.estimates.shared_folders(engine)})
        return replace(readings, disks={**readings.disks, **self.outboxes.by_path(), **self._folders.by_path()})

    def _keep_for(self, queue: Sequence[str]) -> str | None:
        """The job for which the GPU is kept, because others have overtaken it for too long."""
        minutes = self._live.now.guard.ageing_minutes
        self._ageing.limit = minutes * 60
        before, kept = self._ageing.kept, self._ageing.keep_for(time.monotonic(), queue)
        if kept is not None and kept != before:
            self._log.warning("gpu_kept_for", job=kept, minutes=minutes)
        return kept

    def _begin(self, turn: Choice[str], jobs: Mapping[str, Job], readings: Readings) -> Ticket | None:
        if turn.chosen is None or turn.go is None:
            return None
        job, need = jobs[turn.chosen.key], turn.chosen.need
        go = self.judge.reserve(need, turn.go, readings)
        if go is None:
            return None
        self._log_start(job, go, turn)
        settings, asked = self.estimates.settings(job), self.estimates.asked(job)
        ticket = Ticket(job, settings, asked, need, go, overtaken=turn.overtaken)
        self.sampling.begin(ticket)
        self.next_look.at_once()
        if ticket.asked.device == "cuda" and go.device is not None and ticket.asked.engine != "command":
            wav2lip = replace(ticket.settings.wav2lip, batch=go.batch_size)
            ticket.settings = replace(ticket.settings, wav2lip=wav2lip)
        if ticket.settings.encoder == "auto" and go.device is None:
            self._offer_encoder(ticket, readings)
        ticket.free_before = next((gpu.free_mib for gpu in readings.gpus if gpu.uuid == ticket.device), 0)
        return ticket

    def _offer_encoder(self, ticket: Ticket, readings: Readings) -> None:
        """NVENC for a job that needs no GPU, where there is room; else x264, which is no worse, only slower."""
        if self._devices.now.nvenc and ticket.asked.engine != "command":
            need = self.estimates.encoder_need(ticket.asked, readings)
            verdict = self.judge.decide(need, readings)
            ticket.encoder = self.judge.reserve(need, verdict, readings) if isinstance(verdict, Go) else None
        if ticket.encoder is None:
            ticket.settings = replace(ticket.settings, encoder="libx264")

    def _log_start(self, job: Job, go: Go, turn: Choice[str]) -> None:
        self.deferrals.end(job.id)
        self._ageing.forget(job.id)
        if turn.overtaken:
            self._log.info("job_overtakes", job=job.id, overtaken=[candidate.key for candidate in turn.overtaken])
        if go.smaller:
            how = {"batch_size": go.batch_size, "precision": go.precision}
            self._log.warning("job_made_smaller", job=job.id, vram_mib=go.vram_mib, **how)

    # ------------------------------------------------------------ once it is chosen

    async def confirm(self, ticket: Ticket) -> None:
        """Right before the work begins; by now the size of the frames is known.  Raises ``Deferred`` where there is
        no room any more, or less than is needed as is known now."""
        ticket.asked = self.estimates.asked(ticket.job)
        readings = await self.judge.read(gpus=ticket.device is not None)
        need = self.estimates.memory_need(ticket.asked, readings)
        ways = tuple(way for way in need.ways if way.batch_size == ticket.go.batch_size)
        again = Need(ways if ticket.go.device else (), need.ram_mib if need.ram_mib > ticket.need.ram_mib else 0)
        go = self.judge.confirm(again, ticket.go, readings)
        if isinstance(go, Wait):
            raise Deferred(go)
        ticket.go = go
        if ticket.encoder is not None:
            encoder = self.judge.confirm(self.estimates.encoder_need(ticket.asked, readings), ticket.encoder, readings)
            ticket.encoder = encoder if isinstance(encoder, Go) else None
            if ticket.encoder is None:
                ticket.settings = replace(ticket.settings, encoder="libx264")
                self.judge.reservations.release()

    def put_back(self, job: Job, wait: Wait) -> Job:
        """Queue a started job again, without counting an attempt."""
        job = self._journal.set_job(job, JobState.QUEUED, attempts=max(0, job.attempts - 1))
        self.deferrals.begin(job, wait)
        self.next_look.at_once()
        return self._journal.job(job.id)

    def has_memory_for(self, job: Job) -> bool:
        """Whether enough main memory is free to prepare this job beside the running one."""
        asked = self.estimates.asked(job)
        return self.judge.has_memory(lambda readings: self.estimates.memory_need(asked, readings).ram_mib)

    async def close(self) -> None:
        """Ask no folder any more."""
        await self.outboxes.close()
        await self._folders.close()

    # ------------------------------------------------------------ status

    @property
    def last_seen(self) -> Readings | None:
        """The GPUs as they were read last, which happens only while a job may need one."""
        history = self.judge.watching.history
        return history[-1] if history else None

    @property
    def gpu_problem(self) -> str | None:
        """Why not every GPU that is wanted can be read."""
        return self.judge.watching.problem

    def status(self) -> GuardRow:
        """The guard's part of the status."""
        gpus = self.last_seen.gpus if self.last_seen else ()
        chosen = self._devices.now.chosen.items()
        return {
            "devices": {engine: {"device": row["device"], "reason": row["reason"]} for engine, row in chosen},
            "problem": self.gpu_problem, "kept_for": self._ageing.kept,
            "deferred": len(self.deferrals), "gpus": [_gpu_row(gpu) for gpu in gpus],
        }  # fmt: skip


def _gpu_row(gpu: Gpu) -> GpuRow:
    return {
        "uuid": gpu.uuid, "name": gpu.name, "free_mib": gpu.free_mib, "total_mib": gpu.total_mib,
        "utilisation": gpu.utilisation, "celsius": gpu.celsius, "holders": [str(holder) for holder in gpu.processes],
    }  # fmt: skip
