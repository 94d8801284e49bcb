"""Decides whether a job may start now: needs and readings in, ``Go``, ``Wait`` or ``Never`` out.  No clock, no files.

Waiting is not failing: it burns no attempt, and its reason is shown to people, so each names what is needed,
what there is, and who holds it.  GPUs are named by UUID throughout: their indices differ between NVML and CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from pathlib import Path

from heygemd.config.tables import GuardConfig, LimitsConfig
from heygemd.guard.readings import Gpu, Holder, Readings


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing a job on a GPU: a batch size, a precision and the memory that they take of it."""

    vram_mib: int
    batch_size: int = 1
    precision: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """Peak needs of one job.

    ``ways`` on a GPU, the preferred first; none: it needs no GPU.  ``disk_mib``: by a folder on the disk that it
    will write to.  ``impossible``: why it can never be done, whatever is free.
    """

    ways: tuple[Way, ...] = ()
    ram_mib: int = 0
    disk_mib: Mapping[Path, int] = field(default_factory=dict)
    impossible: str | None = None

    @property
    def vram_mib(self) -> int:
        """GPU memory of the preferred way."""
        return self.ways[0].vram_mib if self.ways else 0


@dataclass(frozen=True, slots=True)
class Go:
    """Start it.  ``device`` is the UUID of the GPU that has room, where one is needed; ``smaller`` says that the
    preferred way did not fit."""

    device: str | None = None
    batch_size: int = 1
    precision: str = ""
    vram_mib: int = 0
    smaller: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now.  ``kind`` is a stable word; the numbers in ``reason`` may change while it stays.

    ``settling``: there is room, but it has not held for long enough to be trusted.  ``values``: the numbers and names
    of ``reason``, from which ``wording`` makes it in other languages (``waits:<kind>``).
    """

    reason: str
    kind: str = "gpu_memory"
    holders: tuple[Holder, ...] = ()
    settling: bool = False
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Never:
    """Not on this machine: waiting would not help."""

    reason: str


Verdict = Go | Wait | Never
NOTHING_TAKEN: Mapping[str, int] = {}


def decide(
    need: Need,
    history: Sequence[Readings],
    limits: LimitsConfig,
    rules: GuardConfig,
    *,
    taken: Mapping[str, int] = NOTHING_TAKEN,
    at: time | None = None,
) -> Verdict:
    """Whether a job may start.

    ``history``: the readings so far, the newest last, at least one.  ``taken``: MiB by UUID that other daemons have
    reserved and NVML does not show yet.  ``at``: the local time, for the quiet hours.  An impossible need is named
    before a passing shortage; of several shortages the first is named, GPU before memory before disk.
    """
    if need.impossible:
        return Never(need.impossible)
    readings = history[-1]
    gpu = _gpu(need, [_shared_out(earlier, need, limits) for earlier in history], rules, taken)
    verdicts: list[Verdict] = [gpu, _memory(need, readings, limits)]
    verdicts += [_disk(path, mib, readings, limits) for path, mib in need.disk_mib.items()]
    verdicts += [_hours(rules, at)]
    for verdict in verdicts:
        if isinstance(verdict, Never):
            return verdict
    waits = [verdict for verdict in verdicts if isinstance(verdict, Wait)]
    # A shortage that is there outweighs one that is only not yet known to be over.
    return min(waits, key=lambda wait: wait.settling) if waits else gpu


# ---------------------------------------------------------------- the GPU


def _shared_out(readings: Readings, need: Need, limits: LimitsConfig) -> Readings:
    """On a GPU that shares the machine's memory, the job's RAM reduces the GPU memory."""
    if not need.ways or not any(gpu.shared for gpu in readings.gpus):
        return readings
    less = need.ram_mib + limits.free_ram_mib

    def beside(gpu: Gpu) -> Gpu:
        total, free = (max(mib - less, 0) for mib in (gpu.total_mib, gpu.free_mib))
        return replace(gpu, total_mib=total, free_mib=free) if gpu.shared else gpu

    return replace(readings, gpus=tuple(map(beside, readings.gpus)))


def _gpu(need: Need, history: Sequence[Readings], rules: GuardConfig, taken: Mapping[str, int]) -> Verdict:
    if not need.ways:
        return Go()
    readings, least = history[-1], min(way.vram_mib for way in need.ways)
    allowed = [gpu for gpu in readings.gpus if not rules.devices or gpu.uuid in rules.devices]
    if not allowed:
        return _no_gpu(least, readings)
    largest = max(allowed, key=lambda gpu: gpu.total_mib)
    if least > largest.total_mib:
        sentence = (
            f"The job needs {least} MiB of GPU memory; the largest GPU, {largest.name}, has {largest.total_mib} MiB"
        )
        # While a GPU does not answer, nobody knows how large the largest is.
        problem = readings.gpu_problem
        return Wait(f"{sentence}, and {problem}.", "gpu_problem") if problem else Never(f"{sentence}.")
    cool = [gpu for gpu in allowed if not _too_hot(gpu, rules)]
    if not cool:
        return _hot(allowed[0], rules)
    return _fitting(need, cool, history[-rules.hold_readings :], rules, taken)


def _fitting(
    need: Need, gpus: Sequence[Gpu], recent: Sequence[Readings], rules: GuardConfig, taken: Mapping[str, int]
) -> Verdict:
    """The preferred way that fits, on the GPU that it leaves the least room on: larger ones stay for larger jobs."""
    now = {gpu.uuid: gpu.free_mib - taken.get(gpu.uuid, 0) for gpu in gpus}
    for number, way in enumerate(need.ways):
        fits = [uuid for uuid, free in now.items() if free >= way.vram_mib and _held(uuid, way, recent, rules, taken)]
        if fits:
            uuid = min(fits, key=lambda uuid: now[uuid])
            return Go(uuid, way.batch_size, way.precision, way.vram_mib, smaller=number > 0)
    least = min(way.vram_mib for way in need.ways)
    roomiest = max(gpus, key=lambda gpu: now[gpu.uuid])
    if now[roomiest.uuid] >= least:
        sentence = (
            f"{roomiest.name} has {now[roomiest.uuid]} MiB free, which must last for {rules.hold_readings} readings"
        )
        return Wait(f"The job needs {least} MiB of GPU memory; {sentence}.", settling=True)
    return _short(least, roomiest, taken.get(roomiest.uuid, 0))


def _held(uuid: str, way: Way, recent: Sequence[Readings], rules: GuardConfig, taken: Mapping[str, int]) -> bool:
    """Whether that memory has been free in each of the last readings: memory that comes and goes is not free."""
    if len(recent) < rules.hold_readings:
        return False
    free = [gpu.free_mib for readings in recent for gpu in readings.gpus if gpu.uuid == uuid]
    return len(free) == len(recent) and min(free) - taken.get(uuid, 0) >= way.vram_mib


def _no_gpu(wanted: int, readings: Readings) -> Verdict:
    why = readings.gpu_problem or "no NVIDIA GPU was found"
    if readings.gpus:
        there = ", ".join(gpu.uuid for gpu in readings.gpus)
        why = f"none of the devices in [guard] was found, only {there}"
    sentence = f"The job needs {wanted} MiB of GPU memory, but {why}."
    return Never(sentence) if readings.gpu_absent else Wait(sentence, "gpu_problem")


def _short(wanted: int, gpu: Gpu, taken: int) -> Wait:
    holders = ", ".join(str(h) for h in gpu.processes[:3])
    more = len(gpu.processes) - 3
    held = f"; used by {holders}" + (f" and {more} more" if more > 0 else "") if holders else ""
    reserved = f"; another heygemd has reserved {taken} MiB of it" if taken > 0 else ""
    beside = " in addition to the job's RAM, because this GPU shares the machine's memory" if gpu.shared else ""
    has = f"{gpu.name} has {gpu.free_mib} MiB free of {gpu.total_mib} MiB{beside}"
    kind = "gpu_reserved" if taken > 0 and gpu.free_mib >= wanted else "gpu_memory"
    values = {"need": wanted, "gpu": gpu.name, "free": gpu.free_mib, "total": gpu.total_mib, "taken": taken}
    sentence = f"The job needs {wanted} MiB of GPU memory; {has}{reserved}{held}."
    return Wait(sentence, kind, gpu.processes, values=values)


def _too_hot(gpu: Gpu, rules: GuardConfig) -> bool:
    return 0 < rules.max_celsius < (gpu.celsius or 0)


def _hot(gpu: Gpu, rules: GuardConfig) -> Wait:
    sentence = f"{gpu.name} is at {gpu.celsius} °C; jobs wait above {rules.max_celsius} °C (max_celsius)."
    return Wait(sentence, "gpu_hot", values={"gpu": gpu.name, "celsius": gpu.celsius, "most": rules.max_celsius})


# ---------------------------------------------------------------- the rest of the machine


def _memory(need: Need, readings: Readings, limits: LimitsConfig) -> Verdict:
    keep = limits.free_ram_mib
    sentence = f"The job needs {need.ram_mib} MiB of memory and {keep} MiB must stay free (free_ram_mib)"
    if need.ram_mib + keep > readings.ram_total_mib:
        return Never(f"{sentence}; this machine has {readings.ram_total_mib} MiB in total.")
    if need.ram_mib + keep > readings.ram_available_mib:
        free = f"{readings.ram_available_mib} MiB of {readings.ram_total_mib} MiB are available"
        values = {"need": need.ram_mib, "keep": keep, "free": readings.ram_available_mib}
        return Wait(f"{sentence}; {free}.", "memory", values=values)
    return Go()


def _disk(path: Path, wanted: int, readings: Readings, limits: LimitsConfig) -> Verdict:
    free = readings.disks.get(path)
    if free is None:
        return Wait(f"The free space of {path} cannot be read.", "disk")
    if wanted + limits.free_disk_mib > free:
        keep = f"{limits.free_disk_mib} MiB must stay free (free_disk_mib)"
        sentence = f"The job needs {wanted} MiB of disk for {path} and {keep}"
        total = readings.disk_totals.get(path)
        if total is not None and wanted + limits.free_disk_mib > total:
            return Never(f"{sentence}; this disk has {total} MiB in total.")
        values = {"need": wanted, "path": str(path), "keep": limits.free_disk_mib, "free": free}
        return Wait(f"{sentence}; {free} MiB are free.", "disk", values=values)
    return Go()


def _hours(rules: GuardConfig, at: time | None) -> Verdict:
    if at is not None and quiet(rules.quiet_hours, at):
        sentence = f"No job starts in the quiet hours {rules.quiet_hours} (quiet_hours)."
        return Wait(sentence, "quiet_hours", values={"hours": rules.quiet_hours})
    return Go()


def quiet(hours: str, at: time) -> bool:
    """Whether ``at`` is within ``hours`` (``08:00-18:00``); the end may be on the next day."""
    match = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", hours)
    if match is None:
        return False
    h1, m1, h2, m2 = map(int, match.groups())
    begin, end, now = h1 * 60 + m1, h2 * 60 + m2, at.hour * 60 + at.minute
    return begin <= now < end if begin <= end else now >= begin or now < end
