"""Sound to mouth shape through a speech encoder that has heard 680,000 hours of people: the default ears.

The first three blocks of Whisper tiny.en (int8, 6 MB, ``data/ears.md``) and one linear layer on them, trained by
``heygemd/training`` on synthesized speech.  On about ninety people in nine languages r of the opening was .54 where
the own network of ``lips.py`` had .43, that of the width .52 where it had .41.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from heygemd.common.errors import SetupError
from heygemd.common.shipped import DATA
from heygemd.pipeline.speech import lips, whisper

Floats = NDArray[np.float32]
WEIGHTS = DATA / "ears.safetensors"
FILES = {"whisper": (WEIGHTS, lips.WEIGHTS), "own": (lips.WEIGHTS,)}
"""What the ears of each name are made of."""
FORMAT = "heygemd ears 1"
CONTEXT = (-4, -2, 0, 2, 4)
"""Vectors of 20 ms around each frame that the linear layer sees."""
OUTPUTS = 20
"""opening, width; closure, labiodental, voice (logits); 15 visemes (shares)."""
WINDOW_SECONDS, OVERLAP_SECONDS = 20, 1
"""Attention sees a window; the overlap on both sides is thrown away."""
_MARKS = (("closure", 0.6), ("labiodental", 0.0), ("voice", 0.0))
"""Outputs that both networks know, and what is added to the ears' logit: with .6 every held-out set finds nine of ten
closures."""
_SCALE = ".scale"  # of an int8 matrix, per output row


@dataclass(frozen=True, slots=True)
class Ears:
    """The encoder and its linear layer: weight (5 width, 20), bias (20,)."""

    encoder: whisper.Encoder
    weight: Floats
    bias: Floats

    def scores(self, vectors: Floats) -> Floats:
        """Encoder vectors (T, width) on LipTrack's frames -> (T, 20)."""
        result: Floats = around(vectors) @ self.weight + self.bias
        return result


def around(vectors: Floats) -> Floats:
    """Each frame with its neighbours of CONTEXT, ends repeated: (T, width) -> (T, 5 width)."""
    at = np.arange(len(vectors))
    return np.concatenate([vectors[np.clip(at + step, 0, len(vectors) - 1)] for step in CONTEXT], 1)


def listen(samples: Floats, encoder: whisper.Encoder, first: int = 0) -> Floats:
    """Vectors on LipTrack's frames, centred on (t + 0.5) / 50 s: float32 (n,) at 16 kHz -> (ceil(n / 320), width).

    ``first``: see ``whisper.Encoder``.
    """
    reach = max(CONTEXT)
    parts = [vectors[reach : len(vectors) - reach] for _, _, vectors in _windows(samples, encoder, first)]
    return np.concatenate([np.zeros((0, encoder.width), np.float32), *parts])


def speak(
    samples: Floats, progress: Callable[[int, int], None] | None = None, ears: Ears | None = None
) -> lips.LipTrack:
    """Mouth shapes for a sound: float32 (n,), 16 kHz mono in [-1, 1] -> LipTrack of ceil(n / 320) frames.

    Opening, width and visemes are those of the ears; closure, labiodental and voice what both networks say in the
    mean of their logits (each alone misses closures of voices that the other knows); embedding, spectrum and gate the
    own network's.  Any length: beside the result, memory stays near 100 MB.  ``progress`` gets frames done and frames
    in all.
    """
    ears = ears or load()
    track = lips.speak(samples)
    for start, stop, vectors in _windows(samples, ears.encoder):
        reach = max(CONTEXT)
        scores = ears.scores(vectors)[reach : len(vectors) - reach]
        here, gate = slice(start, stop), track.gate[start:stop]
        track.opening[here] = np.clip(scores[:, 0], 0, 1) * gate
        track.width[here] = np.clip(scores[:, 1], -1, 1) * gate
        for column, (name, bias) in enumerate(_MARKS):
            mark = getattr(track, name)
            mark[here] = _both(mark[here], scores[:, 2 + column] + bias, gate)
        shares = np.clip(scores[:, 5:], 1e-3, None)
        track.visemes[here] = shares / shares.sum(1, keepdims=True) * gate[:, None]
        track.visemes[here, 0] += 1 - gate
        if progress is not None:
            progress(stop, len(track))
    return track


