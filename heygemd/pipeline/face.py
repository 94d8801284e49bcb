"""Step 2: frames -> the tracked face: one similarity per frame, and how far it can be believed.

The clip is decoded twice here: a dozen keyframes are searched for faces (``finder``), then every frame is followed
from its predecessor (``steps``: small, precise, drifting) and against a few reference keyframes (``anchors``: noisy,
never drifting); a least-squares fit over the whole clip joins both.  Measured on 12 real clips: lip jitter below
that of a landmark model on 11 of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from heygemd.errors import InputError
from heygemd.pipeline import finder
from heygemd.pipeline.finder import Box, Person
from heygemd.pipeline.geometry import (
    EYES,
    HEIGHT,
    IO,
    WIDTH,
    Bytes,
    Floats,
    Singles,
    compose,
    cut_out,
    from_parameters,
    halved,
    invert,
    move,
    scale_of,
    similarity,
    to_parameters,
)

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip, Frame

KEYFRAMES = 12
CROPS_MAX = 3000
"""How many canonical crops are kept (65 kB each); longer clips keep runs of ``RUN`` frames, evenly spread."""
RUN = 50

_LK = {"winSize": (17, 17), "maxLevel": 3, "criteria": (3, 15, 0.02)}
_ERROR_MAX = 25.0  # LK's mean grey difference of a patch above which a point counts as lost
_STEP_SIGMA, _ANCHOR_SIGMA = 0.0015, 0.02  # in io: noise of a step and of an anchor in the smoother
_STEP_GOOD = 0.3  # share of points that agree; below, a step is not believed
_ANCHOR_POOR = 0.15  # below, the face is not the reference's face, or not there
_BRIDGE = 6  # frames that steps alone may carry
_SHORTEST = 5  # frames; shorter usable islands are dropped


@dataclass(frozen=True, slots=True)
class Crops:
    """Canonical pictures of the kept frames: ``index`` ``(m,)`` rising, ``y`` ``(m, 224, 192)``, ``u`` and ``v``
    ``(m, 112, 96)`` uint8."""

    index: npt.NDArray[np.int64]
    y: Bytes
    u: Bytes
    v: Bytes


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """The face of one clip of ``n`` frames.

    transforms   (n, 2, 3) float64, canonical to image, smoothed over the whole clip
    quality      (n,) in 0..1: share of reference points found again, the anchor's
    usable       (n,) bool: whether the face may be edited there
    eye_px       median distance of the eyes in luma px
    support      share of the keyframes that show this face
    faces_seen   how many different faces the keyframes show
    cuts         first frames of new shots
    """

    transforms: Floats
    quality: Floats
    usable: npt.NDArray[np.bool_]
    eye_px: float
    support: float
    faces_seen: int
    cuts: tuple[int, ...]
    crops: Crops
    warnings: list[tuple[str, str]] = field(default_factory=list)
    finder: str = finder.NAME

    def ranges(self) -> list[tuple[int, int]]:
        """Runs of frames that are not usable, as (first, last)."""
        return runs(~self.usable)


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def track(clip: Clip, settings: Any, name: str, tell: Any) -> FaceTrack:
    """Find and follow one face through ``clip``.

    Raises InputError ``no_face`` where less than half of the keyframes show one at a consistent place, and
    ``face_too_small`` where the eyes are closer than ``settings.min_eye_px``; ``name`` is the user's file name.
    """
    pictures = _keyframes(clip)
    crowd = finder.people(pictures)
    person = _chosen(crowd, len(pictures), settings.face, clip.width, name)
    support = len(person.boxes) / len(pictures)
    start = _start(person, pictures)
    eye_px = start.eye_px
    if eye_px < settings.min_eye_px:
        raise InputError(
            f"{name}: the face is too small: {eye_px:.0f} px between the eyes, at least "
            f"{settings.min_eye_px:.0f} are needed. Use a closer or larger picture.",
            reason="face_too_small",
        )
    tracker = _Tracker(start, clip.count)
    for i, frame in enumerate(clip.frames()):
        tracker.take(frame)
        if i % 10 == 0:
            tell.progress("track", i, clip.count)
    return tracker.finish(support, crowd, person)


def _keyframes(clip: Clip) -> dict[int, Bytes]:
    """Luma of ``KEYFRAMES`` frames, evenly spread, the clip's ends left out."""
    wanted = np.unique(np.linspace(0, max(0, clip.count - 1), KEYFRAMES + 2).astype(int)[1:-1])
    return {int(i): frame.y.copy() for i, frame in zip(wanted, clip.walk(wanted.tolist()), strict=False)}


