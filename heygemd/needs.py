"""What a job will need: declared by its engine, then learned from what earlier jobs took.  Pure.

Each finished job leaves its measured peak in the journal under its *kind*.  The estimate is the upper quantile of
the peaks seen, with a margin; where nothing was seen, a table on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """What is known of an engine before it has ever run: MiB on the safe side, and where it can run."""

    ram_mib: int
    on_gpu: bool = False
    said: str = ""


ENGINES: Mapping[str, Engine] = {
    "footage": Engine(1200, said="it has no way of running on a GPU"),
    "command": Engine(200, said="the program chooses; gpu_need_mib in [command] says what it takes of a GPU"),
}
"""footage: interpreter, torch and OpenCV, decoded frames, and ffmpeg twice.  command: our own child around it."""


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


def learned(peaks: Sequence[Peak], engine: str) -> tuple[int | None, int | None]:
    """(vram_mib, ram_mib) by what was seen of an engine, over all its kinds: a job's frame size is known only once
    its inputs are staged and probed, which is after the decision."""
    vram = [p.vram_mib for p in peaks if p.kind.engine == engine and p.vram_mib is not None]
    ram = [p.ram_mib for p in peaks if p.kind.engine == engine and p.ram_mib is not None]
    return (upper(vram) if vram else None), (upper(ram) if ram else None)


def need(
    engine: str,
    device: str,
    command: CommandConfig,
    peaks: Sequence[Peak],
    readings: Readings,
    keep_ram_mib: int,
    disk_mib: Mapping[Path, int],
) -> Need:
    """What a job of this engine needs here.

    What was learned never makes a job impossible: it did run.  What an operator declares for his command is never
    lowered by what was seen of it.
    """
    known = ENGINES.get(engine, Engine(1200))
    if device == "cuda" and not known.on_gpu and engine != "command":
        why = f'device = "cuda" was asked for, but the engine {engine} runs on the processor: {known.said}.'
        return Need(impossible=f'{why} Set device to "auto" or "cpu".')
    seen_vram, seen_ram = learned(peaks, engine)
    most = max(int(0.9 * (readings.ram_total_mib - keep_ram_mib)), 0)
    ram = known.ram_mib if seen_ram is None else min(seen_ram, most)
    declared = command.gpu_need_mib if engine == "command" else 0
    if not declared:
        return Need((), ram, disk_mib)
    largest = max((gpu.total_mib for gpu in readings.gpus), default=0)
    vram = max(declared, min(seen_vram or 0, int(0.98 * largest)))
    return Need((Way(vram),), ram, disk_mib)


def device_of(engine: str, asked: str, command: CommandConfig) -> tuple[str, str]:
    """Where an engine will run, and why: what ``auto`` means here, told once at start."""
    if engine == "command":
        if command.gpu_need_mib:
            return "cuda", f"[command] declares {command.gpu_need_mib} MiB of GPU memory"
        return "cpu", "[command] declares no need of GPU memory"
    if asked == "cuda":
        return "cuda", "asked for by device"
    known = ENGINES.get(engine, Engine(0))
    return "cpu", known.said if asked == "auto" else "asked for by device"


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
    kind = Kind(
        engine, str(facts.get("model") or ""), frame_class(output.get("width") or 0, output.get("height") or 0),
        int(facts.get("batch_size") or 1), str(facts.get("precision") or ""),
    )  # fmt: skip
    return Peak(kind, _larger(told.get("vram_mib"), sampled[0]), _larger(told.get("ram_mib"), sampled[1]))


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
