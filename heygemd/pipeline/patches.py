"""Native pixels of one rectangle of each of many frames, in an unlinked temporary file that the system may page out.

Mouths are shown again over other frames; without these pixels the template would have to be decoded once more for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.compose import Area, Planes
from heygemd.pipeline.geometry import Bytes

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame


class Patches:
    """Rectangles of frames by frame number; first all are added, then they are read."""

    def __init__(self) -> None:
        self._areas: dict[int, Area] = {}
        self._at: dict[int, int] = {}
        self._file = tempfile.TemporaryFile(prefix="heygemd-patches-")  # noqa: SIM115 - lives as long as the patches
        self._end = 0
        self._mapped: Bytes | None = None

    def add(self, i: int, area: Area, frame: Frame) -> None:
        """Keep ``area`` of frame ``i``."""
        self._areas[i], self._at[i] = area, self._end
        for plane in area.of(frame):
            self._end += self._file.write(np.ascontiguousarray(plane).data)
        self._mapped = None

    def __contains__(self, i: int) -> bool:
        return i in self._at

    def covers(self, i: int, area: Area) -> bool:
        """Whether all of ``area`` of frame ``i`` is kept."""
        own = self._areas.get(i)
        return own is not None and area.within(own)

    def get(self, i: int) -> tuple[Area, Planes]:
        """Where the rectangle of frame ``i`` lies in its frame, and its pixels."""
        area, at = self._areas[i], self._at[i]
        width, height = area.size
        luma, chroma = width * height, width * height // 4
        pixels = self._pixels()
        y = pixels[at : at + luma].reshape(height, width)
        u, v = (
            pixels[at + luma + k * chroma : at + luma + (k + 1) * chroma].reshape(height // 2, width // 2)
            for k in range(2)
        )
        return area, Planes(y, u, v)

    def part(self, i: int, area: Area) -> Planes:
        """The pixels of ``area``, which frame ``i`` covers."""
        own, planes = self.get(i)
        return planes if own == area else area.inside(own, planes)

    def arrays(self, areas: Iterable[tuple[int, Area]]) -> dict[str, npt.NDArray[Any]]:
        """The pixels of ``areas``, all covered, to be kept; ``recalled`` reads them back."""
        wanted = list(areas)
        pixels = [p.ravel() for i, area in wanted for p in self.part(i, area)]
        return {
            "frames": np.array([i for i, _ in wanted], np.int64),
            "areas": np.array([area.bounds for _, area in wanted], np.int64).reshape(-1, 4),
            "pixels": np.concatenate(pixels) if pixels else np.zeros(0, np.uint8),
        }

    @staticmethod
    def recalled(frames: npt.NDArray[np.int64], areas: npt.NDArray[np.int64], pixels: Bytes) -> Patches:
        """The inverse of ``arrays``."""
        made = Patches()
        for i, bounds in zip(frames.tolist(), areas.tolist(), strict=True):
            made._areas[i], made._at[i] = Area(*bounds), made._end
            width, height = made._areas[i].size
            made._end += width * height * 3 // 2
        made._mapped = pixels
        return made

    def _pixels(self) -> Bytes:
        if self._mapped is None:
            self._file.flush()
            self._mapped = np.memmap(self._file, np.uint8, "r") if self._end else np.zeros(0, np.uint8)
        return self._mapped
