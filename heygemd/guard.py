"""May a job start now?  Readings and needs in, ``Go``, ``Wait`` or ``Never`` out.  Pure: no clock, no files.

Waiting is not failing: it burns no attempt, and its reason is shown to people, so each names what is needed,
what there is, and who holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heygemd.config_keys import CommandConfig, LimitsConfig
from heygemd.machine import Gpu, Readings

FOOTAGE_RAM_MIB = 1200
"""What a ``footage`` child needs: interpreter, torch and OpenCV, decoded frames, and ffmpeg twice."""
COMMAND_RAM_MIB = 200
"""What our own child around a ``command`` needs; what the program itself takes is unknown."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one job will need at its peak.  ``disk_mib``: by a folder on the disk that it will write to."""

    vram_mib: int = 0
    ram_mib: int = 0
    disk_mib: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Go:
    """Start it.  ``gpu`` is the UUID of the GPU that has room, where one is needed."""

    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """Not on this machine: waiting would not help."""

    reason: str


Verdict = Go | Wait | Never


def footage_need(disk_mib: Mapping[Path, int]) -> Need:
    """The need of the engine ``footage``."""
    return Need(ram_mib=FOOTAGE_RAM_MIB, disk_mib=disk_mib)


def command_need(command: CommandConfig, disk_mib: Mapping[Path, int]) -> Need:
    """The need of the engine ``command``, as its configuration declares it."""
    return Need(vram_mib=command.gpu_need_mib, ram_mib=COMMAND_RAM_MIB, disk_mib=disk_mib)


def decide(need: Need, readings: Readings, limits: LimitsConfig) -> Verdict:
    """Whether a job may start.

    An impossible need is told before a passing shortage; of several shortages the first is told, GPU before
    memory before disk.
    """
    verdicts = [
        _memory(need, readings, limits),
        *(_disk(path, mib, readings, limits) for path, mib in need.disk_mib.items()),
    ]
    gpu = _gpu(need, readings)
    found = [gpu, *verdicts]
    for kind in (Never, Wait):
        for verdict in found:
            if isinstance(verdict, kind):
                return verdict
    return gpu


def _gpu(need: Need, readings: Readings) -> Verdict:
    wanted = need.vram_mib
    if wanted <= 0:
        return Go()
    if not readings.gpus:
        why = readings.gpu_problem or "no NVIDIA GPU was found"
        sentence = f"The job needs {wanted} MiB of GPU memory, but {why}."
        return Never(sentence) if readings.gpu_absent else Wait(sentence)
    largest = max(readings.gpus, key=lambda g: g.total_mib)
    if wanted > largest.total_mib:
        has = f"the largest GPU, {largest.name}, has {largest.total_mib} MiB"
        return Never(f"The job needs {wanted} MiB of GPU memory; {has}.")
    roomiest = max(readings.gpus, key=lambda g: g.free_mib)
    if wanted > roomiest.free_mib:
        return Wait(_short_of_gpu(wanted, roomiest))
    return Go(roomiest.uuid)


def _short_of_gpu(wanted: int, gpu: Gpu) -> str:
    holders = ", ".join(str(h) for h in gpu.processes[:3])
    more = len(gpu.processes) - 3
    held = f"; held by {holders}" + (f" and {more} more" if more > 0 else "") if holders else ""
    has = f"{gpu.name} has {gpu.free_mib} MiB free of {gpu.total_mib} MiB"
    return f"The job needs {wanted} MiB of GPU memory; {has}{held}."


def _memory(need: Need, readings: Readings, limits: LimitsConfig) -> Verdict:
    keep = limits.free_ram_mib
    told = f"The job needs {need.ram_mib} MiB of memory and {keep} MiB must stay free (free_ram_mib)"
    if need.ram_mib + keep > readings.ram_total_mib:
        return Never(f"{told}; this machine has {readings.ram_total_mib} MiB in all.")
    if need.ram_mib + keep > readings.ram_available_mib:
        return Wait(f"{told}; {readings.ram_available_mib} MiB of {readings.ram_total_mib} MiB are available.")
    return Go()


def _disk(path: Path, wanted: int, readings: Readings, limits: LimitsConfig) -> Verdict:
    free = readings.disks.get(path)
    if free is None:
        return Wait(f"The free space of {path} cannot be read.")
    if wanted + limits.free_disk_mib > free:
        keep = f"{limits.free_disk_mib} MiB must stay free (free_disk_mib)"
        return Wait(f"The job needs {wanted} MiB of disk for {path} and {keep}; {free} MiB are free.")
    return Go()
