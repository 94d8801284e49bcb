from __future__ import annotations

import numpy as np
import pytest

from heygemd.pipeline import audio

RNG = np.random.default_rng(3)
NOISE = (RNG.standard_normal(16_000 * 4) * 0.1).astype(np.float32)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32) * 0.1


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (159, 1), (160, 2), (16_000, 101), (16_001, 101)])
def test_a_frame_starts_every_ten_milliseconds(samples: int, frames: int) -> None:
    mel = audio.log_mel(np.zeros(samples, np.float32))
    assert mel.shape == (frames, audio.BANDS)
    assert mel.dtype == np.float32


def test_a_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    peaks = [int(audio.log_mel(tone(hz))[50].argmax()) for hz in (120, 300, 1000, 3000, 7000)]
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 5


def test_every_band_hears_something() -> None:
    assert audio.log_mel(NOISE)[10:-10].min() > -12
    for warp in (0.86, 1.18):
        assert audio.log_mel(NOISE, warp)[10:-10].min() > -12


def test_a_click_is_seen_in_the_frame_of_its_time() -> None:
    samples = np.zeros(16_000, np.float32)
    samples[8000] = 1.0
    energy = audio.log_mel(samples).mean(1)
    assert abs(int(energy.argmax()) - 50) <= 1
    assert energy[45] == energy.min()


def test_a_range_of_frames_equals_the_same_range_of_the_whole() -> None:
    whole = audio.log_mel(NOISE)
    for first, last in ((0, 7), (3, 200), (350, 401), (400, 401)):
        part, level = audio.analyse(NOISE, first, last)
        np.testing.assert_allclose(part, whole[first:last], atol=1e-4)
        assert level.shape == (last - first,)
    joined = np.concatenate([mel for mel, _ in audio.blocks(NOISE, 37)])
    np.testing.assert_allclose(joined, whole, atol=1e-4)


def test_level_is_in_dbfs() -> None:
    _, level = audio.analyse(NOISE, 0, 401)
    assert level[5:-5].mean() == pytest.approx(-20, abs=1.0)
    _, silence = audio.analyse(np.zeros(1600, np.float32), 0, 11)
    assert silence.max() == audio.LEVEL_FLOOR_DBFS
    _, rumble = audio.analyse(tone(40), 0, 100)
    assert rumble[10:-10].max() < -35  # a tone of -23 dBFS


def test_the_average_gathered_in_blocks_equals_the_average_of_all() -> None:
    mel = audio.log_mel(NOISE)
    gathered = audio.Average()
    for start in range(0, len(mel), 33):
        gathered.add(mel[start : start + 33])
    mean, count = gathered.result()
    whole, whole_count = audio.average(mel)
    np.testing.assert_allclose(mean, whole, atol=1e-5)
    assert count == whole_count == len(mel)


def test_pauses_do_not_count_in_the_average() -> None:
    loud = audio.log_mel(NOISE)
    with_pauses = np.concatenate([loud, np.full((600, 80), -20, np.float32)])
    np.testing.assert_allclose(audio.average(with_pauses)[0], audio.average(loud)[0], atol=1e-3)
    assert audio.average(np.zeros((0, 80), np.float32))[1] == 0


def test_features_do_not_depend_on_the_recording_level() -> None:
    usual = np.zeros(80, np.float32)
    features = []
    for gain in (0.3, 1.0, 4.0):
        mel = audio.log_mel(NOISE * np.float32(gain))
        features.append(audio.normalise(mel, audio.reference(*audio.average(mel), usual)))
    np.testing.assert_allclose(features[0], features[1], atol=0.02)
    np.testing.assert_allclose(features[2], features[1], atol=0.02)


def test_silence_and_hiss_stay_below_speech() -> None:
    usual = np.zeros(80, np.float32)
    for gain, highest in ((0.0, -4.9), (0.001, -0.3)):
        mel = audio.log_mel(NOISE * np.float32(gain))
        features = audio.normalise(mel, audio.reference(*audio.average(mel), usual))
        assert features.mean() < highest
    assert features.min() >= audio.CLIP[0]


def test_a_lasting_colour_is_removed_only_in_part() -> None:
    usual = np.zeros(80, np.float32)
    colour = np.linspace(-3, 3, 80, dtype=np.float32)
    left = audio.normalise(np.tile(colour, (1000, 1)), audio.reference(colour, 1000, usual))[0]
    assert 0.3 < (left[-1] - left[0]) / 3 < 0.7


def test_little_speech_adapts_less_than_much() -> None:
    colour = np.linspace(-3, 3, 80, dtype=np.float32)
    little, much = (audio.reference(colour, count, np.zeros(80, np.float32)) for count in (20, 2000))
    assert np.ptp(little) < 0.4 * np.ptp(much)
