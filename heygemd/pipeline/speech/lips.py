"""Sound to mouth shape: how open, how wide, whether closed, 50 times a second.

A convolutional network of 0.4 M parameters, trained by ``heygemd/training`` on synthesized speech, reads log-mel
frames every 10 ms and sees about 0.36 s to either side.  ``speak`` is the whole use of it.

It is run by numpy: a minute of sound takes a tenth of a second, and torch a whole one to be imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from heygemd.common.errors import SetupError
from heygemd.common.shipped import DATA
from heygemd.pipeline.speech import mel

RATE = 50
VISEMES = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou")
CHANNELS = 128
DILATIONS = (1, 2, 4, 1)
WEIGHTS = DATA / "lips.safetensors"
FORMAT = "heygemd lips 1"
GATE_DBFS = (-52.0, -46.0)
"""Below the first level nothing is speech and the mouth is at rest; above the second the network alone decides."""
STEADY = (0.65, 0.80)
"""``audio.unrest`` of a held chord, whatever its tremolo, stays below the first (at most .62 measured); that of every
voiced frame in seven recordings of speech, in three languages, lay above the second (.86 and more)."""
_GATE_REACH = 15
_CHUNK = 3000
_OVERLAP = 25
"""Frames of 20 ms on either side of a chunk; the network sees 18."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LipTrack:
    """A mouth over time; frame t is centred on second (t + 0.5) / RATE.  All float32.

    opening (T,): inner-lip gap, 0 closed (rest) to 1 wide open.  width (T,): -1 rounded to 1 spread, 0 neutral.
    closure (T,): probability of closed lips, as in p, b, m; 0 at rest.  labiodental (T,): of f, v.
    voice (T,): of speech.  visemes (T, 15): probabilities of VISEMES.  embedding (T, 128): the network's last layer.
    spectrum (T, 80): its input, normalised log-mel.  gate (T,): 0 where nothing can be speech (GATE_DBFS, STEADY), 1
    where the network alone decides; all that is said of the mouth is multiplied by it.
    """

    opening: Floats
    width: Floats
    closure: Floats
    labiodental: Floats
    voice: Floats
    visemes: Floats
    embedding: Floats
    spectrum: Floats
    gate: Floats

    def __len__(self) -> int:
        return len(self.opening)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds at the frames' centres (T,)."""
        return (np.arange(len(self)) + 0.5) / RATE

    def at(self, times: NDArray[np.float64]) -> LipTrack:
        """The track sampled linearly at these seconds (k,); outside its ends, the end frames; rest if it is empty."""
        if not len(self):
            return _resting(len(times))
        place = np.clip(np.asarray(times, np.float64) * RATE - 0.5, 0, len(self) - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, len(self) - 1)
        share = (place - low).astype(np.float32)
        return LipTrack(**{name: _blend(getattr(self, name), low, high, share) for name in LipTrack.__slots__})


