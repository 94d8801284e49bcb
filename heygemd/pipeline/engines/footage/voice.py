"""What the template's own sound teaches: how late it is, and how this person's mouth follows such sound.

The network knows speech in general; kernel ridge regression from its embedding to the template's own codes knows the
person.  Their sum follows held-out footage better (opening r .53) than either (.46 and .45).  Cross-validation inside
the few seconds there are was tried and chooses wrongly, so the weights are equal; the gates are that the lag has a
clear peak and that network and mouth agree at all on the template.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heygemd.pipeline.geometry import Floats

_LAGS = np.round(np.arange(-0.16, 0.161, 0.02), 3)
_LAG_EDGE, _AGREES = 0.14, 0.10
_CONTEXT = (-0.08, -0.04, 0.0, 0.04, 0.08)
_RIDGE = 0.3
_TEACHERS_MAX = 1500
_CHUNK = 2000  # frames whose context, 2.5 kB each, is held at a time
SECONDS_MIN = 3.0


@dataclass(frozen=True, slots=True)
class Curve:
    """``values`` (N, 2): opening and width on any scale; ``facts`` for the log."""

    values: Floats
    facts: dict[str, Any] = field(default_factory=dict)


def general(lip: Any, times: Floats) -> Curve:
    """The network alone."""
    at = lip.at(times)
    return Curve(np.stack([at.opening, at.width], 1).astype(np.float64), {"sound_to_mouth": "network"})


def personal(lip: Any, times: Floats, own: Any, own_times: Floats, own_codes: Floats) -> Curve:
    """Network plus what the template's own speech teaches.

    ``own`` is the LipTrack of the template's sound, ``own_codes`` ``(m, 2)`` the codes of its frames at ``own_times``.
    """
    lag, agreement = av_offset(own, own_times, own_codes)
    facts: dict[str, Any] = {"av_offset_ms": round(1000 * lag), "network_on_template_r": round(agreement, 2)}
    if abs(lag) > _LAG_EDGE or agreement <= _AGREES:
        out = general(lip, times)
        return Curve(out.values, out.facts | facts | {"av_offset_used_ms": 0})
    net = general(lip, times + lag).values
    spoken = own.at(own_times + lag).voice > 0.5
    if spoken.sum() * float(np.median(np.diff(own_times))) < SECONDS_MIN:
        return Curve(net, facts | {"sound_to_mouth": "network", "av_offset_used_ms": facts["av_offset_ms"]})
    model = _KernelRidge(_context(own, own_times + lag), own_codes)
    parts = [model(_context(lip, times[k : k + _CHUNK] + lag)) for k in range(0, len(times), _CHUNK)]
    taught = np.concatenate(parts)
    return Curve(
        _standard(net) + _standard(taught),
        facts | {"sound_to_mouth": "network and person", "av_offset_used_ms": facts["av_offset_ms"]},
    )


def av_offset(own: Any, times: Floats, codes: Floats) -> tuple[float, float]:
    """Seconds by which the sound is ahead of the picture's clock (to be added to a frame's time), and the correlation
    of the network's opening with the picture's there."""
    best = (-np.inf, 0.0, 0.0)
    for lag in _LAGS:
        at = own.at(times + lag)
        opening = _correlation(at.opening, codes[:, 0])
        score = opening + _correlation(at.width, codes[:, 1]) - 0.15 * abs(lag) / 0.16
        best = max(best, (score, float(lag), opening))
    return best[1], best[2]


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-9 else 0.0


def _standard(values: Floats) -> Floats:
    result: Floats = (values - values.mean(0)) / (values.std(0) + 1e-6)
    return result


def _context(lip: Any, times: Floats) -> Floats:
    """Embeddings (m, 640) around each time."""
    return np.concatenate([lip.at(times + offset).embedding for offset in _CONTEXT], 1).astype(np.float32)


class _KernelRidge:
    """Gaussian kernel on standardised inputs; a constant keeps channels that hardly vary from being blown up."""

    def __init__(self, inputs: Floats, outputs: Floats) -> None:
        step = -(-len(inputs) // _TEACHERS_MAX)
        inputs, outputs = inputs[::step], outputs[::step]
        self._mean, self._spread = inputs.mean(0), inputs.std(0) + 0.3 * inputs.std() + 1e-6
        self._teachers = (inputs - self._mean) / self._spread
        self._level = outputs.mean(0)
        kernel = self._kernel(self._teachers)
        self._weights = np.linalg.solve(kernel + _RIDGE * np.eye(len(kernel)), outputs - self._level)

    def _kernel(self, a: Floats) -> Floats:
        b = self._teachers
        apart = ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T).clip(0) / a.shape[1]
        result: Floats = np.exp(-apart)
        return result

    def __call__(self, inputs: Floats) -> Floats:
        result: Floats = self._kernel((inputs - self._mean) / self._spread) @ self._weights + self._level
        return result
