"""Frames in which the mouth cannot be judged: something is held before it (a microphone, a cup, a flat hand), or the
head is turned away.

Two signs of a cover, both against the template's own distribution.  The dark lines that every mouth has, open or shut,
are gone; or the lower face looks like nothing that the person shows more than two seconds before or after.  Measured on
five clips of people talking: lines at 0.37 of the clip's median or more in every uncovered frame, 0.15 or less under a
smooth cover of the skin's own colour; what is left unexplained at most 37 grey levels, under a black cover 75 or more.
A cover that is as bright as the skin and has dark lines of its own (parted fingers) is not noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.face.crops import Crops
from heygemd.pipeline.face.follow import runs
from heygemd.pipeline.image.geometry import Bytes, Singles
from heygemd.pipeline.image.pca import directions

Flags = npt.NDArray[np.bool_]

_LINES_ON, _LINES_OFF = 0.25, 0.35  # of the clip's median
_LINES_LEAST = 6.0  # grey levels; a mouth whose lines are fainter cannot be judged by them
_STRANGE_ON, _STRANGE_OFF = 55.0, 42.0  # grey levels
_SHORTEST = 5  # frames; less is a blur
_MARGIN = 3  # frames added on both sides: a cover arrives and leaves
_APART = 50  # frames; what covers the mouth for two seconds must not explain itself
_BLOCKS, _TEACHERS, _COMPONENTS = 10, 150, 6
_MOST = 0.5  # share of covered frames from which on it is not known what the mouth looks like uncovered
_ALIKE_ON, _ALIKE_OFF = 0.50, 0.58  # correlation
_CELLS = (17, 14)  # columns and rows that the lower face is looked at in


def covered(crops: Crops, usable: Flags) -> Flags:
    """Which of the ``n`` frames show a covered mouth; frames of which no picture was kept are not judged, except
    between two covered ones.  ``usable`` ``(n,)``: frames that show the face at all."""
    out = np.zeros(len(usable), bool)
    seen = np.flatnonzero(usable[crops.index])
    if len(seen) < 2 * _SHORTEST:
        return out
    lines, strange = _lines(crops, seen), _strangeness(crops, seen)
    usual = float(np.median(lines))
    share = lines / usual if usual >= _LINES_LEAST else np.ones(len(lines))
    begins = (share < _LINES_ON) | (strange > _STRANGE_ON)
    stays = (share < _LINES_OFF) | (strange > _STRANGE_OFF)
    found = [(a, b) for a, b in runs(stays) if begins[a : b + 1].sum() >= _SHORTEST]
    for first, last in found:
        out[max(0, crops.index[seen[first]] - _MARGIN) : crops.index[seen[last]] + 1 + _MARGIN] = True
    for (_, before), (after, _) in pairwise(runs(out)):
        if after - before <= 2 * _SHORTEST:
            out[before:after] = True
    return out if out[crops.index[seen]].mean() <= _MOST else np.zeros(len(usable), bool)


def turned_away(crops: Crops, usable: Flags, keyframes: Iterable[int]) -> Flags:
    """Which of the ``n`` frames show the head turned so far that its upper face is like none of ``keyframes``, in which
    a face that looks into the camera was found.

    Points are found again on half a face too.  The best correlation of the upper faces, light taken out, was .65 or
    more in all but three frames of four people who talk and move, and .12 to .55 under a head turned by 50 degrees.
    """
    out = np.zeros(len(usable), bool)
    rows = np.flatnonzero(usable[crops.index])
    known = np.flatnonzero(np.isin(crops.index[rows], list(keyframes)))
    if len(known) < 2 or len(rows) < 2 * _SHORTEST:
        return out
    faces = np.array([_upper_face(crops.y[row]) for row in rows])
    alike = (faces @ faces[known].T).max(1)
    for first, last in runs(alike < _ALIKE_OFF):
        if (alike[first : last + 1] < _ALIKE_ON).sum() >= _SHORTEST:
            out[crops.index[rows[first]] : crops.index[rows[last]] + 1] = True
    return out if out[crops.index[rows]].mean() <= _MOST else np.zeros(len(usable), bool)


def _upper_face(picture: Bytes) -> Singles:
    """Forehead to nose as a small picture of length 1, without what changes slowly over it."""
    small = cv2.resize(picture[34:130, 44:148], (52, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = cv2.GaussianBlur(small, (0, 0), 1) - cv2.GaussianBlur(small, (0, 0), 8)
    result: Singles = detail.ravel() / (np.linalg.norm(detail) + 1e-3)
    return result


def _lines(crops: Crops, rows: npt.NDArray[np.int64]) -> Singles:
    """How dark the horizontal lines are where mouths are, grey levels: 90th percentile of the black hat."""
    kernel = np.ones((13, 3), np.uint8)
    dark = np.empty((len(rows), 36, 44), np.uint8)
    for k, row in enumerate(rows):
        soft = cv2.GaussianBlur(crops.y[row, 128:180, 56:136], (0, 0), 2)
        dark[k] = cv2.morphologyEx(soft, cv2.MORPH_BLACKHAT, kernel)[8:44, 18:62]
    result: Singles = np.percentile(dark, 90, axis=(1, 2)).astype(np.float32)
    return result


def _strangeness(crops: Crops, rows: npt.NDArray[np.int64]) -> Singles:
    """What frames far away in time leave unexplained of each lower face, grey levels: 80th percentile over the cells,
    of the plane that differs most (chroma counts twice)."""
    looks, times = _looks(crops, rows), crops.index[rows]
    out = np.zeros(len(rows), np.float32)
    size = max(25, -(-len(rows) // _BLOCKS))
    for first in range(0, len(rows), size):
        part = slice(first, min(first + size, len(rows)))
        near = (times > times[part][0] - _APART) & (times < times[part][-1] + _APART)
        far = np.flatnonzero(~near)
        if len(far) < _APART:
            continue
        far = far[np.unique(np.linspace(0, len(far) - 1, min(len(far), _TEACHERS)).astype(int))]
        mean = looks[far].mean(0)
        basis = directions(looks[far] - mean, _COMPONENTS)
        off = looks[part] - mean
        off = np.abs(off - (off @ basis.T) @ basis).reshape(len(off), 3, -1).max(1)
        out[part] = np.percentile(off, 80, axis=1)
    return out


def _looks(crops: Crops, rows: npt.NDArray[np.int64]) -> Singles:
    """Lower faces as small pictures, one row each; luma against that of the upper face, so that light counts less."""
    out = np.empty((len(rows), 3, _CELLS[1], _CELLS[0]), np.float32)
    for k, row in enumerate(rows):
        luma = cv2.resize(crops.y[row, 116:200, 45:147], _CELLS, interpolation=cv2.INTER_AREA)
        out[k, 0] = luma.astype(np.float32) - crops.y[row, 40:108, 50:142].mean()
        for plane, chroma in enumerate((crops.u, crops.v), 1):
            small = cv2.resize(chroma[row, 58:100, 22:73], _CELLS, interpolation=cv2.INTER_AREA)
            out[k, plane] = 2.0 * small.astype(np.float32)
    return out.reshape(len(rows), -1)
