"""Looking at the film: its windows decoded once, each picture cropped to the known face and reduced to figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.contract.job import Settings, Tell
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.geometry import HEIGHT, IO, WIDTH, Bytes, Floats, cropped, move, scale_of
from heygemd.pipeline.marking.label import Label
from heygemd.pipeline.media import Clip, Frame
from heygemd.pipeline.quality.picture import FramePair
from heygemd.pipeline.quality.windows import FRAMES_MOST, Crop, Film, Window, read, windows

PAIRS = 10
_NEAR_KEY = 12  # pictures of the template after one at which decoding can start
_MOUTH = (96.0, 152.0)  # canonical px: about where mouths are
_LOWER = (16.0, 92.0, 176.0, 250.0)  # canonical px
_UNKNOWN = (float("nan"), float("nan"))
_MARGIN = 0.35  # of the face's size, around it: what is seen of the surroundings


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a film before it is measured.

    ``transforms`` ``(N, 2, 3)`` canonical face to picture and ``usable`` ``(N,)`` per frame of the film; ``track``: the
    track that they come from.  ``template`` and ``order`` ``(N,)``, the template's picture under each frame, where the
    film shows the template's pictures.  ``reference``: the template's own track, where there is one.  ``region(k)``:
    (x0, y0, x1, y1) outside of which frame k must be the template's, ``None``: all of it; where nobody
    knows it, the lower face stands for it.  ``ours``: the mouth was
    told to follow this sound by heygemd, so that it must.  ``label``: what lies over the first frames.
    """

    transforms: Floats
    usable: npt.NDArray[np.bool_]
    track: FaceTrack
    reference: FaceTrack | None = None
    template: Clip | None = None
    order: npt.NDArray[np.int64] | None = None
    region: Callable[[int], tuple[int, int, int, int] | None] | None = None
    passed_through: list[tuple[int, int]] = field(default_factory=list)
    ours: bool = True
    label: Label | None = None


@dataclass(slots=True)
class Looked:
    """The pictures that were looked at and show the face: their numbers, canonical luma ``(m, 224, 192)``, and how
    much each, and the mouth alone, differs from the one before as it is (mean grey levels, ``nan`` for the first)."""

    windows: list[Window]
    numbers: list[int] = field(default_factory=list)
    canonical: list[Bytes] = field(default_factory=list)
    changes: list[tuple[float, float]] = field(default_factory=list)
    kept: dict[int, tuple[Frame, Crop]] = field(default_factory=dict)


def look(film: Film, known: Known, settings: Settings, tell: Tell) -> Looked:
    """Decode the film's windows."""
    count = min(film.frames, len(known.transforms))
    most = min(FRAMES_MOST, max(1, round(settings.report_seconds * film.fps))) if settings.report_seconds else count
    found = Looked(windows(count, film.keys, most))
    wanted = set(_moments(found.windows, known))
    size = film.info.width // 2 * 2, film.info.height // 2 * 2
    for window in found.windows:
        crop = _crop(known, window, size)
        last: tuple[int, Bytes] | None = None
        for k, frame in read(film, window, crop, settings):
            if k < count and known.usable[k]:
                transform = within(known.transforms[k], crop)
                found.numbers.append(k)
                found.changes.append(change(frame.y, last[1], transform) if last and last[0] == k - 1 else _UNKNOWN)
                found.canonical.append(cropped(frame.y, transform, (WIDTH, HEIGHT)))
            last = k, frame.y
            if k in wanted:
                found.kept[k] = frame, crop
            tell.progress("report", k + 1, count)
    return found


def change(luma: Bytes, before: Bytes, transform: Floats) -> tuple[float, float]:
    """Mean grey levels by which two crops differ: all over, and where the mouth is."""
    x, y = move(transform, np.array([_MOUTH]))[0]
    reach = 0.5 * IO * scale_of(transform)
    height, width = luma.shape
    x0, x1 = (int(np.clip(v, 0, width)) for v in (x - reach, x + reach))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (y - reach, y + reach))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return _UNKNOWN
    whole = cv2.absdiff(luma[::2, ::2], before[::2, ::2]).mean()
    return float(whole), float(cv2.absdiff(luma[y0:y1, x0:x1], before[y0:y1, x0:x1]).mean())


def within(transform: Floats, crop: Crop) -> Floats:
    """``transform`` into the crop instead of the whole picture."""
    moved = transform.copy()
    moved[:, 2] -= (crop.x, crop.y)
    return moved


