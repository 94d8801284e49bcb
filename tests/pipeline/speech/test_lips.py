from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from heygemd.common.errors import SetupError
from heygemd.pipeline.speech import lips, mel
from heygemd.training.synthesis import sounds

RATE = mel.SAMPLE_RATE


def vowels(seconds: float, seed: int = 1) -> np.ndarray:
    sound, _ = sounds.held_vowels(int(seconds * RATE), np.random.default_rng(seed))
    return sound


def test_the_file_of_weights_is_below_two_megabytes() -> None:
    assert lips.WEIGHTS.stat().st_size < 2_000_000


def test_nothing_that_makes_a_film_by_default_loads_torch() -> None:
    films = ", ".join(f"heygemd.pipeline.{name}" for name in ("speech.lips", "engines.footage", "quality.deliver"))
    code = f"import sys, {films}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


LENGTHS = [(0, 0), (1, 1), (319, 1), (320, 1), (321, 2), (16_000, 50), (16_001, 51)]


@pytest.mark.parametrize(("samples", "frames"), LENGTHS)
def test_a_track_has_fifty_frames_a_second(samples: int, frames: int) -> None:
    track = lips.speak(np.zeros(samples, np.float32))
    assert len(track) == frames
    shapes = {field.name: getattr(track, field.name).shape for field in fields(track)}
    assert shapes.pop("visemes") == (frames, 15)
    assert shapes.pop("embedding") == (frames, 128)
    assert shapes.pop("spectrum") == (frames, 80)
    assert set(shapes.values()) == {(frames,)}
    assert all(getattr(track, field.name).dtype == np.float32 for field in fields(track))


def test_values_stay_in_their_ranges() -> None:
    track = lips.speak(np.clip(vowels(3) * 20, -1, 1))
    assert 0 <= track.opening.min() <= track.opening.max() <= 1
    assert -1 <= track.width.min() <= track.width.max() <= 1
    for name in ("closure", "labiodental", "voice"):
        assert 0 <= getattr(track, name).min() <= getattr(track, name).max() <= 1
    np.testing.assert_allclose(track.visemes.sum(1), 1, atol=1e-5)


def test_speaking_in_chunks_equals_speaking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = vowels(9.37)
    whole = lips.speak(sound)
    for size in (26, 77, 200):
        monkeypatch.setattr(lips, "_CHUNK", size)
        monkeypatch.setattr(mel, "_BLOCK", 53)
        parts = lips.speak(sound)
        for field in fields(whole):
            np.testing.assert_allclose(getattr(parts, field.name), getattr(whole, field.name), atol=1e-4)


def at_level(sound: np.ndarray, dbfs: float) -> np.ndarray:
    return (sound / np.sqrt(np.mean(sound**2)) * 10 ** (dbfs / 20)).astype(np.float32)


@pytest.mark.parametrize("kind", ["digital silence", "white noise", "pink noise", "music", "other music", "hum"])
def test_without_speech_the_mouth_is_at_rest(kind: str) -> None:
    rng, count = np.random.default_rng(11), 6 * RATE
    sound = {
        "digital silence": lambda: np.zeros(count, np.float32),
        "white noise": lambda: at_level(sounds.noise(count, 0, rng), -50),
        "pink noise": lambda: at_level(sounds.noise(count, 1, rng), -50),
        "music": lambda: at_level(sounds.music(count, rng), -20),
        "other music": lambda: at_level(sounds.music(count, np.random.default_rng(12)), -26),
        "hum": lambda: at_level(sounds.hum(count, rng), -26),
    }[kind]()
    track = lips.speak(sound)
    assert np.percentile(track.voice, 99) <= 0.1
    assert np.percentile(track.opening, 99) <= 0.1
    assert np.percentile(track.closure, 99) <= 0.1


