"""GPU readings through NVML (pynvml), in a process that may be killed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import pynvml

from heygemd.guard.host import _MIB, _text, memory_mib, process_name
from heygemd.guard.readings import Gpu, Holder

_CACHE_SECONDS = 1.0
_DEADLINE_SECONDS = 3.0
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
_ABSENT = 12
_NOT_FOUND = 6
_NOT_SUPPORTED = 3
_LOST = (15, 16)


@dataclass(frozen=True, slots=True)
class _GpuReading:
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
    code: int = 0
    at: float = 0.0


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
    return _GpuReading(problem=_PROBLEMS.get(code, f"NVML reports: {error}"), code=code)


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
