from __future__ import annotations

import numpy as np
import pytest

from heygemd.pipeline.speech import mel as speech_mel

RNG = np.random.default_rng(3)
NOISE = (RNG.standard_normal(16_000 * 4) * 0.1).astype(np.float32)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32) * 0.1


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (159, 1), (160, 2), (16_000, 101), (16_001, 101)])
def test_a_frame_starts_every_ten_milliseconds(samples: int, frames: int) -> None:
    mel = speech_mel.log_mel(np.zeros(samples, np.float32))
    assert mel.shape == (frames, speech_mel.BANDS)
    assert mel.dtype == np.float32


def test_a_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    peaks = [int(speech_mel.log_mel(tone(hz))[50].argmax()) for hz in (120, 300, 1000, 3000, 7000)]
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 5


def test_every_band_hears_something() -> None:
    assert speech_mel.log_mel(NOISE)[10:-10].min() > -12
    for warp in (0.86, 1.18):
        assert speech_mel.log_mel(NOISE, warp)[10:-10].min() > -12


def test_a_click_is_seen_in_the_frame_of_its_time() -> None:
    samples = np.zeros(16_000, np.float32)
    samples[8000] = 1.0
    energy = speech_mel.log_mel(samples).mean(1)
    assert abs(int(energy.argmax()) - 50) <= 1
    assert energy[45] == energy.min()


def test_a_range_of_frames_equals_the_same_range_of_the_whole() -> None:
    whole = speech_mel.log_mel(NOISE)
    for first, last in ((0, 7), (3, 200), (350, 401), (400, 401)):
        part, level = speech_mel.analyse(NOISE, first, last)
        np.testing.assert_allclose(part, whole[first:last], atol=1e-4)
        assert level.shape == (last - first,)
    joined = np.concatenate([mel for mel, _ in speech_mel.blocks(NOISE, 37)])
    np.testing.assert_allclose(joined, whole, atol=1e-4)


def test_level_is_in_dbfs() -> None:
    _, level = speech_mel.analyse(NOISE, 0, 401)
    assert level[5:-5].mean() == pytest.approx(-20, abs=1.0)
    _, silence = speech_mel.analyse(np.zeros(1600, np.float32), 0, 11)
    assert silence.max() == speech_mel.LEVEL_FLOOR_DBFS
    _, rumble = speech_mel.analyse(tone(40), 0, 100)
    assert rumble[10:-10].max() < -35  # a tone of -23 dBFS


def test_the_average_gathered_in_blocks_equals_the_average_of_all() -> None:
    mel = speech_mel.log_mel(NOISE)
    gathered = speech_mel.Average()
    for start in range(0, len(mel), 33):
        gathered.add(mel[start : start + 33])
    mean, count = gathered.result()
    whole, whole_count = speech_mel.average(mel)
    np.testing.assert_allclose(mean, whole, atol=1e-5)
    assert count == whole_count == len(mel)


def test_pauses_do_not_count_in_the_average() -> None:
    loud = speech_mel.log_mel(NOISE)
    with_pauses = np.concatenate([loud, np.full((600, 80), -20, np.float32)])
    np.testing.assert_allclose(speech_mel.average(with_pauses)[0], speech_mel.average(loud)[0], atol=1e-3)
    assert speech_mel.average(np.zeros((0, 80), np.float32))[1] == 0


def test_features_do_not_depend_on_the_recording_level() -> None:
    usual = np.zeros(80, np.float32)
    features = []
    for gain in (0.3, 1.0, 4.0):
        mel = speech_mel.log_mel(NOISE * np.float32(gain))
        features.append(speech_mel.normalise(mel, speech_mel.reference(*speech_mel.average(mel), usual)))
    np.testing.assert_allclose(features[0], features[1], atol=0.02)
    np.testing.assert_allclose(features[2], features[1], atol=0.02)


def test_silence_and_hiss_stay_below_speech() -> None:
    usual = np.zeros(80, np.float32)
    for gain, highest in ((0.0, -4.9), (0.001, -0.3)):
        mel = speech_mel.log_mel(NOISE * np.float32(gain))
        features = speech_mel.normalise(mel, speech_mel.reference(*speech_mel.average(mel), usual))
        assert features.mean() < highest
    assert features.min() >= speech_mel.CLIP[0]


def test_a_lasting_colour_is_removed_only_in_part() -> None:
    usual = np.zeros(80, np.float32)
    colour = np.linspace(-3, 3, 80, dtype=np.float32)
    left = speech_mel.normalise(np.tile(colour, (1000, 1)), speech_mel.reference(colour, 1000, usual))[0]
    assert 0.3 < (left[-1] - left[0]) / 3 < 0.7


def test_little_speech_adapts_less_than_much() -> None:
    colour = np.linspace(-3, 3, 80, dtype=np.float32)
    little, much = (speech_mel.reference(colour, count, np.zeros(80, np.float32)) for count in (20, 2000))
    assert np.ptp(little) < 0.4 * np.ptp(much)
