"""The encoder of OpenAI's Whisper as features of speech: log-mel in, one vector every 20 ms out.  numpy alone.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022); names of tensors as in
openai/whisper's ``model_state_dict``.  Only the first blocks are run: the middle of the encoder follows a mouth best,
the last block was trained to spell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Floats = NDArray[np.float32]

SAMPLE_RATE = 16_000
RATE = 50
"""Vectors a second; vector i is centred on second i / RATE."""
FFT, HOP, BANDS = 400, 160, 80
FLOOR = 1e-10  # of mel power, before the logarithm
RANGE = 8.0  # log10 units below the sound's loudest value that still count
_BLOCK = 4_000  # mel frames that are analysed at a time
_EPSILON = 1e-5  # torch's, of layer normalisation
_HEAD = 64  # width of one attention head in every Whisper
_hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)  # periodic


def frame_count(samples: int) -> int:
    """Mel frames of 10 ms in so long a sound; two of them make one vector."""
    return samples // HOP


def log_power(samples: Floats, first: int, last: int) -> Floats:
    """log10 of mel power of frames ``first`` to ``last`` (exclusive): float32 (n,) at 16 kHz -> (last - first, 80).

    Frame i is centred on sample ``i * HOP``; beyond its ends the sound is mirrored, as ``torch.stft`` does it.
    """
    out = np.empty((max(0, last - first), BANDS), np.float32)
    for start in range(first, last, _BLOCK):
        stop = min(start + _BLOCK, last)
        frames = np.lib.stride_tricks.sliding_window_view(_mirrored(samples, start, stop), FFT)[::HOP]
        spectrum = np.fft.rfft(frames * _hann, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        out[start - first : stop - first] = np.log10(np.maximum(power @ _BANK.T, FLOOR))
    return out


def normalised(power: Floats, peak: float) -> Floats:
    """What the encoder reads: ``power`` of ``log_power``, ``peak`` the loudest value of the whole sound."""
    result: Floats = ((np.maximum(power, np.float32(peak - RANGE)) + 4) / 4).astype(np.float32)
    return result


class Encoder:
    """The first blocks of a Whisper encoder.

    ``weights`` by openai's names without ``encoder.``, float32, matrices (out, in).  Raises ``KeyError`` or
    ``ValueError`` where they are not such an encoder's.
    """

    def __init__(self, weights: Mapping[str, Floats], blocks: int) -> None:
        self.width = len(weights["conv1.bias"])
        if weights["conv1.weight"].shape != (self.width, BANDS, 3) or self.width % _HEAD:
            raise ValueError(f"conv1.weight has the shape {weights['conv1.weight'].shape}")
        self._stem = [(_taps(weights[f"{name}.weight"]), weights[f"{name}.bias"]) for name in ("conv1", "conv2")]
        self._blocks = [_Block(weights, f"blocks.{k}.") for k in range(blocks)]

    def __call__(self, mel: Floats, first: int = 0) -> Floats:
        """Normalised log-mel (2n, 80) of at most 30 s -> (n, width); ``first`` is the place of the first vector among
        the 1500 that Whisper was trained with, which hardly matters."""
        (narrow, narrow_bias), (halve, halve_bias) = self._stem
        n = len(mel) // 2
        x = _gelu(_convolved(mel[: 2 * n], narrow, 1) + narrow_bias)
        x = _gelu(_convolved(x, halve, 2)[:n] + halve_bias)
        x = x + _positions(first, n, self.width)
        for block in self._blocks:
            x = block(x)
        return x


class _Block:
    """Pre-norm transformer block: self-attention over the whole window, then a two-layer mix."""

    def __init__(self, weights: Mapping[str, Floats], name: str) -> None:
        self._norms = [(weights[f"{name}{n}.weight"], weights[f"{name}{n}.bias"]) for n in ("attn_ln", "mlp_ln")]
        query, key, value = (weights[f"{name}attn.{part}.weight"] for part in ("query", "key", "value"))
        self._asked = np.concatenate([query, key, value]).T.copy()
        query_bias = weights[f"{name}attn.query.bias"]  # the key has none
        self._asked_bias = np.concatenate([query_bias, np.zeros_like(query_bias), weights[f"{name}attn.value.bias"]])
        self._out, self._widen, self._narrow = (
            (weights[f"{name}{part}.weight"].T.copy(), weights[f"{name}{part}.bias"])
            for part in ("attn.out", "mlp.0", "mlp.2")
        )

    def __call__(self, x: Floats) -> Floats:
        x = x + self._attended(_layer_norm(x, *self._norms[0])) @ self._out[0] + self._out[1]
        wide = _gelu(_layer_norm(x, *self._norms[1]) @ self._widen[0] + self._widen[1])
        result: Floats = x + wide @ self._narrow[0] + self._narrow[1]
        return result

    def _attended(self, x: Floats) -> Floats:
        count, width = x.shape
        heads = (x @ self._asked + self._asked_bias).reshape(count, 3, width // _HEAD, _HEAD).transpose(1, 2, 0, 3)
        query, key, value = heads
        out = np.empty((width // _HEAD, count, _HEAD), np.float32)
        for head in range(len(out)):  # one at a time: the weights of a window are 4 MB each
            weight = (query[head] * np.float32(_HEAD**-0.5)) @ key[head].T
            weight -= weight.max(1, keepdims=True)
            np.exp(weight, out=weight)
            out[head] = (weight @ value[head]) / weight.sum(1, keepdims=True)
        result: Floats = out.transpose(1, 0, 2).reshape(count, width)
        return result


def _taps(weight: Floats) -> Floats:
    """torch's convolution weight (out, in, 3) -> (3, in, out)."""
    return weight.transpose(2, 1, 0).copy()


