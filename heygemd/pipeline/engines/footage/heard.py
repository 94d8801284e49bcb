"""What the sound says about the mouth, on a scale of its own: the ears alone, or with what the template teaches.

The network knows speech in general; kernel ridge regression on the template's own frames knows the person.  Their sum
follows footage that was not learnt from better than either (four clips, four held-out stretches each: opening r .35,
.34 and .41; width .30, .33 and .37).  The regression sees what was heard (log-mel) and what it meant to the network
(embedding): the embedding alone gave .25 and .22, log-mel alone fell behind where another voice drives.  Weights are
equal: choosing them inside the few seconds there are was tried and chooses wrongly.  Held-out stretches of the template
only say how far the regression's outputs spread where it has something to say, which a strange voice does not reach,
and whether it has learnt anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from heygemd.pipeline.image.geometry import Floats

if TYPE_CHECKING:
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.speech.lips import LipTrack

_LAGS = np.round(np.arange(-0.4, 0.401, 0.02), 3)
_LAG_SIGMA = 0.25  # seconds; of 69 public clips 47 were off by 60 ms or more, 8 by more than 160
_LAG_AGREEMENT, _LAG_GAIN = 0.2, 3.0
"""An offset is used from this r of the opening, and where it is e to this power likelier than none at all."""
_INDEPENDENT = 3.0  # values a second of a mouth that speaks that say something new
_CONTEXT = (-0.08, -0.04, 0.0, 0.04, 0.08)
_RIDGE, _NARROW, _BLOCKS = 0.5, 0.6, 4  # flat: half and twice as much change r by less than .02
_FULL_SHARE, _SMALL_SHARE, _FULL_SECONDS = 1.0, 0.5, 5.0
"""Weight of the person's own speech beside the ears in the opening, from so much of it on and below; the width is the
ears' alone (nine people, held-out stretches: opening r .66, width .64; width with the personal part .58)."""
_LEARNT = 0.1  # sum of both held-out correlations; that of other people's sound is 0 in the mean
_TEACHERS_MAX = 1000
_CHUNK = 2000  # frames whose context, 4 kB each, is held at a time
SECONDS_MIN = 3.0
BELIEVED_SECONDS = 2.0
"""What is known of speech in general weighs as much as this much of the sound at hand: a word alone does not tell
how wide its speaker opens the mouth."""
USUAL: dict[str, Floats] = {
    "whisper": np.array(
        [
            [0.017, 0.175, 0.278, 0.355, 0.409, 0.448, 0.485, 0.524, 0.577, 0.677],
            [-0.585, -0.310, -0.147, -0.042, 0.044, 0.121, 0.196, 0.273, 0.343, 0.452],
        ]
    ).T,
    "own": np.array(
        [
            [0.086, 0.204, 0.283, 0.345, 0.392, 0.430, 0.465, 0.501, 0.545, 0.643],
            [-0.433, -0.280, -0.170, -0.071, -0.003, 0.055, 0.109, 0.177, 0.248, 0.336],
        ]
    ).T,
}
"""Opening and width that the ears of each name give while somebody speaks: the middles of tenths of 70 s, 8 voices."""


@dataclass(frozen=True, slots=True)
class Curve:
    """``values`` (N, 2): opening and width, about 0 +- 1 or 2 while the voice is on; ``usual`` (m, 2): what such a
    curve is while this person, or anybody, speaks; ``lag``: seconds to add to a time of the template's frames to hear
    in the template's own sound what they show, for learning alone: no film inherits it; ``facts`` for the log."""

    values: Floats
    usual: Floats
    lag: float = 0.0
    facts: Facts = field(default_factory=dict)


def general(lip: LipTrack, times: Floats, usual: Floats) -> Curve:
    """The ears alone; ``usual`` is their row of USUAL."""
    at = lip.at(times)
    values = _both(at)
    mean, spread = believed(values[at.voice > 0.5], usual, _frames(times))
    return Curve((values - mean) / spread, (usual - mean) / spread, 0.0, {"sound_to_mouth": "network"})


def personal(lip: LipTrack, times: Floats, own: LipTrack, own_times: Floats, own_codes: Floats, usual: Floats) -> Curve:
    """Ears plus what the template's own speech teaches.

    The template's own offset between picture and sound is found and corrected to learn from it; the driving sound
    ``lip`` is read as it is, so that the film is in sync whatever its template was.

    ``own`` is the LipTrack of the template's sound, ``own_codes`` ``(m, 2)`` the codes of its frames at ``own_times``.
    """
    spoken = own.at(own_times).voice > 0.5
    seconds = float(spoken.sum()) * _step(own_times)
    lag, agreement = av_offset(own, own_times, own_codes, seconds)
    net = general(lip, times, usual)
    facts: Facts = {"template_av_offset_ms": round(1000 * lag), "network_on_template_r": round(agreement, 2)}
    if seconds < SECONDS_MIN:
        return Curve(net.values, net.usual, lag, net.facts | facts)
    pupil = _Pupil(_heard(own, own_times + lag), own_codes)
    facts["learnt_r"] = [round(r, 2) for r in pupil.agreement]
    if sum(pupil.agreement) < _LEARNT:
        return Curve(net.values, net.usual, lag, net.facts | facts)
    taught = [pupil(_heard(lip, times[k : k + _CHUNK])) for k in range(0, len(times), _CHUNK)]
    share = np.array([_FULL_SHARE if seconds >= _FULL_SECONDS else _SMALL_SHARE, 0.0])
    values = net.values + share * np.concatenate([np.zeros((0, 2)), *taught])
    typical = general(own, own_times[pupil.rows] + lag, usual).values + share * pupil.held_out
    return Curve(values, typical[spoken[pupil.rows]], lag, net.facts | facts | {"sound_to_mouth": "network and person"})


