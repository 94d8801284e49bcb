"""Smoothing in time.  ``scipy.ndimage`` would do the same and takes longer to be imported than all films need it."""

from __future__ import annotations

import numpy as np

from heygemd.pipeline.image.geometry import Floats

_REACH = 4.0  # standard deviations that a kernel goes to either side


def smoothed(values: Floats, sigma: float) -> Floats:
    """``values`` ``(n, ...)`` under a Gaussian of ``sigma`` rows, mirrored at both ends; the type stays."""
    if not len(values):
        return values
    reach = int(_REACH * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    margins = ((reach, reach), *((0, 0) for _ in values.shape[1:]))
    padded = np.pad(values.astype(np.float64), margins, mode="symmetric")
    out = np.zeros(values.shape)
    for k, weight in enumerate(kernel):
        out += weight * padded[k : k + len(values)]
    return out.astype(values.dtype)
