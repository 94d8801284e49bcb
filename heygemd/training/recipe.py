"""The training itself: random four-second crops, one loss, AdamW with a cosine, a budget in steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from heygemd.pipeline.speech import mel
from heygemd.training.dataset import Example
from heygemd.training.network import LipsNet

STEPS = 5000
BATCH = 32
CROP = 200
"""Frames of 20 ms in a crop."""
RATE = 2e-3
WARM_UP = 100
WEIGHT_DECAY = 0.02
OPENING_LOSS, WIDTH_LOSS, VISEME_LOSS = 12.0, 4.0, 0.3
MARKS = ((2, 1.0, 2.5), (3, 0.5, 2.0), (4, 0.5, 1.0))
"""Column, weight in the loss and weight of its positive frames: closure, labiodental, voice.  Closed frames are rare
and must not be missed."""

Floats = NDArray[np.float32]
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def train(
    examples: Sequence[Example],
    steps: int,
    seed: int,
    tell: Callable[[int, float, LipsNet], None],
) -> LipsNet:
    """A network trained from nothing; ``tell(step, running loss, net)`` after each step.

    On one thread, so that the same examples, steps and seed give the same weights whatever the number of cores (for
    one kind of processor and one version of torch).  Two cores would gain little: a step takes about 0.2 s on one.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng([seed, 1])
    net = LipsNet().train()
    usual = usual_spectrum(examples)
    net.usual.copy_(torch.from_numpy(usual))
    recordings = [(example, place) for example in examples for place in range(len(example.mels))]
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    running = 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        features, values, visemes, weights = draw(recordings, usual, rng)
        value = loss(net(features), values, visemes, weights)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        running = 0.98 * running + 0.02 * float(value.detach())
        tell(step + 1, running / (1 - 0.98 ** (step + 1)), net)
    return net.eval()


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    cosine = 0.49 * (1 + np.cos(np.pi * step / steps)) + 0.02
    return float(RATE * min(1.0, (step + 1) / WARM_UP) * cosine)


def usual_spectrum(examples: Sequence[Example]) -> Floats:
    """The average spectrum (80,) of the speech among ``examples``, its own mean removed."""
    spoken = [mean for example in examples if example.targets.visemes.any() for mean, _ in example.averages]
    mean = np.mean(spoken, axis=0)
    result: Floats = (mean - mean.mean()).astype(np.float32)
    return result


def draw(recordings: Sequence[tuple[Example, int]], usual: Floats, rng: np.random.Generator) -> Batch:
    """BATCH random crops: features (B, 2 CROP, 80), values (B, CROP, 5), visemes and weights (B, CROP)."""
    features = np.full((BATCH, 2 * CROP, mel.BANDS), mel.CLIP[0], np.float32)
    values = np.zeros((BATCH, CROP, 5), np.float32)
    visemes = np.zeros((BATCH, CROP), np.int64)
    weights = np.zeros((BATCH, CROP), np.float32)
    for row in range(BATCH):
        example, place = recordings[int(rng.integers(len(recordings)))]
        recording, targets = example.mels[place], example.targets
        ref = mel.reference(*example.averages[place], usual, float(rng.uniform(0.3, 0.9)))
        count = min(len(recording) // 2, len(targets.visemes))
        first = int(rng.integers(max(1, count - CROP + 1)))
        size = min(CROP, count - first)
        crop = recording[2 * first : 2 * (first + size)].astype(np.float32)
        features[row, : 2 * size] = _mask(mel.normalise(crop, ref + rng.normal(0, 0.6)), rng)
        values[row, :size] = targets.values[first : first + size]
        visemes[row, :size] = targets.visemes[first : first + size]
        weights[row, :size] = 1
    return torch.from_numpy(features), torch.from_numpy(values), torch.from_numpy(visemes), torch.from_numpy(weights)


def loss(scores: Tensor, values: Tensor, visemes: Tensor, weights: Tensor) -> Tensor:
    """Squared error of opening and width, cross entropy of the marks and visemes, averaged over weighted frames.

    Width counts less where nobody speaks.
    """

    def mean(per_frame: Tensor) -> Tensor:
        return (per_frame * weights).sum() / weights.sum()

    spoken = 0.3 + 0.7 * values[..., 4]
    total = OPENING_LOSS * mean((scores[..., 0] - values[..., 0]) ** 2)
    total = total + WIDTH_LOSS * mean((scores[..., 1] - values[..., 1]) ** 2 * spoken)
    for column, share, emphasis in MARKS:
        entropy = functional.binary_cross_entropy_with_logits(
            scores[..., column], values[..., column], reduction="none", pos_weight=torch.tensor(emphasis)
        )
        total = total + share * mean(entropy)
    entropy = functional.cross_entropy(scores[..., 5:].transpose(1, 2), visemes, reduction="none")
    return total + VISEME_LOSS * mean(entropy)


def _mask(features: Floats, rng: np.random.Generator) -> Floats:
    """Two bands of up to 13 filters replaced by their mean or by 0 (SpecAugment)."""
    for _ in range(2):
        width = int(rng.integers(1, 14))
        low = int(rng.integers(mel.BANDS - width))
        band = features[:, low : low + width]
        features[:, low : low + width] = band.mean() if rng.random() < 0.5 else 0.0
    return features
