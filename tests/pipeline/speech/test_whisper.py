"""The speech encoder in numpy, against values that a reference made, and by itself."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from heygemd.pipeline.speech import ears, whisper
from tests.site import ROOT

MODELS = ROOT.parent / "shared" / "models"
WEIGHTS, PARITY = MODELS / "whisper_tiny_encoder.safetensors", MODELS / "ears" / "parity.npz"


@pytest.mark.skipif(not PARITY.is_file(), reason="the parity data in ../shared/models is not here")
def test_mel_encoder_and_head_give_the_references_values() -> None:
    weights = {name[8:]: tensor.astype(np.float32) for name, tensor in load_file(WEIGHTS).items()}
    head, parity = load_file(MODELS / "ears" / "ears_head.safetensors"), np.load(PARITY)
    power = whisper.log_power(parity["sound"], 0, whisper.frame_count(len(parity["sound"])))
    mel = whisper.normalised(power, float(power.max()))
    np.testing.assert_allclose(mel.T, parity["mel"], atol=1e-4)
    vectors = whisper.Encoder(weights, 3)(mel)
    np.testing.assert_allclose(vectors[:: int(parity["every"])], parity["block3"], atol=5e-3)
    scores = ears.around(vectors) @ head["weight"].T + head["bias"]
    np.testing.assert_allclose(scores, parity["head"], atol=1e-3)


def test_the_filters_cover_the_band_and_no_tone_is_lost() -> None:
    seconds = np.arange(16_000) / 16_000
    peaks = []
    for hertz in (200, 1000, 3000, 6000):
        tone = np.sin(2 * np.pi * hertz * seconds).astype(np.float32)
        peaks.append(int(whisper.log_power(tone, 10, 90).mean(0).argmax()))
    assert peaks == sorted(peaks) and len(set(peaks)) == 4


def test_a_part_of_the_spectrum_is_that_part_of_the_whole() -> None:
    sound = np.random.default_rng(3).standard_normal(16_000).astype(np.float32)
    whole = whisper.log_power(sound, 0, 100)
    np.testing.assert_allclose(whisper.log_power(sound, 37, 61), whole[37:61], atol=1e-4)


def test_a_file_that_holds_no_encoder_is_refused() -> None:
    with pytest.raises(KeyError):
        whisper.Encoder({}, 1)
