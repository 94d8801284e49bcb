"""Where faces are in single pictures: an imported SCRFD model (``scrfd``) or the Haar cascades that OpenCV 4 ships.

Which of them is decided once per film (``choose``) and named in the log.  The cascade was chosen by measurement (12
clips, 144 keyframes): ``frontalface_alt2`` found 143 with 9 false boxes, ``default`` 144 with 57; the boxes' false ones
do not agree between keyframes, the true ones do (``Finder.people``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from heygemd.common.errors import SetupError
from heygemd.pipeline.face import scrfd
from heygemd.pipeline.face.landmark_models import Pack
from heygemd.pipeline.image import parallel
from heygemd.pipeline.image.geometry import (
    EYES,
    HEIGHT,
    IO,
    WIDTH,
    Bytes,
    Floats,
    Singles,
    cropped,
    invert,
    move,
    similarity,
)

if TYPE_CHECKING:
    from heygemd.contract.job import Settings

NAME = "haar"
# The eye distance is .365 of a Haar box and the eyes lie .115 of it above its middle (measured on the same clips).
EYE_SHARE, EYE_RISE = 0.365, 0.115
SIDES = (480, 960)
"""Longest side, in px, of the picture that is searched; the second only where the first finds nothing at all."""


@dataclass(frozen=True, slots=True)
class Box:
    """A square around a face: centre and width in luma px."""

    x: float
    y: float
    width: float
    eyes: tuple[float, float, float, float] | None = None  # x, y of left and right, where a model saw them
    points: Floats | None = field(default=None, compare=False)  # (5, 2): eyes, nose, corners of the mouth, likewise

    @property
    def transform(self) -> Floats:
        """Canonical to image, as far as a box tells."""
        scale = EYE_SHARE * self.width / IO
        return similarity(scale, 0.0, self.x - scale * EYES[0], self.y - EYE_RISE * self.width - scale * EYES[1])


@dataclass(frozen=True, slots=True)
class Person:
    """The same face in several keyframes: box by keyframe index, and in how many its two eyes were seen."""

    boxes: Mapping[int, Box]
    eyes: int

    @property
    def middle(self) -> Box:
        """The median box."""
        values = np.median([(b.x, b.y, b.width) for b in self.boxes.values()], axis=0)
        return Box(float(values[0]), float(values[1]), float(values[2]))


class Finder:
    """What looks for faces in the frames of one film: the imported ``detector``, or else the Haar
    cascades."""

    def __init__(self, detector: scrfd.Detector | None = None) -> None:
        self._detector = detector
        self.name = NAME if detector is None else detector.name
        self.pack = Pack() if detector is None else detector.pack  #: landmarks and identity, where the model has them

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """(code, sentence) of what a person should know about it."""
        if self._detector is None or self._detector.model.commercial:
            return []
        model = self._detector.model
        return [("model_terms", f"{model.name} found the face. {model.terms}")]

    def boxes(self, luma: Bytes, side: int = SIDES[0]) -> list[Box]:
        """Faces in one picture ``(h, w)`` uint8, searched at ``side`` px along its longest side (a model has its
        own)."""
        if self._detector is not None:
            return [_box_of(face) for face in self._detector.faces(luma)]
        shrink = min(1.0, side / max(luma.shape))
        small = cv2.resize(luma, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else luma
        rectangles = _cascade("haarcascade_frontalface_alt2.xml").detectMultiScale(small, 1.1, 2, minSize=(24, 24))
        return [Box((x + w / 2) / shrink, (y + h / 2) / shrink, w / shrink) for x, y, w, h in rectangles]

    def people(self, pictures: Mapping[int, Bytes], threads: int = 1) -> list[Person]:
        """Faces seen at the same place in at least 40 % of the keyframes ``{index: luma (h, w)}``; best seen first."""
        model = self._detector is not None
        for side in SIDES[: 1 if model else None]:
            boxes = parallel.each(partial(self.boxes, side=side), pictures.values(), 1 if model else threads)
            by_keyframe = dict(zip(pictures, boxes, strict=True))
            if any(by_keyframe.values()):
                return _agreeing(by_keyframe, pictures)
        return []

    def codes(self, person: Person, pictures: Mapping[int, Bytes]) -> dict[int, Singles] | None:
        """Who is seen in each of the person's keyframes, as a code of unit length; ``None`` where no model tells."""
        identity = self.pack.identity
        if identity is None:
            return None
        points = {i: box.points for i, box in person.boxes.items()}
        return {i: identity.by_points(pictures[i], p) for i, p in points.items() if p is not None}