def _convolved(x: Floats, taps: Floats, stride: int) -> Floats:
    padded = np.pad(x, ((1, 1), (0, 0)))
    count = (len(x) - 1) // stride + 1
    result: Floats = sum(padded[k : k + stride * (count - 1) + 1 : stride] @ tap for k, tap in enumerate(taps))
    return result


def _layer_norm(x: Floats, gain: Floats, bias: Floats) -> Floats:
    off = x - x.mean(1, keepdims=True)
    result: Floats = off / np.sqrt((off * off).mean(1, keepdims=True) + np.float32(_EPSILON)) * gain + bias
    return result


def _gelu(x: Floats) -> Floats:
    result: Floats = np.float32(0.5) * x * (1 + erf(x * np.float32(2**-0.5)))
    return result


def _positions(first: int, count: int, width: int) -> Floats:
    """Whisper's sinusoids: sines in the first half of the channels, cosines in the second."""
    half = width // 2
    angles = np.arange(first, first + count)[:, None] * 10_000.0 ** (-np.arange(half) / (half - 1))
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)


def _mirrored(samples: Floats, first: int, last: int) -> Floats:
    """The samples under frames ``first`` to ``last``, mirrored at the sound's ends without repeating the end sample."""
    begin, end = first * HOP - FFT // 2, (last - 1) * HOP + FFT // 2
    inside = np.asarray(samples[max(0, begin) : max(0, end)], np.float32)
    left = samples[1 : 1 - begin][::-1] if begin < 0 else samples[:0]
    right = (
        samples[len(samples) - 1 - (end - len(samples)) : len(samples) - 1][::-1] if end > len(samples) else left[:0]
    )
    cut = np.concatenate([left, inside, right])
    if len(cut) < end - begin:  # a sound of less than 13 ms
        cut = np.pad(cut, (0, end - begin - len(cut)))
    return np.asarray(cut, np.float32)


def _mel_bank() -> Floats:
    """Slaney's triangular filters with his norm, 0 to 8 kHz: (80, 201), as ``librosa.filters.mel`` makes them."""
    step, linear = np.log(6.4) / 27, 1000.0

    def hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15, mel * 200 / 3, linear * np.exp(step * (mel - 15)))

    top = 15 + np.log(SAMPLE_RATE / 2 / linear) / step
    edges = hertz(np.linspace(0.0, top, BANDS + 2))
    apart = edges[:, None] - np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    widths = np.diff(edges)[:, None]
    weights = np.maximum(0.0, np.minimum(-apart[:-2] / widths[:-1], apart[2:] / widths[1:]))
    result: Floats = (weights * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return result


_BANK = _mel_bank()
