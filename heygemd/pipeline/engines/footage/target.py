"""Step 3b: what the sound asks of this template's mouth, one value per output frame.

The voice gate is what keeps a silent mouth still: outside speech it is exactly 0, and within ``RELEASE`` seconds of
the voice's end the mouth is at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heygemd.pipeline.engines.footage.heard import BELIEVED_SECONDS, believed
from heygemd.pipeline.image.geometry import Floats
from heygemd.pipeline.image.smoothing import smoothed

if TYPE_CHECKING:
    from heygemd.pipeline.speech.lips import LipTrack

RATE = 50
RELEASE, ATTACK = 0.10, 0.08
"""Seconds in which the mouth comes to rest after the voice, and leaves it before."""
_SMOOTH = 0.025  # seconds, sigma, of the codes: more costs agreement with the sound, less makes the lips flicker
_ON, _OFF, _PAUSE = 0.5, 0.35, 0.10  # voice levels; a pause shorter than this (seconds) is none


@dataclass(frozen=True, slots=True)
class Wanted:
    """Per output frame ``(N,)``: opening 0..1, width -1..1, closure and labiodental 0..1 as the network gave them,
    and ``gate`` 0..1."""

    opening: Floats
    width: Floats
    closure: Floats
    labiodental: Floats
    gate: Floats


def gate(voice: Floats) -> Floats:
    """0..1 at 50 Hz from the network's voice activity at 50 Hz: with hysteresis, short pauses filled, ramps added
    outside of speech."""
    on = np.zeros(len(voice), bool)
    state = False
    for i, v in enumerate(voice):
        state = v > (_OFF if state else _ON)
        on[i] = state
    edges = np.flatnonzero(np.diff(np.concatenate([[True], on, [True]]).astype(np.int8)))
    for first, end in edges.reshape(-1, 2):
        if first > 0 and end < len(on) and end - first < _PAUSE * RATE:
            on[first:end] = True
    out = on.astype(np.float64)
    for seconds, direction in ((RELEASE, 1), (ATTACK, -1)):
        steps = round(seconds * RATE)
        for k in range(1, steps):
            moved = np.zeros(len(on))
            if direction > 0:
                moved[k:] = on[:-k]
            else:
                moved[:-k] = on[k:]
            out = np.maximum(out, moved * (1 - k / steps))
    return out


def wanted(lip: LipTrack, times: Floats) -> Wanted:
    """Sample a LipTrack at ``times`` (seconds, the middle of each output frame)."""
    at = lip.at(times)
    grid = (np.arange(len(lip.voice)) + 0.5) / RATE
    opened = np.interp(times, grid, gate(np.asarray(lip.voice, np.float64))) if len(grid) else np.zeros(len(times))
    opening, width, closure, labiodental = (
        np.asarray(a, np.float64) for a in (at.opening, at.width, at.closure, at.labiodental)
    )
    return Wanted(opening, width, closure, labiodental, opened)


def closing(w: Wanted) -> Floats:
    """How much of the opening is taken away, 0..1: all of it on p, b, m; most on f, v."""
    lips = np.clip((w.closure - 0.3) / 0.25, 0, 1)
    teeth = 0.75 * np.clip((w.labiodental - 0.4) / 0.3, 0, 1)
    return np.maximum(lips, teeth)


def gaps(w: Wanted, rest: float, most: float) -> Floats:
    """For the warp: opening in canonical px, ``rest`` where the gate is shut.

    The driver's loud vowels (95th percentile of its voiced frames) are brought to 85 % of ``most``, within limits, so
    that a mumbled recording still moves the lips.
    """
    voiced = w.opening[w.gate > 0.9]
    loud = float(np.percentile(voiced, 95)) if len(voiced) else 1.0
    scale = float(np.clip(0.85 / max(loud, 1e-3), 0.8, 1.8))
    spoken = most * np.clip(w.opening * scale, 0, 1) * (1 - closing(w))
    result: Floats = rest + w.gate * (spoken - rest)
    return result


def to_range(values: Floats, reference: Floats, weights: Floats, bank: Floats) -> Floats:
    """``values`` moved to the quantiles of ``bank`` that they have in ``reference``, whose values have ``weights``."""
    order = np.argsort(reference, kind="stable")
    ordered, weights = reference[order], weights[order]
    rank = np.interp(values, ordered, (np.cumsum(weights) - weights / 2) / weights.sum())
    result: Floats = np.quantile(bank, rank)
    return result


@dataclass(frozen=True, slots=True)
class Range:
    """What the template's own mouth does: codes while it speaks ``(m, 2)``, at rest and with closed lips ``(2,)``."""

    spoken: Floats
    rest: Floats
    closed: float


def range_of(codes: Floats, own_gate: Floats | None) -> Range:
    """From the codes ``(m, 2)`` of the bank and, where the template's sound is known, its gate at the same frames.

    At rest: the 10th percentile of the opening, or less where the silent frames are more closed than that (pauses
    within a sentence are often taken with the mouth open, and must not teach that silence looks so), and the usual
    width (that of the most closed frames is narrow, for they are mostly p, b, m: it cost .03 of the width's r).
    """
    spoken = codes if own_gate is None or (own_gate > 0.5).sum() < 25 else codes[own_gate > 0.5]
    rest = np.array([np.quantile(codes[:, 0], 0.10), np.median(codes[:, 1])])
    if own_gate is not None:
        silent = codes[own_gate <= 0]
        if len(silent) >= 12:
            rest[0] = min(rest[0], float(np.median(silent[:, 0])))
    return Range(spoken, rest, float(np.quantile(codes[:, 0], 0.03)))


def codes(curve: Floats, usual: Floats, want: Wanted, own: Range, fps: float) -> Floats:
    """The codes ``(N, 2)`` that the driving curve ``(N, 2)`` (any scale) means for this template.

    Voiced frames, and ``BELIEVED_SECONDS`` of ``usual`` ones ``(m, 2)``, say what is much and what is little of the
    curve.  Width takes the template's mean and spread.  Opening is half that, half the template's code of the same
    rank: ranks alone exaggerate, spread alone never opens the mouth as wide as it does on occasion.  Closures and
    silence are then put in.
    """
    voiced = curve[want.gate > 0.9]
    frames = BELIEVED_SECONDS * fps
    mean, spread = believed(voiced, usual, frames)
    low, high = np.quantile(own.spoken, (0.01, 0.99), axis=0)
    spoken = own.spoken.mean(0) + own.spoken.std(0) * (curve - mean) / spread
    spoken = np.clip(spoken, low, high)
    weights = np.concatenate([np.ones(len(voiced)), np.full(len(usual), frames / len(usual))])
    ranked = to_range(curve[:, 0], np.concatenate([voiced[:, 0], usual[:, 0]]), weights, own.spoken[:, 0])
    spoken[:, 0] = (spoken[:, 0] + ranked) / 2
    spoken[:, 0] -= closing(want) * np.maximum(spoken[:, 0] - own.closed, 0)
    return smoothed(own.rest + want.gate[:, None] * (spoken - own.rest), _SMOOTH * fps)