def choose(settings: Settings) -> Finder:
    """The finder that ``settings`` ask for.  Raises SetupError where it is asked for by name and lacks something."""
    return Finder(scrfd.choose(settings.finder, settings.models_dir, settings.threads))


def _box_of(face: scrfd.Detection) -> Box:
    """A box such as the cascade would draw around these eyes."""
    (x0, y0), (x1, y1) = face.eyes
    width = float(np.hypot(x1 - x0, y1 - y0)) / EYE_SHARE
    return Box((x0 + x1) / 2, (y0 + y1) / 2 + EYE_RISE * width, width, (x0, y0, x1, y1), face.points)


_own = threading.local()


def _cascade(name: str) -> cv2.CascadeClassifier:
    """This thread's: a cascade keeps what it has seen."""
    cascade: cv2.CascadeClassifier | None = getattr(_own, name, None)
    if cascade is None:
        cascade = _loaded(name)
        setattr(_own, name, cascade)
    return cascade


def _loaded(name: str) -> cv2.CascadeClassifier:
    found = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))
    if found.empty():
        raise SetupError(f"OpenCV's own {name} is missing: install opencv-python 4.x (5.0 dropped the cascades).")
    return found


def eyes(luma: Bytes, box: Box) -> Floats | None:
    """Left and right eye centre ``(2, 2)`` in the canonical face of ``box``, or None where not both are seen.

    As the cascade sees them, 2 px low and 3.5 % wide of the true centres, which ``anchors`` allows for.
    """
    if box.eyes is not None:
        true = move(invert(box.transform), np.array(box.eyes).reshape(2, 2))
        middle = true.mean(0)
        seen: Floats = middle + (true - middle) / 0.965 + [0.0, 2.0]
        return seen
    canonical = cropped(luma, box.transform, (WIDTH, HEIGHT))[30:130]
    found = _cascade("haarcascade_eye.xml").detectMultiScale(canonical, 1.05, 4, minSize=(24, 24), maxSize=(64, 64))
    centres = [(x + w / 2, y + 30 + h / 2) for x, y, w, h in found]
    half = IO / 2
    pair = []
    for wanted in (EYES[0] - half, EYES[0] + half):
        near = [c for c in centres if abs(c[0] - wanted) < 20 and abs(c[1] - EYES[1]) < 18]
        if not near:
            return None
        pair.append(near[0])
    return np.array(pair, np.float64)


def _agreeing(found: Mapping[int, list[Box]], pictures: Mapping[int, Bytes]) -> list[Person]:
    seeds = [box for candidates in found.values() for box in candidates]
    groups = sorted((_group(seed, found) for seed in seeds), key=lambda g: (-len(g), -_width(g)))
    needed = max(min(2, len(pictures)), 0.4 * len(pictures))
    kept: list[dict[int, Box]] = []
    for group in groups:
        if len(group) >= needed and not any(_same(group, other) for other in kept):
            kept.append(group)
    return [Person(g, _eyes_seen(g, pictures)) for g in kept]


def _group(seed: Box, found: Mapping[int, list[Box]]) -> dict[int, Box]:
    """The box of each keyframe that can be the seed's face: near it and of about its size."""
    group = {}
    for index, candidates in found.items():
        near = [
            b
            for b in candidates
            if max(abs(b.x - seed.x), abs(b.y - seed.y)) < 0.8 * seed.width and 0.75 < b.width / seed.width < 1.33
        ]
        if near:
            group[index] = min(near, key=lambda b: np.hypot(b.x - seed.x, b.y - seed.y) + abs(b.width - seed.width))
    return group


def _width(group: Mapping[int, Box]) -> float:
    return float(np.median([b.width for b in group.values()]))


def _same(one: Mapping[int, Box], other: Mapping[int, Box]) -> bool:
    shared = [i for i in one if i in other and one[i] == other[i]]
    return len(shared) > 0.3 * min(len(one), len(other))


def _eyes_seen(group: Mapping[int, Box], pictures: Mapping[int, Bytes]) -> int:
    looked_at = sorted(group)[:: max(1, len(group) // 4)][:4]
    return sum(eyes(pictures[i], group[i]) is not None for i in looked_at)