def test_whatever_the_network_says_silence_is_exactly_at_rest() -> None:
    rng = np.random.default_rng(0)
    strange = {name: rng.uniform(-0.1, 0.1, shape).astype(np.float32) for name, shape in lips._SHAPES.items()}
    strange |= {name: np.abs(values) + 1 for name, values in strange.items() if name.endswith("running_var")}
    sound = np.concatenate([vowels(1), np.zeros(RATE, np.float32), vowels(1)])
    track = lips.speak(sound, net=lips.Network(strange))
    middle = slice(70, 80)
    for name in ("opening", "width", "closure", "labiodental", "voice"):
        assert not getattr(track, name)[middle].any()
    assert (track.visemes[middle, 0] == 1).all()
    assert track.voice[:40].mean() > 0.1


def test_an_open_vowel_opens_the_mouth_wider_than_a_rounded_one() -> None:
    rng = np.random.default_rng(5)
    opening = {}
    for symbol in ("a", "u"):
        pieces = []
        for pitch in (110, 130, 120, 140, 105):
            pieces += [sounds._vowel(symbol, int(0.5 * RATE), pitch, 1.0, rng), np.zeros(int(0.15 * RATE), np.float32)]
        track = lips.speak(np.concatenate(pieces).astype(np.float32))
        voiced = track.voice > 0.5
        assert voiced.mean() > 0.5
        opening[symbol] = float(track.opening[voiced].mean())
    assert opening["a"] > opening["u"] + 0.2


@pytest.mark.parametrize("tremolo", [0.0, 4.0, 8.0])
def test_a_chord_that_stands_still_is_not_speech_whatever_its_tremolo(tremolo: float) -> None:
    time = np.arange(4 * RATE) / RATE
    tones = [np.sin(2 * np.pi * f * k * time + k) / k for f in (220, 277, 330) for k in range(1, 9)]
    chord = sum(tones) * (1 - 0.35 * (1 + np.sin(2 * np.pi * tremolo * time)))
    track = lips.speak(at_level(np.asarray(chord, np.float32), -20))
    assert np.percentile(track.voice, 95) <= 0.2 and np.percentile(track.opening, 95) <= 0.1


def test_a_track_is_sampled_linearly_and_held_at_its_ends() -> None:
    track = lips.speak(vowels(2))
    np.testing.assert_allclose(track.at(track.times).opening, track.opening, atol=1e-6)
    between = track.at((track.times[:-1] + track.times[1:]) / 2)
    np.testing.assert_allclose(between.width, (track.width[:-1] + track.width[1:]) / 2, atol=1e-5)
    ends = track.at(np.array([-1.0, 99.0]))
    assert ends.opening[0] == track.opening[0]
    assert ends.opening[1] == track.opening[-1]
    assert ends.embedding.shape == (2, 128)


def test_an_empty_track_is_at_rest_everywhere() -> None:
    sampled = lips.speak(np.zeros(0, np.float32)).at(np.array([0.0, 1.0]))
    assert sampled.opening.tolist() == [0, 0]
    assert sampled.visemes[:, 0].tolist() == [1, 1]


def test_an_event_is_heard_at_its_time() -> None:
    sound = np.zeros(4 * RATE, np.float32)
    sound[2 * RATE : 3 * RATE] = sounds._vowel("a", RATE, 120, 1.0, np.random.default_rng(2))
    track = lips.speak(sound)
    spoken = track.times[track.voice > 0.5]
    assert spoken.min() == pytest.approx(2.0, abs=0.08)
    assert spoken.max() == pytest.approx(3.0, abs=0.08)


def test_missing_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="missing"):
        lips.load(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": np.zeros(1)}, foreign)
    with pytest.raises(SetupError, match="does not contain a lips network"):
        lips.load(foreign)
    save_file({"a": np.zeros(1)}, tmp_path / "b.safetensors", {"format": lips.FORMAT})
    with pytest.raises(SetupError, match="does not contain a lips network"):
        lips.load(tmp_path / "b.safetensors")
