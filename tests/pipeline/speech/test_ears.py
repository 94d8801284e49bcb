"""The default ears: what they say of sounds that the tests make themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heygemd.common.errors import SetupError
from heygemd.pipeline.media.read.sound import decode_audio
from heygemd.pipeline.speech import ears, lips
from tests.site import ROOT

SPEECH = ROOT / "heygemd" / "data" / "demo_speech.flac"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return decode_audio(SPEECH)


def test_speech_opens_the_mouth_and_silence_rests_it(speech: np.ndarray) -> None:
    sound = np.concatenate([np.zeros(24_000, np.float32), speech, np.zeros(24_000, np.float32)])
    track = ears.speak(sound)
    spoken = track.voice > 0.5
    assert len(track) == -(-len(sound) // 320) and spoken.mean() > 0.3
    assert track.opening[spoken].std() > 0.1 and track.width[spoken].std() > 0.15
    assert track.opening[:50].max() == 0 and track.closure[:50].max() == 0
    assert (track.closure > 0.5).any()


@pytest.mark.parametrize("samples", [0, 1, 100, 319, 320, 321, 5000])
def test_any_length_has_its_frames(samples: int) -> None:
    assert len(ears.speak(np.zeros(samples, np.float32))) == -(-samples // 320)


def test_windows_make_the_curve_of_the_whole(speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ears.speak(speech)
    monkeypatch.setattr(ears, "WINDOW_SECONDS", 2)
    parts = ears.speak(speech)
    spoken = whole.voice > 0.5
    for name in ("opening", "width"):
        r = np.corrcoef(getattr(whole, name)[spoken], getattr(parts, name)[spoken])[0, 1]
        assert r > 0.97, name


def test_progress_is_counted_to_the_end(speech: np.ndarray) -> None:
    counts: list[tuple[int, int]] = []
    track = ears.speak(speech, lambda done, of: counts.append((done, of)))
    assert counts[-1] == (len(track), len(track))


def test_a_softer_recording_says_the_same(speech: np.ndarray) -> None:
    loud, soft = ears.speak(speech), ears.speak(speech * np.float32(0.25))
    spoken = (loud.voice > 0.5) & (soft.voice > 0.5)
    assert np.corrcoef(loud.opening[spoken], soft.opening[spoken])[0, 1] > 0.98


def test_the_setting_names_the_ears(speech: np.ndarray) -> None:
    own = ears.named("own")(speech[:32_000], None)
    np.testing.assert_array_equal(own.opening, lips.speak(speech[:32_000]).opening)


def test_int8_loses_at_most_half_a_step() -> None:
    matrix = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    values, scale = ears.quantised(matrix)
    restored = ears.restored({"a": values, "a.scale": scale})["a"]
    assert np.abs(restored - matrix).max() <= float(scale.max()) / 2 + 1e-6


def test_a_missing_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"missing.*gone\.safetensors"):
        ears.load(tmp_path / "gone.safetensors")
    with pytest.raises(SetupError, match="does not hold ears"):
        ears.load(lips.WEIGHTS)