class Network:
    """The network of ``training.network.LipsNet`` as it is after training: each normalisation is folded into the
    convolution before it.  Activations are float32 ``(frames, channels)``."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        """``weights`` by torch's names.  Raises ``KeyError`` or ``ValueError`` where they are not such a network's."""
        if shapes := {name: weights[name].shape for name in _SHAPES if weights[name].shape != _SHAPES[name]}:
            raise ValueError(f"unexpected shapes: {shapes}")
        self.usual = weights["usual"]
        self._stem = _folded(weights, "stem", "stem_norm")
        self._halve = _folded(weights, "halve", "halve_norm")
        self._blocks = [_Block(weights, f"blocks.{k}", dilation) for k, dilation in enumerate(DILATIONS)]
        scale, shift = _normalisation(weights, "last_norm")
        self._last = scale.astype(np.float32), shift.astype(np.float32)
        self._head = weights["head.weight"][:, :, 0].T.copy(), weights["head.bias"]

    def embed(self, features: Floats) -> Floats:
        """Normalised log-mel (2T, 80) -> (T, 128).  Output t looks at inputs around 2t + 1."""
        x = np.maximum(_convolved(np.pad(features, ((2, 2), (0, 0))), *self._stem), 0)
        x = np.maximum(_convolved(np.pad(x, ((1, 3), (0, 0))), *self._halve, stride=2), 0)
        for block in self._blocks:
            x = block(x)
        scale, shift = self._last
        result: Floats = np.maximum(x * scale + shift, 0)
        return result

    def scores(self, embedding: Floats) -> Floats:
        """(T, 128) -> (T, 20): opening, width, logits of closure, labiodental, voice, and of the visemes."""
        weight, bias = self._head
        result: Floats = embedding @ weight + bias
        return result


class _Block:
    """Residual block: each channel convolved in time by itself, then a two-layer mix of channels."""

    def __init__(self, weights: Mapping[str, Floats], name: str, dilation: int) -> None:
        taps, self._offset = _folded(weights, f"{name}.time", f"{name}.norm")
        self._taps, self._dilation = taps[:, 0], dilation
        self._widen, self._narrow = (
            (weights[f"{name}.{part}.weight"][:, :, 0].T.copy(), weights[f"{name}.{part}.bias"])
            for part in ("widen", "narrow")
        )

    def __call__(self, x: Floats) -> Floats:
        reach, step = 2 * self._dilation, self._dilation
        padded = np.pad(x, ((reach, reach), (0, 0)))
        mixed = self._offset + sum(padded[k * step :][: len(x)] * tap for k, tap in enumerate(self._taps))
        wide = np.maximum(mixed @ self._widen[0] + self._widen[1], 0)
        result: Floats = x + (wide @ self._narrow[0] + self._narrow[1])
        return result


def _shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"usual": (mel.BANDS,)}

    def convolution(name: str, out: int, into: int, taps: int) -> None:
        found.update({f"{name}.weight": (out, into, taps), f"{name}.bias": (out,)})

    convolution("stem", CHANNELS, mel.BANDS, 5)
    convolution("halve", CHANNELS, CHANNELS, 5)
    convolution("head", 5 + len(VISEMES), CHANNELS, 1)
    blocks = [f"blocks.{k}" for k in range(len(DILATIONS))]
    for block in blocks:
        convolution(f"{block}.time", CHANNELS, 1, 5)
        convolution(f"{block}.widen", 2 * CHANNELS, CHANNELS, 1)
        convolution(f"{block}.narrow", CHANNELS, 2 * CHANNELS, 1)
    for norm in ("stem_norm", "halve_norm", "last_norm", *(f"{block}.norm" for block in blocks)):
        found |= {f"{norm}.{part}": (CHANNELS,) for part in ("weight", "bias", "running_mean", "running_var")}
    return found


_SHAPES = _shapes()
_EPSILON = 1e-5  # torch's, of batch normalisation


def _normalisation(weights: Mapping[str, Floats], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and shift (channels,)."""
    gain, bias, mean, variance = (
        weights[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + _EPSILON)
    return scale, bias - mean * scale


def _folded(weights: Mapping[str, Floats], convolution: str, norm: str) -> tuple[Floats, Floats]:
    """A convolution and the normalisation after it: taps (5, into, out), offset (out,)."""
    scale, shift = _normalisation(weights, norm)
    taps = weights[f"{convolution}.weight"].transpose(2, 1, 0) * scale
    offset = weights[f"{convolution}.bias"] * scale + shift
    return taps.astype(np.float32), offset.astype(np.float32)


def _convolved(x: Floats, taps: Floats, offset: Floats, stride: int = 1) -> Floats:
    """``x`` (frames, into), padded already -> (frames', out)."""
    count = (len(x) - len(taps)) // stride + 1
    result: Floats = offset + sum(x[k::stride][:count] @ tap for k, tap in enumerate(taps))
    return result


@functools.cache
def load(path: Path = WEIGHTS) -> Network:
    """The network with the weights at ``path`` (safetensors, no pickle), ready for use.

    SetupError where the file is missing or is not such a network.
    """
    if not path.is_file():
        raise SetupError(f"The weights of the lips network are missing: {path.name}. Reinstall heygemd.")
    with safe_open(path, framework="np") as file:
        if (file.metadata() or {}).get("format") != FORMAT:
            raise SetupError(f"{path.name} does not contain a lips network of this version ({FORMAT}).")
        weights = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    try:
        return Network(weights)
    except (KeyError, ValueError) as error:
        raise SetupError(f"{path.name} does not contain a lips network of this version.", detail=str(error)) from error


def speak(samples: Floats, net: Network | None = None, progress: Callable[[int, int], None] | None = None) -> LipTrack:
    """Mouth shapes for a sound: float32 (n,), 16 kHz mono in [-1, 1] -> LipTrack of ceil(n / 320) frames.

    Any length: beside the result, memory stays near 50 MB.  The sound's level and colour are measured over all of it
    first.  Where the level is below GATE_DBFS for 0.15 s around, or the spectrum's shape stands still as no speech's
    does (STEADY), the mouth is at rest whatever the network says.
    ``progress`` is called with the number of frames done and of all.
    """
    total = -(-len(samples) // (mel.SAMPLE_RATE // RATE))
    if not total:
        return _resting(0)
    net = net or load()
    gathered, levels, peak = mel.Average(), [], -np.inf
    for block, level in mel.blocks(samples):
        gathered.add(block)
        levels.append(level)
        peak = max(peak, float(block.max()))
    ref = mel.reference(*gathered.result(), net.usual)
    gate = _gate(np.concatenate(levels), total)
    track = _allocate(total)
    for first in range(0, total, _CHUNK):
        last = min(first + _CHUNK, total)
        features, moving = _features(samples, first, last, ref, peak)
        _fill(track, first, last, net, features, gate[first:last] * moving)
        if progress is not None:
            progress(last, total)
    return track


def _fill(track: LipTrack, first: int, last: int, net: Network, features: Floats, open_gate: Floats) -> None:
    """Write frames first to last of ``track``; ``open_gate`` (last - first,)."""
    embedding = net.embed(features)[_OVERLAP : _OVERLAP + last - first]
    scores = net.scores(embedding)
    likely = _sigmoid(scores[:, 2:5])
    here = slice(first, last)
    track.gate[here] = open_gate
    track.opening[here] = np.clip(scores[:, 0], 0, 1) * open_gate
    track.width[here] = np.clip(scores[:, 1], -1, 1) * open_gate
    for column, name in enumerate(("closure", "labiodental", "voice")):
        getattr(track, name)[here] = likely[:, column] * open_gate
    track.visemes[here] = _softmax(scores[:, 5:]) * open_gate[:, None]
    track.visemes[here, 0] += 1 - open_gate
    track.embedding[here] = embedding
    inside = features[2 * _OVERLAP :][: 2 * (last - first)]
    track.spectrum[here] = inside.reshape(last - first, 2, mel.BANDS).mean(1)


def _sigmoid(scores: Floats) -> Floats:
    return (1 / (1 + np.exp(-np.clip(scores, -80, 80)))).astype(np.float32)


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    result: Floats = powers / powers.sum(1, keepdims=True)
    return result


def _features(samples: Floats, first: int, last: int, ref: Floats, peak: float) -> tuple[Floats, Floats]:
    """The network's input for frames first - _OVERLAP to last + _OVERLAP, silence outside the sound; and for frames
    first to last, 0 where the sound stands still to 1 where it moves as speech does."""
    begin, end = 2 * (first - _OVERLAP), 2 * (last + _OVERLAP)
    inside = max(0, begin), min(end, mel.frame_count(len(samples)))
    features = np.full((end - begin, mel.BANDS), mel.CLIP[0], np.float32)
    frames, _ = mel.analyse(samples, *inside)
    features[inside[0] - begin : inside[1] - begin] = mel.normalise(frames, ref)
    unrest = mel.unrest(frames, peak)[2 * first - inside[0] :][: 2 * (last - first) : 2]
    unrest = np.pad(unrest, (0, last - first - len(unrest)))
    moving: Floats = np.clip((unrest - STEADY[0]) / (STEADY[1] - STEADY[0]), 0, 1).astype(np.float32)
    return features, moving


def _gate(level: Floats, total: int) -> Floats:
    """Level every 10 ms in dBFS -> 0 (silence) to 1 per frame of 20 ms (total,)."""
    low, high = GATE_DBFS
    padded = np.pad(level, (_GATE_REACH, _GATE_REACH + 2 * total - min(len(level), 2 * total)), constant_values=-120.0)
    loudest = np.lib.stride_tricks.sliding_window_view(padded, 2 * _GATE_REACH + 1).max(1)[1 : 2 * total : 2]
    result: Floats = np.clip((loudest - low) / (high - low), 0, 1).astype(np.float32)
    return result


def _allocate(frames: int) -> LipTrack:
    opening, width, closure, labiodental, voice, gate = np.zeros((6, frames), np.float32)
    visemes, embedding = np.zeros((frames, len(VISEMES)), np.float32), np.zeros((frames, CHANNELS), np.float32)
    spectrum = np.full((frames, mel.BANDS), mel.CLIP[0], np.float32)
    return LipTrack(opening, width, closure, labiodental, voice, visemes, embedding, spectrum, gate)


def _resting(frames: int) -> LipTrack:
    track = _allocate(frames)
    track.visemes[:, 0] = 1
    return track


def _blend(values: Floats, low: NDArray[np.int64], high: NDArray[np.int64], share: Floats) -> Floats:
    weight = share.reshape(-1, *([1] * (values.ndim - 1)))
    result: Floats = values[low] * (1 - weight) + values[high] * weight
    return result
