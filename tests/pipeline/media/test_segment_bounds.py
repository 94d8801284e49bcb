from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from heygemd.pipeline.media.write.segment_bounds import begins
from tests.pipeline.films import clip_of, ffmpeg, numbered

KEYS = range(0, 1500, 250)  # x264's usual distance


def lengths(cuts: Sequence[int], frames: int) -> list[int]:
    return [b - a for a, b in pairwise([*cuts, frames])]


def test_cuts_lie_where_decoding_can_start_and_both_hands_end_together() -> None:
    cuts = begins(1500, 375, 2, list(KEYS))
    assert set(cuts) <= set(KEYS) and cuts[0] == 0
    first, second, third, fourth = lengths(cuts, 1500)
    assert sorted([first, second]) == sorted([third, fourth]) == [250, 500]
    assert first + third == 750, "the hand that had the shorter one first has the longer one then"


@pytest.mark.parametrize(
    ("frames", "length", "abreast", "easy"),
    [
        (1500, 375, 2, [0]),  # one place only
        (750, 375, 2, [0, 250, 500]),  # a core would wait longer than is saved
        (1000, 250, 2, []),
        (1, 750, 1, [0]),
        (700, 350, 2, [0, 100, 600]),  # too far
    ],
)
def test_where_nothing_is_gained_all_segments_are_alike(
    frames: int, length: int, abreast: int, easy: list[int]
) -> None:
    assert begins(frames, length, abreast, easy) == list(range(0, frames, length))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_template_a_death_costs_no_more_than_with_segments_that_are_all_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, length, abreast = int(rng.integers(50, 5000)), int(rng.integers(20, 900)), int(rng.integers(1, 3))
    apart = int(rng.integers(1, 300))
    cuts = begins(frames, length, abreast, list(range(0, frames, apart)))
    assert cuts[0] == 0 and len(cuts) == -(-frames // length)
    waiting = lengths(cuts, frames)
    assert min(waiting) > 0
    hands, costs = [0] * abreast, 0  # pictures of the segment in each hand
    left = [0] * abreast
    while any(left) or waiting:
        for hand in range(abreast):
            if not left[hand]:
                hands[hand], left[hand] = 0, waiting.pop(0) if waiting else 0
            if left[hand]:
                hands[hand], left[hand] = hands[hand] + 1, left[hand] - 1
        costs = max(costs, sum(hands))
    assert costs <= 1.02 * abreast * length + 0.5 * apart + abreast


def test_a_search_begins_at_the_very_picture_at_which_decoding_can_start(tmp_path: Path) -> None:
    """Half a picture earlier, ffmpeg would decode everything from the one before it."""
    path = tmp_path / "v.mp4"
    ffmpeg("-i", numbered(tmp_path / "n.mp4", 120), "-c:v", "libx264", "-g", 40, "-bf", 2, "-sc_threshold", 0, path)
    clip = clip_of(path)
    order = np.arange(120)
    clip.learn()
    assert clip.easy(order) == [0, 40, 80]
    assert clip.easy(np.concatenate([order, order[::-1]])) == [0, 40, 80], "backwards everything is laid aside anyway"
    at, beside = (clip.stretch(range(first, 100)) for first in (80, 81))
    assert at is not None and at.seek == pytest.approx(80 / 25, abs=1e-6)
    assert beside is not None and beside.seek == pytest.approx(80.5 / 25, abs=1e-6)
    frames = [frame.data.copy() for frame in clip.frames()]
    for first in (39, 40, 41, 80):
        seen = list(clip.walk(range(first, first + 5)))
        assert all(np.array_equal(a.data, b) for a, b in zip(seen, frames[first : first + 5], strict=True))
