"""The mouth code: how the lower face of each frame differs from a hub frame, as a dense field.

Fields live on a grid of ``GRID`` canonical px over the region ``LEFT..RIGHT, TOP..BOTTOM``; a field ``G`` says where
the hub's point ``h`` is in frame ``i``: at ``h + G_i(h)``, canonical px.  Two reference frames (the most typical
one, the hub, and the one that differs most) are matched with each frame by DIS flow and averaged by how well they fit:
one reference loses the mouth when it opens.  A third gained nothing: on five clips the opening's mean r against
landmarks was .80 with three and with two, the width's .81 and .80.

Matching at half the canonical resolution is the one setting that matters: finer or coarser made the opening's r
against landmarks .82 instead of .86, as did the variational step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.image.flow import Matcher, typical
from heygemd.pipeline.image.geometry import IO, NO_MAP, Bytes, Singles
from heygemd.pipeline.image.pca import components

LEFT, RIGHT, TOP, BOTTOM = 16, 176, 84, 224
GRID = 4
COLUMNS, ROWS = (RIGHT - LEFT) // GRID, (BOTTOM - TOP) // GRID
_REFERENCES = 2
_LOOKED_AT = 300
_HALF = 2  # canonical px per px of the pictures that are matched
_STEPS, _APART = 8, 5
"""Of descent, and halved px between patches.  OpenCV's 16 and 4 take 1.7 times as long and agree no better with
landmarks: the mean r of five clips was .80 for the opening and for the width with both."""


def grid(step: float = GRID) -> tuple[Singles, Singles]:
    """Canonical x and y of the centres of cells of ``step`` px over the region, float32 ``(rows, columns)``."""
    x, y = np.meshgrid(
        LEFT + (np.arange(round((RIGHT - LEFT) / step)) + 0.5) * step - 0.5,
        TOP + (np.arange(round((BOTTOM - TOP) / step)) + 0.5) * step - 0.5,
    )
    return x.astype(np.float32), y.astype(np.float32)


def at(field: Singles, x: Singles, y: Singles) -> Singles:
    """A field, or anything else on its grid, read at canonical ``x``, ``y`` (float32 arrays of one shape)."""
    return cv2.remap(
        field,
        (x - np.float32(LEFT - 0.5)) / np.float32(GRID) - np.float32(0.5),
        (y - np.float32(TOP - 0.5)) / np.float32(GRID) - np.float32(0.5),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def in_hub(field: Singles, x: Singles, y: Singles) -> tuple[Singles, Singles]:
    """The hub's points that ``field`` moves to ``x``, ``y``: h + field(h) = (x, y), by fixed-point steps."""
    hx, hy = x, y
    for _ in range(4):
        g = at(field, hx, hy)
        hx, hy = x - g[..., 0], y - g[..., 1]
    return hx, hy