def _chosen(crowd: Sequence[Person], looked_at: int, which: str, width: int, name: str) -> Person:
    seen = [p for p in crowd if len(p.boxes) >= 0.5 * looked_at]
    if not seen:
        best = max((len(p.boxes) for p in crowd), default=0)
        raise InputError(
            f"{name}: no face was found (seen in {best} of {looked_at} looked-at frames). The face must look "
            "roughly into the camera, upright, and stay in view for at least half of the video.",
            reason="no_face",
        )
    if any(p.eyes for p in seen):
        seen = [p for p in seen if p.eyes]
    order = {
        "left": lambda p: p.middle.x,
        "right": lambda p: -p.middle.x,
        "center": lambda p: abs(p.middle.x - width / 2),
    }
    return min(seen, key=order.get(which, lambda p: -p.middle.width))


# --- Where tracking starts: references with a known canonical transform -----------------------------------------


class _Reference:
    """A canonical picture with points on the upper face and nose, which speech does not move."""

    def __init__(self, picture: Bytes) -> None:
        self.picture, self.points = picture, _points(picture, 120, 5)


def _upper_face() -> Bytes:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[34:125, 40:153] = 255
    return mask


_UPPER_FACE = _upper_face()


def _points(picture: Bytes, most: int, apart: int) -> Singles:
    """Corners ``(k, 1, 2)`` float32 to follow, none where the picture is flat."""
    found = cv2.goodFeaturesToTrack(picture, most, 0.005, apart, mask=_UPPER_FACE, blockSize=5)
    return np.zeros((0, 1, 2), np.float32) if found is None else found


def _fit(points: Floats, moved: Floats, spread: float) -> tuple[Floats, float]:
    """The similarity points -> moved by reweighted least squares (Geman-McClure, its scale annealed to ``spread``
    px), and the share of points within two ``spread`` of it."""
    transform = similarity(1.0, 0.0, *np.median(moved - points, axis=0))
    for scale in (4 * spread, 2.5 * spread, 1.6 * spread, spread, spread, spread):
        off = np.linalg.norm(move(transform, points) - moved, axis=1)
        weight = 1 / (1 + (off / scale) ** 2) ** 2
        total = weight.sum()
        p, q = ((weight[:, None] * x).sum(0) / total for x in (points, moved))
        a, b = points - p, moved - q
        norm = (weight * (a * a).sum(1)).sum() + 1e-9
        transform = similarity(
            (weight * (a * b).sum(1)).sum() / norm,
            (weight * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])).sum() / norm,
        )
        transform[:, 2] = q - transform[:, :2] @ p
    off = np.linalg.norm(move(transform, points) - moved, axis=1)
    return transform, float((off < 2 * spread).mean())


def _follow(before: Bytes, points: Singles, picture: Bytes, spread: float) -> tuple[Floats | None, float]:
    """How ``points`` of ``before`` moved in ``picture``; None where fewer than 12 are found again."""
    if len(points) < 12:
        return None, 0.0
    there, state, error = cv2.calcOpticalFlowPyrLK(before, picture, points, None, **_LK)
    good = (state[:, 0] > 0) & (error[:, 0] < _ERROR_MAX)
    if good.sum() < 12:
        return None, 0.0
    transform, share = _fit(points[good, 0].astype(np.float64), there[good, 0].astype(np.float64), spread)
    return transform, share * float(good.mean())


