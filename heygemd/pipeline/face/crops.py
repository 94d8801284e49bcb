"""Canonical pictures of a clip's frames, as many as memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.image import parallel
from heygemd.pipeline.image.geometry import HEIGHT, WIDTH, Bytes, Floats, compose, cropped, halved, invert

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame

CROPS_MAX = 3000
CROPS_OF_MORE = 1500
"""All of a clip of at most ``CROPS_MAX`` frames are kept (65 kB each).  Of a longer one, of which some are missing
anyway, it is fewer the longer it is, at last what a bank of mouths takes, in runs of ``RUN`` frames, evenly spread: ten
minutes take no more memory than one."""
RUN = 50


@dataclass(frozen=True, slots=True)
class Crops:
    """Canonical pictures of the kept frames: ``index`` ``(m,)`` rising, ``y`` ``(m, 224, 192)``, ``u`` and ``v``
    ``(m, 112, 96)`` uint8."""

    index: npt.NDArray[np.int64]
    y: Bytes
    u: Bytes
    v: Bytes


NO_CROPS = Crops(np.zeros(0, np.int64), *(np.zeros((0, HEIGHT // s, WIDTH // s), np.uint8) for s in (1, 2, 2)))
"""None at all."""


def kept(count: int, most: int, run: int = RUN) -> npt.NDArray[np.int64]:
    """At most ``most`` of ``count`` frames as runs of ``run`` neighbours, evenly spread, rising."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    starts = np.linspace(0, count - run, most // run).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(run)).ravel())


class CropKeeper:
    """Canonical crops, taken with the online transform and moved to the smoothed one, in place, at the end."""

    def __init__(self, count: int) -> None:
        """``count``: how many frames are expected; more may come, and are not kept."""
        wanted = kept(count, min(CROPS_MAX, max(CROPS_OF_MORE, 2 * CROPS_MAX - count)))
        self._row = {int(i): row for row, i in enumerate(wanted)}
        self._index = wanted
        self._planes = tuple(np.empty((len(wanted), HEIGHT // s, WIDTH // s), np.uint8) for s in (1, 2, 2))
        self._taken = 0

    def keeps(self, i: int) -> bool:
        """Whether frame ``i`` is one of those that are kept."""
        return i in self._row

    def take(self, i: int, picture: Bytes, frame: Frame, transform: Floats) -> None:
        """Frames come in order; ``picture`` is the luma of frame ``i`` cropped by ``transform``."""
        row = self._row.get(i)
        if row is None:
            return
        half, size = halved(transform), (WIDTH // 2, HEIGHT // 2)
        pictures = (picture, cropped(frame.u, half, size), cropped(frame.v, half, size))
        for plane, new in zip(self._planes, pictures, strict=True):
            plane[row] = new
        self._taken = row + 1

    def finish(self, transforms: Floats, online: Sequence[Floats], threads: int = 1) -> Crops:
        """``online``: the transforms that the crops were taken with; ``transforms``: those that they shall have."""
        index = self._index[: self._taken]

        def move(row: int) -> None:
            change = compose(invert(online[index[row]]), transforms[index[row]])
            for plane, moved in zip(self._planes, (change, halved(change), halved(change)), strict=True):
                plane[row] = cropped(plane[row], moved, (plane.shape[2], plane.shape[1]))

        parallel.every(move, len(index), threads)
        return Crops(index, *(plane[: self._taken] for plane in self._planes))
