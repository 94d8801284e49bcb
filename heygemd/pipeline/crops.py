"""Canonical pictures of a clip's frames, as many as memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.geometry import HEIGHT, WIDTH, Bytes, Floats, compose, cut_out, halved, invert

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame

CROPS_MAX = 3000
"""How many are kept (65 kB each); longer clips keep runs of ``RUN`` frames, evenly spread."""
RUN = 50


@dataclass(frozen=True, slots=True)
class Crops:
    """Canonical pictures of the kept frames: ``index`` ``(m,)`` rising, ``y`` ``(m, 224, 192)``, ``u`` and ``v``
    ``(m, 112, 96)`` uint8."""

    index: npt.NDArray[np.int64]
    y: Bytes
    u: Bytes
    v: Bytes


def kept(count: int, most: int, run: int = RUN) -> npt.NDArray[np.int64]:
    """At most ``most`` of ``count`` frames as runs of ``run`` neighbours, evenly spread, rising."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    starts = np.linspace(0, count - run, most // run).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(run)).ravel())


class CropKeeper:
    """Canonical crops, cut with the online transform and shifted to the smoothed one at the end."""

    def __init__(self, count: int) -> None:
        self._wanted = set(kept(count, CROPS_MAX).tolist())
        self._kept: list[tuple[int, Bytes, Bytes, Bytes]] = []

    def take(self, i: int, picture: Bytes, frame: Frame, transform: Floats) -> None:
        if i in self._wanted:
            half, size = halved(transform), (WIDTH // 2, HEIGHT // 2)
            self._kept.append((i, picture, cut_out(frame.u, half, size), cut_out(frame.v, half, size)))

    def finish(self, transforms: Floats, online: Sequence[Floats]) -> Crops:
        index = np.array([k[0] for k in self._kept], np.int64)
        y, u, v = (np.empty((len(index), HEIGHT // s, WIDTH // s), np.uint8) for s in (1, 2, 2))
        for row, (i, *planes) in enumerate(self._kept):
            change = compose(invert(online[i]), transforms[i])
            for out, plane, moved in zip((y, u, v), planes, (change, halved(change), halved(change)), strict=True):
                out[row] = cut_out(plane, moved, (plane.shape[1], plane.shape[0]))
            self._kept[row] = (i, *(np.empty(0, np.uint8),) * 3)  # frees the uncorrected picture
        return Crops(index, y, u, v)
