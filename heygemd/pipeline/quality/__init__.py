"""Step 5c: is the film any good?  The finished file is measured, not the plan.

    look      a few stretches of the film, decoded once, cut to the face whose track is already known   (look.py)
    sound     the film's own sound, as a mouth would shape it                                     (speech/lips.py)
    sync      mouth against sound: how late, how surely, how much it moves, closed lips                  (sync.py)
    picture   frames against the template's: soft, seamed, changed elsewhere, held, jumped            (picture.py)
    grade     figures against the operator's thresholds, with reasons in words and what to do           (grade.py)

A film is not thrown away because it could not be measured: ``report`` then says so, and it is delivered.

May import: common, contract, pipeline.engines, pipeline.face, pipeline.ffmpeg, pipeline.image, pipeline.marking,
pipeline.media, pipeline.result, pipeline.speech.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.common.errors import HeygemdError
from heygemd.contract.figures import Figures, PictureFigures, StructureFigures, SyncFigures
from heygemd.contract.job import Settings, Tell
from heygemd.pipeline import media
from heygemd.pipeline.engines.footage.analysis import mouth
from heygemd.pipeline.image.geometry import Bytes, Floats, Singles
from heygemd.pipeline.marking import metadata
from heygemd.pipeline.marking.label import Label, shows
from heygemd.pipeline.quality import grade, picture, sync
from heygemd.pipeline.quality.look import Known, Looked, bgr, look, pairs, template_changes
from heygemd.pipeline.quality.mouths import Openings, openings
from heygemd.pipeline.quality.windows import Crop, Film, Window, open_film, read
from heygemd.pipeline.speech import ears, lips

__all__ = ["Evidence", "Known", "guarded", "measure", "report"]

_REFERENCE = 400  # pictures of the template that say how much its own mouth moves
_LEAST = 10  # pictures that show the face; with fewer, nothing is measured of the mouth
_ASKED = 12  # held pictures of which the template's own are looked at
_HELD_OF_TEMPLATE = 0.6  # of the template's own change from picture to picture: a film that changes less, holds
_RANGES = 50  # held ranges that are listed
Numbers = npt.NDArray[np.int64]
_TROUBLE = (HeygemdError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, cv2.error)


@dataclass(slots=True)
class Evidence:
    """What is shown beside the figures: curves, and pictures as BGR arrays, each with its second in the film."""

    times: Floats = field(default_factory=lambda: np.zeros(0))
    seen: Singles = field(default_factory=lambda: np.zeros(0, np.float32))  # opening in the picture, 0..1
    heard: Singles = field(default_factory=lambda: np.zeros(0, np.float32))  # opening by the sound, 0..1
    samples: Singles = field(default_factory=lambda: np.zeros(0, np.float32))  # the film's sound, 16 kHz
    pairs: list[tuple[float, Bytes, Bytes | None]] = field(default_factory=list)  # film, template
    strip: list[tuple[float, Bytes]] = field(default_factory=list)  # luma of mouths that follow one another
    fps: float = 25.0
    frames: int = 0


def report(film: Path, known: Known, settings: Settings, tell: Tell) -> tuple[Figures, Evidence | None]:
    """``measure``; where that fails, the problem as a sentence: a film does not fail with its report."""
    return guarded(lambda: measure(film, known, settings, tell), tell)


def guarded(act: Callable[[], tuple[Figures, Evidence]], tell: Tell) -> tuple[Figures, Evidence | None]:
    """What ``act`` measures with what it cost, or the problem that it met, which the job's log has too."""
    began = _cpu_seconds()
    try:
        figures, evidence = act()
    except _TROUBLE as error:
        problem = error.message if isinstance(error, HeygemdError) else f"{type(error).__name__}: {error}"
        tell.event("report_failed", level="warning", problem=problem)
        return {"grade": None, "problem": problem, "reasons": []}, None
    return {**figures, "cpu_seconds": round(_cpu_seconds() - began, 2)}, evidence


