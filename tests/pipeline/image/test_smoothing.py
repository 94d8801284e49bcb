from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from heygemd.pipeline.engines.footage.drawing.plan import FADE, shares
from heygemd.pipeline.image.smoothing import smoothed


@pytest.mark.parametrize("sigma", [0.05, 0.5, 0.625, 2.0, 9.0])
@pytest.mark.parametrize("shape", [(1,), (3, 2), (40,), (200, 5)])
def test_smoothing_agrees_with_scipys(sigma: float, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(size=shape)
    np.testing.assert_allclose(smoothed(values, sigma), gaussian_filter1d(values, sigma, axis=0), atol=1e-12)
    assert smoothed(values.astype(np.float32), sigma).dtype == np.float32


def test_nothing_smoothed_is_nothing() -> None:
    assert smoothed(np.zeros((0, 2)), 1.0).shape == (0, 2)


def test_shares_fall_with_the_distance_to_what_is_left_as_it_is() -> None:
    rng = np.random.default_rng(2)
    for editable in (rng.random((60, 30)) > 0.2, np.zeros((1, 5), bool), np.ones((1, 5), bool)):
        for row in editable:
            away = np.full(len(row), np.inf) if row.all() else distance_transform_edt(row)
            np.testing.assert_allclose(shares(row), np.minimum(1, away / (FADE + 1)))
