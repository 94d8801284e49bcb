"""The guard's verdicts by fresh readings, and the reservations of GPU memory that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from heygemd.common import log
from heygemd.config.live import Live
from heygemd.guard import decide
from heygemd.guard.decide import Go, Need, Never, Verdict, Wait
from heygemd.guard.history import ReadingHistory
from heygemd.guard.readings import Readings
from heygemd.guard.reservations import Reservations, place


class Judge:
    """Reads the machine, decides about needs, reserves what a job gets."""

    def __init__(
        self, live: Live, disks: tuple[Path, ...], reader: Callable[..., Readings], worker_pid: Callable[[], int | None]
    ) -> None:
        """``disks`` are read each time; ``worker_pid``: the worker's process, whose GPU memory is ours to use again.

        The folder of the reservations stays as it is until a restart.
        """
        self._live, self._reader = live, reader
        guard = live.now.guard
        folder, self._shared = place(guard.lock_dir, live.now.daemon.state_dir / "gpu")
        self.reservations = Reservations(folder)
        self.watching = ReadingHistory(reader, disks, worker_pid, guard.hold_readings)

    def warn_if_not_shared(self) -> None:
        """Log that other daemons do not see our reservations, if that is so."""
        if not self._shared:
            wanted, instead = str(self._live.now.guard.lock_dir), str(self.reservations.folder)
            log.get().warning("gpu_not_shared", lock_dir=wanted, instead=instead, reason="lock_dir is not writable")

    async def read(self, *, gpus: bool) -> Readings:
        """The readings now; as many of them are kept as ``hold_readings`` says."""
        hold = self._live.now.guard.hold_readings
        if self.watching.history.maxlen != hold:
            self.watching.hold(hold)
        return await self.watching.read(gpus)

    def decide(self, need: Need, readings: Readings) -> Verdict:
        """Whether a job with this need may start, by these readings and those before them."""
        history = [*list(self.watching.history)[:-1], readings]
        taken = self._taken(readings) if need.ways else {}
        config, at = self._live.now, datetime.now().time()
        return decide.decide(need, history, config.limits, config.guard, taken=taken, at=at)

    def has_memory(self, ram_mib: Callable[[Readings], int]) -> bool:
        """Whether as much main memory is free now as ``ram_mib`` returns for the readings."""
        config, readings = self._live.now, self._reader((), gpus=False)
        need = Need(ram_mib=ram_mib(readings))
        return isinstance(decide.decide(need, [readings], config.limits, config.guard), Go)

    def reserve(self, need: Need, go: Go, readings: Readings) -> Go | None:
        """Under the GPU's lock, decide again with what others have reserved by now; ``None`` where it is too late."""
        if go.device is None:
            return go
        with self.reservations.deciding(go.device) as ours:
            if not ours:
                return None
            self.reservations.sweep(go.device)
            again = self.decide(need, readings)
            if not isinstance(again, Go) or again.device != go.device:
                return None
            self.reservations.reserve(go.device, again.vram_mib)
            return again

    def confirm(self, need: Need, go: Go, readings: Readings) -> Go | Wait:
        """Whether a job may still start there; where it needs more than was reserved, that is reserved now."""
        rules = replace(
            self._live.now.guard, hold_readings=1, devices=(go.device,) if go.device else (), quiet_hours=""
        )
        taken = self._taken(readings) if go.device else {}
        verdict = decide.decide(need, [readings], self._live.now.limits, rules, taken=taken)
        if isinstance(verdict, Never):
            return Wait(verdict.reason)  # the next look says it of the job
        if isinstance(verdict, Wait) or go.device is None or verdict.vram_mib <= go.vram_mib:
            return verdict if isinstance(verdict, Wait) else go
        with self.reservations.deciding(go.device) as ours:
            if not ours:
                return Wait("Another heygemd is choosing a GPU right now.", "gpu_reserved")
            self.reservations.reserve(go.device, verdict.vram_mib)
        return replace(go, vram_mib=verdict.vram_mib)

    def _taken(self, readings: Readings) -> dict[str, int]:
        """MiB by GPU that other daemons have reserved and that the readings do not show yet."""
        return {gpu.uuid: self.reservations.taken(gpu) for gpu in readings.gpus}
