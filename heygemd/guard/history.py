"""The last readings of the GPUs, with our own worker's memory counted as free, and memory that is being given back."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from heygemd.common import log
from heygemd.guard import host
from heygemd.guard.readings import Gpu, Readings

APART_SECONDS = 6.0  # at most, between readings that count as one after the other
RETURN_SECONDS = 10.0  # the time that a driver may take to give back what an ended process held
RETURN_SHARE = 0.75  # of it counts as returned (ollama's measure)


@dataclass(frozen=True, slots=True)
class _Returning:
    """Memory that an ended child held and the driver has not given back yet."""

    uuid: str
    at_least_mib: int
    until: float


class ReadingHistory:
    """The GPUs' last readings, with the memory of our own worker counted as free for us."""

    def __init__(
        self, reader: Callable[..., Readings], disks: tuple[Path, ...], worker_pid: Callable[[], int | None], hold: int
    ) -> None:
        """``disks`` are read each time, the GPUs when they are asked for; ``hold`` readings are kept."""
        self.history: deque[Readings] = deque(maxlen=hold)
        self.problem: str | None = None  #: why not every GPU is to be seen, without passing numbers
        self._reader, self._disks, self._worker_pid = reader, disks, worker_pid
        self._returning: _Returning | None = None
        self._log = log.get()

    def hold(self, readings: int) -> None:
        """Keep that number of readings from now on."""
        self.history = deque(self.history, maxlen=readings)

    async def read(self, gpus: bool) -> Readings:
        """The readings now."""
        readings = await asyncio.to_thread(self._reader, self._disks, gpus=gpus)
        if not gpus:
            return readings
        self._note_problem(readings.gpu_problem)
        pid = self._worker_pid()
        if pid is not None:
            readings = replace(readings, gpus=tuple(_with_ours(gpu, pid) for gpu in readings.gpus))
        oldest = readings.at - APART_SECONDS * (self.history.maxlen or 1)
        kept = [earlier for earlier in self.history if oldest <= earlier.at < readings.at]
        self.history.clear()
        self.history.extend([*kept, readings])
        return readings

    def _note_problem(self, problem: str | None) -> None:
        """One event when the GPUs fail, one when they are back; seconds that pass are no news."""
        lasting = re.sub(r"\d+ s\b", "some time", problem) if problem else None
        if lasting == self.problem:
            return
        self.problem = lasting
        if lasting:
            self._log.error("gpu_unavailable", problem=problem)
        else:
            self._log.info("gpu_back")

    def expect_back(self, uuid: str, mib: int, free_before: int) -> None:
        """A job that held ``mib`` of a GPU, of which ``free_before`` were free before it, has ended."""
        at_least = free_before - round((1 - RETURN_SHARE) * mib)
        self._returning = _Returning(uuid, at_least, time.monotonic() + RETURN_SECONDS)

    def coming_back(self, readings: Readings) -> bool:
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


def _with_ours(gpu: Gpu, pid: int) -> Gpu:
    ours = sum(holder.mib or 0 for holder in gpu.processes if host.is_below(holder.pid, pid))
    return replace(gpu, free_mib=min(gpu.free_mib + ours, gpu.total_mib)) if ours else gpu
