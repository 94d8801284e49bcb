"""The linear layer of the default ears: ridge regression in closed form on the encoder's vectors of synthesized speech.

Opening, width and visemes by least squares; closure, labiodental and voice by logistic regression, because rare
closures must not be missed.  Minutes of one core, no epochs of the encoder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from heygemd.common.errors import SetupError
from heygemd.pipeline.speech import ears, whisper
from heygemd.training import dataset
from heygemd.training.dataset import Example, Utterance

BLOCKS = 3
"""On ten people block 3 followed the mouth best: opening r .35, .44, .48, .45 for blocks 1 to 4."""
RIDGE = 0.1  # .001 to 1 made no difference
DISTURBED = 0.67  # share of the utterances that are heard through a room, noise, a codec
_PLACES = 1500  # vectors that Whisper was trained with
_MARKS = ((2, 2.5), (3, 2.0), (4, 1.0))  # column, weight of its positive frames, as in recipe.MARKS
_EPOCHS, _BATCH, _RATE, _DECAY = 6, 512, 2e-3, 1e-4

Floats = NDArray[np.float32]


def items(scale: float = 1.0) -> list[Utterance]:
    """The mix: about 1.1 h."""
    counts = {"espeak": 380, "flite": 180, "vowels": 30, "negative": 64}
    return [Utterance(kind, number) for kind, count in counts.items() for number in range(max(1, round(count * scale)))]


def encoder_weights(path: Path) -> dict[str, Floats]:
    """An encoder's tensors by openai's names without ``encoder.``, float32.  SetupError where it is none."""
    found = {name.removeprefix("encoder."): tensor.astype(np.float32) for name, tensor in load_file(path).items()}
    if "conv1.weight" not in found:
        raise SetupError(f"{path} holds no Whisper encoder.")
    return found


@functools.cache
def _encoder(path: Path) -> whisper.Encoder:
    return whisper.Encoder(encoder_weights(path), BLOCKS)


def vectors(example: Example, path: Path, seed: int) -> Example:
    """Of the sound, only the encoder's vectors remain: ``mels`` becomes one array (T, width) float16."""
    rng = np.random.default_rng([seed, 2, *map(ord, example.item.kind), example.item.number])
    held_out = example.item.kind.startswith("held_")
    disturbed = example.recordings and rng.random() < DISTURBED and not held_out
    sound = example.recordings[0] if disturbed else example.samples
    assert sound is not None
    first = 0 if held_out else int(rng.integers(0, max(1, _PLACES - len(sound) // 320 - 1)))
    heard = ears.listen(sound, _encoder(path), first=first)
    return replace(
        example, mels=(heard.astype(np.float16),), samples=example.samples if held_out else None, recordings=()
    )


def build(
    which: Sequence[Utterance], path: Path, seed: int, workers: int, tell: Callable[[str], None]
) -> list[Example]:
    """``dataset.build`` with the encoder's vectors in place of the own network's mels."""
    return dataset.build(which, seed, workers, tell, functools.partial(vectors, path=path, seed=seed))


@dataclass(frozen=True, slots=True)
class Scale:
    """What inputs are standardised by: mean and spread (5 width,)."""

    mean: Floats
    spread: Floats

    def __call__(self, inputs: Floats) -> Floats:
        result: Floats = (inputs - self.mean) / self.spread
        return result


def fit(examples: Sequence[Example], seed: int, tell: Callable[[str], None]) -> tuple[Floats, Floats]:
    """Weight (5 width, 20) and bias (20,) of the linear layer."""
    scale, gram, right, mean = _sums(examples)
    solved = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), right)
    weight, bias = solved.astype(np.float32), mean.astype(np.float32)
    weight[:, 2:5], bias[2:5] = _marks(examples, scale, seed, tell)
    weight = weight / scale.spread[:, None]
    return weight, (bias - scale.mean @ weight).astype(np.float32)


def _pairs(example: Example) -> tuple[Floats, Floats]:
    """Inputs (n, 5 width) and targets (n, 20) of one example."""
    heard, values = example.mels[0].astype(np.float32), example.targets.values
    count = min(len(heard), len(values))
    shares = np.eye(15, dtype=np.float32)[example.targets.visemes[:count]]
    if not example.targets.visemes.any():
        shares[:] = 0.0
    return ears.around(heard)[:count], np.concatenate([values[:count], shares], 1)


def _sums(examples: Sequence[Example]) -> tuple[Scale, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The scale of the inputs; their correlations (D, D), with the targets (D, 20), and the targets' mean (20,)."""
    total = 0
    gram: NDArray[np.float64] | float = 0.0
    right: NDArray[np.float64] | float = 0.0
    ones: NDArray[np.float64] | float = 0.0
    meant: NDArray[np.float64] | float = 0.0
    for example in examples:
        inputs, targets = _pairs(example)
        total += len(inputs)
        gram = gram + (inputs.T @ inputs).astype(np.float64)
        right = right + (inputs.T @ targets).astype(np.float64)
        ones = ones + inputs.sum(0, dtype=np.float64)
        meant = meant + targets.sum(0, dtype=np.float64)
    mean, middle = np.asarray(ones) / total, np.asarray(meant) / total
    covariance = np.asarray(gram) / total - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0))
    spread = spread + 0.1 * spread.mean()  # channels that hardly vary are not blown up
    scaled = covariance / np.outer(spread, spread)
    crossed = (np.asarray(right) / total - np.outer(mean, middle)) / spread[:, None]
    return Scale(mean.astype(np.float32), spread.astype(np.float32)), scaled, crossed, middle


