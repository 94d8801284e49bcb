"""The network's picture into the frame: enlarged, matched in colour, sharpened, behind a soft edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.wav2lip import box
from heygemd.pipeline.engines.wav2lip.colour import Colour
from heygemd.pipeline.image.compose import Area, Canvas, Planes, matched, mixed, put
from heygemd.pipeline.image.geometry import Bytes, Floats, Singles, compose

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame

FINE = 0.9
"""Sigma, in px of the box picture, of the blur that separates fine detail from the rest: what enlarging loses."""
SHARPEN_MAX, SHARPEN_LIMIT = 1.5, 28.0
"""Most that fine detail is multiplied by, less one; and most that a luma value may change by."""
_MATCH = 0.10  # sigma of the colour match, in shares of the box


def sharpening(ratio: float) -> float:
    """By how much fine detail is raised when the template has ``ratio`` times as much of it."""
    return float(np.clip(ratio - 1, 0, SHARPEN_MAX))


class Painter:
    """Knows where the box of each template frame lies.  ``sharpen``: 0 = not at all."""

    def __init__(self, transforms: Floats, size: int, width: int, height: int, colour: Colour) -> None:
        self.sharpen = 0.0
        self._transforms, self._size, self._colour = transforms, size, colour
        self._width, self._height = width, height
        self._inner = box.to_canonical(size)
        self._mask = box.shown(size)

    def to_luma(self, i: int) -> Floats:
        """From pixels of the box picture to the luma plane of template frame ``i``."""
        return compose(self._transforms[i], self._inner)

    def area(self, i: int) -> Area | None:
        """All that may change in template frame ``i``."""
        return box.area(self.to_luma(i), self._size, self._width, self._height)

    def enlargement(self, order: npt.NDArray[np.int64]) -> float:
        """Frame px per px of the network's picture, the median."""
        if not len(order):
            return 0.0
        return float(np.median([_scale(self.to_luma(int(i))) for i in np.unique(order)]))

    def paint(self, frame: Frame, i: int, mouth: Bytes, weight: float) -> None:
        """``mouth``, uint8 BGR, over template frame ``i``; ``weight`` 0..1."""
        where = self.area(i)
        if where is None:
            return
        to_luma = self.to_luma(i)
        canvas = Canvas(where, to_luma)
        mask = canvas.luma(self._mask)
        below = Planes(*(plane.copy() for plane in where.of(frame)))
        above = self._layer(mouth, to_luma, where)
        ring = mask * (1 - mask) * 4
        above = matched(below, above, ring, max(2.0, _MATCH * self._size * _scale(to_luma)))
        mixed_in = mixed(below, above, mask * np.float32(weight), canvas.chroma(self._mask) * np.float32(weight))
        put(frame, where, mixed_in)

    def detail(self, frame: Frame, i: int, mouth: Bytes) -> float | None:
        """How much more fine detail the frame has than ``mouth`` enlarged, in the part that is shown."""
        where = self.area(i)
        if where is None:
            return None
        to_luma = self.to_luma(i)
        mask = Canvas(where, to_luma).luma(self._mask)
        y = box.enlarged(self._colour.planes(mouth), to_luma, where)[0]
        have, got = (np.abs(_fine(p, to_luma)) for p in (where.of(frame).y.astype(np.float32), y))
        return float((mask * have).sum() / max(1e-3, float((mask * got).sum())))

    def _layer(self, mouth: Bytes, to_luma: Floats, where: Area) -> Planes:
        y, u, v = box.enlarged(self._colour.planes(mouth), to_luma, where)
        if self.sharpen:
            y = y + np.clip(self.sharpen * _fine(y, to_luma), -SHARPEN_LIMIT, SHARPEN_LIMIT)
        return Planes(*(np.clip(p + 0.5, 0, 255).astype(np.uint8) for p in (y, u, v)))


def _fine(luma: Singles, to_luma: Floats) -> Singles:
    blurred: Singles = luma - cv2.GaussianBlur(luma, (0, 0), max(0.6, FINE * _scale(to_luma)))
    return blurred


def _scale(transform: Floats) -> float:
    return float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
