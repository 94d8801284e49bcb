"""Planar YUV to BGR and back for small pictures, by the stream's own matrix and range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heygemd.pipeline.image.geometry import Bytes, Floats, Singles

# Kr and Kb of ITU-R BT.601, 709 and 2020, under ffmpeg's names.
_601, _709, _2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
_MATRICES = {"smpte170m": _601, "bt470bg": _601, "bt709": _709, "bt2020nc": _2020, "bt2020c": _2020}
_HD = 720  # rows from which a stream that does not say its matrix is taken for BT.709


@dataclass(frozen=True, slots=True)
class Colour:
    """``to_bgr`` ``(3, 3)`` acts on (y, u, v) in 0..1 and -.5..0.5; ``scale`` and ``shift`` bring bytes there."""

    to_bgr: Floats
    scale: Floats
    shift: Floats

    def bgr(self, y: Bytes, u: Bytes, v: Bytes) -> Bytes:
        """Three planes of one size ``(h, w)`` -> uint8 ``(h, w, 3)``."""
        planes = (np.stack([y, u, v], -1).astype(np.float32) - self.shift) * self.scale
        out: Bytes = np.clip(planes @ self.to_bgr.T * 255 + 0.5, 0, 255).astype(np.uint8)
        return out

    def planes(self, bgr: Bytes) -> Singles:
        """uint8 ``(h, w, 3)`` -> float32 ``(h, w, 3)``: y, u, v in the stream's byte values, unrounded."""
        out: Singles = (bgr / 255.0 @ np.linalg.inv(self.to_bgr).T / self.scale + self.shift).astype(np.float32)
        return out


def of(told: Mapping[str, str | None], height: int) -> Colour:
    """The colour of pictures of which ``told`` says what media's ``output_colour`` does, or nothing."""
    matrix, spread = told.get("color_space"), told.get("color_range")
    red, blue = _MATRICES.get(str(matrix), _709 if height >= _HD else _601)
    green = 1 - red - blue
    to_bgr = np.array(
        [
            [1, 2 * (1 - blue), 0],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 0, 2 * (1 - red)],
        ]
    )
    if spread in ("pc", "jpeg", "full"):
        return Colour(to_bgr, np.full(3, 1 / 255), np.array([0.0, 128.0, 128.0]))
    return Colour(to_bgr, np.array([1 / 219, 1 / 224, 1 / 224]), np.array([16.0, 128.0, 128.0]))
