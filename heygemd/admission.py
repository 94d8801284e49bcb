"""The next job when the guard lets it: what ``guard``, ``needs``, ``turns`` and ``reservations`` decide, done.

    choose    look at the queue with fresh readings; the first that may start gets a ticket and its GPU
    confirm   read again right before the work begins: staging may have taken minutes
    sample    while a job runs, what it really takes, and what those lose whom it overtook
    finish    give the reservation back, remember the peak

A job that must wait is deferred, not failed: one event when that begins, one when it ends, a louder one after
``alert_hours``; no attempt is burned.  Its row in the journal changes with the kind of the reason, not with numbers.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from heygemd import guard, log, machine, needs
from heygemd.config import Config
from heygemd.errors import EngineError, HeygemdError, StorageError, WorkerDied
from heygemd.guard import Go, Need, Verdict, Wait, Way
from heygemd.jobs import Job, JobState, Journal, Store, settings_for
from heygemd.journal import DropState, now
from heygemd.machine import Gpu, Readings
from heygemd.reservations import Reservations, place
from heygemd.turns import MOST, Ageing, Candidate, Turn, look

SOON, LATEST = 1.0, 4.0  # seconds between two looks at a queue that waits: grows from one to the other
JITTER = (0.75, 1.25)  # so that two daemons do not keep meeting
RETURN_SECONDS = 10.0  # a driver may take so long to give back what an ended process held
RETURN_SHARE = 0.75  # of it counts as returned (ollama's measure)
SAMPLE_SECONDS = 2.0
OUTBOX_SECONDS = 10.0  # an outbox's free space is asked for anew after this time


class Deferred(HeygemdError):
    """What was free when the job was chosen is not any more; it waits again, at no cost to it."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.reason)
        self.wait = wait


