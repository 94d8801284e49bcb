"""Following one face through every frame of a clip.

Each frame is followed from its predecessor (``steps``: small, precise, drifting) and against a few reference pictures
(``anchors``: noisy, never drifting); a least-squares fit over the whole clip joins both.  Measured on 12 real clips:
lip jitter below that of a landmark model on 11 of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from heygemd.pipeline.face.anchors import Start, follow, points_on, settle
from heygemd.pipeline.face.crops import CropKeeper, Crops
from heygemd.pipeline.face.detect import Box, Finder
from heygemd.pipeline.image.geometry import (
    HEIGHT,
    WIDTH,
    Bytes,
    Floats,
    Singles,
    compose,
    cropped,
    from_parameters,
    invert,
    to_parameters,
)

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame

_STEP_SIGMA, _ANCHOR_SIGMA = 0.0015, 0.02  # in io: noise of a step and of an anchor in the smoother
_STEP_GOOD = 0.3  # share of points that agree; below, a step is not believed
_STEP_SURE, _ANCHOR_GOOD = 0.6, 0.5  # from which on an anchor holds for two frames
_ANCHOR_POOR = 0.15  # below, the face is not the reference's face, or not there
_BRIDGE = 6  # frames that steps alone may carry
_SHORTEST = 5  # frames; shorter usable islands are dropped


@dataclass(frozen=True, slots=True)
class Path:
    """What following a clip of ``n`` frames gives: transforms ``(n, 2, 3)``, quality and usable ``(n,)``, the first
    frames of new shots, canonical pictures."""

    transforms: Floats
    quality: Floats
    usable: npt.NDArray[np.bool_]
    cuts: tuple[int, ...]
    crops: Crops


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


class Tracker:
    """Takes frames in order; ``finish`` fits the whole clip."""

    def __init__(self, start: Start, count: int, finder: Finder) -> None:
        """``count``: frames of the clip; ``finder``: what a lost face is looked for with."""
        self._start, self._current, self._finder = start, 0, finder
        self._anchors: list[Floats] = []  # absolute parameters
        self._anchor_quality: list[float] = []
        self._steps: list[Floats] = []  # parameter differences to the frame before
        self._step_quality: list[float] = []
        self._online: list[Floats] = []  # transforms that the crops were taken with
        self._transform: Floats | None = None
        self._previous: tuple[Bytes, Singles] | None = None
        self._switched = self._searched = -99
        self._held: tuple[Floats, float] | None = None  # where an anchor says that the face was in the last frame
        self._just_carried = False
        self._found: Box | None = None
        self._cuts = _Cuts()
        self._crops = CropKeeper(count)
        box_index = np.array([i for i, _ in start.boxes], np.float64)
        values = np.array([(b.x, b.y, b.width) for _, b in start.boxes], np.float64)
        self._box_path = (box_index, values)

    def take(self, frame: Frame) -> Floats:
        """Follow the face into the next frame; where it is there, as far as is known by now."""
        i, luma = len(self._anchors), frame.y
        if self._cuts.take(luma):
            self._previous = None
        expected = self._expected(i)
        guess = self._transform if self._transform is not None else expected
        picture = cropped(luma, guess, (WIDTH, HEIGHT))
        stepped, step_quality, picture, placed = self._step(luma, guess, picture)
        anchor, quality = self._carried(guess, stepped, step_quality) or self._anchor(i, picture, placed)
        if quality < _ANCHOR_POOR and step_quality < _STEP_GOOD:
            anchor, quality = self._search(i, luma, expected)
        self._steps.append(to_parameters(stepped) - to_parameters(guess) if i else np.zeros(4))
        self._step_quality.append(step_quality)
        now, strayed = self._pull(stepped, step_quality, anchor, quality, expected)
        self._held = None if strayed else (anchor, quality)
        self._anchors.append(now if strayed else to_parameters(anchor))
        self._anchor_quality.append(0.05 if strayed else quality)
        self._transform = from_parameters(now)
        picture = cropped(luma, self._transform, (WIDTH, HEIGHT))
        self._previous = (picture, points_on(picture, 80, 6))
        self._online.append(self._transform)
        self._crops.take(i, picture, frame, self._transform)
        return self._transform

    def keeps(self, i: int) -> bool:
        """Whether a canonical picture of frame ``i`` is kept."""
        return self._crops.keeps(i)

    def _expected(self, i: int) -> Floats:
        """Where the keyframes' boxes, or a later search, say that the face is."""
        if self._found is not None:
            box = self._found
        else:
            index, values = self._box_path
            x, y, width = (float(np.interp(i, index, values[:, k])) for k in range(3))
            box = Box(x, y, width)
        return compose(box.transform, self._start.from_box)

    def _step(self, luma: Bytes, guess: Floats, picture: Bytes) -> tuple[Floats, float, Bytes, Floats]:
        """Moved transform, its quality, and the picture that the anchor shall see with the transform it has."""
        if self._previous is None:
            return guess, 0.0, picture, guess
        step, quality = follow(*self._previous, picture, 0.5)
        if step is None or quality <= _STEP_GOOD:
            return guess, quality, picture, guess
        stepped = compose(guess, step)
        if np.abs(step - np.eye(2, 3)).max() <= 0.15:
            return stepped, quality, picture, guess
        return stepped, quality, cropped(luma, stepped, (WIDTH, HEIGHT)), stepped

    def _carried(self, guess: Floats, stepped: Floats, step_quality: float) -> tuple[Floats, float] | None:
        """The last frame's anchor, moved by the step: good for every other frame of a face that is well seen, because
        an anchor's noise is over ten times a step's and hardly changes from frame to frame."""
        self._just_carried = (
            not self._just_carried
            and self._held is not None
            and (self._held[1] >= _ANCHOR_GOOD and step_quality >= _STEP_SURE)
        )
        if not self._just_carried or self._held is None:
            return None
        anchor, quality = self._held
        return compose(stepped, compose(invert(guess), anchor)), quality

    def _anchor(self, i: int, picture: Bytes, placed: Floats) -> tuple[Floats, float]:
        """The transform against the current reference, or a better fitting one."""
        references = self._start.references
        step, quality = follow(references[self._current].picture, references[self._current].points, picture, 1.5)
        best = compose(placed, step) if step is not None else placed
        if quality < 0.45 and i - self._switched >= 3:
            self._switched = i
            for j, reference in enumerate(references):
                if j == self._current:
                    continue
                other, other_quality = follow(reference.picture, reference.points, picture, 1.5)
                if other is not None and other_quality > quality + 0.08:
                    best, quality, self._current = compose(placed, other), other_quality, j
        return best, quality

    def _search(self, i: int, luma: Bytes, expected: Floats) -> tuple[Floats, float]:
        """The face is lost: look for it again, every tenth frame; else where it is expected, with next to no
        weight."""
        if i - self._searched >= 10:
            self._searched = i
            usual = float(np.median(self._box_path[1][:, 2]))
            near = [b for b in self._finder.boxes(luma) if 0.6 < b.width / usual < 1.6]
            if near:
                here = to_parameters(expected)
                self._found = min(near, key=lambda b: float(np.hypot(b.x - here[0], b.y - here[1])))
                self._transform = None
                expected = self._expected(i)
                placed, quality = settle(self._start.references[self._current], luma, expected, 2.0)
                if quality > _ANCHOR_POOR:
                    return placed, quality
        return expected, 0.02

    def _pull(
        self, stepped: Floats, step_quality: float, anchor: Floats, quality: float, expected: Floats
    ) -> tuple[Floats, bool]:
        """The online estimate: the step, pulled a little towards the anchor; reset where it strays from the boxes."""
        now, to = to_parameters(stepped), to_parameters(anchor)
        share = 0.25 * min(1.0, quality / 0.6) if step_quality > _STEP_GOOD else min(1.0, 0.3 + quality)
        now = now + share * (to - now)
        box = to_parameters(expected)
        strayed = bool(np.hypot(*(now[:2] - box[:2])) > 0.8 * self._start.eye_px or abs(now[2] - box[2]) > 0.35)
        if strayed and quality > 0.5:
            # Well anchored far from the boxes: the boxes, interpolated between keyframes, are what is wrong.
            return to, False
        return (box, True) if strayed else (now, False)

    def finish(self, threads: int = 1) -> Path:
        """The smoothed path."""
        quality, steps = np.array(self._anchor_quality), np.array(self._step_quality)
        transforms = _smooth(np.array(self._anchors), quality, np.array(self._steps), steps, self._start.eye_px)
        crops = self._crops.finish(transforms, self._online, threads)
        return Path(transforms, quality, _usable(quality, steps), tuple(self._cuts.found), crops)


