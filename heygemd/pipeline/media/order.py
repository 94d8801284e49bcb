"""Which template picture each output frame shows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt


def output_order(count: int, wanted: int, extend: str) -> npt.NDArray[np.int64]:
    """Template picture numbers, int64 (wanted,), for a template of ``count`` pictures.

    ``bounce``: forward, backward, forward …, without showing an end picture twice; ``loop``: from the start
    again; ``hold``: the last picture stays.  A shorter film ends early in each case.
    """
    ticks = np.arange(wanted, dtype=np.int64)
    if extend == "hold" or count == 1:
        return np.minimum(ticks, count - 1)
    if extend == "loop":
        return ticks % count
    assert extend == "bounce", extend
    phase = ticks % (2 * count - 2)
    return np.minimum(phase, 2 * count - 2 - phase)


def wanted_frames(seconds: float, fps: Fraction) -> int:
    """Output frames for ``seconds`` of sound: the nearest whole number, at least one."""
    return max(1, round(seconds * float(fps)))
