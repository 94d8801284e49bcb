"""Step 5a: mouth pixels -> frame, in planar YUV 4:2:0, touching only an even-aligned rectangle of it.

Displacements and masks are worked out on a coarse grid in the canonical face and enlarged here to luma and to chroma
resolution; pixels are sampled once, bicubically, from native planes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from heygemd.pipeline.image.flow import Matcher
from heygemd.pipeline.image.geometry import NO_MAP, Bytes, Floats, Singles

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame


class Planes(NamedTuple):
    """Three planes of the same rectangle: ``y`` ``(h, w)``, ``u`` and ``v`` ``(h / 2, w / 2)`` uint8."""

    y: Bytes
    u: Bytes
    v: Bytes


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle in luma px, all bounds even, ``x1`` and ``y1`` exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in luma px."""
        return self.x1 - self.x0, self.y1 - self.y0

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1)."""
        return self.x0, self.y0, self.x1, self.y1

    def of(self, frame: Frame | Planes) -> Planes:
        """Views into the frame's planes."""
        luma = (slice(self.y0, self.y1), slice(self.x0, self.x1))
        chroma = (slice(self.y0 // 2, self.y1 // 2), slice(self.x0 // 2, self.x1 // 2))
        return Planes(frame.y[luma], frame.u[chroma], frame.v[chroma])

    def within(self, other: Area) -> bool:
        """Whether ``other`` holds all of this."""
        return self.x0 >= other.x0 and self.y0 >= other.y0 and self.x1 <= other.x1 and self.y1 <= other.y1

    def common(self, other: Area) -> Area:
        """The intersection; both overlap."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Area(x0, y0, min(self.x1, other.x1), min(self.y1, other.y1))

    def inside(self, other: Area, planes: Planes) -> Planes:
        """Views of this area, which lies within ``other``, whose pixels ``planes`` are."""
        return Area(self.x0 - other.x0, self.y0 - other.y0, self.x1 - other.x0, self.y1 - other.y0).of(planes)


def area_around(points: Floats, width: int, height: int) -> Area | None:
    """The smallest even rectangle around ``points`` ``(n, 2)`` inside the picture; None where nothing is left."""
    low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int) + 1
    x0, y0 = max(0, low[0]) // 2 * 2, max(0, low[1]) // 2 * 2
    x1, y1 = min(width, (high[0] + 1) // 2 * 2), min(height, (high[1] + 1) // 2 * 2)
    return Area(int(x0), int(y0), int(x1), int(y1)) if x1 - x0 >= 16 and y1 - y0 >= 16 else None


class Canvas:
    """A coarse grid laid over an area: enlarges what was computed on the grid to both resolutions."""

    def __init__(self, area: Area, grid_to_image: Floats) -> None:
        """``grid_to_image`` maps grid indices (column, row) to luma px of the frame."""
        self.area = area
        self._grid_to_image = grid_to_image
        self._luma = grid_to_image.copy()
        self._luma[:, 2] -= (area.x0, area.y0)
        self._chroma = self._luma / 2
        self._chroma[:, 2] -= 0.25
        self._size = area.size
        self._half = (area.size[0] // 2, area.size[1] // 2)

    def part(self, area: Area) -> Canvas:
        """The same grid for another area."""
        return Canvas(area, self._grid_to_image)

    def luma(self, values: Singles, *, extend: bool = False) -> Singles:
        """Grid values ``(rows, columns[, up to 4])`` at luma resolution; 0 outside the grid, or its edge's value."""
        return self._enlarge(values, self._luma, self._size, extend)

    def chroma(self, values: Singles, *, extend: bool = False) -> Singles:
        """The same at chroma resolution."""
        return self._enlarge(values, self._chroma, self._half, extend)

    @staticmethod
    def _enlarge(values: Singles, transform: Floats, size: tuple[int, int], extend: bool) -> Singles:
        border = cv2.BORDER_REPLICATE if extend else cv2.BORDER_CONSTANT
        return cv2.warpAffine(
            np.ascontiguousarray(values, np.float32),
            transform,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=border,
        )


def shifted(source: Planes, canvas: Canvas, shift: Singles, around: Area | None = None) -> Planes:
    """``source`` (the canvas's own area, or ``around``, which holds it) resampled at each of the canvas's pixels plus
    ``shift`` ``(rows, columns, 2)`` luma px, given on the grid.  Where the shift is zero, pixels come out bit for bit.
    """
    area = canvas.area
    x, y = (area.x0 - around.x0, area.y0 - around.y0) if around is not None else (0, 0)
    luma = _from_pixels(canvas.luma(shift), x, y)
    chroma = _from_pixels(canvas.chroma(shift / 2), x // 2, y // 2)
    return Planes(_sample(source.y, luma), _sample(source.u, chroma), _sample(source.v, chroma))


def looked_up(source: Planes, canvas: Canvas, where: Singles) -> Planes:
    """``source`` resampled at luma coordinates ``where`` ``(rows, columns, 2)``, given on the grid and relative to
    the source's corner; the source may be another frame's."""
    luma, chroma = canvas.luma(where, extend=True), canvas.chroma(where / 2 - 0.25, extend=True)
    return Planes(_sample(source.y, luma), _sample(source.u, chroma), _sample(source.v, chroma))


def _from_pixels(shift: Singles, x: int = 0, y: int = 0) -> Singles:
    """``shift`` ``(h, w, 2)``, which is overwritten, added to each pixel's own place, the first being ``x``, ``y``."""
    height, width = shift.shape[:2]
    places = _places(-(-(x + width) // 256), -(-(y + height) // 256))
    return cv2.add(shift, places[y : y + height, x : x + width], dst=shift)


@functools.lru_cache(maxsize=8)
def _places(columns: int, rows: int) -> Singles:
    """(x, y) of every pixel of an area of ``columns`` x ``rows`` blocks of 256 px."""
    return np.dstack(np.meshgrid(np.arange(256 * columns), np.arange(256 * rows))).astype(np.float32)


def _sample(plane: Bytes, where: Singles) -> Bytes:
    return cv2.remap(plane, where, NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def mixed(below: Planes, above: Planes, luma_mask: Singles, chroma_mask: Singles) -> Planes:
    """``above`` over ``below`` where the masks (0..1) say so."""
    masks = (luma_mask, chroma_mask, chroma_mask)
    return Planes(
        *(
            cv2.blendLinear(np.ascontiguousarray(a), np.ascontiguousarray(b), m, 1 - m)
            for a, b, m in zip(above, below, masks, strict=True)
        )
    )


def painted(canvas: Canvas, colour: Sequence[Singles]) -> Planes:
    """Planes from three smooth grids of values."""
    y = canvas.luma(colour[0], extend=True)
    rest = (canvas.chroma(c, extend=True) for c in colour[1:])
    return Planes(*(np.clip(p + 0.5, 0, 255).astype(np.uint8) for p in (y, *rest)))


def put(frame: Frame, area: Area, planes: Planes) -> None:
    """Write ``planes`` into the frame's area."""
    for target, plane in zip(area.of(frame), planes, strict=True):
        target[:] = plane


def matched(base: Planes, layer: Planes, ring: Singles, sigma: float) -> Planes:
    """``layer`` with a smooth offset per plane that makes it agree with ``base`` on the ring.

    ``ring`` ``(h, w)`` 0..1 at luma resolution; ``sigma`` in luma px.  Robust: where a pixel differs much (hair,
    background), it does not count (weight 1 / (1 + (d / 20)^4)); offsets are limited to 32 in luma, 16 in chroma.
    """
    height, width = base.y.shape
    step = max(2, round(sigma / 6))
    small = (max(8, width // step), max(8, height // step))
    below, above = (np.dstack([_small(p, small) for p in planes]) for planes in (base, layer))
    off = below - above
    apart = np.abs(off)
    largest = np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2])
    weight = _small(ring, small) / (1 + (largest / 20.0) ** 4)
    blurred = cv2.GaussianBlur(np.dstack([off * weight[..., None], weight]), (0, 0), sigma / step)
    limit = np.array([32, 16, 16], np.float32)
    offset = np.clip(blurred[..., :3] / (blurred[..., 3:] + 1e-3), -limit, limit)
    return Planes(
        *(
            cv2.add(p, cv2.resize(offset[..., k], (p.shape[1], p.shape[0])), dtype=cv2.CV_8U)
            for k, p in enumerate(layer)
        )
    )


def morphed(old: Planes, new: Planes, share: float) -> Planes:
    """A picture between ``old`` and ``new``, ``share`` of the way: both moved along the flow between their luma, then
    mixed, except where they still differ (teeth against lips), which is taken from ``new``: mixing would show both.
    """
    flow = _matcher().flow(old.y, new.y, np.zeros((*old.y.shape, 2), np.float32))
    height, width = old.y.shape
    half = cv2.resize(flow, (width // 2, height // 2), interpolation=cv2.INTER_AREA) / 2
    out: list[Bytes] = []
    keep: Singles = np.zeros((height, width), np.float32)
    for a, b in zip(old, new, strict=True):
        f = flow if a.shape == old.y.shape else half
        moved_a = _sample(a, _from_pixels(np.float32(-share) * f))
        moved_b = _sample(b, _from_pixels(np.float32(1 - share) * f))
        if not out:
            off = cv2.GaussianBlur(cv2.absdiff(moved_a, moved_b).astype(np.float32), (0, 0), 2)
            keep = ((1 - share) / (1 + (off / 18.0) ** 4)).astype(np.float32)
        mask = keep if a.shape == keep.shape else _small(keep, (a.shape[1], a.shape[0]))
        out.append(cv2.blendLinear(moved_a, moved_b, mask, 1 - mask))
    return Planes(*out)


_own = threading.local()


def _matcher() -> Matcher:
    """This thread's."""
    own: Matcher | None = getattr(_own, "matcher", None)
    if own is None:
        own = _own.matcher = Matcher()
    return own


def _small(plane: Bytes | Singles, size: tuple[int, int]) -> Singles:
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32)