class _Cuts:
    """Shot cuts: a thumbnail that differs from its predecessor far more than thumbnails just did."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self._count = 0
        self._usual = 2.0
        self._last: Singles | None = None

    def take(self, luma: Bytes) -> bool:
        """Whether a new shot begins with this frame."""
        thumb = cv2.resize(luma[::8, ::8], (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
        change = 0.0 if self._last is None else float(np.abs(thumb - self._last).mean())
        cut = change > max(14.0, 5.0 * self._usual)
        if cut:
            self.found.append(self._count)
        else:
            self._usual = 0.9 * self._usual + 0.1 * change
        self._last, self._count = thumb, self._count + 1
        return cut


def _smooth(anchors: Floats, quality: Floats, steps: Floats, step_quality: Floats, eye_px: float) -> Floats:
    """Least squares over the clip: each frame near its anchor, each difference near its step; one tridiagonal
    system per parameter.  Returns transforms ``(n, 2, 3)``."""
    n = len(anchors)
    out = np.empty_like(anchors)
    for k, unit in enumerate((eye_px, eye_px, 1.0, 1.0)):
        anchor_weight = (np.maximum(quality, 0.02) / 0.6) ** 2 / (_ANCHOR_SIGMA * unit) ** 2
        step_weight = np.where(step_quality > _STEP_GOOD, (step_quality / 0.8) ** 2, 0.01)[1:]
        step_weight = step_weight / (_STEP_SIGMA * unit) ** 2
        diagonal = anchor_weight.copy()
        diagonal[1:] += step_weight
        diagonal[:-1] += step_weight
        right = anchor_weight * anchors[:, k]
        right[1:] += step_weight * steps[1:, k]
        right[:-1] -= step_weight * steps[1:, k]
        above = np.concatenate([[0.0], -step_weight])
        out[:, k] = solveh_banded(np.array([above, diagonal]), right) if n > 1 else right / diagonal
    return np.array([from_parameters(row) for row in out])


def _usable(quality: Floats, step_quality: Floats) -> npt.NDArray[np.bool_]:
    """Anchored frames; gaps that good steps bridge are filled (a blink, a blur), short islands dropped."""
    usable = quality >= _ANCHOR_POOR
    for first, last in runs(~usable):
        inside = first > 0 and last + 1 < len(usable)
        if inside and last - first < _BRIDGE and (step_quality[first : last + 2] > 0.5).all():
            usable[first : last + 1] = True
    for first, last in runs(usable):
        if last - first + 1 < min(_SHORTEST, len(usable)):
            usable[first : last + 1] = False
    return usable
