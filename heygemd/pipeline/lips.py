"""Sound to mouth shape: how open, how wide, whether closed, 50 times a second.

A convolutional network of 0.4 M parameters, trained by ``heygemd/training`` on synthesized speech, reads log-mel
frames every 10 ms and sees about 0.36 s to either side.  ``speak`` is the whole use of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from heygemd.errors import SetupError
from heygemd.pipeline import audio

RATE = 50
VISEMES = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou")
CHANNELS = 128
DILATIONS = (1, 2, 4, 1)
WEIGHTS = Path(__file__).parent.parent / "data" / "lips.safetensors"
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
    spectrum (T, 80): its input, normalised log-mel.
    """

    opening: Floats
    width: Floats
    closure: Floats
    labiodental: Floats
    voice: Floats
    visemes: Floats
    embedding: Floats
    spectrum: Floats

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


class Block(nn.Module):
    """Residual block: depthwise convolution in time, then a two-layer mix of channels."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.time = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation, groups=channels)
        self.norm = nn.BatchNorm1d(channels)
        self.widen = nn.Conv1d(channels, 2 * channels, 1)
        self.narrow = nn.Conv1d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> the same."""
        mixed: Tensor = self.narrow(functional.relu(self.widen(self.norm(self.time(x)))))
        return x + mixed


class LipsNet(nn.Module):
    """404,500 parameters.  ``usual`` is the training data's average spectrum, which ``audio.reference`` needs."""

    usual: Tensor

    def __init__(self, dropout: float = 0.05) -> None:
        super().__init__()
        self.stem = nn.Conv1d(audio.BANDS, CHANNELS, 5, padding=2)
        self.stem_norm = nn.BatchNorm1d(CHANNELS)
        self.halve = nn.Conv1d(CHANNELS, CHANNELS, 5, stride=2)
        self.halve_norm = nn.BatchNorm1d(CHANNELS)
        self.blocks = nn.ModuleList(Block(CHANNELS, dilation) for dilation in DILATIONS)
        self.last_norm = nn.BatchNorm1d(CHANNELS)
        self.head = nn.Conv1d(CHANNELS, 5 + len(VISEMES), 1)
        self.dropout = dropout
        self.register_buffer("usual", torch.zeros(audio.BANDS))

    def embed(self, features: Tensor) -> Tensor:
        """Normalised log-mel (B, 2T, 80) -> (B, 128, T).  Output t looks at inputs around 2t + 1."""
        x = functional.relu(self.stem_norm(self.stem(features.transpose(1, 2))))
        x = functional.relu(self.halve_norm(self.halve(functional.pad(x, (1, 3)))))
        for block in self.blocks:
            x = functional.dropout(block(x), self.dropout, self.training)
        return functional.relu(self.last_norm(x))

    def forward(self, features: Tensor) -> Tensor:
        """Normalised log-mel (B, 2T, 80) -> (B, T, 20): opening, width, logits of closure, labiodental, voice, and of
        the visemes."""
        scores: Tensor = self.head(self.embed(features))
        return scores.transpose(1, 2)


@functools.cache
def load(path: Path = WEIGHTS) -> LipsNet:
    """The network with the weights at ``path`` (safetensors, no pickle), ready for use.

    SetupError where the file is missing or is not such a network.
    """
    if not path.is_file():
        raise SetupError(f"The lips network's weights are missing: {path}. Install heygemd again.")
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("format") != FORMAT:
            raise SetupError(f"{path} does not hold a lips network of this version ({FORMAT}).")
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    net = LipsNet()
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise SetupError(f"{path} does not hold a lips network of this version.", detail=str(error)) from error
    return net.eval()