@dataclass(frozen=True, slots=True)
class _Start:
    references: list[_Reference]
    boxes: list[tuple[int, Box]]
    from_box: Floats  # canonical -> the canonical that a Haar box gives
    eye_px: float


def _start(person: Person, pictures: dict[int, Bytes]) -> _Start:
    """The first reference is a keyframe near the median box with both eyes seen; scale and roll come from the
    median of the eyes of up to 8 keyframes; up to 4 more references are keyframes that look different."""
    middle = person.middle
    ordered = sorted(
        person.boxes,
        key=lambda i: sum(abs(getattr(person.boxes[i], a) - getattr(middle, a)) for a in ("x", "y", "width")),
    )
    seen = {i: e for i in ordered[:8] if (e := finder.eyes(pictures[i], person.boxes[i])) is not None}
    first = next(iter(seen), ordered[0])
    rough = person.boxes[first].transform
    transform = compose(rough, _eye_correction(first, seen, person, pictures))
    reference = _Reference(cut_out(pictures[first], transform, (WIDTH, HEIGHT)))
    from_box = compose(invert(rough), transform)
    others = []
    for i in ordered:
        if i == first:
            continue
        placed, quality = _settle(reference, pictures[i], compose(person.boxes[i].transform, from_box), 2.0)
        if 0.25 < quality < 0.75:
            others.append((quality, i, placed))
    more = [_Reference(cut_out(pictures[i], t, (WIDTH, HEIGHT))) for _, i, t in sorted(others, key=lambda o: o[:2])[:4]]
    return _Start([reference, *more], sorted(person.boxes.items()), from_box, scale_of(transform) * IO)


def _settle(reference: _Reference, luma: Bytes, transform: Floats, spread: float) -> tuple[Floats, float]:
    """``transform`` after four rounds of alignment with the reference, and the last quality."""
    quality = 0.0
    for _ in range(4):
        step, quality = _follow(reference.picture, reference.points, cut_out(luma, transform, (WIDTH, HEIGHT)), spread)
        if step is None:
            break
        transform = compose(transform, step)
    return transform, quality


def _eye_correction(first: int, seen: dict[int, Floats], person: Person, pictures: dict[int, Bytes]) -> Floats:
    """Canonical -> the first box's canonical, from the eyes; identity where they do not look like eyes.

    The cascade's eye boxes reach low and wide: 2 px up and 3.5 % closer agrees with a landmark model's eye centres.
    """
    if not seen:
        return similarity(1.0, 0.0)
    reference = _Reference(cut_out(pictures[first], person.boxes[first].transform, (WIDTH, HEIGHT)))
    placed = []
    for i, found in seen.items():
        own = person.boxes[i].transform
        transform, quality = (own, 1.0) if i == first else _settle(reference, pictures[i], own, 1.5)
        if quality > 0.4:
            placed.append(move(compose(invert(transform), own), found))
    left, right = np.median(placed, axis=0)
    apart = right - left
    scale, roll = float(np.hypot(*apart)) / IO * 0.965, float(np.arctan2(apart[1], apart[0]))
    if not 0.75 < scale < 1.3 or abs(roll) > 0.4:
        return similarity(1.0, 0.0)
    out = similarity(scale * np.cos(roll), scale * np.sin(roll))
    out[:, 2] = (left + right) / 2 + [0.0, -2.0] - out[:, :2] @ np.array(EYES)
    return out


# --- Every frame ------------------------------------------------------------------------------------------------


