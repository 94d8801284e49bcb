"""The box pictures that the network reads, for any template frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from heygemd.pipeline.engines.wav2lip import box
from heygemd.pipeline.engines.wav2lip.colour import Colour
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.geometry import Bytes, compose

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip


class Boxes:
    """Cuts boxes out of the canonical pictures that the tracker kept; decodes the frames that it did not keep."""

    def __init__(self, clip: Clip, track: FaceTrack, size: int, colour: Colour) -> None:
        self._clip, self._track, self._size, self._colour = clip, track, size, colour
        self._row = {int(i): row for row, i in enumerate(track.crops.index)}
        self._inner = box.to_canonical(size)

    def of(self, indices: Sequence[int]) -> Bytes:
        """uint8 BGR ``(n, size, size, 3)`` of these template frames."""
        missing = sorted({i for i in indices if i not in self._row})
        cut = {i: self._kept(self._row[i]) for i in set(indices) if i in self._row}
        for i, frame in zip(missing, self._clip.walk(missing) if missing else (), strict=False):
            where = compose(self._track.transforms[i], self._inner)
            cut[i] = box.picture((frame.y, frame.u, frame.v), where, self._size, self._colour)
        empty = np.zeros((0, self._size, self._size, 3), np.uint8)
        return np.stack([cut[i] for i in indices]) if indices else empty

    def _kept(self, row: int) -> Bytes:
        crops = self._track.crops
        return box.picture((crops.y[row], crops.u[row], crops.v[row]), self._inner, self._size, self._colour)
