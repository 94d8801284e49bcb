"""Reads the machine: GPUs through NVML, memory, processors, disks.  It never judges, and ``read`` never raises.

GPUs are known by UUID: indices differ between NVML and CUDA.  "Free" is what NVML calls free; whether "used"
counts the driver's own reserve differs between drivers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pynvml

from heygemd.guard.host import cpu_count, cpu_model, disk_mib, memory_mib
from heygemd.guard.nvml import ABSENT, LOST, NOT_FOUND, GpuReading, Nvml, ask_nvml
from heygemd.guard.readings import Readings

_CACHE_SECONDS = 1.0
_DEADLINE_SECONDS = 3.0


class Machine:
    """Reads, at most once a second, with a driver that may hang.  ``nvml`` is the module ``pynvml``."""

    def __init__(self, nvml: Nvml = pynvml, *, deadline: float = _DEADLINE_SECONDS) -> None:
        self._nvml = nvml
        self._deadline = deadline
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._asked_at = 0.0
        self._latest: GpuReading | None = None
        self._latest_at = -_CACHE_SECONDS
        self._seen_gpu = False

    def read(self, disks: Iterable[Path] = (), *, gpus: bool = True) -> Readings:
        """The readings now.  ``disks`` are local paths: a share that hangs would hang the caller.

        Without ``gpus`` the driver is not asked: who needs no GPU does not wait for one that hangs.
        """
        gpu = self._gpus() if gpus else GpuReading(problem="the GPUs were not queried")
        self._seen_gpu = self._seen_gpu or bool(gpu.gpus)
        total, available = memory_mib()
        sizes = {path: size for path in disks if (size := disk_mib(path)) is not None}
        return Readings(
            gpus=gpu.gpus,
            gpu_problem=gpu.problem,
            gpu_absent=gpu.code == ABSENT and not self._seen_gpu,
            gpu_missing=gpu.code in (ABSENT, NOT_FOUND) and not gpu.gpus and not self._seen_gpu,
            gpu_lost=gpu.code in LOST,
            ram_total_mib=total,
            ram_available_mib=available,
            cpu_count=cpu_count(),
            cpu_model=cpu_model(),
            disks={path: free for path, (free, _) in sizes.items()},
            disk_totals={path: total_mib for path, (_, total_mib) in sizes.items()},
            at=gpu.at,
        )

    def _gpus(self) -> GpuReading:
        """Run in a helper thread with a deadline; the thread may hang, the caller does not."""
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
        return self._latest or GpuReading(problem=problem, at=time.monotonic())

    def _ask(self) -> None:
        reading = ask_nvml(self._nvml)
        self._latest_at = time.monotonic()
        self._latest = replace(reading, at=self._latest_at)


_this = Machine()


def read(disks: Iterable[Path] = (), *, gpus: bool = True) -> Readings:
    """The readings of this machine now; see ``Machine.read``."""
    return _this.read(disks, gpus=gpus)
