"""The network and its mel spectrogram: structure, behaviour, and agreement with the published implementation."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import torch

from heygemd.pipeline.engines.wav2lip import mel, network
from tests.site import ROOT

SHARED = ROOT.parent / "shared"
VECTORS = SHARED / "parity" / "wav2lip_96.npz"
needs_vectors = pytest.mark.skipif(not VECTORS.is_file(), reason="the vectors in ../shared/parity are not here")


@pytest.fixture(scope="module")
def net() -> network.Wav2LipNet:
    return network.from_weights(network.random_weights(1))


def test_the_network_has_the_published_tensors_and_parameters(net: network.Wav2LipNet) -> None:
    state = net.state_dict()
    assert len(state) == 352
    assert sum(p.numel() for p in net.parameters()) == 36_298_035
    assert state["face_encoder_blocks.0.0.conv_block.0.weight"].shape == (16, 6, 7, 7)
    assert state["face_decoder_blocks.1.0.conv_block.0.weight"].shape == (1024, 512, 3, 3)
    assert state["audio_encoder.12.conv_block.1.running_var"].shape == (512,)
    assert state["output_block.1.weight"].shape == (3, 32, 1, 1)


@pytest.mark.parametrize("size", network.SIZES)
def test_each_size_maps_a_face_and_a_sound_to_a_face(size: int) -> None:
    net = network.from_weights(network.random_weights(2, size))
    with torch.inference_mode():
        out = net(torch.zeros(2, 1, 80, 16), torch.rand(2, 6, size, size))
    assert out.shape == (2, 3, size, size)
    assert 0 <= float(out.min()) < float(out.max()) <= 1


def test_weights_name_their_size_themselves() -> None:
    assert [network.size_of(network.shapes(size)) for size in network.SIZES] == [96, 256]


def test_both_inputs_matter(net: network.Wav2LipNet) -> None:
    face, sound = torch.rand(1, 6, 96, 96), torch.rand(1, 1, 80, 16)
    with torch.inference_mode():
        one, other, third = net(sound, face), net(sound - 2, face), net(sound, face * 0.5)
    assert (one - other).abs().max() > 1e-3
    assert (one - third).abs().max() > 1e-3


@needs_vectors
def test_the_output_is_that_of_the_published_network(net: network.Wav2LipNet) -> None:
    vectors = np.load(VECTORS)
    with torch.inference_mode():
        out = net(torch.from_numpy(vectors["mel"]), torch.from_numpy(vectors["face"])).numpy()
    assert np.abs(out - vectors["out"]).max() < 2e-5


@needs_vectors
def test_the_spectrogram_is_that_of_the_published_code() -> None:
    with wave.open(str(SHARED / "clips" / "ls_1.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    assert np.abs(mel.spectrogram(samples) - np.load(VECTORS)["wav_mel"]).max() < 1e-3


def test_a_tone_lies_in_its_band_and_silence_at_the_floor() -> None:
    t = np.arange(mel.RATE) / mel.RATE
    found = mel.spectrogram((0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32))
    assert found.shape == (80, 81)
    # Slaney's scale has 1 kHz at mel 15; the bands' centres lie evenly between 55 and 7600 Hz, .825 and 44.5 mel.
    assert abs(int(found[:, 40].argmax()) - round((15 - 0.825) / ((44.5 - 0.825) / 81) - 1)) <= 1
    assert (mel.spectrogram(np.zeros(8000, np.float32)) == mel.FLOOR).all()


def test_long_sounds_give_the_same_columns_as_short_ones() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 200 * 4500).astype(np.float32)
    whole, part = mel.spectrogram(noise), mel.spectrogram(noise[200 * 3900 : 200 * 4100])
    assert np.abs(whole[:, 3950:4050] - part[:, 50:150]).max() < 1e-4


@pytest.mark.parametrize("count", [0, 1, 399, 801])
def test_sounds_shorter_than_a_window_are_no_error(count: int) -> None:
    assert mel.spectrogram(np.zeros(count, np.float32)).shape == (80, count // 200 + 1)


def test_windows_reach_over_the_ends_of_the_sound() -> None:
    columns = np.arange(40, dtype=np.float32)[None].repeat(80, 0)
    assert mel.window(columns, 0.1)[0].tolist() == list(range(8, 24))
    assert mel.window(columns, -0.05)[0].tolist() == [-4.0] * 4 + list(range(12))
    assert mel.window(columns, 0.4)[0].tolist() == list(range(32, 40)) + [-4.0] * 8
    assert (mel.window(columns, 9.0) == -4).all()
