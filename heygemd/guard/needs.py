"""Estimates what a job will need: declared by its engine, then learned from what earlier jobs took.  Pure.

Each finished job leaves its measured peak in the journal under its *kind*.  The estimate is the upper quantile of
the peaks seen, with a margin; where nothing was seen, a table on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.config.tables import CommandConfig
from heygemd.guard.decide import Need, Way
from heygemd.guard.readings import Readings

QUANTILE = 0.95
MARGIN_PERCENT = 110
"""Allocators take memory in blocks and two runs never take quite the same."""
FILM_MIB_PER_SECOND = 1.0
"""8 Mbit/s: more than x264 makes of 1080p at crf 18 in most footage.  Twice over, silent and with its sound."""
DUIX_MIB_PER_SECOND = 10.0
"""What a part of a film leaves beside the container until it is done: its pictures (crf 10) and sound, the container's
copies of both, its film with and without sound.  Of 1080p, on the safe side, not measured."""
_PLAIN_SOUND = (".wav", ".flac")
_SOUND_BYTES_PER_SECOND = {True: 32_000.0, False: 8_000.0}
"""The thinnest sound that people bring, which lasts longest for its size: 16 kHz mono PCM; 64 kbit/s."""


@dataclass(frozen=True, slots=True)
class EngineNeeds:
    """What is known of an engine before it has ever run, in MiB on the safe side.

    ``ways`` of running on a GPU, the preferred first; none: it cannot, and ``no_gpu`` says why.
    """

    ram_mib: int
    ways: tuple[Way, ...] = ()
    no_gpu: str = ""


ENGINE_NEEDS: Mapping[str, EngineNeeds] = {
    "footage": EngineNeeds(1200, no_gpu="it cannot run on a GPU"),
    "command": EngineNeeds(200, no_gpu="the program decides; gpu_need_mib in [command] declares its GPU memory"),
    "duix": EngineNeeds(1200, no_gpu="its container has its own GPU"),
    "wav2lip": EngineNeeds(2000, (Way(6000, 64), Way(4000, 32), Way(3000, 16), Way(2400, 8), Way(2000, 4))),
}
"""footage: interpreter, torch and OpenCV, decoded frames, and ffmpeg twice.  command: our own child around it.
duix: decoded frames and ffmpeg; what its container holds of a GPU it holds all the time, it is not the job's.
wav2lip: as footage with its network; on a GPU with CUDA's own half gigabyte."""


NVENC_MIB = {"480p": 400, "720p": 400, "1080p": 500, "2160p": 1000, "larger": 2000}
"""NVENC's GPU memory by frame size: CUDA context and surfaces.  Conservative, not measured."""
FRAMES = tuple(NVENC_MIB)


@dataclass(frozen=True, slots=True)
class Asked:
    """Facts about a job before it runs.  Empty: not known yet."""

    engine: str
    device: str = "cpu"  #: cpu or cuda
    model: str = ""
    frame: str = ""  #: a size class
    batch: int = 0  #: as the operator set it
    nvenc: bool = False  #: whether the film must be encoded by NVENC
    obstacle: str = ""  #: why it cannot run on CUDA here, where it was asked to


