"""Whether the mouth follows the sound, and how late: pure functions of two curves.

Two numbers per moment: how far the mouth is open in the picture, and how far the network says that the sound opens
it.  Both are noisy, so no correlation means anything by itself: the best one near lag 0 is compared with the best ones
of the same curve moved far away and turned round, which is what chance gives for this film and this voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heygemd.contract.figures import Closures, Movement, SoundFigures
from heygemd.pipeline.image.geometry import Floats, Singles
from heygemd.pipeline.speech.lips import LipTrack

SPAN = 0.5  # seconds of lag that are searched on either side
STEP = 0.01  # seconds
_AWAY = 1.2  # seconds that the curve is moved at least for chance
_CHANCES = 60  # moved curves, as many turned round
SECONDS_LEAST = 2.5  # of pictures and of speech; less cannot be told from chance
SPOKEN = 0.5  # of LipTrack.voice
_SILENCE = 0.2  # seconds of silence around a moment that counts as silent: a mouth needs time to close
_CLOSURE = 0.6  # of LipTrack.closure at its peak
_REACH = 0.08  # seconds around a closure in which the lips are looked for
_SHUT = 0.3  # share of the openings in speech below which lips count as closed

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Follow:
    """``offset`` seconds (more: the mouth is late), the correlation there, and how far it lies above what chance
    gives, in its standard deviations; ``chance`` is chance's mean."""

    offset: float
    r: float
    chance: float
    z: float

    @property
    def confidence(self) -> str:
        """``high``: beyond everything that chance gave; ``low``: perhaps; ``none``."""
        return "high" if self.z >= 4 and self.r >= 0.25 else "low" if self.z >= 2 else "none"


def follow(curve: Singles, times: Floats, lip: LipTrack) -> Follow | None:
    """``curve`` ``(m,)`` measured at ``times`` seconds against the sound's opening; ``None`` where there is too little
    of either."""
    if len(times) < 10 or len(times) * float(np.median(np.diff(times))) < SECONDS_LEAST:
        return None
    heard = (lip.opening * (1 - lip.closure)).astype(np.float64)  # a mouth that only closes in time follows too
    if len(heard) < SECONDS_LEAST / STEP / 2 or heard.std() < 1e-3 or float(np.std(curve)) < 1e-6:
        return None
    lags = np.arange(-round(SPAN / STEP), round(SPAN / STEP) + 1) * STEP
    found = _correlations(curve, times, heard, lags)
    best = int(found.argmax())
    chances = _chances(curve, times, heard, lags[::4])
    spread = max(float(chances.std()), 0.02)
    z = (float(found[best]) - float(chances.mean())) / spread
    return Follow(_peak(lags, found, best), float(found[best]), float(chances.mean()), z)


def _correlations(curve: Singles, times: Floats, heard: Floats, lags: Floats) -> Floats:
    """Pearson's r at each lag (L,); ``heard`` is at 50 Hz and taken round at its ends."""
    place = (times[None] - lags[:, None]) * 50 - 0.5
    low = np.floor(place).astype(np.int64)
    share = place - low
    inside = (place >= -1) & (place <= len(heard))
    values = heard[low % len(heard)] * (1 - share) + heard[(low + 1) % len(heard)] * share
    weight = inside.astype(np.float64)
    count = weight.sum(1, keepdims=True)
    a = (values - (values * weight).sum(1, keepdims=True) / count) * weight
    b = (curve[None] - (curve[None] * weight).sum(1, keepdims=True) / count) * weight
    result: Floats = (a * b).sum(1) / (np.sqrt((a**2).sum(1) * (b**2).sum(1)) + 1e-9)
    return result


