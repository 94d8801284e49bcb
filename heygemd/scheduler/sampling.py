"""The running job: what it really takes while it runs, and what its end says about GPU and estimate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from heygemd.common.aio import Pace
from heygemd.common.errors import EngineError, HeygemdError, WorkerDied
from heygemd.guard import host, needs
from heygemd.guard.decide import Go, Need, Wait, Way
from heygemd.guard.readings import Readings
from heygemd.guard.turns import MOST, Ageing
from heygemd.scheduler.estimates import Estimates
from heygemd.scheduler.judge import Judge
from heygemd.scheduler.ticket import Ticket
from heygemd.store.drops import Job, JobState

LOST_READINGS = 2  # in a row: one may be a slip of the driver


class Sampling:
    """Watches the one job that has a ticket."""

    def __init__(
        self, judge: Judge, estimates: Estimates, ageing: Ageing[str], worker_pid: Callable[[], int | None], pace: Pace
    ) -> None:
        self._judge, self._estimates, self._ageing = judge, estimates, ageing
        self._worker_pid, self._pace = worker_pid, pace
        self.ticket: Ticket | None = None  #: the running job's

    def begin(self, ticket: Ticket) -> None:
        """This job runs from now on."""
        ticket.sampled_at, self.ticket = time.monotonic(), ticket

    async def sample(self) -> str | None:
        """Measure what the running job takes; called about every second, measures less often.

        Returns why its work must be given up, if its GPU is lost: whatever still runs on it never ends.
        """
        ticket, pid, at = self.ticket, self._worker_pid(), time.monotonic()
        if ticket is None or pid is None or at - ticket.sampled_at < self._pace.sample:
            return None
        passed, ticket.sampled_at = at - ticket.sampled_at, at
        rss = await asyncio.to_thread(host.tree_rss_mib, pid)
        ticket.ram_mib = max(rss, ticket.ram_mib or 0)
        if ticket.device is None:
            return None
        readings = await self._judge.read(gpus=True)
        mine = next((gpu for gpu in readings.gpus if gpu.uuid == ticket.device), None)
        if mine is None:
            ticket.gone += readings.gpu_lost
            return f"The GPU failed: {readings.gpu_problem}." if ticket.gone >= LOST_READINGS else None
        ticket.gone = 0
        held = [holder.mib for holder in mine.processes if holder.mib and host.is_below(holder.pid, pid)]
        if held:
            ticket.vram_mib = max(sum(held), ticket.vram_mib or 0)
        self._charge(ticket, readings, passed)
        return None

    def _charge(self, ticket: Ticket, readings: Readings, seconds: float) -> None:
        """Note the time that the overtaken jobs lose which would have fitted on the GPU meanwhile."""
        for candidate in ticket.overtaken[:MOST]:
            only_gpu = Need(ways=candidate.need.ways)
            if isinstance(self._judge.decide(only_gpu, _with_all_memory(readings)), Go):
                self._ageing.lose(candidate.key, seconds)

    def disk_in_use_mib(self) -> int:
        """Disk space that the running job may still use on the work folder's disk, in MiB."""
        return self._estimates.work_mib(self.ticket.need) if self.ticket is not None else 0

    def had_all(self, ticket: Ticket) -> bool:
        """Whether the smallest way of doing it had nearly a whole GPU, so that waiting for more is no use."""
        if ticket.go.device is None:
            return False
        smallest = ticket.go.vram_mib <= min(way.vram_mib for way in ticket.need.ways)
        history = self._judge.watching.history
        total = max((gpu.total_mib for readings in history for gpu in readings.gpus), default=0)
        return smallest and ticket.go.vram_mib >= 0.9 * total

    def outgrown(self, ticket: Ticket) -> Wait:
        """The job ran out of GPU memory: the estimate is raised, and the job goes on with a smaller batch if it can.

        After the smallest batch it waits until as much is free as it is now believed to need with that.
        """
        way = Way(ticket.vram_mib_reserved, ticket.go.batch_size, ticket.go.precision)
        self._estimates.overrun(ticket.job, ticket.asked, way)
        batch = f" with a batch of {way.batch_size}" if len(ticket.need.ways) > 1 else ""
        return Wait(f"The job used more than the expected {way.vram_mib} MiB of GPU memory{batch}.")

    async def lost(self, ticket: Ticket, error: HeygemdError) -> Wait | None:
        """Why the job's end is the GPU's fault and not its own, if the GPU does not answer any more."""
        if ticket.device is None or not isinstance(error, EngineError | WorkerDied):
            return None
        await asyncio.sleep(self._pace.queue_first * 1.1)  # a reading from before its end proves nothing
        readings = await self._judge.read(gpus=True)
        if any(gpu.uuid == ticket.device for gpu in readings.gpus) or not readings.gpu_problem:
            return None
        return Wait(f"The GPU failed while the job ran: {readings.gpu_problem}.", "gpu_problem")

    def finish(self, ticket: Ticket, job: Job) -> None:
        """The job's work has ended, one way or another: give its reservation back, learn its peak."""
        self.ticket = None
        self._judge.reservations.release()
        if ticket.device is not None:
            self._judge.watching.expect_back(ticket.device, ticket.vram_mib_reserved, ticket.free_before)
        if job.state is JobState.RENDERED and job.result is not None:
            sampled = (ticket.vram_mib, ticket.ram_mib)
            self._estimates.learn(needs.peak_of(ticket.settings.engine, job.result, sampled))
            self._estimates.forget_overrun(job)


def _with_all_memory(readings: Readings) -> Readings:
    """The same GPUs in a machine whose main memory is never short."""
    return replace(readings, ram_total_mib=1 << 40, ram_available_mib=1 << 40)
