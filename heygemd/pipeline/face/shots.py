"""Which keyframes show one and the same person, where a clip is cut from shots of several.

Faces are grouped by place, and two people may sit at the same place in two shots.  Keyframes whose whole pictures are
alike are of one shot; shots belong together where a face of one can be aligned well with a face of the other.
Measured on five people: of two keyframes of one person .64 of the points agree in the median, of two people at most
.48; so a shot is judged by its best pair.  Where an imported model tells who is seen, that decides instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.face.anchors import Reference, settle
from heygemd.pipeline.face.detect import Box, Finder, Person
from heygemd.pipeline.face.landmark_models import SAME_PERSON
from heygemd.pipeline.image.geometry import HEIGHT, WIDTH, Bytes, Floats, Singles, cropped

SAME_FACE = 0.55
"""Share of points that agree from which on two pictures, or the best frames of a shot, show the same face."""
_STILL, _MOVING, _LIGHT = 14.0, 40.0, 4.0
"""Mean difference of two thumbnails in grey levels, within one shot: of a still camera and head; of a head that fills
the picture and moves, if the thumbnails' sorted greys differ by less than ``_LIGHT`` (those of other shots by 5 to 27).
"""
_TRIED = 3  # keyframes of a shot that are compared with those of another


def of_one(person: Person, pictures: Mapping[int, Bytes], finder: Finder) -> Person:
    """``person`` with the boxes of one human only: the one whom most keyframes show, the first of several."""
    shots = _shots(sorted(person.boxes), pictures)
    if len(shots) < 2:
        return person
    codes = finder.codes(person, pictures)
    people: list[list[int]] = []
    for shot in sorted(shots, key=lambda s: (-len(s), s)):
        known = next(
            (
                one
                for one in people
                if (_alike(one, shot, person.boxes, pictures) if codes is None else _same_code(one, shot, codes))
            ),
            None,
        )
        if known is None:
            people.append(list(shot))
        else:
            known += shot
    most = min(people, key=lambda one: (-len(one), min(one)))
    return replace(person, boxes={i: person.boxes[i] for i in sorted(most)})


def strange(quality: Floats, cuts: Sequence[int], keyframes: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Which of the ``n`` frames are of shots that hold none of the person's ``keyframes`` and are not his either: in
    the best tenth of such a shot ``quality``, the share of points that agree, stays below ``SAME_FACE``."""
    out = np.zeros(len(quality), bool)
    for first, end in pairwise([0, *cuts, len(quality)]):
        if end > first and not any(first <= i < end for i in keyframes):
            out[first:end] = np.quantile(quality[first:end], 0.9) < SAME_FACE
    return out


def without_sweeps(cuts: Sequence[int]) -> tuple[int, ...]:
    """``cuts`` without those that follow each other within two frames three times or more: something sweeps through
    the picture there."""
    bursts: list[list[int]] = []
    for cut in cuts:
        if bursts and cut - bursts[-1][-1] <= 2:
            bursts[-1].append(cut)
        else:
            bursts.append([cut])
    return tuple(cut for burst in bursts if len(burst) < 3 for cut in burst)


def _shots(order: Sequence[int], pictures: Mapping[int, Bytes]) -> list[list[int]]:
    """Keyframes whose pictures are alike, directly or by way of others."""
    small = {i: _thumb(pictures[i]) for i in order}
    shots: list[list[int]] = []
    for i in order:
        like = [s for s in shots if any(_one_shot(small[i], small[j]) for j in s)]
        shots = [s for s in shots if s not in like] + [sorted([i, *(j for s in like for j in s)])]
    return shots


def _one_shot(a: Singles, b: Singles) -> bool:
    apart = float(np.abs(a - b).mean())
    return apart < _STILL or (
        apart < _MOVING and float(np.abs(np.sort(a, axis=None) - np.sort(b, axis=None)).mean()) < _LIGHT
    )


def _thumb(picture: Bytes) -> Singles:
    small = cv2.resize(picture[::2, ::2], (48, 48), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _same_code(one: Sequence[int], other: Sequence[int], codes: Mapping[int, Singles]) -> bool:
    """Whether the best pair of the faces of two shots is one person's."""
    pairs = [float(codes[i] @ codes[j]) for i, j in product(one, other) if i in codes and j in codes]
    return max(pairs, default=-1.0) >= SAME_PERSON


def _alike(one: Sequence[int], other: Sequence[int], boxes: Mapping[int, Box], pictures: Mapping[int, Bytes]) -> bool:
    """Whether a face of ``one`` agrees with a face of ``other``."""
    for i, j in product(_some(one), _some(other)):
        reference = Reference(cropped(pictures[i], boxes[i].transform, (WIDTH, HEIGHT)))
        if settle(reference, pictures[j], boxes[j].transform, 2.0)[1] >= SAME_FACE:
            return True
    return False


def _some(rows: Sequence[int]) -> list[int]:
    rows = sorted(rows)
    return [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(_TRIED, len(rows))).astype(int))]