def _chances(curve: Singles, times: Floats, heard: Floats, lags: Floats) -> Floats:
    """The best correlation near lag 0 with the sound's curve moved in a circle, and turned round."""
    length = len(heard)
    away = round(_AWAY * 50)
    moves = np.unique(np.linspace(min(away, length // 3), length - min(away, length // 3), _CHANCES).astype(int))
    best = []
    for other in (heard, heard[::-1]):
        best += [float(_correlations(curve, times, np.roll(other, move), lags).max()) for move in moves]
    return np.array(best)


def _peak(lags: Floats, found: Floats, best: int) -> float:
    """The lag of the highest correlation, between the grid's points by a parabola over three."""
    if not 0 < best < len(lags) - 1:
        return float(lags[best])
    before, here, after = (float(v) for v in found[best - 1 : best + 2])
    bend = before - 2 * here + after
    return float(lags[best]) + (0.5 * STEP * (before - after) / bend if bend < -1e-12 else 0.0)


def speech_at(lip: LipTrack, times: Floats) -> Bools:
    """At which moments somebody speaks."""
    result: Bools = lip.at(times).voice > SPOKEN
    return result


def silence_at(lip: LipTrack, times: Floats) -> Bools:
    """At which moments nobody has spoken or will for a while."""
    spoken = (lip.voice > 0.2).astype(np.float64)
    reach = round(_SILENCE * 50)
    near = np.convolve(spoken, np.ones(2 * reach + 1), "same") > 0 if len(spoken) else np.zeros(0, bool)
    place = np.clip(np.floor(times * 50).astype(int), 0, max(0, len(near) - 1))
    return ~near[place] if len(near) else np.ones(len(times), bool)


def movement(lips: Singles, times: Floats, lip: LipTrack, fps: float) -> Movement:
    """How much the mouth moves while speech is heard and while it is not, in io; ``None`` where there is too little
    of it."""
    speaks, rests = speech_at(lip, times), silence_at(lip, times)
    enough = 0.5 * fps
    spread = round(float(lips[speaks].std()), 4) if speaks.sum() >= enough else None
    speed = np.abs(np.gradient(lips)) * fps
    silence = None
    if rests.sum() >= enough and speaks.sum() >= enough:
        silence = round(float(speed[rests].mean() / (speed[speaks].mean() + 1e-6)), 2)
    return {
        "speech_seconds": round(float(speaks.sum() / fps), 2),
        "speech_sd_io": spread,
        "silence_seconds": round(float(rests.sum() / fps), 2),
        "silence_movement": silence,
    }


def closures(lips: Singles, times: Floats, lip: LipTrack, offset: float) -> Closures:
    """How many of the sound's closed lips (p, b, m) are seen closed, and what share of other moments are."""
    heard = lip.closure
    peaks = [t for t in range(1, len(heard) - 1) if heard[t] >= _CLOSURE and heard[t - 1] < heard[t] >= heard[t + 1]]
    speaks = speech_at(lip, times)
    if len(peaks) < 3 or speaks.sum() < 10:
        return {"heard": len(peaks), "seen": None, "by_chance": None}
    shut = float(np.quantile(lips[speaks], _SHUT))
    lowest = np.array([_lowest(lips, times, (t + 0.5) / 50 + offset) for t in peaks])
    lowest = lowest[np.isfinite(lowest)]
    anywhere = np.array([_lowest(lips, times, float(t)) for t in times[speaks]])
    seen, usual = (float((v <= shut).mean()) if len(v) else None for v in (lowest, anywhere))
    return {
        "heard": len(lowest),
        "seen": None if seen is None else round(seen, 2),
        "by_chance": None if usual is None else round(usual, 2),
    }


def _lowest(lips: Singles, times: Floats, at: float) -> float:
    low, high = np.searchsorted(times, (at - _REACH, at + _REACH))
    return float(lips[low:high].min()) if high > low else float("inf")


def same_sound(samples: Singles, given: Singles, rate: int = 16_000) -> SoundFigures:
    """How alike two sounds are and how much later ``samples`` begins, from their loudness every 10 ms."""
    one, other = _loudness(samples, rate), _loudness(given, rate)
    length = min(len(one), len(other))
    if length < 50 or one[:length].std() < 1e-3 or other[:length].std() < 1e-3:
        return {"r": None, "offset_ms": None}
    reach = min(100, length // 4)
    found = {}
    for lag in range(-reach, reach + 1):
        a, b = one[max(0, lag) : length + min(0, lag)], other[max(0, -lag) : length - max(0, lag)]
        found[lag] = float(np.corrcoef(a, b)[0, 1])
    best = max(found, key=lambda lag: found[lag])
    return {"r": round(found[best], 2), "offset_ms": 10 * best}


def _loudness(samples: Singles, rate: int) -> Floats:
    step = rate // 100
    parts = samples[: len(samples) // step * step].reshape(-1, step).astype(np.float64)
    result: Floats = np.log10(np.sqrt((parts**2).mean(1)) + 1e-3)
    return result