@dataclass(frozen=True, slots=True)
class Kind:
    """The factors that decide a job's needs.  ``frame`` is a size class (``frame_class``)."""

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
    """Peak use of one job; ``None`` if it could not be measured."""

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
    """The upper quantile of the measured values, with a margin; of few values the largest."""
    ranked = sorted(values)
    return -(-ranked[math.ceil(QUANTILE * len(ranked)) - 1] * MARGIN_PERCENT // 100)


def learned(peaks: Sequence[Peak], like: Kind, vram: bool) -> int | None:
    """What jobs like this one took, in MiB: of GPU memory or of memory.

    Each model and frame size is looked at for itself; where either is not known yet, the most counts.  The batch size
    tells of GPU memory only.  Precision follows from machine and model.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for peak in peaks:
        kind, value = peak.kind, peak.vram_mib if vram else peak.ram_mib
        same = (kind.engine == like.engine, like.model in ("", kind.model), like.frame in ("", kind.frame))
        if value is not None and all(same) and (not vram or kind.batch_size == like.batch_size):
            groups.setdefault((kind.model, kind.frame), []).append(value)
    return max((upper(values) for values in groups.values()), default=None)


def _estimate(table: int, peaks: Sequence[Peak], like: Kind, vram: bool) -> int:
    """What was learned of its own kind; else the table, or what smaller frames took where that is more."""
    mib = learned(peaks, like, vram)
    if mib is not None:
        return mib
    smaller = FRAMES[: FRAMES.index(like.frame)] if like.frame in FRAMES else ()
    below = [learned(peaks, replace(like, frame=frame), vram) for frame in smaller]
    return max([table, *(value for value in below if value is not None)])


def need(
    asked: Asked,
    command: CommandConfig,
    peaks: Sequence[Peak],
    readings: Readings,
    keep_ram_mib: int,
    disk_mib: Mapping[Path, int],
) -> Need:
    """What a job needs.

    What was learned never makes a job impossible: it did run.  What an operator declares for his command is never
    lowered by what was seen of it.
    """
    engine_needs = ENGINE_NEEDS.get(asked.engine, EngineNeeds(1200))
    declared = command.gpu_need_mib if asked.engine == "command" else 0
    if asked.device == "cuda" and not engine_needs.ways and asked.engine != "command":
        why = f'device = "cuda" is set, but the engine {asked.engine} runs on the CPU: {engine_needs.no_gpu}.'
        return Need(impossible=f'{why} Set device to "auto" or "cpu".')
    if asked.device == "cuda" and asked.obstacle:
        return Need(impossible=f"The engine {asked.engine} must run on CUDA, but {asked.obstacle}.")
    most = max(int(0.9 * (readings.ram_total_mib - keep_ram_mib)), 0)
    like = Kind(asked.engine, asked.model, asked.frame)
    ram = _estimate(engine_needs.ram_mib, peaks, like, vram=False)
    ram = ram if ram == engine_needs.ram_mib else min(ram, most)
    ways = (Way(declared),) if declared else batches_up_to(engine_needs.ways, asked.batch)
    nvenc = NVENC_MIB.get(asked.frame, NVENC_MIB["2160p"]) if asked.nvenc and asked.engine != "command" else 0
    if asked.device != "cuda":
        ways = (Way(0),) if nvenc else ()
    largest = int(0.98 * max((gpu.total_mib for gpu in readings.gpus), default=0))
    return Need(tuple(_way(way, declared, nvenc, peaks, like, largest) for way in ways), ram, disk_mib)


def _way(way: Way, declared: int, nvenc: int, peaks: Sequence[Peak], like: Kind, largest: int) -> Way:
    table = way.vram_mib + nvenc
    estimate = _estimate(table, peaks, replace(like, batch_size=way.batch_size), vram=True)
    if estimate == table:
        return replace(way, vram_mib=table)
    return replace(way, vram_mib=max(declared, min(estimate, largest)))


def disk_needs(audio: tuple[str, int], video: tuple[str, int]) -> tuple[int, int]:
    """(work, outbox): MiB that a job will write, from its inputs' names and bytes.

    The film lasts as long as the sound, whose length is guessed on the safe side from its size.
    """
    film = _seconds(audio) * FILM_MIB_PER_SECOND
    staged = (audio[1] + video[1]) / (1 << 20)
    return math.ceil(staged + 2 * film), math.ceil(film)


def duix_mib(audio: tuple[str, int], part_seconds: float) -> int:
    """MiB that lie in the folder shared with a Duix container at a time: films are made in parts, one after the other.
    As much may lie in the work folder beside the film."""
    return math.ceil(min(_seconds(audio), part_seconds) * DUIX_MIB_PER_SECOND)


def _seconds(audio: tuple[str, int]) -> float:
    return audio[1] / _SOUND_BYTES_PER_SECOND[audio[0].lower().endswith(_PLAIN_SOUND)]


def peak_of(engine: str, result: Row, sampled: tuple[int | None, int | None]) -> Peak:
    """A finished job's peak: the larger of what its process reported and what was seen of it from outside.

    The process does not know what NVENC takes, which runs in one of its children.
    """
    peak, output, facts = (checked.row(result, key) for key in ("peak", "output", "engine"))
    model = facts.get("model")
    name = checked.text(model, "name") if isinstance(model, Mapping) else checked.text(facts, "model")
    frame = frame_class(checked.whole(output, "width"), checked.whole(output, "height"))
    kind = Kind(engine, name, frame, checked.whole(facts, "batch", 1) or 1, checked.text(facts, "precision"))
    vram, ram = checked.whole_or_none(peak, "vram_mib"), checked.whole_or_none(peak, "ram_mib")
    if vram is not None and checked.text(checked.row(output, "encode"), "encoder") == "h264_nvenc":
        vram += NVENC_MIB[frame]
    return Peak(kind, _larger(vram, sampled[0]), _larger(ram, sampled[1]))


def overrun(asked: Asked, way: Way) -> Peak:
    """What a job leaves that ran out of GPU memory: it needs a quarter more than was thought, at least."""
    kind = Kind(asked.engine, asked.model, asked.frame, way.batch_size, way.precision)
    return Peak(kind, way.vram_mib * 5 // 4, None)


def batches_up_to(ways: Sequence[Way], largest: int) -> tuple[Way, ...]:
    """The ways with a batch of ``largest``, which the operator has chosen (0: he has not), and the smaller ones."""
    if not largest or not ways:
        return tuple(ways)
    enough = [way.vram_mib for way in ways if way.batch_size >= largest]
    top = ways[0]
    mib = min(enough) if enough else -(-top.vram_mib * largest // top.batch_size)
    return (replace(top, vram_mib=mib, batch_size=largest), *(way for way in ways if way.batch_size < largest))


def smaller_ways(need: Need, batch_size: int) -> Need:
    """Only the ways with smaller batches than one that has run out of memory; the smallest, where it was that."""
    ways = tuple(way for way in need.ways if way.batch_size < batch_size)
    return replace(need, ways=ways or need.ways[-1:])


def _larger(one: int | None, two: int | None) -> int | None:
    values = [value for value in (one, two) if value is not None]
    return max(values) if values else None


def table(peaks: Sequence[Peak]) -> list[str]:
    """Learned needs, one line per kind, for ``doctor``."""
    lines = []
    for kind in sorted({peak.kind for peak in peaks}, key=str):
        mine = [peak for peak in peaks if peak.kind == kind]
        vram = [p.vram_mib for p in mine if p.vram_mib is not None]
        ram = [p.ram_mib for p in mine if p.ram_mib is not None]
        takes = [f"{upper(ram)} MiB of memory"] if ram else []
        takes += [f"{upper(vram)} MiB of GPU memory"] if vram else []
        lines.append(f"{kind}: {', '.join(takes) or 'not measured'} ({len(mine)} jobs)")
    return lines
