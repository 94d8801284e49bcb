"""GPU readings through NVML (the library pynvml): every GPU or MIG instance, its memory and who holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NewType, Protocol

import pynvml

from heygemd.guard.host import MIB, memory_mib, process_name
from heygemd.guard.readings import Gpu, Holder

_PROBLEMS = {
    1: "the NVIDIA driver was queried before it was ready",
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
_NO_INSTANCE = "it is partitioned (MIG) but has no usable instance; create one (nvidia-smi mig -cgi …)"
ABSENT = 12
NOT_FOUND = 6
LOST = (15, 16)
_NOT_SUPPORTED = 3

Handle = NewType("Handle", object)
"""NVML's handle of a GPU or of a MIG instance; only NVML looks into it."""


class NvmlError(Exception):
    """What NVML raises (``pynvml.NVMLError``): its return code."""

    value: int


class GpuMemory(Protocol):
    """A GPU's memory in bytes."""

    total: int
    used: int
    free: int


class GpuUtilisation(Protocol):
    """How busy a GPU is, in percent."""

    gpu: int


class GpuProcess(Protocol):
    """A process that uses a GPU, and the bytes that it holds, where the driver says."""

    pid: int
    usedGpuMemory: int | None


class Nvml(Protocol):
    """The part of the module ``pynvml`` that is used here."""

    NVMLError: type[NvmlError]
    NVML_TEMPERATURE_GPU: int
    nvmlMemory_v2: int

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str | bytes: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...
    def nvmlDeviceGetMigMode(self, handle: Handle) -> Sequence[int]: ...
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int: ...
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, index: int) -> Handle: ...
    def nvmlDeviceGetUUID(self, handle: Handle) -> str | bytes: ...
    def nvmlDeviceGetName(self, handle: Handle) -> str | bytes: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int | None = None) -> GpuMemory: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> GpuUtilisation: ...
    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> Sequence[GpuProcess]: ...
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Handle) -> Sequence[GpuProcess]: ...


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What NVML said at one moment.  ``code``: its return code; ``at``: seconds on the monotonic clock."""

    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
    code: int = 0
    at: float = 0.0


def ask_nvml(nvml: Nvml = pynvml) -> GpuReading:
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
        readings = [_gpus_at(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]
        if not readings:
            return GpuReading(problem=_PROBLEMS[6], code=6)
        lost = [reading for reading in readings if reading.problem]
        return GpuReading(
            tuple(gpu for reading in readings for gpu in reading.gpus),
            "; ".join(str(reading.problem) for reading in lost) or None,
            lost[0].code if lost else 0,
        )
    except nvml.NVMLError as error:
        return _failed(error)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _failed(error: NvmlError) -> GpuReading:
    code = int(getattr(error, "value", 0))
    return GpuReading(problem=_PROBLEMS.get(code, f"NVML reports: {error}"), code=code)


def _gpus_at(nvml: Nvml, index: int, driver: str) -> GpuReading:
    """The GPU at an index, or its MIG instances; if one fails, the others still count."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        instances = _instances(nvml, handle)
        if instances == []:
            return GpuReading(problem=f"GPU {index}: {_NO_INSTANCE}", code=NOT_FOUND)
        return GpuReading(tuple(_gpu(nvml, h, index, driver, bool(instances)) for h in instances or [handle]))
    except nvml.NVMLError as error:
        failed = _failed(error)
        return replace(failed, problem=f"GPU {index}: {failed.problem}")


def _instances(nvml: Nvml, handle: Handle) -> list[Handle] | None:
    """Handles of a GPU's MIG instances; ``None`` if it is not partitioned."""
    instances: list[Handle] = []
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != 1:  # NVML_DEVICE_MIG_ENABLE
            return None
    except nvml.NVMLError:
        return None
    with contextlib.suppress(nvml.NVMLError):
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(nvml.NVMLError):  # places that hold no instance
                instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
    return instances


def _gpu(nvml: Nvml, handle: Handle, index: int, driver: str, mig: bool) -> Gpu:
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


def _utilisation(nvml: Nvml, handle: Handle) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:
        return None


def _celsius(nvml: Nvml, handle: Handle) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    except nvml.NVMLError:
        return None


def _memory(nvml: Nvml, handle: Handle) -> tuple[int, int, int] | None:
    """Total, used and free MiB; ``None`` if the GPU has no memory of its own."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value == _NOT_SUPPORTED:
            return None
        # Drivers before 510 do not know version 2, which alone tells the reserve from what is used.
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
    return info.total // MIB, info.used // MIB, info.free // MIB


def _holders(nvml: Nvml, handle: Handle) -> tuple[Holder, ...]:
    """Processes that use GPU memory, the largest first; empty if the driver does not report them."""
    holders: dict[int, Holder] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        with contextlib.suppress(nvml.NVMLError):
            for process in ask(handle):
                used = process.usedGpuMemory
                mib = None if used is None else used // MIB
                holders[process.pid] = Holder(process.pid, process_name(process.pid), mib)
    return tuple(sorted(holders.values(), key=lambda h: -(h.mib or 0)))


def _text(value: str | bytes) -> str:
    """Older releases of pynvml give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
