"""The readings: GPUs through NVML, memory, processors, disks.  Reads and never judges; ``read`` never raises.

GPUs are known by UUID: indices differ between NVML and CUDA.  "Free" is what NVML calls free; whether "used"
counts the driver's own reserve differs between drivers.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

_MIB = 1 << 20
_CACHE_SECONDS = 1.0
_DEADLINE_SECONDS = 3.0
_CGROUP = Path("/sys/fs/cgroup")

_PROBLEMS = {
    1: "the NVIDIA driver was asked before it was ready",
    3: "the GPU does not report its memory",
    4: "this user may not use the GPU; check the permissions of /dev/nvidia*",
    6: "no NVIDIA GPU was found",
    9: "the NVIDIA driver is installed but not loaded; load it (modprobe nvidia) or restart the machine",
    12: "no NVIDIA driver is installed (libnvidia-ml.so.1 is missing)",
    15: "the GPU has fallen off the bus (GPU is lost); restart the machine",
    16: "the GPU must be reset; restart the machine",
    17: "the operating system has blocked the GPU",
    18: "the NVIDIA driver was updated while the old one is loaded; restart the machine",
}
"""NVML's return codes as sentences with the cure (nvml.h, nvmlReturn_t)."""
_ABSENT = 12
_NOT_SUPPORTED = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU.  In a container its number may belong to another namespace."""

    pid: int
    name: str
    mib: int | None

    def __str__(self) -> str:
        size = f", {self.mib} MiB" if self.mib is not None else ""
        return f"{self.name} (process {self.pid}{size})"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.  ``shared``: it has no memory of its own (unified memory) and the machine's is given here."""

    uuid: str
    index: int
    name: str
    total_mib: int
    used_mib: int
    free_mib: int
    driver: str = ""
    processes: tuple[Holder, ...] = ()
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """The machine at one moment.

    ``gpu_problem`` says why no GPU is to be seen; ``gpu_absent`` says that this will last: no driver is
    installed and none has been seen by this process.  ``disks``: free MiB by the path that was asked for; a
    path that could not be read is missing.
    """

    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str | None = None
    gpu_absent: bool = False
    ram_total_mib: int = 0
    ram_available_mib: int = 0
    cpu_count: int = 1
    cpu_model: str = ""
    disks: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _GpuReading:
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
    code: int = 0


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

    def read(self, disks: Iterable[Path] = ()) -> Readings:
        """The readings now.  ``disks`` are local paths: a share that hangs would hang the caller."""
        gpu = self._gpus()
        self._seen_gpu = self._seen_gpu or bool(gpu.gpus)
        total, available = memory_mib()
        return Readings(
            gpus=gpu.gpus,
            gpu_problem=gpu.problem,
            gpu_absent=gpu.code == _ABSENT and not self._seen_gpu,
            ram_total_mib=total,
            ram_available_mib=available,
            cpu_count=cpu_count(),
            cpu_model=cpu_model(),
            disks={path: free for path in disks if (free := disk_free_mib(path)) is not None},
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
        return self._latest or _GpuReading(problem=f"the NVIDIA driver has not answered for {silent:.0f} s")

    def _ask(self) -> None:
        reading = ask_nvml(self._nvml)
        self._latest_at = time.monotonic()
        self._latest = reading


def ask_nvml(nvml: Any = pynvml) -> _GpuReading:
    """All GPUs, or the sentence why there are none.

    NVML is opened and closed each time: a handle held for months would keep the driver from being updated,
    and would not notice a GPU that is back.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _failed(error)
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        count = nvml.nvmlDeviceGetCount()
        gpus = tuple(_gpu(nvml, index, driver) for index in range(count))
        return _GpuReading(gpus) if gpus else _GpuReading(problem=_PROBLEMS[6])
    except nvml.NVMLError as error:
        return _failed(error)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _failed(error: Any) -> _GpuReading:
    code = int(getattr(error, "value", 0))
    return _GpuReading(problem=_PROBLEMS.get(code, f"NVML says: {error}"), code=code)


def _gpu(nvml: Any, index: int, driver: str) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
    memory = _memory(nvml, handle)
    if memory is None:
        total, free = memory_mib()
        return Gpu(uuid, index, name, total, total - free, free, driver, _holders(nvml, handle), shared=True)
    total, used, free = memory
    return Gpu(uuid, index, name, total, used, free, driver, _holders(nvml, handle))


def _memory(nvml: Any, handle: Any) -> tuple[int, int, int] | None:
    """Total, used and free MiB; ``None`` where the GPU has no memory of its own."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value == _NOT_SUPPORTED:
            return None
        # Drivers before 510 do not know version 2, which alone tells the reserve from what is used.
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
    return info.total // _MIB, info.used // _MIB, info.free // _MIB


def _holders(nvml: Any, handle: Any) -> tuple[Holder, ...]:
    """Who holds memory, the largest first; nobody where the driver does not say."""
    found: dict[int, Holder] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        with contextlib.suppress(nvml.NVMLError):
            for process in ask(handle):
                used = process.usedGpuMemory
                mib = None if used is None else used // _MIB
                found[process.pid] = Holder(process.pid, process_name(process.pid), mib)
    return tuple(sorted(found.values(), key=lambda h: -(h.mib or 0)))


def process_name(pid: int) -> str:
    """What runs under ``pid``; "unknown" where it belongs to another container or has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "unknown"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def memory_mib(proc: Path = Path("/proc"), cgroup: Path = _CGROUP) -> tuple[int, int]:
    """Total and available memory in MiB, within the limit of our own control group where there is one."""
    lines = (proc / "meminfo").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    total, available = kib.get("MemTotal", 0) << 10, kib.get("MemAvailable", kib.get("MemFree", 0)) << 10
    for limit, used in _cgroup_limits(proc, cgroup):
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return total // _MIB, available // _MIB


def _cgroup_limits(proc: Path, cgroup: Path) -> Iterable[tuple[int, int]]:
    """(limit, used) in bytes of our control group and those above it; page cache that can go is not used."""
    try:
        own = (proc / "self" / "cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return
    folder = cgroup / own
    while folder.is_relative_to(cgroup):
        with contextlib.suppress(OSError, ValueError):
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                current = int((folder / "memory.current").read_text())
                yield int(limit), max(current - int(stat.get("inactive_file", 0)), 0)
        folder = folder.parent


def cpu_count() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, or its architecture where the kernel gives no name."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def disk_free_mib(path: Path) -> int | None:
    """What this user may still write at ``path`` or at the nearest folder above it that exists, in MiB."""
    for place in (path, *path.parents):
        try:
            stat = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return stat.f_bavail * stat.f_frsize // _MIB
    return None


_this = Machine()


def read(disks: Iterable[Path] = ()) -> Readings:
    """The readings of this machine now; see ``Machine.read``."""
    return _this.read(disks)
