"""Sound to features: 80 log-mel bands every 10 ms, their level in dBFS, and the file's own average to subtract.

Constants: 25 ms Hann windows every 10 ms at 16 kHz, 512-point FFT, 80 triangular bands from 50 to 7600 Hz: the
usual front end of speech recognisers.  Frame ``t`` is centred on second ``t * 0.01`` and the sound is taken as zero
outside its ends, so any range of frames can be computed alone and equals the same range of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
HOP = 160
WINDOW = 400
FFT = 512
BANDS = 80
LOWEST_HZ = 50.0
HIGHEST_HZ = 7600.0
POWER_FLOOR = 1e-10
"""Added to every band's power before the logarithm: digital silence reads about -23."""
LEVEL_LOWEST_HZ = 100.0
"""Rumble and mains hum below this do not count in the level."""
LEVEL_FLOOR_DBFS = -120.0
QUIETEST_REFERENCE = -7.5
"""The file's average log-mel is never taken as lower than this (white noise at about -55 dBFS): without it, the
subtraction would lift hiss and digital silence to the loudness of speech."""
ACTIVE_RANGE = 7.0
"""Frames within 7 nepers of power (30 dB) of the loud ones (95th percentile) make the average."""
ADAPTATION = 0.6
"""How far the file's own average spectrum replaces the training average.  Not 1: full subtraction deletes a
sustained vowel altogether."""
ADAPTATION_FRAMES = 100
"""Active frames after which half of ADAPTATION is reached."""
CLIP = (-5.0, 4.0)
"""Range of the normalised features; the lower end is what silence reads."""
_BLOCK = 3000
_STEP = 0.25
_LOWEST_ENERGY = -24.0

Floats = NDArray[np.float32]

_hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_banks: dict[float, Floats] = {}


def frame_count(samples: int) -> int:
    """How many 10 ms frames ``samples`` samples give; 0 for no sound."""
    return samples // HOP + 1 if samples else 0


def log_mel(samples: Floats, warp: float = 1.0) -> Floats:
    """Natural logarithm of mel power: float32 (n,) at 16 kHz in [-1, 1] -> float32 (n // 160 + 1, 80).

    ``warp`` stretches the frequency axis of the filters (another length of vocal tract); training uses it.
    """
    return analyse(samples, 0, frame_count(len(samples)), warp)[0]


def analyse(samples: Floats, first: int, last: int, warp: float = 1.0) -> tuple[Floats, Floats]:
    """Frames ``first`` to ``last`` (exclusive) alone: log-mel (last - first, 80) and level in dBFS (last - first,).

    The level is that of a sine-free mean square: white noise of RMS 0.1 reads -20.
    """
    bank = _mel_bank(warp)
    mel = np.empty((max(0, last - first), BANDS), np.float32)
    level = np.empty(len(mel), np.float32)
    for start in range(0, len(mel), _BLOCK):
        stop = min(start + _BLOCK, len(mel))
        power = _power(samples, first + start, first + stop)
        mel[start:stop] = np.log(power @ bank.T + np.float32(POWER_FLOOR))
        level[start:stop] = _level(power)
    return mel, level


_AROUND = 50  # frames of 10 ms
_DEPTH = 12.0  # nepers, 52 dB


def blocks(samples: Floats, size: int = _BLOCK) -> Iterator[tuple[Floats, Floats]]:
    """The whole sound as (log-mel, level) of at most ``size`` frames at a time."""
    total = frame_count(len(samples))
    for start in range(0, total, size):
        yield analyse(samples, start, min(start + size, total))


def unrest(mel: Floats, peak: float) -> Floats:
    """How much the spectrum's shape moves around each frame: log-mel (k, 80) -> (k,), nepers.

    The standard deviation over 0.5 s to either side, of each band against the mean of all bands, averaged over the
    bands; values more than 12 nepers below ``peak``, the sound's loudest value, count as silence.  Level changes
    alone leave it near 0: a chord with a tremolo stands still, speech does not.
    """
    shape = np.maximum(mel, peak - _DEPTH).astype(np.float64)
    shape -= shape.mean(1, keepdims=True)
    sums = np.cumsum(np.pad(shape, ((1, 0), (0, 0))), 0)
    squares = np.cumsum(np.pad(shape * shape, ((1, 0), (0, 0))), 0)
    at = np.arange(len(mel))
    low, high = np.maximum(at - _AROUND, 0), np.minimum(at + _AROUND + 1, len(mel))
    count = (high - low)[:, None]
    variance = (squares[high] - squares[low]) / count - ((sums[high] - sums[low]) / count) ** 2
    result: Floats = np.sqrt(np.maximum(variance, 0)).mean(1).astype(np.float32)
    return result