@dataclass(slots=True)
class Ticket:
    """One job's leave to run: where, how, and what was seen of it so far."""

    job: Job
    settings: dict[str, Any]
    need: Need
    go: Go
    overtaken: list[Candidate[str]] = field(default_factory=list)
    free_before: int = 0
    sampled_at: float = 0.0
    vram_mib: int | None = None
    ram_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A job that can never be done here."""

    job: Job
    reason: str


@dataclass(slots=True)
class _Deferral:
    since: str
    wait: Wait
    alerts: int = 0


@dataclass(frozen=True, slots=True)
class _Returning:
    """Memory that an ended child held and the driver has not given back yet."""

    uuid: str
    at_least_mib: int
    until: float


class Admission:
    """Keeps the readings, the deferrals and the one ticket."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        store: Store,
        worker_pid: Callable[[], int | None],
        reader: Callable[..., Readings] = machine.read,
    ) -> None:
        """``worker_pid``: the worker's process, whose GPU memory is ours to use again."""
        self.config, self.journal, self.store = config, journal, store
        self._rules, self._worker_pid, self._reader = config.guard, worker_pid, reader
        folder, agreed = place(config.guard.lock_dir, config.daemon.state_dir / "gpu")
        self.reservations = Reservations(folder)
        self._history: deque[Readings] = deque(maxlen=config.guard.hold_readings)
        self._ageing: Ageing[str] = Ageing(config.guard.ageing_minutes * 60)
        self._deferrals: dict[str, _Deferral] = {}
        self._ticket: Ticket | None = None
        self._returning: _Returning | None = None
        self._problem: str | None = None
        self._asked: list[str] = []
        self._look_at, self._delay = 0.0, SOON
        self._sizes: dict[str, tuple[int, int]] = {}
        self._smaller: dict[str, int] = {}  # by job, the batch that was too large for it
        self._outboxes: dict[str, tuple[float, int | None]] = {}
        self._peaks = journal.peaks()
        self._log = log.get()
        self.devices = self._choose_devices(agreed)

    def _choose_devices(self, agreed: bool) -> dict[str, dict[str, str]]:
        """Where each engine in use runs: decided once, said, and never changed on the quiet."""
        engines = {self.config.render.engine, *(name for line in self.config.lines for name in line.allowed_engines)}
        able = any(needs.ENGINES[engine].ways for engine in engines if engine in needs.ENGINES)
        start = self._reader(gpus=able)
        chosen = {}
        for engine in sorted(engines):
            device, why = needs.device_of(engine, self.config.render.device, self.config.command, start)
            chosen[engine] = {"device": device, "reason": why}
            self._log.info("device_chosen", engine=engine, device=device, reason=why)
        if not agreed and any(choice["device"] == "cuda" for choice in chosen.values()):
            wanted, here = str(self._rules.lock_dir), str(self.reservations.folder)
            self._log.warning("gpu_not_shared", lock_dir=wanted, instead=here, reason="lock_dir cannot be written to")
        return chosen

    def heed(self, config: Config) -> None:
        """Go by these settings from the next look on; lock_dir stays as it is until a restart."""
        moved = (config.guard, config.render, config.command, config.limits) != (
            self._rules, self.config.render, self.config.command, self.config.limits,
        )  # fmt: skip
        self.config, self._rules = config, config.guard
        self._ageing.limit = config.guard.ageing_minutes * 60
        self._asked = []
        if moved:
            self._history = deque(self._history, maxlen=config.guard.hold_readings)
            self.devices = self._choose_devices(agreed=True)

    # ------------------------------------------------------------ who is next

    async def choose(self, jobs: Sequence[Job]) -> Ticket | Refused | None:
        """The first of these queued jobs that may start now; the others are told what they wait for."""
        names = [job.id for job in jobs]
        if names == self._asked and time.monotonic() < self._look_at:
            return None
        if names != self._asked:
            self._asked, self._delay = names, SOON
            self._deferrals = {key: value for key, value in self._deferrals.items() if key in set(names)}
        if not jobs:
            return None
        readings = await self._read(any(self._device(self._engine(job)) == "cuda" for job in jobs))
        if self._memory_is_coming_back(readings):
            self._look_at = time.monotonic() + SOON
            return None
        lines = {drop.id: drop.line for drop in self.journal.drops(DropState.HELD)}
        for line in {lines[job.drop_id] for job in jobs if job.drop_id in lines}:
            await self._ask_outbox(line)
        readings = self._with_outboxes(readings)
        # While we asked, somebody may have cancelled one; from here to the ticket nothing is waited for.
        by_id = {job.id: job for job in self.journal.jobs_in(JobState.QUEUED) if job.drop_id in lines}
        jobs = [by_id[name] for name in names if name in by_id]
        # One after the other, as far as they are looked at: a queue may be long, and mostly its first may start.
        queue = (Candidate(job.id, self._need(job, lines[job.drop_id], readings)) for job in jobs)
        turn = look(queue, lambda need: self._judge(need, readings), self._keep_for(names))
        for candidate, wait in turn.waiting:
            self._defer(by_id[candidate.key], wait)
        if turn.never is not None:
            return Refused(by_id[turn.never[0].key], turn.never[1].reason)
        ticket = self._begin(turn, by_id, readings)
        if ticket is None:
            self._later(turn)
        return ticket

    def _engine(self, job: Job) -> str:
        return job.request.options.engine or self.config.render.engine

    def _settings(self, job: Job) -> dict[str, Any]:
        settings = settings_for(self.config, job.request.options)
        return {**settings, "device": self._device(settings["engine"])}

    def _device(self, engine: str) -> str:
        return self.devices[engine]["device"] if engine in self.devices else "cpu"

    def _judge(self, need: Need, readings: Readings) -> Verdict:
        seen = [*list(self._history)[:-1], readings]
        taken = {gpu.uuid: self.reservations.taken(gpu) for gpu in readings.gpus} if need.ways else {}
        at = datetime.now().time()
        return guard.decide(need, seen, self.config.limits, self._rules, taken=taken, at=at)

    def _keep_for(self, queue: Sequence[str]) -> str | None:
        before, kept = self._ageing.kept, self._ageing.keep_for(time.monotonic(), queue)
        if kept is not None and kept != before:
            self._log.warning("gpu_kept_for", job=kept, minutes=self._rules.ageing_minutes)
        return kept

    def _begin(self, turn: Turn[str], jobs: Mapping[str, Job], readings: Readings) -> Ticket | None:
        if turn.chosen is None or turn.go is None:
            return None
        job, need = jobs[turn.chosen.key], turn.chosen.need
        go = self._reserve(need, turn.go, readings)
        if go is None:
            return None
        self._log_start(job, go, turn)
        free = next((gpu.free_mib for gpu in readings.gpus if gpu.uuid == go.device), 0)
        settings = self._settings(job)
        if go.device is not None and settings["engine"] != "command":
            settings["batch"] = min(go.batch_size, settings.get("batch") or go.batch_size)
        self._ticket = Ticket(job, settings, need, go, turn.overtaken, free, time.monotonic())
        self._asked = []
        return self._ticket

    def _reserve(self, need: Need, go: Go, readings: Readings) -> Go | None:
        """Under the GPU's lock, decide again with what others have reserved until now; nothing where it is too late."""
        if go.device is None:
            return go
        with self.reservations.deciding(go.device) as ours:
            if not ours:
                return None
            self.reservations.sweep(go.device)
            again = self._judge(need, readings)
            if not isinstance(again, Go) or again.device != go.device:
                return None
            self.reservations.reserve(go.device, again.vram_mib)
            return again

    def _log_start(self, job: Job, go: Go, turn: Turn[str]) -> None:
        ended = self._deferrals.pop(job.id, None)
        self._ageing.forget(job.id)
        if ended is not None:
            waited = round(_seconds_since(ended.since))
            self._log.info("job_admitted", job=job.id, deferred_since=ended.since, waited_seconds=waited)
        if turn.overtaken:
            self._log.info("job_overtakes", job=job.id, overtaken=[candidate.key for candidate in turn.overtaken])
        if go.smaller:
            how = {"batch_size": go.batch_size, "precision": go.precision}
            self._log.warning("job_made_smaller", job=job.id, vram_mib=go.vram_mib, **how)

    def _later(self, turn: Turn[str]) -> None:
        """Nobody starts: when to look again."""
        settling = any(wait.settling for _, wait in turn.waiting) or turn.chosen is not None
        if not settling:
            self._delay = min(self._delay * 1.6, LATEST)
        self._look_at = time.monotonic() + (SOON if settling else self._delay) * random.uniform(*JITTER)

    # ------------------------------------------------------------ readings

    async def _read(self, gpus: bool) -> Readings:
        """The readings now, with the memory of our own worker counted as free for us."""
        readings = await asyncio.to_thread(self._reader, (self.store.work,), gpus=gpus)
        if not gpus:
            return readings
        self._note_problem(readings.gpu_problem)
        pid = self._worker_pid()
        if pid is not None:
            readings = replace(readings, gpus=tuple(_with_ours(gpu, pid) for gpu in readings.gpus))
        oldest = readings.at - (LATEST * JITTER[1] + SOON) * self._rules.hold_readings
        kept = [seen for seen in self._history if oldest <= seen.at < readings.at]
        self._history.clear()
        self._history.extend([*kept, readings])
        return readings

    def _note_problem(self, problem: str | None) -> None:
        """One event when the GPUs fail, one when they are back; seconds that pass are no news."""
        said = re.sub(r"\d+ s\b", "some time", problem) if problem else None
        if said == self._problem:
            return
        self._problem = said
        if said:
            self._log.error("gpu_unavailable", problem=problem)
        else:
            self._log.info("gpu_back")

    def _memory_is_coming_back(self, readings: Readings) -> bool:
        """Whether an ended child's memory is still on its way back; waited for, but not for ever."""
        back = self._returning
        if back is None:
            return False
        free = next((gpu.free_mib for gpu in readings.gpus if gpu.uuid == back.uuid), back.at_least_mib)
        if free >= back.at_least_mib:
            self._returning = None
        elif time.monotonic() >= back.until:
            self._log.warning("gpu_memory_not_returned", gpu=back.uuid, free_mib=free, expected_mib=back.at_least_mib)
            self._returning = None
        return self._returning is not None

    # ------------------------------------------------------------ needs

    def _need(self, job: Job, line: str, readings: Readings) -> Need:
        engine = self._engine(job)
        audio, video = self._bytes(job)
        assert job.request.audio is not None and job.request.video is not None
        work, film = needs.disk_needs((job.request.audio.path, audio), (job.request.video.path, video))
        disk = {self.store.work: _coarse(work), self.store.lines[line].outbox: _coarse(film)}
        keep = self.config.limits.free_ram_mib
        need = needs.need(engine, self._device(engine), self.config.command, self._peaks, readings, keep, disk)
        return needs.smaller_ways(need, self._smaller[job.id]) if job.id in self._smaller else need

    def _bytes(self, job: Job) -> tuple[int, int]:
        if job.id not in self._sizes:
            if len(self._sizes) > 10_000:
                self._sizes.clear()
            self._sizes[job.id] = self.store.input_bytes(job)
        return self._sizes[job.id]

    async def _ask_outbox(self, line: str) -> None:
        asked, _ = self._outboxes.get(line, (-OUTBOX_SECONDS, None))
        if time.monotonic() - asked < OUTBOX_SECONDS:
            return
        try:
            free = await self.store.outbox_free_mib(line)
        except StorageError:
            free = None
        self._outboxes[line] = (time.monotonic(), free)

    def _with_outboxes(self, readings: Readings) -> Readings:
        free = {self.store.lines[line].outbox: mib for line, (_, mib) in self._outboxes.items() if mib is not None}
        return replace(readings, disks={**readings.disks, **free})

    # ------------------------------------------------------------ waiting

    def _defer(self, job: Job, wait: Wait) -> None:
        known = self._deferrals.get(job.id)
        if known is None:
            if wait.settling:
                return  # a moment to look twice is no deferral
            known = self._deferrals[job.id] = self._begin_deferral(job, wait)
        elif not wait.settling:
            if wait.kind != known.wait.kind:
                self.journal.set_job(job, JobState.QUEUED, deferred_reason=wait.reason)
            known.wait = wait
        every = self._rules.alert_hours * 3600
        if _seconds_since(known.since) >= every * (known.alerts + 1):
            known.alerts = int(_seconds_since(known.since) // every)
            self._log.error("job_waits_long", job=job.id, deferred_since=known.since, reason=known.wait.reason)

    def _begin_deferral(self, job: Job, wait: Wait) -> _Deferral:
        if job.waits and job.deferred_since is not None:  # it waited already when the daemon was started
            return _Deferral(job.deferred_since, wait)
        since = now()
        self._log.warning("job_deferred", job=job.id, reason=wait.reason, kind=wait.kind, holders=_told(wait))
        self.journal.set_job(
            job, JobState.QUEUED, deferred_since=since, deferred_reason=wait.reason, deferrals=job.deferrals + 1
        )
        return _Deferral(since, wait)

    def put_back(self, job: Job, wait: Wait) -> Job:
        """A job that had begun waits again, at no cost to it."""
        job = self.journal.set_job(job, JobState.QUEUED, attempts=max(0, job.attempts - 1))
        self._deferrals[job.id] = self._begin_deferral(job, wait)
        self._asked = []
        return self.journal.job(job.id)

    # ------------------------------------------------------------ while it runs

    async def confirm(self, ticket: Ticket) -> None:
        """Right before the work begins.  Raises ``Deferred`` where the GPU has been taken meanwhile."""
        if ticket.go.device is None:
            return
        readings = await self._read(gpus=True)
        rules = replace(self._rules, hold_readings=1, devices=(ticket.go.device,), quiet_hours="")
        only_gpu = Need(ways=ticket.need.ways)
        taken = {gpu.uuid: self.reservations.taken(gpu) for gpu in readings.gpus}
        verdict = guard.decide(only_gpu, [readings], self.config.limits, rules, taken=taken)
        if isinstance(verdict, Wait):
            raise Deferred(verdict)

    async def sample(self) -> None:
        """What the running job takes; called every second or so, works less often."""
        ticket, pid, at = self._ticket, self._worker_pid(), time.monotonic()
        if ticket is None or pid is None or at - ticket.sampled_at < SAMPLE_SECONDS:
            return
        passed, ticket.sampled_at = at - ticket.sampled_at, at
        rss = await asyncio.to_thread(machine.tree_rss_mib, pid)
        ticket.ram_mib = max(rss, ticket.ram_mib or 0)
        if ticket.go.device is None:
            return
        readings = await self._read(gpus=True)
        for gpu in readings.gpus:
            held = [holder.mib for holder in gpu.processes if holder.mib and machine.is_below(holder.pid, pid)]
            if gpu.uuid == ticket.go.device and held:
                ticket.vram_mib = max(sum(held), ticket.vram_mib or 0)
        for candidate in ticket.overtaken[:MOST]:
            only_gpu = Need(ways=candidate.need.ways)
            if isinstance(self._judge(only_gpu, _roomy(readings)), Go):
                self._ageing.lose(candidate.key, passed)

    def had_all(self, ticket: Ticket) -> bool:
        """Whether the smallest way of doing it had nearly a whole GPU, so that waiting for more is no use."""
        smallest = ticket.go.vram_mib <= min(way.vram_mib for way in ticket.need.ways)
        total = max((gpu.total_mib for seen in self._history for gpu in seen.gpus), default=0)
        return smallest and ticket.go.vram_mib >= 0.9 * total

    def outgrown(self, ticket: Ticket) -> Wait:
        """The job ran out of GPU memory: the estimate is raised, and the job goes on with a smaller batch if it can.

        After the smallest batch it waits for as much as it is now believed to need.
        """
        way = Way(ticket.go.vram_mib, ticket.go.batch_size, ticket.go.precision)
        self.journal.add_peak(needs.overrun(ticket.settings["engine"], way))
        self._peaks = self.journal.peaks()
        if way.batch_size > min(each.batch_size for each in ticket.need.ways):
            self._smaller[ticket.job.id] = way.batch_size
        else:
            self._smaller.pop(ticket.job.id, None)
        batch = f" with a batch of {way.batch_size}" if len(ticket.need.ways) > 1 else ""
        return Wait(f"The job took more than the {way.vram_mib} MiB of GPU memory that were expected{batch}.")

    async def lost(self, ticket: Ticket, error: HeygemdError) -> Wait | None:
        """Why the job's end is the GPU's fault and not its own, where the GPU does not answer any more."""
        if ticket.go.device is None or not isinstance(error, EngineError | WorkerDied):
            return None
        await asyncio.sleep(SOON * 1.1)  # a reading from before its end proves nothing
        readings = await self._read(gpus=True)
        if any(gpu.uuid == ticket.go.device for gpu in readings.gpus) or not readings.gpu_problem:
            return None
        return Wait(f"The GPU failed while the job ran: {readings.gpu_problem}.", "gpu_problem")

    def finish(self, ticket: Ticket, job: Job) -> None:
        """The job's work has ended, one way or another."""
        self._ticket = None
        self.reservations.release()
        if ticket.go.device is not None:
            at_least = ticket.free_before - round((1 - RETURN_SHARE) * ticket.go.vram_mib)
            self._returning = _Returning(ticket.go.device, at_least, time.monotonic() + RETURN_SECONDS)
        if job.state is JobState.RENDERED and job.result is not None:
            sampled = (ticket.vram_mib, ticket.ram_mib)
            self.journal.add_peak(needs.peak_of(ticket.settings["engine"], job.result, sampled))
            self._peaks = self.journal.peaks()
            self._smaller.pop(job.id, None)

    # ------------------------------------------------------------ telling

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A queued job's row with what it waits for at this moment."""
        known = self._deferrals.get(row["id"])
        if known is None:
            return row
        told = {"deferred_since": known.since, "deferred_reason": known.wait.reason, "holders": _told(known.wait)}
        return {**row, **told}

    def status(self) -> dict[str, Any]:
        """The guard's part of the status."""
        gpus = self._history[-1].gpus if self._history else ()
        return {
            "devices": self.devices, "problem": self._problem, "kept_for": self._ageing.kept,
            "deferred": len(self._deferrals), "gpus": [_gpu_row(gpu) for gpu in gpus],
        }  # fmt: skip


def _roomy(readings: Readings) -> Readings:
    """The same GPUs in a machine with all the memory of the world."""
    return replace(readings, ram_total_mib=1 << 40, ram_available_mib=1 << 40)


def _with_ours(gpu: Gpu, pid: int) -> Gpu:
    ours = sum(holder.mib or 0 for holder in gpu.processes if machine.is_below(holder.pid, pid))
    return replace(gpu, free_mib=min(gpu.free_mib + ours, gpu.total_mib)) if ours else gpu


def _told(wait: Wait) -> list[str]:
    return [str(holder) for holder in wait.holders]


def _gpu_row(gpu: Gpu) -> dict[str, Any]:
    return {
        "uuid": gpu.uuid, "name": gpu.name, "free_mib": gpu.free_mib, "total_mib": gpu.total_mib,
        "utilisation": gpu.utilisation, "celsius": gpu.celsius, "holders": [str(holder) for holder in gpu.processes],
    }  # fmt: skip


def _seconds_since(stamp: str) -> float:
    return (datetime.now().astimezone() - datetime.fromisoformat(stamp)).total_seconds()


def _coarse(mib: int) -> int:
    """Rounded up to 16 MiB or an eighth of its size, so that jobs alike have needs alike."""
    step = max(16, 1 << max(mib.bit_length() - 3, 0))
    return -(-mib // step) * step