class _Tracker:
    """Takes frames in order; ``finish`` fits the whole clip."""

    def __init__(self, start: _Start, count: int) -> None:
        self._start, self._current = start, 0
        self._anchors: list[Floats] = []  # absolute parameters
        self._anchor_quality: list[float] = []
        self._steps: list[Floats] = []  # parameter differences to the frame before
        self._step_quality: list[float] = []
        self._online: list[Floats] = []  # transforms that the crops were cut with
        self._transform: Floats | None = None
        self._previous: tuple[Bytes, Singles] | None = None
        self._switched = self._searched = -99
        self._found: Box | None = None
        self._cuts = _Cuts()
        self._crops = _CropKeeper(count)
        box_index = np.array([i for i, _ in start.boxes], np.float64)
        values = np.array([(b.x, b.y, b.width) for _, b in start.boxes], np.float64)
        self._box_path = (box_index, values)

    def take(self, frame: Frame) -> None:
        """Follow the face into the next frame."""
        i, luma = len(self._anchors), frame.y
        if self._cuts.take(luma):
            self._previous = None
        expected = self._expected(i)
        guess = self._transform if self._transform is not None else expected
        picture = cut_out(luma, guess, (WIDTH, HEIGHT))
        stepped, step_quality, picture, cut = self._step(luma, guess, picture)
        anchor, quality = self._anchor(i, picture, cut)
        if quality < _ANCHOR_POOR and step_quality < _STEP_GOOD:
            anchor, quality = self._search(i, luma, expected)
        self._steps.append(to_parameters(stepped) - to_parameters(guess) if i else np.zeros(4))
        self._step_quality.append(step_quality)
        now, strayed = self._pull(stepped, step_quality, anchor, quality, expected)
        self._anchors.append(now if strayed else to_parameters(anchor))
        self._anchor_quality.append(0.05 if strayed else quality)
        self._transform = from_parameters(now)
        picture = cut_out(luma, self._transform, (WIDTH, HEIGHT))
        self._previous = (picture, _points(picture, 80, 6))
        self._online.append(self._transform)
        self._crops.take(i, picture, frame, self._transform)

    def _expected(self, i: int) -> Floats:
        """Where the keyframes' boxes, or a later search, say that the face is."""
        if self._found is not None:
            box = self._found
        else:
            index, values = self._box_path
            box = Box(*(float(np.interp(i, index, values[:, k])) for k in range(3)))
        return compose(box.transform, self._start.from_box)

    def _step(self, luma: Bytes, guess: Floats, picture: Bytes) -> tuple[Floats, float, Bytes, Floats]:
        """Moved transform, its quality, and the picture that the anchor shall see with the transform it has."""
        if self._previous is None:
            return guess, 0.0, picture, guess
        step, quality = _follow(*self._previous, picture, 0.5)
        if step is None or quality <= _STEP_GOOD:
            return guess, quality, picture, guess
        stepped = compose(guess, step)
        if np.abs(step - np.eye(2, 3)).max() <= 0.15:
            return stepped, quality, picture, guess
        return stepped, quality, cut_out(luma, stepped, (WIDTH, HEIGHT)), stepped

    def _anchor(self, i: int, picture: Bytes, cut: Floats) -> tuple[Floats, float]:
        """The transform against the current reference, or a better fitting one."""
        references = self._start.references
        step, quality = _follow(references[self._current].picture, references[self._current].points, picture, 1.5)
        best = compose(cut, step) if step is not None else cut
        if quality < 0.45 and i - self._switched >= 3:
            self._switched = i
            for j, reference in enumerate(references):
                if j == self._current:
                    continue
                other, other_quality = _follow(reference.picture, reference.points, picture, 1.5)
                if other is not None and other_quality > quality + 0.08:
                    best, quality, self._current = compose(cut, other), other_quality, j
        return best, quality

    def _search(self, i: int, luma: Bytes, expected: Floats) -> tuple[Floats, float]:
        """The face is lost: look for it again, every tenth frame; else where it is expected, with next to no
        weight."""
        if i - self._searched >= 10:
            self._searched = i
            usual = float(np.median(self._box_path[1][:, 2]))
            near = [b for b in finder.boxes(luma) if 0.6 < b.width / usual < 1.6]
            if near:
                here = to_parameters(expected)
                self._found = min(near, key=lambda b: float(np.hypot(b.x - here[0], b.y - here[1])))
                self._transform = None
                expected = self._expected(i)
                placed, quality = _settle(self._start.references[self._current], luma, expected, 2.0)
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

    def finish(self, support: float, crowd: Sequence[Person], person: Person) -> FaceTrack:
        """The smoothed track with its warnings."""
        quality, steps = np.array(self._anchor_quality), np.array(self._step_quality)
        transforms = _smooth(np.array(self._anchors), quality, np.array(self._steps), steps, self._start.eye_px)
        usable = _usable(quality, steps)
        scales = [scale_of(t) for t, u in zip(transforms, usable, strict=True) if u]
        if not scales:
            usable = np.zeros(len(quality), bool)
            scales = [self._start.eye_px / IO]
        cuts = tuple(self._cuts.found)
        return FaceTrack(
            transforms,
            quality,
            usable,
            float(np.median(scales)) * IO,
            support,
            len(crowd),
            cuts,
            self._crops.finish(transforms, self._online),
            _warnings(crowd, person, cuts, usable),
        )


