"""Which part of the face the network sees (``Boxes``), and which part of its answer is shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.compose import Area, area_around
from heygemd.pipeline.image.geometry import EYES, IO, Bytes, Floats, Singles, compose, cropped, move

if TYPE_CHECKING:
    from heygemd.pipeline.engines.wav2lip.colour import Colour
    from heygemd.pipeline.media import Clip

LEFT, RIGHT, TOP, BOTTOM = -1.1, 1.1, -0.95, 1.9
"""The box in io around the middle of the eyes: what the S3FD detector of the training data drew, forehead to just
under the chin, of 0.77 times its height in width.  The network's lower half then begins above the tip of the nose."""
CENTRE, RADII, POWER, SOFT = (0.5, 0.74), (0.41, 0.265), 2.5, 0.3
"""What is shown: a rounded shape over mouth and chin in shares of the box, its edge blended over ``SOFT`` of it."""

AROUND = 6  # px of the box picture: bicubic sampling, and four sigmas of ``blend.FINE``
_TO_CHROMA = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
"""Luma to chroma coordinates: chroma sample ``i`` lies at luma ``2 i + .5``."""


def to_canonical(size: int) -> Floats:
    """From the pixels of a box picture of ``size`` x ``size`` to the canonical face ``(2, 3)``."""
    across, down = (RIGHT - LEFT) * IO / size, (BOTTOM - TOP) * IO / size
    x, y = EYES[0] + LEFT * IO - 0.5, EYES[1] + TOP * IO - 0.5
    return np.array([[across, 0, x + across / 2], [0, down, y + down / 2]])


def picture(planes: tuple[Bytes, Bytes, Bytes], to_luma: Floats, size: int, colour: Colour) -> Bytes:
    """The box as uint8 BGR ``(size, size, 3)``; ``to_luma`` leads from its pixels to the luma plane."""
    to_chroma = compose(_TO_CHROMA, to_luma)
    y, u, v = (
        cropped(plane, where, (size, size))
        for plane, where in zip(planes, (to_luma, to_chroma, to_chroma), strict=True)
    )
    return colour.bgr(y, u, v)


@cache
def shown(size: int) -> Singles:
    """The mask over a box picture, float32 ``(size, size)``, 0..1."""
    at = (np.arange(size) + 0.5) / size
    across, down = (np.abs((at - c) / r) ** POWER for c, r in zip(CENTRE, RADII, strict=True))
    distance = (across[None] + down[:, None]) ** (1 / POWER)
    share = np.clip((1 - distance) / SOFT, 0, 1)
    mask: Singles = (share * share * (3 - 2 * share)).astype(np.float32)
    return mask


def first_row(size: int) -> int:
    """The first row of the network's picture that anything in a film depends on: what is shown, what is read around
    it to enlarge it (2 px) and to tell its fine detail (4 px)."""
    return max(0, int(np.flatnonzero(shown(size).any(1))[0]) - AROUND)


def area(to_luma: Floats, size: int, width: int, height: int) -> Area | None:
    """The rectangle of the frame that the mask reaches; None where too little of it is in the picture."""
    (x, y), (w, h) = CENTRE, RADII
    corners = np.array([[x + i * w, y + j * h] for i in (-1, 1) for j in (-1, 1)]) * size - 0.5
    return area_around(move(to_luma, corners), width, height)


def enlarged(planes: Singles, to_luma: Floats, where: Area) -> tuple[Singles, Singles, Singles]:
    """Box planes ``(size, size, 3)`` at the frame's resolution, bicubic: y ``(h, w)``, u and v ``(h/2, w/2)``."""
    luma = to_luma.copy()
    luma[:, 2] -= (where.x0, where.y0)
    chroma = compose(_TO_CHROMA, luma)
    width, height = where.size
    out = []
    for k, (transform, size) in enumerate(((luma, (width, height)), *((chroma, (width // 2, height // 2)),) * 2)):
        plane = np.ascontiguousarray(planes[..., k])
        out.append(cv2.warpAffine(plane, transform, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    return out[0], out[1], out[2]


class Boxes:
    """Cuts boxes out of the canonical pictures that the tracker kept; decodes the frames that it did not keep."""

    def __init__(self, clip: Clip, track: FaceTrack, size: int, colour: Colour) -> None:
        self._clip, self._track, self._size, self._colour = clip, track, size, colour
        self._row = {int(i): row for row, i in enumerate(track.crops.index)}
        self._inner = to_canonical(size)

    def of(self, indices: Sequence[int]) -> Bytes:
        """uint8 BGR ``(n, size, size, 3)`` of these template frames."""
        missing = sorted({i for i in indices if i not in self._row})
        boxes = {i: self._kept(self._row[i]) for i in set(indices) if i in self._row}
        for i, frame in zip(missing, self._clip.walk(missing) if missing else (), strict=False):
            where = compose(self._track.transforms[i], self._inner)
            boxes[i] = picture((frame.y, frame.u, frame.v), where, self._size, self._colour)
        empty = np.zeros((0, self._size, self._size, 3), np.uint8)
        return np.stack([boxes[i] for i in indices]) if indices else empty

    def _kept(self, row: int) -> Bytes:
        crops = self._track.crops
        return picture((crops.y[row], crops.u[row], crops.v[row]), self._inner, self._size, self._colour)
