"""The readings: GPUs through NVML, memory, processors, disks.  Reads and never judges; ``read`` never raises.

GPUs are known by UUID: indices differ between NVML and CUDA.  "Free" is what NVML calls free; whether "used"
counts the driver's own reserve differs between drivers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml

from heygemd.guard.host import cpu_count, cpu_model, disk_mib, memory_mib
from heygemd.guard.nvml import _ABSENT, _CACHE_SECONDS, _DEADLINE_SECONDS, _LOST, _NOT_FOUND, _GpuReading, ask_nvml
from heygemd.guard.readings import Readings


class Machine:
    """Reads, at most once a second, with a driver that may hang.  ``nvml`` is the module ``pynvml``."""

    def __init__(self, nvml: Any = pynvml, *, deadline: float = _DEADLINE_SECONDS) -> None:
        self._nvml = nvml
        self._deadline = deadline
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._asked_at = 0.0
        self._latest: _GpuReading | None = None
        self._latest_at = -_CACHE_SECONDS
        self._seen_gpu = False

    def read(self, disks: Iterable[Path] = (), *, gpus: bool = True) -> Readings:
        """The readings now.  ``disks`` are local paths: a share that hangs would hang the caller.

        Without ``gpus`` the driver is not asked: who needs no GPU does not wait for one that hangs.
        """
        gpu = self._gpus() if gpus else _GpuReading(problem="the GPUs were not queried")
        self._seen_gpu = self._seen_gpu or bool(gpu.gpus)
        total, available = memory_mib()
        rooms = {path: room for path in disks if (room := disk_mib(path)) is not None}
        return Readings(
            gpus=gpu.gpus,
            gpu_problem=gpu.problem,
            gpu_absent=gpu.code == _ABSENT and not self._seen_gpu,
            gpu_missing=gpu.code in (_ABSENT, _NOT_FOUND) and not gpu.gpus and not self._seen_gpu,
            gpu_lost=gpu.code in _LOST,
            ram_total_mib=total,
            ram_available_mib=available,
            cpu_count=cpu_count(),
            cpu_model=cpu_model(),
            disks={path: free for path, (free, _) in rooms.items()},
            disk_totals={path: all_of_it for path, (_, all_of_it) in rooms.items()},
            at=gpu.at,
        )

    def _gpus(self) -> _GpuReading:
        """What a helper thread brings within the deadline; the thread may hang, we do not."""
        with self._lock:
            if self._latest and time.monotonic() - self._latest_at < _CACHE_SECONDS:
                return self._latest
            if self._asking is None or not self._asking.is_alive():
                self._latest, self._asked_at = None, time.monotonic()
                self._asking = threading.Thread(target=self._ask, name="nvml", daemon=True)
                self._asking.start()
            asking = self._asking
        # A driver that hung before is not waited for again.
        asking.join(max(self._asked_at + self._deadline - time.monotonic(), 0.0))
        silent = time.monotonic() - self._asked_at
        problem = f"the NVIDIA driver has not answered for {silent:.0f} s"
        return self._latest or _GpuReading(problem=problem, at=time.monotonic())

    def _ask(self) -> None:
        reading = ask_nvml(self._nvml)
        self._latest_at = time.monotonic()
        self._latest = replace(reading, at=self._latest_at)


_this = Machine()


def read(disks: Iterable[Path] = (), *, gpus: bool = True) -> Readings:
    """The readings of this machine now; see ``Machine.read``."""
    return _this.read(disks, gpus=gpus)
