"""Native pixels of the chosen exemplars, in an unlinked temporary file that the system may page out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from heygemd.pipeline.compose import Area, Planes

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip


class PixelBank:
    """Rectangles of frames by frame number."""

    def __init__(self, clip: Clip, areas: Mapping[int, Area], tell: Any) -> None:
        """Reads the frames of ``areas`` in one pass over the clip."""
        self._areas = dict(areas)
        self._at: dict[int, int] = {}
        self._file = tempfile.TemporaryFile(prefix="heygemd-bank-")  # noqa: SIM115 - lives as long as the bank
        order = sorted(areas)
        end = 0
        for done, (i, frame) in enumerate(zip(order, clip.walk(order), strict=False)):
            self._at[i] = end
            for plane in areas[i].of(frame):
                end += self._file.write(plane.tobytes())
            tell.progress("bank", done, len(order))
        self._file.flush()
        self._bytes = np.memmap(self._file, np.uint8, "r") if end else np.zeros(0, np.uint8)
        self.size = end

    def __contains__(self, i: int) -> bool:
        return i in self._at

    def get(self, i: int) -> tuple[Area, Planes]:
        """Where the rectangle of frame ``i`` lies in its frame, and its pixels."""
        area, at = self._areas[i], self._at[i]
        width, height = area.size
        luma, chroma = width * height, width * height // 4
        y = self._bytes[at : at + luma].reshape(height, width)
        u, v = (
            self._bytes[at + luma + k * chroma : at + luma + (k + 1) * chroma].reshape(height // 2, width // 2)
            for k in range(2)
        )
        return area, Planes(y, u, v)
