"""Decoded pictures of one stretch, spilled to a file without a name and read back in any order.

Held as arrays they would be most of the renderer's memory.  The file is emptied after each stretch, within seconds, so
that hardly any of it ever reaches the disk; under pressure the kernel can write it out.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np

from heygemd.common.errors import EngineError
from heygemd.pipeline.media.frame import Frame


class FrameSpill:
    """Pictures of one size by number."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._bytes = width * height * 3 // 2
        self._file = tempfile.TemporaryFile(prefix="heygemd-spill-", buffering=0)  # noqa: SIM115 - lives as long as this
        self._place: dict[int, int] = {}
        self._held: dict[int, Frame] = {}  # where the disk is full

    def put(self, number: int, frame: Frame) -> None:
        """Write it; it may be changed afterwards."""
        place = len(self._place)
        try:
            if os.pwrite(self._file.fileno(), frame.data.data, place * self._bytes) == self._bytes:
                self._place[number] = place
                return
        except OSError:
            pass
        self._held[number] = frame.copy()

    def get(self, number: int) -> Frame:
        """A copy that belongs to the taker.  Raises ``EngineError`` where the disk fails."""
        if number in self._held:
            return self._held[number].copy()
        data = np.empty(self._bytes, np.uint8)
        if os.preadv(self._file.fileno(), [data.data], self._place[number] * self._bytes) < self._bytes:
            raise EngineError("Frames to a temporary file cannot be read again.")
        return Frame(data, *self._size)

    def clear(self) -> None:
        """Empty it for the next stretch."""
        os.ftruncate(self._file.fileno(), 0)
        self._place.clear()
        self._held.clear()
