"""The mel spectrogram that Wav2Lip was trained on, and which 0.2 s of it belong to a frame.

Everything as in the reference (``audio.py`` and ``hparams.py`` of Rudrabha/Wav2Lip): 16 kHz, pre-emphasis 0.97, Hann
window of 800 samples every 200, magnitudes, 80 bands on Slaney's mel scale from 55 to 7600 Hz.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from heygemd.pipeline.image.geometry import Floats, Singles

RATE = 16000
HOP, WINDOW = 200, 800
PER_SECOND = RATE / HOP
BANDS, FRAMES = 80, 16
LOW_HZ, HIGH_HZ = 55.0, 7600.0
EMPHASIS = 0.97
FLOOR = -4.0
"""What silence looks like."""
_CHUNK = 4000  # columns that are worked out at a time: 13 MB of spectrum


def spectrogram(samples: Singles) -> Singles:
    """float32 (n,), 16 kHz mono in -1..1 -> float32 (80, n // 200 + 1) in -4..4, 80 columns a second.

    Column ``k`` is centred on sample 200 k; the ends are mirrored.  The reference's decibels and its scaling to -4..4
    come to ``1.6 log10(max(1e-5, mel)) + 2.4``.
    """
    if not len(samples):
        return np.full((BANDS, 1), FLOOR, np.float32)
    sound = np.asarray(samples, np.float32)
    sound = np.append(sound[:1], sound[1:] - np.float32(EMPHASIS) * sound[:-1])
    half = WINDOW // 2
    sound = np.pad(sound, half, mode="reflect" if len(sound) > half else "edge")
    columns = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    out = np.empty((BANDS, len(columns)), np.float32)
    for first in range(0, len(columns), _CHUNK):
        spectrum = np.abs(np.fft.rfft(columns[first : first + _CHUNK] * hann, axis=1)).astype(np.float32)
        mel = _filters() @ spectrum.T
        out[:, first : first + _CHUNK] = np.clip(1.6 * np.log10(np.maximum(1e-5, mel)) + 2.4, -4, 4)
    return out


def window(mel: Singles, second: float) -> Singles:
    """The network's 16 columns (80, 16) for a frame shown at ``second``; silence outside the sound."""
    first = int(np.floor(second * PER_SECOND + 1e-6))
    out = np.full((BANDS, FRAMES), FLOOR, np.float32)
    begin, end = max(0, first), min(mel.shape[1], first + FRAMES)
    if begin < end:
        out[:, begin - first : end - first] = mel[:, begin:end]
    return out


def _hertz(mel: Floats) -> Floats:
    """Slaney's scale: 200/3 Hz a mel up to 1 kHz, 27 mels for a factor of 6.4 above."""
    result: Floats = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
    return result


def _mel(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4))


@cache
def _filters() -> Singles:
    """Triangles of equal area (80, 401) over the spectrum's bins."""
    edges = _hertz(np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), BANDS + 2))
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    result: Singles = triangles.astype(np.float32)
    return result