def _crop(known: Known, window: Window, size: tuple[int, int]) -> Crop:
    """What holds the face in every frame of the window, with a margin; the whole picture where no frame shows it."""
    shown = np.flatnonzero(known.usable[window.first : window.stop]) + window.first
    if not len(shown):
        return Crop(0, 0, *size)
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float64)
    points = np.concatenate([move(known.transforms[k], corners) for k in shown])
    low, high = points.min(0), points.max(0)
    margin = _MARGIN * float((high - low).max()) / 2
    low, high = np.maximum(low - margin, 0), np.minimum(high + margin, size)
    x, y = (int(v) // 2 * 2 for v in low)
    width, height = (max(16, int(v) // 2 * 2) for v in (high - (x, y)))
    return Crop(min(x, size[0] - 16), min(y, size[1] - 16), min(width, size[0] - x), min(height, size[1] - y))


def _moments(looked_at: Sequence[Window], known: Known) -> list[int]:
    """Frames of which more is kept: spread over the windows, where the face is edited, and where the template's own
    picture is cheap to come by."""
    frames = [k for w in looked_at for k in range(w.first, w.stop) if k < len(known.usable) and known.usable[k]]
    if not frames:
        return []
    behind = _behind(frames, known)
    parts = np.array_split(np.arange(len(frames)), min(PAIRS, len(frames)))
    middles = [part[len(part) // 2] for part in parts]
    nearest = [part[int(behind[part].argmin())] for part in parts]
    return [frames[n if behind[n] <= _NEAR_KEY else m] for n, m in zip(nearest, middles, strict=True)]


def _behind(frames: Sequence[int], known: Known) -> npt.NDArray[np.int64]:
    """How many pictures the template's one under each frame lies behind one at which decoding can start."""
    keys = np.asarray(known.template.key_pictures if known.template is not None else [], np.int64)
    if not len(keys) or known.order is None:
        return np.zeros(len(frames), np.int64)
    at = known.order[list(frames)]
    found: npt.NDArray[np.int64] = np.abs(at - keys[np.maximum(0, np.searchsorted(keys, at, "right") - 1)])
    return found


def pairs(looked: Looked, known: Known) -> list[tuple[int, FramePair]]:
    """The kept frames beside those of the template, by frame number; empty where the template is not known."""
    if known.template is None or known.order is None or not looked.kept:
        return []
    numbers = [k for k in sorted(looked.kept, key=lambda k: int(known.order[k])) if known.usable[k]]  # type: ignore[index]
    found = []
    for k, frame in zip(numbers, known.template.walk([int(known.order[k]) for k in numbers]), strict=False):
        mine, crop = looked.kept[k]
        theirs = part(frame, crop)
        free = np.ones((crop.height, crop.width), bool)
        bounds = known.region(k) if known.region is not None else _lower_face(known.transforms[k])
        label = known.label.at(k) if known.label is not None else None
        for x0, y0, x1, y1 in (place for place in (bounds, label) if place is not None):
            free[max(0, y0 - crop.y) : max(0, y1 - crop.y), max(0, x0 - crop.x) : max(0, x1 - crop.x)] = False
        found.append((k, FramePair(mine, theirs, within(known.transforms[k], crop), free)))
    return found


def _lower_face(transform: Floats) -> tuple[int, int, int, int]:
    """Where any engine may draw: from below the eyes to the neck, bounds as those of a region."""
    left, top, right, bottom = _LOWER
    corners = move(transform, np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64))
    low, high = np.floor(corners.min(0)), np.ceil(corners.max(0))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def template_changes(looked: Looked, known: Known, frames: Sequence[int]) -> list[float]:
    """By how much the template's picture under each of these frames differs from the one under the frame before, mean
    grey levels all over; empty where the template is not known."""
    if known.template is None or known.order is None:
        return []
    wanted = sorted({int(known.order[n]) for k in frames for n in (k - 1, k)})
    luma = {n: frame.y for n, frame in zip(wanted, known.template.walk(wanted), strict=False)}
    out = []
    for k in frames:
        window = next(w for w in looked.windows if w.first <= k < w.stop)
        crop = _crop(known, window, (known.template.width, known.template.height))
        place = slice(crop.y, crop.y + crop.height), slice(crop.x, crop.x + crop.width)
        before, here = (luma[int(known.order[n])][place] for n in (k - 1, k))
        out.append(change(here, before, within(known.transforms[k], crop))[0])
    return out


def part(frame: Frame, crop: Crop) -> Frame:
    """The crop of a whole picture."""
    luma = (slice(crop.y, crop.y + crop.height), slice(crop.x, crop.x + crop.width))
    chroma = (
        slice(crop.y // 2, (crop.y + crop.height) // 2),
        slice(crop.x // 2, (crop.x + crop.width) // 2),
    )
    planes = (frame.y[luma], frame.u[chroma], frame.v[chroma])
    return Frame(np.concatenate([np.ascontiguousarray(p).ravel() for p in planes]), crop.width, crop.height)


def bgr(frame: Frame) -> Bytes:
    """For people's eyes: (h, w, 3), read as BT.601 whatever the film is tagged."""
    return np.asarray(cv2.cvtColor(frame.data.reshape(-1, frame.width), cv2.COLOR_YUV2BGR_I420), np.uint8)
