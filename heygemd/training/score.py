"""How good a lips network is on voices and languages that it never heard, through ``lips.speak`` itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from heygemd.pipeline.speech import lips, mel
from heygemd.training.dataset import Example
from heygemd.training.network import LipsNet, trained
from heygemd.training.synthesis import sounds

SETS = ("held_voice", "held_language", "held_flite")
LOWEST = {"opening_r": 0.83, "closure_recall": 0.85, "closure_precision": 0.65}
"""What held_voice and held_language must reach; held_flite is reported only."""
HIGHEST_AT_REST = 0.1
_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Score:
    """Pearson's r of opening and width; of bilabial closures: recall and precision at probability 0.5 within 30 ms,
    and how many there were; share of frames whose voice is right."""

    utterances: int
    opening_r: float
    width_r: float
    closures: int
    closure_recall: float
    closure_precision: float
    voice_right: float


def score(examples: Sequence[Example], torch_net: LipsNet) -> dict[str, object]:
    """Scores of each held-out set, what the network says to sounds without speech, and whether all is good enough."""
    net = trained(torch_net)
    sets = {name: asdict(compare([example for example in examples if example.item.kind == name], net)) for name in SETS}
    rest = at_rest(net)
    passed = all(sets[name][key] >= lowest for name in SETS[:2] for key, lowest in LOWEST.items())
    calm = all(max(row.values()) <= HIGHEST_AT_REST for row in rest.values())
    return {"sets": sets, "at_rest": rest, "passed": passed and calm}


def compare(examples: Sequence[Example], net: lips.Network) -> Score:
    """``Score`` over all frames of ``examples``."""
    predicted, meant = [], []
    hits = closures = right = raised = 0
    for example in examples:
        assert example.samples is not None
        track = lips.speak(example.samples, net)
        count = min(len(track), len(example.targets.values))
        values = example.targets.values[:count]
        predicted.append(np.stack([track.opening[:count], track.width[:count], track.voice[:count]], 1))
        meant.append(values[:, [0, 1, 4]])
        true, heard = values[:, 2] > 0.5, track.closure[:count] > 0.5
        hits, closures = hits + _overlaps(true, heard), closures + len(runs(true))
        right, raised = right + _overlaps(heard, true), raised + len(runs(heard))
    a, b = np.concatenate(predicted), np.concatenate(meant)
    return Score(
        utterances=len(examples),
        opening_r=_r(a[:, 0], b[:, 0]),
        width_r=_r(a[:, 1], b[:, 1]),
        closures=closures,
        closure_recall=round(hits / max(1, closures), 3),
        closure_precision=round(right / max(1, raised), 3),
        voice_right=round(float(((a[:, 2] > 0.5) == (b[:, 2] > 0.5)).mean()), 3),
    )


def at_rest(net: lips.Network) -> dict[str, dict[str, float]]:
    """The 99th percentile of voice, opening and closure for eight-second sounds without speech."""
    count = 8 * mel.SAMPLE_RATE
    rng = np.random.default_rng(20)
    level = 10 ** (-50 / 20)
    heard = {
        "digital silence": np.zeros(count, np.float32),
        "white noise -50 dBFS": sounds.noise(count, 0, rng) * np.float32(level),
        "pink noise -50 dBFS": sounds.noise(count, 1, rng) * np.float32(level),
        "white noise -30 dBFS": sounds.noise(count, 0, rng) * np.float32(10 * level),
        "pink noise -20 dBFS": sounds.noise(count, 1, rng) * np.float32(0.1),
        "music 1": sounds.music(count, rng) * np.float32(0.1),
        "music 2": sounds.music(count, rng) * np.float32(0.05),
        "music 3": sounds.music(count, rng) * np.float32(0.1),
        "hum": sounds.hum(count, rng) * np.float32(0.05),
        "clicks": sounds.clicks(count, rng),
    }
    result = {}
    for name, sound in heard.items():
        track = lips.speak(np.asarray(sound, np.float32), net)
        worst = {key: float(np.percentile(getattr(track, key), 99)) for key in ("voice", "opening", "closure")}
        result[name] = {key: round(value, 3) for key, value in worst.items()}
    return result


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last + 1 of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _overlaps(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> int:
    """How many stretches of ``ours`` have the centre of a True frame of ``theirs`` in them or near enough."""
    centres = (np.flatnonzero(theirs) + 0.5) / lips.RATE
    count = 0
    for first, last in runs(ours):
        low, high = first / lips.RATE - _TOLERANCE - 1e-9, last / lips.RATE + _TOLERANCE + 1e-9
        count += bool(((centres >= low) & (centres <= high)).any())
    return count


def _r(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return round(float(np.corrcoef(a, b)[0, 1]), 3)