def _marks(examples: Sequence[Example], scale: Scale, seed: int, tell: Callable[[str], None]) -> tuple[Floats, Floats]:
    """Weight (D, 3) and bias (3,) of the logits of closure, labiodental and voice: Adam on the weighted entropy."""
    rng = np.random.default_rng([seed, 3])
    columns, emphasis = [c for c, _ in _MARKS], np.array([e for _, e in _MARKS], np.float32)
    weight = np.zeros((len(scale.mean), len(_MARKS)), np.float32)
    bias = np.zeros(len(_MARKS), np.float32)
    state = [np.zeros_like(weight), np.zeros_like(weight), np.zeros_like(bias), np.zeros_like(bias)]
    step, steps = 0, _EPOCHS * sum(-(-len(e.mels[0]) // _BATCH) for e in examples)
    for epoch in range(_EPOCHS):
        lost = []
        for place in rng.permutation(len(examples)):
            inputs, targets = _pairs(examples[place])
            order = rng.permutation(len(inputs))
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                x, y = scale(inputs[rows]), targets[rows][:, columns]
                step += 1
                likely = 1 / (1 + np.exp(-np.clip(x @ weight + bias, -30, 30)))
                weighted = y * emphasis * (likely - 1) + (1 - y) * likely
                lost.append(float(np.abs(likely - y).mean()))
                slope = weighted / len(rows)
                rate = _RATE * (1 - step / (steps + 1))
                _adam(weight, x.T @ slope + _DECAY * weight, state[0], state[1], step, rate)
                _adam(bias, slope.sum(0), state[2], state[3], step, rate)
        tell(f"marks, pass {epoch + 1} of {_EPOCHS}: mean error {np.mean(lost):.4f}")
    return weight, bias


def _adam(values: Floats, slope: Floats, first: Floats, second: Floats, step: int, rate: float) -> None:
    """One step of Kingma and Ba's Adam (2015), in place."""
    first += 0.1 * (slope - first)
    second += 0.001 * (slope * slope - second)
    values -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)


def save(weights: dict[str, Floats], weight: Floats, bias: Floats, path: Path, facts: dict[str, str]) -> None:
    """Write the first blocks (matrices int8, the rest float16) and the layer (float32), readable by ``ears.load``."""
    wanted = ("conv1.", "conv2.", *(f"blocks.{k}." for k in range(BLOCKS)))
    tensors: dict[str, NDArray[np.generic]] = {"head.weight": weight, "head.bias": bias}
    for name, tensor in weights.items():
        if not name.startswith(wanted):
            continue
        if tensor.ndim > 1:
            tensors[name], tensors[f"{name}.scale"] = ears.quantised(tensor)
        else:
            tensors[name] = tensor.astype(np.float16)
    save_file(tensors, path, {"format": ears.FORMAT, "blocks": str(BLOCKS), **facts})
