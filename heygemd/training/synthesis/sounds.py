"""Sounds that are not speech, which must leave the mouth at rest, and held vowels, which must not.

All are float32 at 16 kHz with an RMS of about 0.1 unless silent; the caller sets the level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from heygemd.pipeline.speech.mel import SAMPLE_RATE
from heygemd.training.phonemes import PAUSE, Phone

Floats = NDArray[np.float32]
Rng = np.random.Generator

# Formants of an adult man (Peterson and Barney 1952, Catford 1988), Hz.
_FORMANTS = {
    "a": (750, 1250, 2500), "æ": (680, 1700, 2450), "ɛ": (550, 1800, 2500), "e": (400, 2100, 2700),
    "i": (280, 2250, 3000), "y": (280, 1900, 2200), "ə": (500, 1500, 2500), "ɔ": (570, 850, 2450),
    "o": (430, 800, 2450), "u": (310, 750, 2300),
}  # fmt: skip


def noise(count: int, exponent: float, rng: Rng) -> Floats:
    """Noise whose power falls as 1 / f ** exponent (0 white, 1 pink, 2 brown), RMS 1."""
    freqs = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 1.0)
    spectrum = (rng.standard_normal(len(freqs)) + 1j * rng.standard_normal(len(freqs))) * freqs ** (-exponent / 2)
    return _unit(np.fft.irfft(spectrum, count))


def music(count: int, rng: Rng) -> Floats:
    """Chords of harmonic tones with decay, sometimes drums; RMS 1."""
    sound = np.zeros(count)
    length = int(rng.uniform(0.15, 0.8) * SAMPLE_RATE)
    slope, decay = rng.uniform(0.2, 1.5), rng.uniform(0.0, 6.0)
    for start in range(0, count, length):
        stop = min(count, start + length)
        times = np.arange(stop - start) / SAMPLE_RATE
        for _ in range(rng.integers(1, 5)):
            pitch = 80.0 * 2.0 ** (rng.integers(0, 44) / 12)
            for harmonic in range(1, 9):
                tone = np.sin(2 * np.pi * pitch * harmonic * times + rng.uniform(0, 6))
                sound[start:stop] += tone * harmonic**-slope * np.exp(-times * decay)
        if rng.random() < 0.5:
            size = min(3000, count - start)
            fall = np.exp(-np.arange(size) / rng.uniform(100, 900))
            sound[start : start + size] += rng.standard_normal(size) * fall * 2
    return _unit(sound)


def hum(count: int, rng: Rng) -> Floats:
    """Mains hum: 50 or 60 Hz with harmonics; RMS 1."""
    times = np.arange(count) / SAMPLE_RATE
    base, slope = (50.0, 60.0)[int(rng.integers(2))], rng.uniform(0.3, 1.5)
    tones = [np.sin(2 * np.pi * base * k * times + rng.uniform(0, 6)) * k**-slope for k in range(1, 20)]
    return _unit(np.sum(tones, axis=0))


def clicks(count: int, rng: Rng) -> Floats:
    """1 to 40 clicks a second, as of a keyboard."""
    hits = (rng.random(count) < rng.uniform(1, 40) / SAMPLE_RATE) * rng.standard_normal(count)
    ring = np.exp(-np.arange(160) / rng.uniform(1, 40)) * np.cos(np.arange(160) * rng.uniform(0.2, 2.5))
    sound: Floats = np.convolve(hits, ring)[:count].astype(np.float32)
    return sound


def negative(kind: int, count: int, rng: Rng) -> Floats:
    """One of eight kinds of sound without speech, at a level from -60 to -14 dBFS."""
    level = 10.0 ** (rng.uniform(-60, -14) / 20)
    if kind == 0:
        return np.zeros(count, np.float32)
    if kind == 1:
        sound = noise(count, rng.uniform(-1, 2), rng)
    elif kind == 2:
        sound = music(count, rng)
    elif kind == 3:
        bursts = np.repeat(rng.random(count // 4000 + 1) < 0.5, 4000)[:count]
        sound = noise(count, rng.uniform(0, 2), rng) * bursts.astype(np.float32)
    elif kind == 4:
        sound = clicks(count, rng) * np.float32(3)
    elif kind == 5:
        sound = music(count, rng) + np.float32(0.3) * noise(count, 1.0, rng)
    elif kind == 6:
        sound = hum(count, rng) + np.float32(rng.uniform(0, 0.3)) * noise(count, 1.0, rng)
    else:
        knots = rng.uniform(0, 1, count // 8000 + 2)
        slow = np.interp(np.arange(count), np.arange(len(knots)) * 8000, knots)
        sound = noise(count, rng.uniform(0, 2), rng) * slow.astype(np.float32)
    return np.asarray(sound * level, np.float32)


def held_vowels(count: int, rng: Rng) -> tuple[Floats, list[Phone]]:
    """A voice that holds vowels for 0.6 to 3 s each, spoken or sung, with pauses between; RMS about 0.1."""
    sound = np.zeros(count, np.float32)
    phones: list[Phone] = []
    tract = rng.uniform(0.88, 1.25)
    base = rng.uniform(90, 350) * (2.0 if rng.random() < 0.2 else 1.0)
    place = 0
    while place < count:
        size = min(count - place, int(rng.uniform(0.6, 3.0) * SAMPLE_RATE))
        if phones and phones[-1].symbol != PAUSE and rng.random() < 0.5:
            size = min(size, SAMPLE_RATE // 2)
            symbol = PAUSE
        else:
            symbol = list(_FORMANTS)[int(rng.integers(len(_FORMANTS)))]
            pitch = base * 2.0 ** (rng.integers(-4, 6) / 12)
            sound[place : place + size] = _vowel(symbol, size, pitch, tract, rng)
        phones.append(Phone(place / SAMPLE_RATE, (place + size) / SAMPLE_RATE, symbol))
        place += size
    return sound, phones


def _vowel(symbol: str, count: int, pitch: float, tract: float, rng: Rng) -> Floats:
    """A pulse train with vibrato through four resonances (Klatt 1980, cascade)."""
    times = np.arange(count) / SAMPLE_RATE
    vibrato = 1.0 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(4, 7) * times + rng.uniform(0, 6))
    phase = np.cumsum(pitch * vibrato / SAMPLE_RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0) + rng.uniform(0, 0.02) * rng.standard_normal(count)
    sound = lfilter([1.0], [1.0, -rng.uniform(0.9, 0.98)], pulses)
    sound = lfilter([1.0, -0.97], [1.0], sound)
    for frequency, width in zip((*_FORMANTS[symbol], 3500.0), (80.0, 100.0, 140.0, 200.0), strict=True):
        scaled = min(frequency * tract * rng.normal(1, 0.03), 7000.0)
        radius = np.exp(-np.pi * width * rng.uniform(0.8, 1.6) / SAMPLE_RATE)
        angle = 2 * np.pi * scaled / SAMPLE_RATE
        poles = [1.0, -2 * radius * np.cos(angle), radius**2]
        sound = lfilter([sum(poles)], poles, sound)
    edge = min(count // 2, int(rng.uniform(0.01, 0.08) * SAMPLE_RATE)) or 1
    envelope = np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / edge)
    return _unit(sound) * np.float32(0.1) * envelope.astype(np.float32)


def _unit(sound: NDArray[np.float64]) -> Floats:
    result: Floats = (sound / (np.sqrt(np.mean(sound**2)) + 1e-9)).astype(np.float32)
    return result
