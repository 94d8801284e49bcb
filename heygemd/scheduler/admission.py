"""The next job when the guard lets it: what ``guard``, ``needs``, ``turns`` and ``reservations`` decide, done.

    choose    look at the queue with fresh readings; the first that may start gets a ticket and its GPU
    confirm   read again right before the work begins: staging may have taken minutes
    sample    while a job runs, what it really takes, and what those lose whom it overtook
    finish    give the reservation back, remember the peak

Where engines run is decided by ``devices``, who waits is kept by ``deferrals``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from heygemd.common import log
from heygemd.common.errors import EngineError, HeygemdError, WorkerDied
from heygemd.config.load import Config
from heygemd.config.render_settings import settings_for
from heygemd.contract.job import Settings
from heygemd.guard import decide, host, machine, needs
from heygemd.guard.decide import Go, Need, Never, Verdict, Wait, Way
from heygemd.guard.devices import Devices, TorchBuild, torch_build
from heygemd.guard.history import Watching
from heygemd.guard.needs import Asked
from heygemd.guard.readings import Gpu, Readings
from heygemd.guard.reservations import Reservations, place
from heygemd.guard.turns import MOST, Ageing, Candidate, Turn, look
from heygemd.scheduler.deferrals import Deferrals
from heygemd.scheduler.free_space import Folders, Outboxes
from heygemd.scheduler.ticket import Deferred, Refused, Ticket
from heygemd.store.drops import Job, JobState, Journal, Store
from heygemd.store.states import DropState

SOON, LATEST = 1.0, 4.0  # seconds between two looks at a queue that waits: grows from one to the other
JITTER = (0.75, 1.25)  # so that two daemons do not keep meeting
SAMPLE_SECONDS = 2.0
LOST_READINGS = 2  # in a row: one may be a slip of the driver


class Admission:
    """Keeps the readings, the deferrals and the one ticket."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        store: Store,
        worker_pid: Callable[[], int | None],
        reader: Callable[..., Readings] = machine.read,
        *,
        frame_of: Callable[[str], str] = lambda _: "",
        torch: TorchBuild | None = None,
    ) -> None:
        """``worker_pid``: the worker's process, whose GPU memory is ours to use again.  ``frame_of``: a job's frame
        size as far as it is known.  ``torch``: its build, where it is not to be looked up."""
        self.config, self.journal, self.store = config, journal, store
        self._rules, self._worker_pid, self._reader = config.guard, worker_pid, reader
        self._frame_of, self._torch = frame_of, torch or torch_build()
        folder, agreed = place(config.guard.lock_dir, config.daemon.state_dir / "gpu")
        self.reservations = Reservations(folder)
        self._state = config.daemon.state_dir  # journal and cache, which may lie on a disk of their own
        self._watching = Watching(reader, (store.work, self._state), worker_pid, config.guard.hold_readings)
        self._ageing: Ageing[str] = Ageing(config.guard.ageing_minutes * 60)
        self.deferrals = Deferrals(journal, config.guard.alert_hours)
        self._ticket: Ticket | None = None
        self._asked: list[str] = []
        self._look_at, self._delay = 0.0, SOON
        self._sizes: dict[str, tuple[int, int]] = {}
        self._smaller: dict[str, int] = {}  # by job, the batch that was too large for it
        self.outboxes = Outboxes(store)
        self._elsewhere = Folders("duix", config.intake.share_seconds)
        self._peaks = journal.peaks()
        self._log = log.get()
        self.devices = self._choose_devices()
        if not agreed and self.devices.some_cuda:
            wanted, here = str(self._rules.lock_dir), str(folder)
            self._log.warning("gpu_not_shared", lock_dir=wanted, instead=here, reason="lock_dir cannot be written to")

    def _choose_devices(self) -> Devices:
        devices = Devices(self.config, self._torch)
        devices.choose(self._reader(gpus=devices.gpu_matters))
        return devices

    def heed(self, config: Config) -> None:
        """Go by these settings from the next look on; lock_dir stays as it is until a restart."""
        parts = ("guard", "render", "command", "limits", "wav2lip")
        moved = any(getattr(config, part) != getattr(self.config, part) for part in parts)
        self.config, self._rules, self.deferrals.alert_hours = config, config.guard, config.guard.alert_hours
        self._ageing.limit = config.guard.ageing_minutes * 60
        self._asked = []
        if moved:
            self._watching.hold(config.guard.hold_readings)
            self.devices = self._choose_devices()

    # ------------------------------------------------------------ who is next

    async def choose(self, jobs: Sequence[Job]) -> Ticket | Refused | None:
        """The first of these queued jobs that may start now; the others are told what they wait for."""
        names = [job.id for job in jobs]
        if names == self._asked and time.monotonic() < self._look_at:
            return None
        if names != self._asked:
            self._asked, self._delay = names, SOON
            self.deferrals.only(set(names))
        if not jobs:
            return None
        readings = await self._watching.read(any(self.devices.may_use_gpu(self._engine(job)) for job in jobs))
        if self._watching.coming_back(readings):
            self._look_at = time.monotonic() + SOON
            return None
        lines = {drop.id: drop.line for drop in self.journal.drops(DropState.HELD)}
        await self.outboxes.ask({lines[job.drop_id] for job in jobs if job.drop_id in lines})
        await self._elsewhere.ask({str(path) for job in jobs for path in self._shared_with(self._engine(job))})
        rooms = {**self.outboxes.free_mib(), **self._elsewhere.free_mib()}
        readings = replace(readings, disks={**readings.disks, **rooms})
        # While we asked, somebody may have cancelled one; from here to the ticket nothing is waited for.
        by_id = {job.id: job for job in self.journal.jobs_in(JobState.QUEUED) if job.drop_id in lines}
        jobs = [by_id[name] for name in names if name in by_id]
        # One after the other, as far as they are looked at: a queue may be long, and mostly its first may start.
        queue = (Candidate(job.id, self._need(job, lines[job.drop_id], readings)) for job in jobs)
        turn = look(queue, lambda need: self._judge(need, readings), self._keep_for(names))
        for candidate, wait in turn.waiting:
            self.deferrals.note(by_id[candidate.key], wait)
        if turn.never is not None:
            return Refused(by_id[turn.never[0].key], turn.never[1].reason)
        ticket = self._begin(turn, by_id, readings)
        if ticket is None:
            self._later(turn)
        return ticket

    def _engine(self, job: Job) -> str:
        return job.request.options.engine or self.config.render.engine

    def settings(self, job: Job) -> Settings:
        """The renderer's, with the device that was chosen for the engine."""
        settings = settings_for(self.config, job.request.options)
        return replace(settings, device=self.devices.of(settings.engine))

    def _judge(self, need: Need, readings: Readings) -> Verdict:
        seen = [*list(self._watching.history)[:-1], readings]
        taken = {gpu.uuid: self.reservations.taken(gpu) for gpu in readings.gpus} if need.ways else {}
        at = datetime.now().time()
        return decide.decide(need, seen, self.config.limits, self._rules, taken=taken, at=at)

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
        ticket = Ticket(job, self.settings(job), self._what(job), need, go, overtaken=turn.overtaken)
        ticket.sampled_at, self._ticket, self._asked = time.monotonic(), ticket, []
        if ticket.asked.device == "cuda" and go.device is not None and ticket.asked.engine != "command":
            wav2lip = replace(ticket.settings.wav2lip, batch=go.batch_size)
            ticket.settings = replace(ticket.settings, wav2lip=wav2lip)
        if ticket.settings.encoder == "auto" and go.device is None:
            self._offer_encoder(ticket, readings)
        ticket.free_before = next((gpu.free_mib for gpu in readings.gpus if gpu.uuid == ticket.device), 0)
        return ticket

    def _offer_encoder(self, ticket: Ticket, readings: Readings) -> None:
        """NVENC for a job that needs no GPU, where there is room; else x264, which is no worse, only slower."""
        if self.devices.nvenc and ticket.asked.engine != "command":
            ways = self._need_of(replace(ticket.asked, nvenc=True), readings, {}).ways
            verdict = self._judge(Need(ways), readings)
            ticket.encoder = self._reserve(Need(ways), verdict, readings) if isinstance(verdict, Go) else None
        if ticket.encoder is None:
            ticket.settings = replace(ticket.settings, encoder="libx264")

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
        self.deferrals.end(job.id)
        self._ageing.forget(job.id)
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

    # ------------------------------------------------------------ needs

    def _need(self, job: Job, line: str, readings: Readings) -> Need:
        audio, video = self._bytes(job)
        assert job.request.audio is not None and job.request.video is not None
        work, film = needs.disk_needs((job.request.audio.path, audio), (job.request.video.path, video))
        own = needs.duix_mib((job.request.audio.path, audio), self.config.duix.part_seconds)
        shared = {path: _coarse(own) for path in self._shared_with(self._engine(job))}
        work += own if shared else 0
        disk = {self._state: 0, self.store.work: _coarse(work), self.store.lines[line].outbox: _coarse(film), **shared}
        need = self._need_of(self._what(job), readings, disk)
        return needs.smaller_ways(need, self._smaller[job.id]) if job.id in self._smaller else need

    def _shared_with(self, engine: str) -> tuple[Path, ...]:
        """The folder outside of line and state that an engine's jobs fill, where there is one."""
        shared = self.config.duix.shared
        return (shared,) if engine == "duix" and shared != Path() else ()

    def _need_of(self, asked: Asked, readings: Readings, disk: Mapping[Path, int]) -> Need:
        return needs.need(asked, self.config.command, self._peaks, readings, self.config.limits.free_ram_mib, disk)

    def _what(self, job: Job) -> Asked:
        """As much of the job as is known before it runs."""
        return self.devices.asked(self._engine(job), self._frame_of(job.id))

    def _bytes(self, job: Job) -> tuple[int, int]:
        if job.id not in self._sizes:
            if len(self._sizes) > 10_000:
                self._sizes.clear()
            self._sizes[job.id] = self.store.input_bytes(job)
        return self._sizes[job.id]

    # ------------------------------------------------------------ while it runs

    def put_back(self, job: Job, wait: Wait) -> Job:
        """A job that had begun waits again, at no cost to it."""
        job = self.journal.set_job(job, JobState.QUEUED, attempts=max(0, job.attempts - 1))
        self.deferrals.begin(job, wait)
        self._asked = []
        return self.journal.job(job.id)

    async def confirm(self, ticket: Ticket) -> None:
        """Right before the work begins; by now the size of the frames is known.  Raises ``Deferred`` where there is
        no room any more, or less than is needed as is known now."""
        ticket.asked = self._what(ticket.job)
        readings = await self._watching.read(gpus=ticket.device is not None)
        need = self._need_of(ticket.asked, readings, {})
        ways = tuple(way for way in need.ways if way.batch_size == ticket.go.batch_size)
        again = Need(ways if ticket.go.device else (), need.ram_mib if need.ram_mib > ticket.need.ram_mib else 0)
        go = self._still(again, ticket.go, readings)
        if isinstance(go, Wait):
            raise Deferred(go)
        ticket.go = go
        if ticket.encoder is not None:
            ways = self._need_of(replace(ticket.asked, nvenc=True), readings, {}).ways
            encoder = self._still(Need(ways), ticket.encoder, readings)
            ticket.encoder = encoder if isinstance(encoder, Go) else None
            if ticket.encoder is None:
                ticket.settings = replace(ticket.settings, encoder="libx264")
                self.reservations.release()

    def _still(self, need: Need, go: Go, readings: Readings) -> Go | Wait:
        """Whether it may still start there; where it needs more than was reserved, that is reserved now."""
        rules = replace(self._rules, hold_readings=1, devices=(go.device,) if go.device else (), quiet_hours="")
        taken = {gpu.uuid: self.reservations.taken(gpu) for gpu in readings.gpus} if go.device else {}
        verdict = decide.decide(need, [readings], self.config.limits, rules, taken=taken)
        if isinstance(verdict, Never):
            return Wait(verdict.reason)  # the next look says it of the job
        if isinstance(verdict, Wait) or go.device is None or verdict.vram_mib <= go.vram_mib:
            return verdict if isinstance(verdict, Wait) else go
        with self.reservations.deciding(go.device) as ours:
            if not ours:
                return Wait("Another heygemd decides about the GPU at this moment.", "gpu_reserved")
            self.reservations.reserve(go.device, verdict.vram_mib)
        return replace(go, vram_mib=verdict.vram_mib)

    async def sample(self) -> str | None:
        """What the running job takes; called every second or so, works less often.

        Returns why its work is to be given up, where its GPU is lost: whatever is still done on it never ends.
        """
        ticket, pid, at = self._ticket, self._worker_pid(), time.monotonic()
        if ticket is None or pid is None or at - ticket.sampled_at < SAMPLE_SECONDS:
            return None
        passed, ticket.sampled_at = at - ticket.sampled_at, at
        rss = await asyncio.to_thread(host.tree_rss_mib, pid)
        ticket.ram_mib = max(rss, ticket.ram_mib or 0)
        if ticket.device is None:
            return None
        readings = await self._watching.read(gpus=True)
        mine = next((gpu for gpu in readings.gpus if gpu.uuid == ticket.device), None)
        if mine is None:
            ticket.gone += readings.gpu_lost
            return f"The GPU failed: {readings.gpu_problem}." if ticket.gone >= LOST_READINGS else None
        ticket.gone = 0
        held = [holder.mib for holder in mine.processes if holder.mib and host.is_below(holder.pid, pid)]
        if held:
            ticket.vram_mib = max(sum(held), ticket.vram_mib or 0)
        for candidate in ticket.overtaken[:MOST]:
            only_gpu = Need(ways=candidate.need.ways)
            if isinstance(self._judge(only_gpu, _roomy(readings)), Go):
                self._ageing.lose(candidate.key, passed)
        return None

    def has_memory_for(self, job: Job) -> bool:
        """Whether so much memory is free that a second job may be prepared beside the running one."""
        readings = self._reader((), gpus=False)
        need = Need(ram_mib=self._need_of(self._what(job), readings, {}).ram_mib)
        return isinstance(decide.decide(need, [readings], self.config.limits, self._rules), Go)

    def disk_in_use_mib(self) -> int:
        """What the running job may still write to the work folder's disk, in MiB."""
        return self._ticket.need.disk_mib.get(self.store.work, 0) if self._ticket is not None else 0

    def had_all(self, ticket: Ticket) -> bool:
        """Whether the smallest way of doing it had nearly a whole GPU, so that waiting for more is no use."""
        if ticket.go.device is None:
            return False
        smallest = ticket.go.vram_mib <= min(way.vram_mib for way in ticket.need.ways)
        total = max((gpu.total_mib for seen in self._watching.history for gpu in seen.gpus), default=0)
        return smallest and ticket.go.vram_mib >= 0.9 * total

    def outgrown(self, ticket: Ticket) -> Wait:
        """The job ran out of GPU memory: the estimate is raised, and the job goes on with a smaller batch if it can.

        After the smallest batch it waits until as much is free as it is now believed to need with that.
        """
        way = Way(ticket.vram_mib_reserved, ticket.go.batch_size, ticket.go.precision)
        self.journal.add_peak(needs.overrun(ticket.asked, way))
        self._peaks = self.journal.peaks()
        self._smaller[ticket.job.id] = way.batch_size
        batch = f" with a batch of {way.batch_size}" if len(ticket.need.ways) > 1 else ""
        return Wait(f"The job took more than the {way.vram_mib} MiB of GPU memory that were expected{batch}.")

    async def lost(self, ticket: Ticket, error: HeygemdError) -> Wait | None:
        """Why the job's end is the GPU's fault and not its own, where the GPU does not answer any more."""
        if ticket.device is None or not isinstance(error, EngineError | WorkerDied):
            return None
        await asyncio.sleep(SOON * 1.1)  # a reading from before its end proves nothing
        readings = await self._watching.read(gpus=True)
        if any(gpu.uuid == ticket.device for gpu in readings.gpus) or not readings.gpu_problem:
            return None
        return Wait(f"The GPU failed while the job ran: {readings.gpu_problem}.", "gpu_problem")

    def finish(self, ticket: Ticket, job: Job) -> None:
        """The job's work has ended, one way or another."""
        self._ticket = None
        self.reservations.release()
        if ticket.device is not None:
            self._watching.expect_back(ticket.device, ticket.vram_mib_reserved, ticket.free_before)
        if job.state is JobState.RENDERED and job.result is not None:
            sampled = (ticket.vram_mib, ticket.ram_mib)
            self.journal.add_peak(needs.peak_of(ticket.settings.engine, job.result, sampled))
            self._peaks = self.journal.peaks()
            self._smaller.pop(job.id, None)

    async def close(self) -> None:
        """Ask no folder any more."""
        await self.outboxes.close()
        await self._elsewhere.close()

    # ------------------------------------------------------------ telling

    @property
    def last_seen(self) -> Readings | None:
        """The GPUs as they were read last, which happens only while a job may need one."""
        return self._watching.history[-1] if self._watching.history else None

    @property
    def gpu_problem(self) -> str | None:
        """Why not every GPU that is wanted is to be seen."""
        return self._watching.problem

    def status(self) -> dict[str, Any]:
        """The guard's part of the status."""
        gpus = self.last_seen.gpus if self.last_seen else ()
        return {
            "devices": self.devices.chosen, "problem": self.gpu_problem, "kept_for": self._ageing.kept,
            "deferred": len(self.deferrals), "gpus": [_gpu_row(gpu) for gpu in gpus],
        }  # fmt: skip


def _roomy(readings: Readings) -> Readings:
    """The same GPUs in a machine with all the memory of the world."""
    return replace(readings, ram_total_mib=1 << 40, ram_available_mib=1 << 40)


def _gpu_row(gpu: Gpu) -> dict[str, Any]:
    return {
        "uuid": gpu.uuid, "name": gpu.name, "free_mib": gpu.free_mib, "total_mib": gpu.total_mib,
        "utilisation": gpu.utilisation, "celsius": gpu.celsius, "holders": [str(holder) for holder in gpu.processes],
    }  # fmt: skip


def _coarse(mib: int) -> int:
    """Rounded up to 16 MiB or an eighth of its size, so that jobs alike have needs alike."""
    step = max(16, 1 << max(mib.bit_length() - 3, 0))
    return -(-mib // step) * step