def av_offset(own: LipTrack, times: Floats, codes: Floats, seconds: float) -> tuple[float, float]:
    """Seconds by which the sound is ahead of the picture's clock (to be added to a frame's time), and the correlation
    of the ears' opening with the picture's there.

    The likeliest offset: what ``seconds`` of speech say against a wide expectation of none.  It is used only where
    mouth and sound agree well enough to tell; otherwise it is 0.
    """
    count = _INDEPENDENT * seconds
    best, none = (-np.inf, 0.0, 0.0), (-np.inf, 0.0, 0.0)
    for lag in _LAGS:
        both = _both(own.at(times + lag))
        rs = [_correlation(both[:, j], codes[:, j]) for j in (0, 1)]
        fits = -0.5 * count * sum(float(np.log1p(-(min(max(r, 0.0), 0.99) ** 2))) for r in rs)
        score = (fits - 0.5 * (lag / _LAG_SIGMA) ** 2, float(lag), rs[0])
        best = max(best, score)
        none = score if lag == 0 else none
    if best[2] < _LAG_AGREEMENT or best[0] - none[0] < _LAG_GAIN:
        return 0.0, none[2]
    return best[1], best[2]


def believed(values: Floats, usual: Floats, frames: float) -> tuple[Floats, Floats]:
    """Mean and standard deviation of ``values`` ``(n, 2)``, with ``frames`` more of the ``usual`` kind among them."""
    n, mean = len(values), usual.mean(0)
    if not n:
        return mean, usual.std(0)
    share = n / (n + frames)
    off = values.mean(0) - mean
    spread = np.sqrt(share * values.var(0) + (1 - share) * usual.var(0) + share * (1 - share) * off**2)
    return mean + share * off, spread + 1e-6


def _both(lip: LipTrack) -> Floats:
    return np.stack([lip.opening, lip.width], 1).astype(np.float64)


def _step(times: Floats) -> float:
    """Seconds from frame to frame."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.04


def _frames(times: Floats) -> float:
    return BELIEVED_SECONDS / max(_step(times), 1e-3)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-9 else 0.0


def _heard(lip: LipTrack, times: Floats) -> tuple[Floats, ...]:
    """What a sound is around each time: spectrum ``(m, 400)`` and embedding ``(m, 640)``."""
    around = [lip.at(times + offset) for offset in _CONTEXT]
    names = ("spectrum", "embedding")
    return tuple(np.concatenate([getattr(a, name) for a in around], 1).astype(np.float32) for name in names)


class _Pupil:
    """Kernel ridge regression; a Gaussian kernel on standardised inputs, all kinds of input with equal weight.

    ``rows`` of the inputs are learnt from.  ``held_out`` ``(rows, 2)``: each of four stretches as the other three
    teach it; all outputs are in standard deviations of that, so that a sound unlike any that was learnt from gives
    little.  ``agreement``: its correlations with the truth.
    """

    def __init__(self, inputs: tuple[Floats, ...], outputs: Floats) -> None:
        self.rows = np.arange(0, len(outputs), -(-len(outputs) // _TEACHERS_MAX))
        inputs, outputs = tuple(i[self.rows] for i in inputs), outputs[self.rows]
        # A constant keeps channels that hardly vary from being blown up.
        self._scales = [(i.mean(0), (i.std(0) + 0.3 * i.std() + 1e-6) * np.sqrt(i.shape[1])) for i in inputs]
        self._teachers = self._scaled(inputs)
        kernel = self._kernel(self._teachers)
        self._weights = _solved(kernel, outputs)
        part = np.arange(len(outputs)) * _BLOCKS // len(outputs)
        guess = np.zeros(outputs.shape)
        for k in range(_BLOCKS):
            away, here = np.flatnonzero(part != k), np.flatnonzero(part == k)
            guess[here] = kernel[np.ix_(here, away)] @ _solved(kernel[np.ix_(away, away)], outputs[away])
        self._unit = guess.std(0) + 1e-6
        self.held_out = guess / self._unit
        self.agreement = [_correlation(guess[:, j], outputs[:, j]) for j in range(outputs.shape[1])]

    def _scaled(self, inputs: tuple[Floats, ...]) -> Floats:
        scaled = [(i - mean) / spread for i, (mean, spread) in zip(inputs, self._scales, strict=True)]
        result: Floats = np.concatenate(scaled, 1) / np.sqrt(len(inputs))
        return result

    def _kernel(self, a: Floats) -> Floats:
        b = self._teachers
        apart = ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T).clip(0)
        result: Floats = np.exp(-_NARROW * apart)
        return result

    def __call__(self, inputs: tuple[Floats, ...]) -> Floats:
        result: Floats = self._kernel(self._scaled(inputs)) @ self._weights / self._unit
        return result


def _solved(kernel: Floats, outputs: Floats) -> Floats:
    ridged = kernel + _RIDGE * np.eye(len(kernel))
    result: Floats = scipy.linalg.solve(ridged, outputs - outputs.mean(0), assume_a="pos", check_finite=False)
    return result
