"""Where long sound is cut: on the frame grid, in pauses, nothing lost and nothing added up."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from heygemd.pipeline.engines.duix import chunks
from heygemd.pipeline.media.read.sound import SAMPLE_RATE, Samples


def speech(seconds: float, pauses: list[float], seed: int = 0) -> Samples:
    """Noise with pauses of 0.4 s around the moments given."""
    sound = np.random.default_rng(seed).normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)
    for at in pauses:
        sound[int((at - 0.2) * SAMPLE_RATE) : int((at + 0.2) * SAMPLE_RATE)] *= 0.001
    return sound


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
def test_parts_follow_one_another_and_their_sound_is_the_whole(fps: Fraction) -> None:
    sound = speech(200.3, [48.0, 101.5, 155.2])
    frames = round(200.3 * fps)
    found = chunks.divide(sound, fps, frames, 60.0)
    assert [part.first for part in found] == [0, *(part.stop for part in found[:-1])]
    assert found[-1].stop == frames and [part.number for part in found] == list(range(len(found)))
    assert all(part.stop - part.first <= 60 * fps for part in found)
    pieces = [np.frombuffer(chunks.sound_of(part, sound, fps), "<i2") for part in found]
    kept = [piece[: chunks.at(p.stop, fps) - chunks.at(p.first, fps)] for piece, p in zip(pieces, found, strict=True)]
    joined = np.concatenate(kept)
    whole = np.zeros(len(joined), np.float32)
    whole[: len(sound)] = sound[: len(joined)]
    assert np.array_equal(joined, np.rint(whole * 32767).astype("<i2"))
    for piece, part in zip(pieces, found, strict=True):
        assert abs(len(piece) / SAMPLE_RATE - len(part.made) / fps) < 1e-3
        assert part.tail >= chunks.TAIL_FRAMES and part.tail / fps >= 0.39


def test_cuts_lie_in_pauses() -> None:
    found = chunks.divide(speech(200.0, [48.0, 101.5, 155.2]), Fraction(25), 5000, 60.0)
    assert [round(float(part.stop / 25), 1) for part in found[:-1]] == pytest.approx([48.0, 101.5, 155.2], abs=0.2)
    assert all(part.pause for part in found) and chunks.warnings(found, Fraction(25)) == []


def test_without_pauses_it_is_cut_all_the_same_and_said_so() -> None:
    found = chunks.divide(speech(100.0, []), Fraction(25), 2500, 60.0)
    assert len(found) == 2 and not found[0].pause
    assert chunks.warnings(found, Fraction(25))[0][0] == "cut_in_sound"


@pytest.mark.parametrize("seconds", [0.02, 1.0, 60.0, 60.04, 61.0, 120.1, 300.0])
def test_no_part_is_a_scrap_and_silence_is_one_long_pause(seconds: float) -> None:
    frames = max(1, round(seconds * 25))
    found = chunks.divide(np.zeros(int(seconds * SAMPLE_RATE), np.float32), Fraction(25), frames, 60.0)
    assert sum(part.stop - part.first for part in found) == frames
    assert all(part.pause and part.stop - part.first >= min(frames, 25) for part in found)
