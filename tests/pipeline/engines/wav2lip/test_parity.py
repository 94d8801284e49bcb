"""Held-out parity: another seed and another recording, against a reference written here from the published description.

Nothing is shared with the code under test: layers are a table, decibels are decibels, the Fourier transform is a sum.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from heygemd.common.shipped import shipped
from heygemd.pipeline.engines.wav2lip import mel, network

Weights = dict[str, torch.Tensor]
K = "keep"  # a residual 3 x 3
DOWN = (2, 1)  # stride, padding
FACE = {
    96: [[(1, 3)], [DOWN, K, K], [DOWN, K, K, K], [DOWN, K, K], [DOWN, K, K], [DOWN, K], [(1, 0), (1, 0)]],
    256: [[(1, 3)], [DOWN, K, K], [DOWN, K, K, K], [DOWN, K, K], [DOWN, K, K], [DOWN, K], [DOWN, K], [(1, 0), (1, 0)]],
}
SOUND = [(1, 1), K, K, ((3, 1), 1), K, K, (3, 1), K, K, ((3, 2), 1), K, (1, 0), (1, 0)]
RAISED = {  # residuals after each transposed convolution; the first stands alone
    96: [1, 2, 2, 2, 2, 2],
    256: [1, 1, 2, 2, 2, 2, 2],
}


def layer(w: Weights, name: str, x: torch.Tensor, how: object) -> torch.Tensor:
    stride, padding = (1, 1) if how == K else how  # type: ignore[misc]
    y = F.conv2d(x, w[f"{name}.conv_block.0.weight"], w[f"{name}.conv_block.0.bias"], stride, padding)
    return torch.relu(normed(w, name, y) + (x if how == K else 0))


def normed(w: Weights, name: str, y: torch.Tensor) -> torch.Tensor:
    gain, shift, mean, var = (
        w[f"{name}.conv_block.1.{k}"][None, :, None, None] for k in ("weight", "bias", "running_mean", "running_var")
    )
    return (y - mean) / torch.sqrt(var + 1e-5) * gain + shift


def raised(w: Weights, name: str, x: torch.Tensor, first: bool) -> torch.Tensor:
    how = (1, 0, 0) if first else (2, 1, 1)
    y = F.conv_transpose2d(x, w[f"{name}.conv_block.0.weight"], w[f"{name}.conv_block.0.bias"], *how)
    return torch.relu(normed(w, name, y))


def reference(w: Weights, sound: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
    size = face.shape[-1]
    features = []
    for i, block in enumerate(FACE[size]):
        for j, how in enumerate(block):
            face = layer(w, f"face_encoder_blocks.{i}.{j}", face, how)
        features.append(face)
    for j, how in enumerate(SOUND):
        sound = layer(w, f"audio_encoder.{j}", sound, how)
    x = torch.cat((layer(w, "face_decoder_blocks.0.0", sound, (1, 0)), features[-1]), 1)
    for i, (count, feature) in enumerate(zip(RAISED[size], reversed(features[:-1]), strict=True), 1):
        x = raised(w, f"face_decoder_blocks.{i}.0", x, first=i == 1)
        for j in range(1, count + 1):
            x = layer(w, f"face_decoder_blocks.{i}.{j}", x, K)
        x = torch.cat((x, feature), 1)
    x = layer(w, "output_block.0", x, (1, 1))
    return torch.sigmoid(F.conv2d(x, w["output_block.1.weight"], w["output_block.1.bias"]))


@pytest.mark.parametrize(("seed", "size"), [(29, 96), (31, 256)])
def test_the_network_is_the_published_one_layer_by_layer(seed: int, size: int) -> None:
    weights = network.random_weights(seed, size)
    drawn = torch.Generator().manual_seed(seed)
    sound = 8 * torch.rand((1, 1, 80, 16), generator=drawn) - 4
    face = torch.rand((1, 6, size, size), generator=drawn)
    with torch.inference_mode():
        out = network.from_weights(weights)(sound, face)
        wanted = reference({k: v.double() for k, v in weights.items()}, sound.double(), face.double())
    assert float(wanted.std()) > 1e-3
    assert float((out - wanted).abs().max()) < 2e-5


def hertz(m: float) -> float:
    return m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)


def bands() -> np.ndarray:
    """Slaney's 80 triangles from 55 to 7600 Hz over 401 bins, each of area one."""
    low, high = 55 * 3 / 200, 15 + 27 * np.log(7.6) / np.log(6.4)
    edges = [hertz(low + (high - low) * k / 81) for k in range(82)]
    out = np.zeros((80, 401))
    for band in range(80):
        a, b, c = edges[band : band + 3]
        for k in range(401):
            f = 20.0 * k
            out[band, k] = max(0.0, min((f - a) / (b - a), (c - f) / (c - b))) * 2 / (c - a)
    return out


def test_the_spectrogram_is_the_published_one_on_another_recording(tmp_path: Path) -> None:
    (tmp_path / "speech.flac").write_bytes(shipped("demo_speech.flac"))
    argv = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "speech.flac"), "-t", "2", "-ac", "1", "-ar", "16000"]
    done = subprocess.run([*argv, "-f", "s16le", "-"], capture_output=True, check=True)
    samples = np.frombuffer(done.stdout, "<i2") / 32768.0
    sharp = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    padded = np.concatenate([sharp[400:0:-1], sharp, sharp[-2:-402:-1]])
    n = np.arange(800)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 800)
    turns = np.exp(-2j * np.pi * np.outer(n, np.arange(401)) / 800)
    frames = np.array([padded[200 * k : 200 * k + 800] for k in range(len(samples) // 200 + 1)])
    loud = 20 * np.log10(np.maximum(1e-5, bands() @ np.abs((frames * window) @ turns).T)) - 20
    wanted = np.clip(8 * (loud + 100) / 100 - 4, -4, 4)
    found = mel.spectrogram(samples.astype(np.float32))
    assert wanted.std() > 0.5 and found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-3
