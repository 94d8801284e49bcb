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
from dataclasses import dataclass, field, replace
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
_SCRIPTS = {"/code/app_local.py": "Duix.Avatar container"}
"""Programs that are known by their script, where "python" would say nothing: what holds memory all the time."""
_NO_INSTANCE = "it is partitioned (MIG) and has no instance that could be used; make one (nvidia-smi mig -cgi …)"
_ABSENT = 12
_NOT_FOUND = 6
_NOT_SUPPORTED = 3
_LOST = (15, 16)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU.  Without a ``name`` its number belongs to another container's
    namespace and means nothing here."""

    pid: int
    name: str
    mib: int | None

    def __str__(self) -> str:
        size = f", {self.mib} MiB" if self.mib is not None else ""
        if not self.name:
            return f"pid unknown (container{size})"
        return f"{self.name} (process {self.pid}{size})"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it, which has a UUID of its own.

    ``shared``: it has no memory of its own (unified memory) and the machine's is given here.  ``utilisation``: percent
    of the last second or so; it and ``celsius`` are ``None`` where the driver does not say.
    """

    uuid: str
    index: int
    name: str
    total_mib: int
    used_mib: int
    free_mib: int
    driver: str = ""
    processes: tuple[Holder, ...] = ()
    shared: bool = False
    utilisation: int | None = None
    celsius: int | None = None
    mig: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """The machine at one moment.

    ``gpu_problem`` says why no GPU, or not every GPU, is to be seen; ``gpu_absent`` says that this will last: no
    driver is installed and none has been seen by this process; ``gpu_missing`` that none is in this machine as far
    as can be told: no driver, or a driver that finds none; ``gpu_lost`` that one has fallen off the bus or must be
    reset, so that what runs on it will not end.  ``disks``: free MiB by the path that was asked for,
    ``disk_totals``: MiB in all; a path that could not be read is missing.  ``at``: when the GPUs were read, on the
    monotonic clock.
    """

    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str | None = None
    gpu_absent: bool = False
    gpu_missing: bool = False
    gpu_lost: bool = False
    ram_total_mib: int = 0
    ram_available_mib: int = 0
    cpu_count: int = 1
    cpu_model: str = ""
    disks: Mapping[Path, int] = field(default_factory=dict)
    disk_totals: Mapping[Path, int] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class _GpuReading:
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
    code: int = 0
    at: float = 0.0


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
        gpu = self._gpus() if gpus else _GpuReading(problem="the GPUs were not asked")
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
        found = [_gpus_at(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]
        if not found:
            return _GpuReading(problem=_PROBLEMS[6], code=6)
        lost = [reading for reading in found if reading.problem]
        return _GpuReading(
            tuple(gpu for reading in found for gpu in reading.gpus),
            "; ".join(str(reading.problem) for reading in lost) or None,
            lost[0].code if lost else 0,
        )
    except nvml.NVMLError as error:
        return _failed(error)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _failed(error: Any) -> _GpuReading:
    code = int(getattr(error, "value", 0))
    return _GpuReading(problem=_PROBLEMS.get(code, f"NVML says: {error}"), code=code)


def _gpus_at(nvml: Any, index: int, driver: str) -> _GpuReading:
    """The GPU at an index, or its MIG instances; where it fails, the others still count."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        instances = _instances(nvml, handle)
        if instances == []:
            return _GpuReading(problem=f"GPU {index}: {_NO_INSTANCE}", code=_NOT_FOUND)
        return _GpuReading(tuple(_gpu(nvml, h, index, driver, bool(instances)) for h in instances or [handle]))
    except nvml.NVMLError as error:
        failed = _failed(error)
        return replace(failed, problem=f"GPU {index}: {failed.problem}")


def _instances(nvml: Any, handle: Any) -> list[Any] | None:
    """The handles of a GPU's MIG instances; ``None`` where it is not partitioned."""
    found: list[Any] = []
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != 1:  # NVML_DEVICE_MIG_ENABLE
            return None
    except nvml.NVMLError:
        return None
    with contextlib.suppress(nvml.NVMLError):
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(nvml.NVMLError):  # places that hold no instance
                found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
    return found


def _gpu(nvml: Any, handle: Any, index: int, driver: str, mig: bool) -> Gpu:
    memory = _memory(nvml, handle)
    if memory is None:
        machine_total, machine_free = memory_mib()
        total, used, free = machine_total, machine_total - machine_free, machine_free
    else:
        total, used, free = memory
    return Gpu(
        _text(nvml.nvmlDeviceGetUUID(handle)), index, _text(nvml.nvmlDeviceGetName(handle)), total, used, free, driver,
        _holders(nvml, handle), shared=memory is None, utilisation=_utilisation(nvml, handle),
        celsius=_celsius(nvml, handle), mig=mig,
    )  # fmt: skip


def _utilisation(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:
        return None


def _celsius(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    except nvml.NVMLError:
        return None


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
    """What runs under ``pid``, by a name that says something; empty where there is no such process here: it is another
    container's."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return ""
    return next((known for word in words[1:3] if (known := _SCRIPTS.get(word))), name)


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is ``ancestor`` or was started, directly or not, by it."""
    for _ in range(64):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        pid = _parent(pid)
    return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def tree_rss_mib(root: int, proc: Path = Path("/proc")) -> int:
    """The resident memory of a process and all below it, in MiB; what they share counts for each of them."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it has just ended
                values = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(values[1]), []).append(int(entry.name))
                pages[int(entry.name)] = int(values[21])
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += pages.get(pid, 0)
        todo += children.get(pid, [])
    return total * os.sysconf("SC_PAGESIZE") // _MIB


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
    room = disk_mib(path)
    return room and room[0]


def disk_mib(path: Path) -> tuple[int, int] | None:
    """What this user may still write there, and the size of the disk, in MiB; see ``disk_free_mib``."""
    for place in (path, *path.parents):
        try:
            stat = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return stat.f_bavail * stat.f_frsize // _MIB, stat.f_blocks * stat.f_frsize // _MIB
    return None


_this = Machine()


def read(disks: Iterable[Path] = (), *, gpus: bool = True) -> Readings:
    """The readings of this machine now; see ``Machine.read``."""
    return _this.read(disks, gpus=gpus)