def named(name: str) -> Callable[[Floats, Callable[[int, int], None] | None], lips.LipTrack]:
    """The ears that the setting ``ears`` names."""
    return speak if name == "whisper" else lambda samples, progress: lips.speak(samples, progress=progress)


def _both(gated: Floats, logit: Floats, gate: Floats) -> Floats:
    """The probability of the mean logit; ``gated``: the own network's probability times ``gate``."""
    own = np.clip(gated / np.maximum(gate, 1e-3), 1e-5, 1 - 1e-5)
    mean = (np.log(own / (1 - own)) + np.clip(logit, -12, 12)) / 2
    result: Floats = (gate / (1 + np.exp(-mean))).astype(np.float32)
    return result


def _windows(samples: Floats, encoder: whisper.Encoder, first: int = 0) -> Iterator[tuple[int, int, Floats]]:
    """First and last + 1 LipTrack frame of each window, and the vectors of these frames and of ``max(CONTEXT)`` more
    on both sides (the sound's ends are repeated).

    The loudest value is that of the whole sound, so that a quiet window is not lifted.
    """
    total = -(-len(samples) // (whisper.SAMPLE_RATE // whisper.RATE))
    last = whisper.frame_count(len(samples)) // 2  # vectors that there are
    if last < 1:
        samples, last = np.pad(samples, (0, 2 * whisper.HOP)), 1
    peak = _peak(samples)
    size, overlap, reach = WINDOW_SECONDS * whisper.RATE, OVERLAP_SECONDS * whisper.RATE, max(CONTEXT)
    for start in range(0, total, size):
        stop = min(start + size, total)
        low, high = max(0, min(start - overlap, last - 1)), min(stop + overlap, last)
        vectors = encoder(whisper.normalised(whisper.log_power(samples, 2 * low, 2 * high), peak), first)
        here = np.clip(np.arange(start - reach, stop + reach), 0, total - 1) - low
        before, after = (np.clip(at, 0, len(vectors) - 1) for at in (here, here + 1))
        yield start, stop, (vectors[before] + vectors[after]) * np.float32(0.5)


def _peak(samples: Floats) -> float:
    """The loudest log10 mel power of the whole sound."""
    count, size = whisper.frame_count(len(samples)), WINDOW_SECONDS * 2 * whisper.RATE
    return max(
        float(whisper.log_power(samples, start, min(start + size, count)).max()) for start in range(0, count, size)
    )


def quantised(matrix: Floats) -> tuple[NDArray[np.int8], Floats]:
    """int8 and a scale per output row (first axis): at most half a step of 1/127 of the row's largest value off."""
    largest = np.abs(matrix).reshape(len(matrix), -1).max(1)
    scale = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    shaped = scale.reshape(-1, *[1] * (matrix.ndim - 1))
    return np.round(matrix / shaped).clip(-127, 127).astype(np.int8), scale


def restored(tensors: Mapping[str, NDArray[np.generic]]) -> dict[str, Floats]:
    """float32 by name, from what ``quantised`` made of the matrices among them."""
    out: dict[str, Floats] = {}
    for name, tensor in tensors.items():
        if name.endswith(_SCALE):
            continue
        values = np.asarray(tensor, np.float32)
        if tensor.dtype == np.int8:
            values *= np.asarray(tensors[name + _SCALE], np.float32).reshape(-1, *[1] * (values.ndim - 1))
        out[name] = values
    return out


@functools.cache
def load(path: Path = WEIGHTS) -> Ears:
    """The ears with the weights at ``path`` (safetensors, no pickle).  SetupError where the file is missing or holds
    something else."""
    if not path.is_file():
        raise SetupError(f"The weights of the default ears are missing: {path}. Install heygemd again.")
    with safe_open(path, framework="np") as file:
        facts = file.metadata() or {}
        if facts.get("format") != FORMAT:
            raise SetupError(f"{path} does not hold ears of this version ({FORMAT}).")
        tensors = restored({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    try:
        encoder = whisper.Encoder(tensors, int(facts["blocks"]))
        weight, bias = tensors["head.weight"], tensors["head.bias"]
        if weight.shape != (len(CONTEXT) * encoder.width, OUTPUTS) or bias.shape != (OUTPUTS,):
            raise ValueError(f"a head of {weight.shape}")
    except (KeyError, ValueError) as error:
        raise SetupError(f"{path} does not hold ears of this version.", detail=str(error)) from error
    return Ears(encoder, weight, bias)
