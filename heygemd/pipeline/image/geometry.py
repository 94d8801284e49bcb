"""Similarities in the plane, and the canonical face that everything is measured in.

A transform is a float64 array ``(2, 3)`` acting on column points; "canonical to image" maps the canonical face
(``WIDTH`` x ``HEIGHT`` px, eyes ``IO`` px apart, their midpoint at ``EYES``) onto the luma plane of a frame.  All
lengths named ``io`` are in units of the distance between the eye centres.  Pixel centres have whole coordinates.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# Named for the reader; OpenCV's own types are too loose for a checker to hold the dtype.
Floats = npt.NDArray[Any]  # float64
Singles = npt.NDArray[Any]  # float32
Bytes = npt.NDArray[Any]  # uint8

NO_MAP: Any = None
"""The second map of ``cv2.remap`` where both coordinates are in the first, which OpenCV's types do not foresee."""

IO = 64.0
WIDTH, HEIGHT = 192, 224
EYES = (96.0, 76.0)
# A point between eyes and nose: where the smoother reads position, so that a small roll does not move it.
PIVOT = (EYES[0], EYES[1] + 20.0)


def similarity(a: float, b: float, tx: float = 0.0, ty: float = 0.0) -> Floats:
    """``x' = a x - b y + tx, y' = b x + a y + ty``."""
    return np.array([[a, -b, tx], [b, a, ty]], np.float64)


def invert(transform: Floats) -> Floats:
    """The inverse of a ``(2, 3)`` transform."""
    linear = np.linalg.inv(transform[:, :2])
    return np.hstack([linear, -(linear @ transform[:, 2:])])


def compose(outer: Floats, inner: Floats) -> Floats:
    """The transform that applies ``inner`` first."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.hstack([linear, outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])


def move(transform: Floats, points: Floats) -> Floats:
    """``points`` ``(n, 2)`` through ``transform``."""
    return points @ transform[:, :2].T + transform[:, 2]


def scale_of(transform: Floats) -> float:
    """Image px per canonical px."""
    return float(np.hypot(transform[0, 0], transform[1, 0]))


def to_parameters(transform: Floats) -> Floats:
    """(x, y of ``PIVOT`` in the image, log scale, roll in radians): what can be averaged."""
    x, y = move(transform, np.array([PIVOT]))[0]
    return np.array([x, y, np.log(scale_of(transform)), np.arctan2(transform[1, 0], transform[0, 0])])


def from_parameters(values: Floats) -> Floats:
    """The inverse of ``to_parameters``."""
    scale = float(np.exp(values[2]))
    transform = similarity(scale * np.cos(values[3]), scale * np.sin(values[3]))
    transform[:, 2] = values[:2] - transform[:, :2] @ np.array(PIVOT)
    return transform


def halved(transform: Floats) -> Floats:
    """The same transform between chroma planes of half size on both sides.

    Chroma sample ``i`` lies at luma ``2 i + 0.5``, on both axes and both sides.  Streams that site chroma at the
    left edge differ by a quarter of a chroma sample, which cancels out except for the change of scale.
    """
    out = transform.copy()
    centre = transform[:, :2] @ np.array([0.5, 0.5]) + transform[:, 2]
    out[:, 2] = (centre - 0.5) / 2
    return out


def cropped(plane: Bytes, transform: Floats, size: tuple[int, int]) -> Bytes:
    """``size`` (width, height) px of ``plane`` seen through ``transform`` (output to plane), uint8.

    Faces much larger than the output are averaged down by a whole factor first, or bilinear sampling would alias.
    """
    factor = int(scale_of(transform))
    if factor >= 2:
        plane, transform = _shrink(plane, transform, size, factor)
    return cv2.warpAffine(
        plane,
        transform,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _shrink(plane: Bytes, transform: Floats, size: tuple[int, int], factor: int) -> tuple[Bytes, Floats]:
    """The part of ``plane`` under the output, ``factor`` times smaller, and the transform into it."""
    corners = move(transform, np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], np.float64))
    height, width = plane.shape
    x0 = max(0, min(int(corners[:, 0].min()) - 2 * factor, width - factor))
    y0 = max(0, min(int(corners[:, 1].min()) - 2 * factor, height - factor))
    x1 = max(x0 + factor, min(width, int(corners[:, 0].max()) + 2 * factor))
    y1 = max(y0 + factor, min(height, int(corners[:, 1].max()) + 2 * factor))
    columns, rows = (x1 - x0) // factor, (y1 - y0) // factor
    part = plane[y0 : y0 + rows * factor, x0 : x0 + columns * factor]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    inner = transform.copy()
    inner[:, 2] = (inner[:, 2] - [x0, y0] + 0.5) / factor - 0.5
    inner[:, :2] /= factor
    return small, inner