def some(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of many rows, those that are enough to choose references from, evenly spread."""
    chosen: npt.NDArray[np.int64] = np.linspace(0, len(rows) - 1, min(_LOOKED_AT, len(rows))).astype(np.int64)
    result: npt.NDArray[np.int64] = rows[np.unique(chosen)]
    return result


class Fields:
    """Measures the field of a frame from its canonical luma; made from the kept frames of one clip."""

    def __init__(self, pictures: Bytes) -> None:
        """``pictures`` ``(m, 224, 192)`` uint8: the frames that references are chosen from; see ``some``."""
        self._matchers = threading.local()
        rows = _references(pictures)
        self.hub = rows[0]
        self._references = [_region(pictures[r]) for r in rows]
        hub = self._references[0]
        y, x = np.mgrid[0 : hub.shape[0], 0 : hub.shape[1]].astype(np.float32)
        self._pixels = np.dstack([x, y])
        self._from_hub: list[Singles] = [np.zeros((*hub.shape, 2), np.float32)]
        self._from_hub += [self._match(hub, r) for r in self._references[1:]]
        self._there = [self._pixels + first for first in self._from_hub]
        self._hub_detail = _detail(hub)

    def of(self, picture: Bytes) -> Singles:
        """The field ``(ROWS, COLUMNS, 2)`` float32 of one canonical luma picture ``(224, 192)``.

        May be called from several threads.
        """
        region = _region(picture)
        detail = _detail(region)
        total = np.zeros((*region.shape, 2), np.float32)
        weight = np.zeros(region.shape, np.float32)
        for k, reference in enumerate(self._references):
            flow = self._match(reference, region)
            if k:
                flow = self._from_hub[k] + _at(flow, self._there[k])
            off = _at(detail, self._pixels + flow) - self._hub_detail
            error = cv2.GaussianBlur(off * off, (0, 0), 3 / _HALF)
            fits = 1 / (1 + error / 36.0) ** 2 + 1e-3
            total += flow * fits[..., None]
            weight += fits
        share = weight / len(self._references)
        blurred = cv2.GaussianBlur(total / np.float32(len(self._references)), (0, 0), 3 / _HALF)
        smooth = blurred / (cv2.GaussianBlur(share, (0, 0), 3 / _HALF)[..., None] + 1e-4)
        return _HALF * cv2.resize(smooth, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)

    def _match(self, before: Bytes, after: Bytes) -> Singles:
        """Flow in px of the halved pictures; a matcher has buffers of its own, so each thread has one."""
        own: Matcher | None = getattr(self._matchers, "own", None)
        if own is None:
            own = self._matchers.own = Matcher(finest=0, steps=_STEPS, apart=_APART)
        return own.flow(before, after)


def _at(image: Singles, where: Singles) -> Singles:
    found: Singles = cv2.remap(image, where, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found


def _region(picture: Bytes) -> Bytes:
    size = ((RIGHT - LEFT) // _HALF, (BOTTOM - TOP) // _HALF)
    return cv2.resize(picture[TOP:BOTTOM, LEFT:RIGHT], size, interpolation=cv2.INTER_AREA)


def _detail(region: Bytes) -> Singles:
    soft = region.astype(np.float32)
    return soft - cv2.GaussianBlur(soft, (0, 0), 8 / _HALF)


def _references(pictures: Bytes) -> list[int]:
    """The medoid of the lower faces and those farthest from all chosen, the strangest tenth left out."""
    thumbs = np.array(
        [cv2.resize(p[100:208, 46:146], (25, 27), interpolation=cv2.INTER_AREA).ravel() for p in pictures],
        np.float32,
    )
    codes = components(normalised(thumbs), 5)[0]
    return typical(codes, _REFERENCES)


def normalised(rows: Singles) -> Singles:
    """Each row with mean 0 and standard deviation 1: light and contrast taken out."""
    rows = rows - rows.mean(1, keepdims=True)
    result: Singles = rows / (rows.std(1, keepdims=True) + 1e-3)
    return result


def reader(mouth: Mouth) -> Callable[[Singles], tuple[float, float, float]]:
    """field -> (lower lip drop, chin drop, corner spread), canonical px."""
    x, y = grid()

    def around(dx: float, dy: float, sx: float, sy: float) -> Singles:
        weight = np.exp(
            -0.5 * ((x - mouth.x - dx * IO) / (sx * IO)) ** 2 - 0.5 * ((y - mouth.y - dy * IO) / (sy * IO)) ** 2
        )
        result: Singles = (weight / weight.sum()).astype(np.float32)
        return result

    upper, lower, chin = around(0, -0.12, 0.16, 0.06), around(0, 0.17, 0.16, 0.07), around(0, 0.5, 0.16, 0.10)
    half = mouth.half_width / IO
    left, right = around(-half, 0, 0.08, 0.08), around(half, 0, 0.08, 0.08)

    def read(field: Singles) -> tuple[float, float, float]:
        rest = float((field[..., 1] * upper).sum())
        spread = float((field[..., 0] * (right - left)).sum())
        return (
            float((field[..., 1] * lower).sum()) - rest,
            float((field[..., 1] * chin).sum()) - rest,
            spread,
        )

    return read


def measured(pictures: Bytes, fields: Fields) -> npt.NDArray[np.float32]:
    """Fields ``(m, ROWS, COLUMNS, 2)`` of many pictures."""
    return np.array([fields.of(p) for p in pictures], np.float32)