def speak(
    samples: Floats, threads: int = 1, net: LipsNet | None = None, told: Callable[[int, int], None] | None = None
) -> LipTrack:
    """Mouth shapes for a sound: float32 (n,), 16 kHz mono in [-1, 1] -> LipTrack of ceil(n / 320) frames.

    Any length: beside the result, memory stays near 50 MB.  The sound's level and colour are measured over all of it
    first.  Where the level is below GATE_DBFS for 0.15 s around, or the spectrum's shape stands still as no speech's
    does (STEADY), the mouth is at rest whatever the network says.
    threads: of torch; the caller's number is put back.  ``told`` is called with how many frames of all are done.
    """
    total = -(-len(samples) // (audio.SAMPLE_RATE // RATE))
    if not total:
        return _resting(0)
    net = net or load()
    gathered, levels, peak = audio.Average(), [], -np.inf
    for mel, level in audio.blocks(samples):
        gathered.add(mel)
        levels.append(level)
        peak = max(peak, float(mel.max()))
    ref = audio.reference(*gathered.result(), net.usual.numpy())
    gate = _gate(np.concatenate(levels), total)
    track = _allocate(total)
    with _torch_threads(threads), torch.inference_mode():
        for first in range(0, total, _CHUNK):
            last = min(first + _CHUNK, total)
            features, moving = _features(samples, first, last, ref, peak)
            _fill(track, first, last, net, features, gate[first:last] * moving)
            if told is not None:
                told(last, total)
    return track


def _fill(track: LipTrack, first: int, last: int, net: LipsNet, features: Floats, open_gate: Floats) -> None:
    """Write frames first to last of ``track``; ``open_gate`` (last - first,)."""
    embedding = net.embed(torch.from_numpy(features)[None])[:, :, _OVERLAP : _OVERLAP + last - first]
    scores = net.head(embedding)[0].T
    likely = torch.sigmoid(scores[:, 2:5]).numpy()
    here = slice(first, last)
    track.opening[here] = np.clip(scores[:, 0].numpy(), 0, 1) * open_gate
    track.width[here] = np.clip(scores[:, 1].numpy(), -1, 1) * open_gate
    for column, name in enumerate(("closure", "labiodental", "voice")):
        getattr(track, name)[here] = likely[:, column] * open_gate
    track.visemes[here] = torch.softmax(scores[:, 5:], 1).numpy() * open_gate[:, None]
    track.visemes[here, 0] += 1 - open_gate
    track.embedding[here] = embedding[0].T.numpy()
    inside = features[2 * _OVERLAP :][: 2 * (last - first)]
    track.spectrum[here] = inside.reshape(last - first, 2, audio.BANDS).mean(1)


def _features(samples: Floats, first: int, last: int, ref: Floats, peak: float) -> tuple[Floats, Floats]:
    """The network's input for frames first - _OVERLAP to last + _OVERLAP, silence outside the sound; and for frames
    first to last, 0 where the sound stands still to 1 where it moves as speech does."""
    begin, end = 2 * (first - _OVERLAP), 2 * (last + _OVERLAP)
    inside = max(0, begin), min(end, audio.frame_count(len(samples)))
    features = np.full((end - begin, audio.BANDS), audio.CLIP[0], np.float32)
    mel, _ = audio.analyse(samples, *inside)
    features[inside[0] - begin : inside[1] - begin] = audio.normalise(mel, ref)
    unrest = audio.unrest(mel, peak)[2 * first - inside[0] :][: 2 * (last - first) : 2]
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
    opening, width, closure, labiodental, voice = np.zeros((5, frames), np.float32)
    visemes, embedding = np.zeros((frames, len(VISEMES)), np.float32), np.zeros((frames, CHANNELS), np.float32)
    spectrum = np.full((frames, audio.BANDS), audio.CLIP[0], np.float32)
    return LipTrack(opening, width, closure, labiodental, voice, visemes, embedding, spectrum)


def _resting(frames: int) -> LipTrack:
    track = _allocate(frames)
    track.visemes[:, 0] = 1
    return track


def _blend(values: Floats, low: NDArray[np.int64], high: NDArray[np.int64], share: Floats) -> Floats:
    weight = share.reshape(-1, *([1] * (values.ndim - 1)))
    result: Floats = values[low] * (1 - weight) + values[high] * weight
    return result


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