class _Cuts:
    """Shot cuts: a thumbnail that differs from its predecessor far more than thumbnails just did."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self._count = 0
        self._usual = 2.0
        self._last: Singles | None = None

    def take(self, luma: Bytes) -> bool:
        """Whether a new shot begins with this frame."""
        thumb = cv2.resize(luma[::2, ::2], (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
        change = 0.0 if self._last is None else float(np.abs(thumb - self._last).mean())
        cut = change > max(14.0, 5.0 * self._usual)
        if cut:
            self.found.append(self._count)
        else:
            self._usual = 0.9 * self._usual + 0.1 * change
        self._last, self._count = thumb, self._count + 1
        return cut


def kept(count: int, most: int, run: int = RUN) -> npt.NDArray[np.int64]:
    """At most ``most`` of ``count`` frames as runs of ``run`` neighbours, evenly spread, rising."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    starts = np.linspace(0, count - run, most // run).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(run)).ravel())


class _CropKeeper:
    """Canonical crops, cut with the online transform and shifted to the smoothed one at the end."""

    def __init__(self, count: int) -> None:
        self._wanted = set(kept(count, CROPS_MAX).tolist())
        self._kept: list[tuple[int, Bytes, Bytes, Bytes]] = []

    def take(self, i: int, picture: Bytes, frame: Frame, transform: Floats) -> None:
        if i in self._wanted:
            half, size = halved(transform), (WIDTH // 2, HEIGHT // 2)
            self._kept.append((i, picture, cut_out(frame.u, half, size), cut_out(frame.v, half, size)))

    def finish(self, transforms: Floats, online: Sequence[Floats]) -> Crops:
        index = np.array([k[0] for k in self._kept], np.int64)
        y, u, v = (np.empty((len(index), HEIGHT // s, WIDTH // s), np.uint8) for s in (1, 2, 2))
        for row, (i, *planes) in enumerate(self._kept):
            change = compose(invert(online[i]), transforms[i])
            for out, plane, moved in zip((y, u, v), planes, (change, halved(change), halved(change)), strict=True):
                out[row] = cut_out(plane, moved, (plane.shape[1], plane.shape[0]))
            self._kept[row] = (i, *(np.empty(0, np.uint8),) * 3)  # frees the uncorrected picture
        return Crops(index, y, u, v)


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


def _warnings(
    crowd: Sequence[Person], person: Person, cuts: Sequence[int], usable: npt.NDArray[np.bool_]
) -> list[tuple[str, str]]:
    out = []
    similar = [p for p in crowd if p is not person and p.middle.width > 0.6 * person.middle.width and p.eyes]
    if similar:
        out.append(
            (
                "second_face",
                f"{len(similar) + 1} faces of similar size are in the picture; one was taken. "
                'Set face = "left", "right" or "center" to choose another.',
            )
        )
    if cuts:
        out.append(
            (
                "shot_cuts",
                f"The video cuts between shots at frame {', '.join(map(str, cuts[:10]))}; "
                "shots in which the face could not be matched were left as they are.",
            )
        )
    if not usable.all():
        share = 100 * float((~usable).mean())
        out.append(("face_lost", f"In {share:.0f} % of the frames the face could not be followed."))
    return out
