"""Principal components of many small pictures or fields, a few of them out of hundreds of dimensions."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from heygemd.pipeline.image.geometry import Singles


def components(rows: Singles, count: int) -> tuple[Singles, Singles, Singles]:
    """Principal components of ``rows`` ``(n, d)``: scores ``(n, count)``, mean ``(d,)``, directions ``(count, d)``;
    signs fixed.  Fewer than ``count`` if ``rows`` or dimensions are fewer."""
    mean = rows.mean(0)
    found = directions(rows - mean, count)
    largest = np.take_along_axis(found, np.abs(found).argmax(1)[:, None], 1)
    found = found * np.sign(largest)
    return (rows - mean) @ found.T, mean, found


def directions(rows: Singles, count: int) -> Singles:
    """The first right singular vectors ``(count, d)`` of ``rows`` ``(n, d)``, by way of whichever product is smaller:
    ten times as fast as all of them."""
    wide = rows.shape[0] < rows.shape[1]
    square = rows @ rows.T if wide else rows.T @ rows
    size = len(square)
    count = min(count, size)
    _, vectors = eigh(square.astype(np.float64), subset_by_index=(size - count, size - 1))
    vectors = vectors[:, ::-1]
    found = rows.T @ vectors.astype(np.float32) if wide else vectors.astype(np.float32)
    result: Singles = (found / np.maximum(np.linalg.norm(found, axis=0), 1e-12)).T.astype(np.float32)
    return result