class Average:
    """The average spectrum of a sound's loud frames, gathered in one pass and constant memory.

    Sums are kept per quarter-neper bucket of frame energy, so that the 95th percentile, known only at the end, can
    still choose which frames count.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(int((16 - _LOWEST_ENERGY) / _STEP), np.int64)
        self._sums = np.zeros((len(self._counts), BANDS), np.float64)

    def add(self, mel: Floats) -> None:
        """Take in log-mel frames (k, 80)."""
        energy = np.logaddexp.reduce(mel, axis=1)
        bucket = np.clip(((energy - _LOWEST_ENERGY) / _STEP).astype(np.int64), 0, len(self._counts) - 1)
        np.add.at(self._counts, bucket, 1)
        np.add.at(self._sums, bucket, mel.astype(np.float64))

    def result(self) -> tuple[Floats, int]:
        """The mean log-mel (80,) of the active frames and how many they were; (floor, 0) where nothing came."""
        total = int(self._counts.sum())
        if not total:
            return np.full(BANDS, np.log(POWER_FLOOR), np.float32), 0
        loud = int(np.searchsorted(np.cumsum(self._counts), 0.95 * total))
        first = max(0, loud - round(ACTIVE_RANGE / _STEP))
        count = int(self._counts[first:].sum())
        return (self._sums[first:].sum(0) / count).astype(np.float32), count


def average(mel: Floats) -> tuple[Floats, int]:
    """``Average`` of one array of log-mel frames (T, 80)."""
    gathered = Average()
    gathered.add(mel)
    return gathered.result()


def reference(mean: Floats, active: int, usual: Floats, adaptation: float = ADAPTATION) -> Floats:
    """What to subtract from a sound's log-mel frames: (80,).

    mean, active: from ``Average``.  usual: the training data's average spectrum with its own mean removed (80,).
    The level is the sound's own; the colour lies between the sound's own and the usual one.
    """
    trust = adaptation * active / (active + ADAPTATION_FRAMES)
    level = max(float(mean.mean()), QUIETEST_REFERENCE)
    colour = trust * (mean - mean.mean()) + (1.0 - trust) * usual
    result: Floats = (level + colour).astype(np.float32)
    return result


def normalise(mel: Floats, ref: Floats) -> Floats:
    """Features of the network: (T, 80) float32 in CLIP."""
    result: Floats = np.clip((mel - ref) * np.float32(0.5), *CLIP).astype(np.float32)
    return result


def _power(samples: Floats, first: int, last: int) -> Floats:
    """Power spectra of frames first to last: (last - first, 257) float32."""
    lead = FFT // 2
    begin, end = first * HOP - lead, (last - 1) * HOP + lead
    piece = np.asarray(samples[max(0, begin) : max(0, end)], np.float32)
    left = max(0, -begin)
    piece = np.pad(piece, (left, max(0, end - begin - left - len(piece))))
    frames = np.lib.stride_tricks.sliding_window_view(piece, FFT)[::HOP]
    margin = (FFT - WINDOW) // 2
    spectrum = np.fft.rfft(frames[:, margin : margin + WINDOW] * _hann, FFT, axis=1)
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return power


def _level(power: Floats) -> Floats:
    lowest = round(LEVEL_LOWEST_HZ * FFT / SAMPLE_RATE)
    mean_square = 2.0 * power[:, lowest : FFT // 2].sum(1) / (FFT * float((_hann**2).sum()))
    result: Floats = np.maximum(10.0 * np.log10(mean_square + 1e-20), LEVEL_FLOOR_DBFS).astype(np.float32)
    return result


def _mel_bank(warp: float) -> Floats:
    key = round(warp, 2)
    if key not in _banks:
        _banks[key] = _make_bank(key)
    return _banks[key]


def _make_bank(warp: float) -> Floats:
    """Triangular filters (80, 257); edges are scaled by ``warp`` up to 5.5 kHz and meet 8 kHz again above."""
    top = 2595.0 * np.log10(1.0 + HIGHEST_HZ / 700.0)
    low = 2595.0 * np.log10(1.0 + LOWEST_HZ / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(low, top, BANDS + 2) / 2595.0) - 1.0)
    bent = 5500.0 * warp + (edges - 5500.0) * (8000.0 - 5500.0 * warp) / 2500.0
    edges = np.where(edges < 5500.0, edges * warp, bent)
    freqs = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    bank = np.zeros((BANDS, len(freqs)), np.float32)
    for band in range(BANDS):
        left, centre, right = edges[band : band + 3]
        weights = np.maximum(0.0, np.minimum((freqs - left) / (centre - left), (right - freqs) / (right - centre)))
        if weights.sum() < 0.5:  # a band narrower than one bin: interpolate between the two nearest bins
            place = centre * FFT / SAMPLE_RATE
            weights[:] = 0.0
            weights[int(place)] = 1.0 - place % 1.0
            weights[int(place) + 1] = place % 1.0
        bank[band] = weights
    return bank
