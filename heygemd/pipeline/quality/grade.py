"""From figures to a word: ``good``, ``fair`` or ``poor``, with the reasons and what to do about them.  Pure.

Each figure has one threshold, which the operator may move: beyond it the film is ``fair``, twice as far beyond the
ideal it is ``poor``.  The film's grade is that of its worst figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from heygemd.common.messages import MessageReason
from heygemd.contract.figures import Figures, PictureFigures, SoundFigures, StructureFigures, SyncFigures
from heygemd.contract.job import Settings

GRADES = ("good", "fair", "poor")
LEAST_MOVEMENT = 0.012
"""io: spread of the lips while speech is heard below which nothing moves; tracking alone gives up to 0.006."""
OUTSIDE_DB = 32.0  # PSNR of what must not have changed; encoding at CRF 28 still gives 36
SEAM = 1.6  # times the template's edges where the mouth is blended in
SAME_SOUND = 0.6  # correlation of the loudness of two sounds: encoding leaves .95, another speech gives .3
APART_MS = 80  # between the offsets of two listeners: more than a frame of either
SURE_SECONDS = 20.0  # of speech, from which on a mouth that follows nothing is known to follow nothing


def of(figures: Figures, passed: Sequence[tuple[int, int]], settings: Settings, fps: float, *, ours: bool) -> Figures:
    """``grade`` and ``reasons`` alone; each reason is a code with its values, in words in ``common.messages``."""
    reasons = [
        *_sound(figures.get("sound", {}), settings),
        *_sync(figures.get("sync", {}), settings, ours=ours),
        *_picture(figures.get("picture", {}), settings),
        *_passed(figures, passed, settings, fps),
        *_structure(figures.get("structure", {}), settings, fps, ours=ours),
    ]
    worst = max((GRADES.index(reason["level"]) for reason in reasons), default=0)
    return {"grade": GRADES[worst], "reasons": reasons}


def _level(beyond: float) -> str | None:
    """``beyond``: 1 at the threshold, 2 twice as far from the ideal."""
    return None if beyond <= 1 else "fair" if beyond <= 2 else "poor"


def _reason(code: str, level: str | None, **values: float | None) -> list[MessageReason]:
    return [] if level is None else [{"code": code, "level": level, "values": values}]


def _sync(sync: SyncFigures, settings: Settings, *, ours: bool) -> list[MessageReason]:
    spoken = sync.get("speech_seconds") or 0.0
    if not sync or spoken < 1.0:
        return _reason("no_speech", "fair") if sync else _reason("sync_unknown", "fair")
    moved, share = sync.get("speech_sd_io"), sync.get("articulation")
    still = moved is not None and moved < LEAST_MOVEMENT
    small = (1 - share) / (1 - settings.thresholds.articulation) if share is not None else 0.0
    if still:
        return _reason("mouth_still", "poor", moved=moved)
    reasons = _reason("mouth_moves_little", _level(small), percent=round(100 * share)) if share is not None else []
    confidence, offset = sync["confidence"], sync["offset_ms"]
    if offset is None:
        return [*reasons, *_reason("sync_unknown", "fair")]
    if confidence == "none":
        level = "poor" if ours or spoken >= SURE_SECONDS else "fair"
        return [*reasons, *_reason("does_not_follow" if level == "poor" else "sync_unsure", level, r=sync["r"])]
    late = _level(abs(offset) / settings.thresholds.offset_ms)
    code = "mouth_late" if offset > 0 else "mouth_early"
    reasons += _reason(code, late if confidence == "high" or late is None else "fair", ms=abs(offset))
    second = sync.get("second_offset_ms")
    if second is not None and confidence == sync.get("second_confidence") == "high" and abs(second - offset) > APART_MS:
        reasons += _reason("listeners_disagree", "fair", ms=abs(second - offset))
    if confidence == "low" and late is None:
        reasons += _reason("sync_unsure", "fair", r=sync["r"])
    return reasons


def _sound(sound: SoundFigures, settings: Settings) -> list[MessageReason]:
    r, offset = sound.get("r"), sound.get("offset_ms")
    if r is None or offset is None:
        return []
    if r < SAME_SOUND:
        return _reason("other_sound", "poor", r=r)
    return _reason("sound_moved", _level(abs(offset) / settings.thresholds.offset_ms), ms=offset)


def _picture(picture: PictureFigures, settings: Settings) -> list[MessageReason]:
    reasons: list[MessageReason] = []
    sharp, seam, outside = picture.get("sharpness"), picture.get("seam"), picture.get("outside_db")
    if sharp is not None:
        level = _level((1 - sharp) / (1 - settings.thresholds.sharpness))
        reasons += _reason("mouth_soft", level, percent=round(100 * sharp))
    if seam is not None and seam > SEAM:
        reasons += _reason("seam", "fair", times=seam)
    if outside is not None and outside < OUTSIDE_DB:
        reasons += _reason("changed_elsewhere", "fair", db=outside)
    held = picture.get("held_percent")
    if held is not None:
        level = _level(held / settings.thresholds.held_percent)
        reasons += _reason("pictures_held", level, percent=held)
    return reasons


def _passed(figures: Figures, passed: Sequence[tuple[int, int]], settings: Settings, fps: float) -> list[MessageReason]:
    percent = figures.get("picture", {}).get("passed_percent") or 0.0
    if not passed or not percent:
        return []
    first, last = max(passed, key=lambda r: r[1] - r[0])
    level = _level(percent / settings.thresholds.passed_percent)
    return _reason(
        "passed_through", level, percent=percent, seconds=round((last - first + 1) / fps, 1),
        at=round(first / fps, 1),
    )  # fmt: skip


def _structure(structure: StructureFigures, settings: Settings, fps: float, *, ours: bool) -> list[MessageReason]:
    if settings.mark == "on" and ours and not structure.get("mark", True):
        return _reason("not_marked", "fair")
    if structure.get("label") is False:
        return _reason("label_missing", "poor" if ours else "fair")
    picture, sound = structure.get("picture_seconds"), structure.get("sound_seconds")
    if sound is None:
        return _reason("no_sound", "poor")
    if picture is not None and abs(picture - sound) > 2 / fps + 0.05:
        return _reason("lengths_differ", "fair" if abs(picture - sound) < 0.5 else "poor", picture=picture, sound=sound)
    return []