def _cpu_seconds() -> float:
    """Of this process and of the children that have ended: decoding is part of the cost."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in both)


def measure(
    film: Path, known: Known, settings: Settings, tell: Tell, given: Singles | None = None
) -> tuple[Figures, Evidence]:
    """The figures of ``film`` with their grade, and what shows them.  Raises what its parts raise.

    ``given``: the sound that it should have, 16 kHz mono; without, the film's own is taken for it.
    """
    found = media.probe(film, film.name, settings, want="video")
    opened = open_film(film, found, settings)
    looked = look(opened, known, settings, tell)
    samples = media.sound_of(film, found, settings, film.name) if found.audio is not None else None
    lip = ears.named(settings.ears)(samples, None) if samples is not None else None
    second = lips.speak(samples) if samples is not None and settings.ears != "own" else None
    place = mouth.locate(known.track.crops)
    numbers, canonical = np.array(looked.numbers, np.int64), np.array(looked.canonical)
    shown = openings(canonical, place) if len(numbers) >= _LEAST else None
    beside = pairs(looked, known)
    picture_figures: PictureFigures = {
        **picture.compare([pair for _, pair in beside], place),
        "identity": _identity([pair for _, pair in beside], known),
    }
    if shown is not None:
        picture_figures |= _motion(shown, canonical, looked, known, place, opened.fps)
    passed = sum(last - first + 1 for first, last in known.passed_through)
    picture_figures["passed_percent"] = round(100 * passed / max(1, opened.frames), 1)
    figures: Figures = {
        "measured": {
            "frames": len(numbers), "of": opened.frames, "ranges": [[w.first, w.stop - 1] for w in looked.windows],
        },
        "structure": _structure(opened, samples, known.label, settings),
        "sound": {} if given is None or samples is None else sync.same_sound(samples, given),
        "sync": {} if shown is None or lip is None else _sync(shown, numbers, lip, known, place, opened.fps)
        | _second(shown, (numbers + 0.5) / opened.fps, second),
        "picture": picture_figures,
    }  # fmt: skip
    evidence = Evidence(fps=opened.fps, frames=opened.frames)
    if samples is not None:
        evidence.samples = samples
    _show(evidence, shown, numbers, lip, looked, dict(beside), canonical, place)
    return {**grade.of(figures, known.passed_through, settings, opened.fps, ours=known.ours), **figures}, evidence


def _identity(beside: Sequence[picture.FramePair], known: Known) -> float | None:
    """The median likeness of the film's face with the template's of the same frame, 1: the same;
    ``None`` where no imported model tells people apart."""
    identity = known.track.pack.identity
    if identity is None or not beside:
        return None
    codes = ((identity.by_transform(bgr(p), pair.transform) for p in (pair.film, pair.template)) for pair in beside)
    return round(float(np.median([float(film @ template) for film, template in codes])), 3)


def _structure(film: Film, samples: Singles | None, label: Label | None, settings: Settings) -> StructureFigures:
    seconds = film.frames / film.fps
    return {
        "frames": film.frames,
        "fps": f"{film.info.fps.numerator}/{film.info.fps.denominator}",
        "picture_seconds": round(seconds, 3),
        "sound_seconds": None if samples is None else round(len(samples) / media.SAMPLE_RATE, 3),
        "variable_rate": film.info.vfr,
        "mark": metadata.found(film.path, settings),
        "label": _labelled(film, label, settings),
    }


def _labelled(film: Film, label: Label | None, settings: Settings) -> bool | None:
    """Whether the label is seen where it begins and where it ends; ``None`` where there should be none."""
    if label is None:
        return None
    x, y, width, height = *label.box[:2], *label.size
    ends = (0, min(label.frames, film.frames) - 1)
    seen = [f.y for k in ends for _, f in read(film, Window(k, k + 1), Crop(x, y, width, height), settings)]
    return len(seen) == len(ends) and shows(label, seen)


def _sync(
    shown: Openings, numbers: Numbers, lip: lips.LipTrack, known: Known, place: mouth.Mouth, fps: float
) -> SyncFigures:
    times = (numbers + 0.5) / fps
    found = sync.follow(shown.curve, times, lip)
    late = found.offset if found is not None and found.confidence != "none" else 0.0
    moves, usual = sync.movement(shown.lips, times - late, lip, fps), _own_movement(known, place)
    moved = moves["speech_sd_io"]
    speaks = usual is not None and usual >= grade.LEAST_MOVEMENT
    return {
        "offset_ms": None if found is None else round(1000 * found.offset),
        "confidence": "none" if found is None else found.confidence,
        "r": None if found is None else round(found.r, 2),
        "chance_r": None if found is None else round(found.chance, 2),
        "z": None if found is None else round(found.z, 1),
        "speech_seconds": moves["speech_seconds"],
        "speech_sd_io": moved,
        "silence_seconds": moves["silence_seconds"],
        "silence_movement": moves["silence_movement"],
        "closures": sync.closures(shown.lips, times, lip, late),
        "template_sd_io": usual,
        "articulation": round(moved / usual, 2) if moved is not None and usual is not None and speaks else None,
    }


def _second(shown: Openings, times: Floats, lip: lips.LipTrack | None) -> SyncFigures:
    """What the own network, which did not drive the film, says of mouth and sound; nothing if it was the driver."""
    found = None if lip is None else sync.follow(shown.curve, times, lip)
    if found is None:
        return {}
    return {
        "second_offset_ms": round(1000 * found.offset),
        "second_confidence": found.confidence,
        "second_r": round(found.r, 2),
    }


def _own_movement(known: Known, place: mouth.Mouth) -> float | None:
    """How much the template's own lips move, io; ``None`` where it is not known."""
    if known.reference is None:
        return None
    crops = known.reference.crops
    rows = np.flatnonzero(known.reference.usable[crops.index])
    if len(rows) < _LEAST:
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_REFERENCE, len(rows))).astype(int))]
    return round(float(openings(crops.y[rows], place).lips.std()), 4)


