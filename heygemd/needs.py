"""What a job will need: declared by its engine, then learned from what earlier jobs took.  Pure.

Each finished job leaves its measured peak in the journal under its *kind*.  The estimate is the upper quantile of
the peaks seen, with a margin; where nothing was seen, a table on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heygemd.config_keys import CommandConfig
from heygemd.guard import Need, Way
from heygemd.machine import Readings

QUANTILE = 0.95
MARGIN_PERCENT = 110
"""Allocators take memory in blocks and two runs never take quite the same."""
FILM_MIB_PER_SECOND = 1.0
"""8 Mbit/s: more than x264 makes of 1080p at crf 18 in most footage.  Twice over, silent and with its sound."""
_PLAIN_SOUND = (".wav", ".flac")
_SOUND_BYTES_PER_SECOND = {True: 32_000.0, False: 8_000.0}
"""The thinnest sound that people bring, which lasts longest for its size: 16 kHz mono PCM; 64 kbit/s."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of an engine before it has ever run, in MiB on the safe side.

    ``ways`` of running on a GPU, the preferred first; none: it cannot, and ``said`` tells why.
    """

    ram_mib: int
    ways: tuple[Way, ...] = ()
    said: str = ""


ENGINES: Mapping[str, Engine] = {
    "footage": Engine(1200, said="it has no way of running on a GPU"),
    "command": Engine(200, said="the program chooses; gpu_need_mib in [command] says what it takes of a GPU"),
    "wav2lip": Engine(2000, (Way(6000, 64), Way(3000, 16), Way(2000, 4))),
}
"""footage: interpreter, torch and OpenCV, decoded frames, and ffmpeg twice.  command: our own child around it.
wav2lip: as footage with its network; on a GPU with CUDA's own half gigabyte."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides how much a job takes.  ``frame`` is a size class (``frame_class``)."""

    engine: str
    model: str = ""
    frame: str = ""
    batch_size: int = 1
    precision: str = ""

    def __str__(self) -> str:
        batch = f"batch {self.batch_size}" if self.batch_size > 1 else ""
        return " ".join(part for part in (self.engine, self.model, self.frame, batch, self.precision) if part)


@dataclass(frozen=True, slots=True)
class Peak:
    """What one job took at its peak; ``None`` where it could not be measured."""

    kind: Kind
    vram_mib: int | None
    ram_mib: int | None


def frame_class(width: int, height: int) -> str:
    """``480p``, ``720p``, ``1080p``, ``2160p`` or ``larger``, by the number of pixels."""
    for name, pixels in (("480p", 854 * 480), ("720p", 1280 * 720), ("1080p", 1920 * 1088), ("2160p", 4096 * 2176)):
        if width * height <= pixels:
            return name
    return "larger"


