"""Dense optical flow, as all of this package uses it; and which pictures others are matched with."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from heygemd.pipeline.image.geometry import Bytes, Singles


class Matcher:
    """DIS flow that ends at pyramid level ``finest``, takes at most ``steps`` steps of descent there and is not
    refined; its patches of 8 px are ``apart`` px apart.  It has buffers of its own: one for each thread."""

    def __init__(self, finest: int = 1, steps: int = 16, apart: int = 4) -> None:
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        flow.setFinestScale(finest)
        flow.setVariationalRefinementIterations(0)
        flow.setGradientDescentIterations(steps)
        flow.setPatchStride(apart)
        self._flow: Any = flow  # OpenCV's types demand a flow to begin with

    def flow(self, before: Bytes, after: Bytes, start: Singles | None = None) -> Singles:
        """Displacements ``(h, w, 2)`` in px from ``before`` to ``after``, both ``(h, w)`` uint8; ``start``: those to
        begin with."""
        result: Singles = self._flow.calc(before, after, start)
        return result


def typical(codes: Singles, count: int) -> list[int]:
    """Rows of ``codes`` ``(n, d)``: the medoid, then the ones farthest from all chosen, the strangest tenth left out;
    at most ``count``."""
    apart = ((codes[:, None] - codes[None]) ** 2).sum(2)
    chosen = [int(np.sqrt(apart).sum(1).argmin())]
    nearest = apart[chosen[0]].copy()
    while len(chosen) < min(count, len(codes)):
        usual = np.quantile(nearest, 0.9)
        chosen.append(int(np.argmax(np.where(nearest <= usual, nearest, -1.0))))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    return chosen