def _motion(
    shown: Openings, canonical: Bytes, looked: Looked, known: Known, place: mouth.Mouth, fps: float
) -> PictureFigures:
    numbers = looked.numbers
    whole, around = (np.array(values, np.float32) for values in zip(*looked.changes, strict=True))
    held = picture.held(whole, around, strict=known.template is None)
    share = _confirmed(looked, known, np.flatnonzero(held), whole)
    jumps = picture.jumped(*picture.steps(canonical, numbers, place))
    return {
        "held_percent": round(100 * float(held.mean()) * share, 1),
        "held": picture.ranges(held, numbers)[:_RANGES] if share > 0.5 else [],
        "jumps_per_minute": round(60 * fps * float(jumps.mean()), 1),
        "jitter_io": picture.jitter(shown.lips, numbers),
    }


def _confirmed(looked: Looked, known: Known, rows: Numbers, whole: Singles) -> float:
    """The share of the pictures that seem held whose template goes on, told from a few of them."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(_ASKED, len(rows))).astype(int))] if len(rows) else rows
    found = template_changes(looked, known, [looked.numbers[row] for row in chosen])
    goes_on = [whole[row] < _HELD_OF_TEMPLATE * change for change, row in zip(found, chosen, strict=False)]
    return float(np.mean(goes_on)) if goes_on else 1.0


def _show(
    evidence: Evidence,
    shown: Openings | None,
    numbers: Numbers,
    lip: lips.LipTrack | None,
    looked: Looked,
    beside: dict[int, picture.FramePair],
    canonical: Bytes,
    place: mouth.Mouth,
) -> None:
    """Fill in the curves and the pictures."""
    if shown is not None and lip is not None:
        times: Floats = (numbers + 0.5) / evidence.fps
        evidence.times = times
        evidence.seen = _ranged(shown.curve)
        evidence.heard = _ranged(lip.at(times).opening)
    for k, (frame, _) in sorted(looked.kept.items()):
        template = bgr(beside[k].template) if k in beside else None
        evidence.pairs.append((k / evidence.fps, bgr(frame), template))
    if len(canonical):
        top, left = max(0, round(place.y) - 36), max(0, round(place.x) - 48)
        first = len(canonical) // 3
        rows = range(first, min(first + 24, len(canonical)), 2)
        evidence.strip = [(numbers[n] / evidence.fps, canonical[n][top : top + 80, left : left + 96]) for n in rows]


def _ranged(values: Singles) -> Singles:
    low, high = np.percentile(values, 2), np.percentile(values, 98)
    result: Singles = np.clip((values - low) / (high - low + 1e-6), 0, 1).astype(np.float32)
    return result