def upper(values: Sequence[int]) -> int:
    """The upper quantile of what was seen, with the margin; of few values it is the largest."""
    ranked = sorted(values)
    return -(-ranked[math.ceil(QUANTILE * len(ranked)) - 1] * MARGIN_PERCENT // 100)


def learned_ram(peaks: Sequence[Peak], engine: str) -> int | None:
    """By what was seen of an engine, over all its kinds: a job's frame size is known only once its inputs are staged
    and probed, which is after the decision."""
    seen = [p.ram_mib for p in peaks if p.kind.engine == engine and p.ram_mib is not None]
    return upper(seen) if seen else None


def learned_vram(peaks: Sequence[Peak], engine: str, batch_size: int) -> int | None:
    """As ``learned_ram``, for one batch size."""
    mine = [p for p in peaks if (p.kind.engine, p.kind.batch_size) == (engine, batch_size)]
    seen = [p.vram_mib for p in mine if p.vram_mib is not None]
    return upper(seen) if seen else None


def need(
    engine: str,
    device: str,
    command: CommandConfig,
    peaks: Sequence[Peak],
    readings: Readings,
    keep_ram_mib: int,
    disk_mib: Mapping[Path, int],
) -> Need:
    """What a job of this engine needs on ``device``, ``cpu`` or ``cuda``.

    What was learned never makes a job impossible: it did run.  What an operator declares for his command is never
    lowered by what was seen of it.
    """
    known = ENGINES.get(engine, Engine(1200))
    declared = command.gpu_need_mib if engine == "command" else 0
    ways = (Way(declared),) if declared else known.ways
    if device == "cuda" and not ways and engine != "command":
        why = f'device = "cuda" was asked for, but the engine {engine} runs on the processor: {known.said}.'
        return Need(impossible=f'{why} Set device to "auto" or "cpu".')
    seen = learned_ram(peaks, engine)
    most = max(int(0.9 * (readings.ram_total_mib - keep_ram_mib)), 0)
    ram = known.ram_mib if seen is None else min(seen, most)
    if device != "cuda":
        return Need((), ram, disk_mib)
    largest = int(0.98 * max((gpu.total_mib for gpu in readings.gpus), default=0))
    return Need(tuple(_way(way, declared, peaks, engine, largest) for way in ways), ram, disk_mib)


def _way(way: Way, declared: int, peaks: Sequence[Peak], engine: str, largest: int) -> Way:
    seen = learned_vram(peaks, engine, way.batch_size)
    if seen is None:
        return way
    return Way(max(declared, min(seen, largest)), way.batch_size, way.precision)


def device_of(engine: str, asked: str, command: CommandConfig, start: Readings) -> tuple[str, str]:
    """Where an engine runs, ``cpu`` or ``cuda``, and why: what ``auto`` means here, decided once, at start.

    A GPU that is there and does not answer is waited for: the processor is not taken in its place unasked.
    """
    known = ENGINES.get(engine, Engine(0))
    if engine == "command":
        need_mib = command.gpu_need_mib
        said = f"{need_mib} MiB of GPU memory" if need_mib else "no need of GPU memory"
        return ("cuda" if need_mib else "cpu"), f"[command] declares {said}"
    if asked != "auto":
        return asked, f'device = "{asked}"'
    if not known.ways:
        return "cpu", known.said
    if start.gpus:
        return "cuda", f"{start.gpus[0].name} is there"
    if start.gpu_missing:
        return "cpu", str(start.gpu_problem)
    return "cuda", f'{start.gpu_problem}; to render on the processor set device = "cpu"'


def disk_needs(audio: tuple[str, int], video: tuple[str, int]) -> tuple[int, int]:
    """(work, outbox): MiB that a job will write, from its inputs' names and bytes.

    The film lasts as long as the sound, whose length is guessed on the safe side from its size.
    """
    plain = audio[0].lower().endswith(_PLAIN_SOUND)
    seconds = audio[1] / _SOUND_BYTES_PER_SECOND[plain]
    film = seconds * FILM_MIB_PER_SECOND
    staged = (audio[1] + video[1]) / (1 << 20)
    return math.ceil(staged + 2 * film), math.ceil(film)


def peak_of(engine: str, result: Mapping[str, Any], sampled: tuple[int | None, int | None]) -> Peak:
    """A finished job's peak: the larger of what its process reported and what was seen of it from outside."""
    told, output = result.get("peak") or {}, result.get("output") or {}
    facts = result.get("engine") or {}
    model = facts.get("model") or ""
    name = str(model.get("name", "") if isinstance(model, Mapping) else model)
    kind = Kind(
        engine, name, frame_class(output.get("width") or 0, output.get("height") or 0),
        int(facts.get("batch") or 1), str(facts.get("precision") or ""),
    )  # fmt: skip
    return Peak(kind, _larger(told.get("vram_mib"), sampled[0]), _larger(told.get("ram_mib"), sampled[1]))


def overrun(engine: str, way: Way) -> Peak:
    """What a job leaves that ran out of GPU memory: it needs a quarter more than was thought, at least."""
    return Peak(Kind(engine, "", "", way.batch_size, way.precision), way.vram_mib * 5 // 4, None)


def smaller_ways(need: Need, batch_size: int) -> Need:
    """Only the ways with smaller batches than one that has run out of memory; all, where it was the smallest."""
    ways = tuple(way for way in need.ways if way.batch_size < batch_size)
    return replace(need, ways=ways) if ways else need


def _larger(one: int | None, two: int | None) -> int | None:
    values = [value for value in (one, two) if value is not None]
    return max(values) if values else None


def table(peaks: Sequence[Peak]) -> list[str]:
    """What was learned, a line for each kind: for ``doctor``."""
    lines = []
    for kind in sorted({peak.kind for peak in peaks}, key=str):
        mine = [peak for peak in peaks if peak.kind == kind]
        vram = [p.vram_mib for p in mine if p.vram_mib is not None]
        ram = [p.ram_mib for p in mine if p.ram_mib is not None]
        told = [f"{upper(ram)} MiB of memory"] if ram else []
        told += [f"{upper(vram)} MiB of GPU memory"] if vram else []
        lines.append(f"{kind}: {', '.join(told) or 'not measured'} ({len(mine)} jobs)")
    return lines
