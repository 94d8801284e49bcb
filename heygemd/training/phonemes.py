"""Phonemes to lips: from a synthesizer's phoneme times to what the mouth does, at 50 Hz.

The table of lip gaps was fitted on real faces (least squares of measured inner-lip distance and mouth width on the
15 viseme classes, rounded).  Its lesson: lips part for s, t, ch and k and are nearly shut for o and u, so a table of
jaw heights is wrong.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 50
VISEMES = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou")
PAUSE = "_"
BREATH = "h"

#        sil    PP     FF     TH    DD    kk    CH     SS    nn    RR     aa   E     ih    oh     ou
OPENING = (0.35, 0.0, 0.05, 0.45, 0.55, 0.45, 0.48, 0.50, 0.48, 0.32, 1.0, 0.68, 0.52, 0.35, 0.15)
OPENING_WEIGHT = (0.7, 12.0, 4.0, 0.6, 0.6, 0.3, 0.9, 0.9, 0.5, 0.7, 1.0, 0.9, 0.8, 1.0, 1.1)
WIDTH = (0.2, -0.5, -0.25, 0.0, 0.45, 0.0, -0.3, 0.45, 0.3, -0.5, 0.3, 0.5, 0.5, -0.85, -1.0)
WIDTH_WEIGHT = (0.35, 0.5, 0.6, 0.3, 0.4, 0.15, 0.9, 0.6, 0.35, 0.8, 0.8, 0.9, 1.0, 1.1, 1.3)
PAUSE_HOLD, PAUSE_FADE = 0.3, 0.4
"""Seconds for which the lips stay parted after speech and before it, and in which the rest falls by e.  People do not
close their mouths between words: on ten people r of the opening rose by .08 with these three numbers."""
REACH_MS = (60, 25, 28, 35, 38, 35, 42, 40, 38, 42, 50, 50, 48, 52, 55)
"""A viseme's pull on its neighbours falls by e in this time (Cohen and Massaro's dominance functions)."""

_CLASSES = {
    "aa": "a ä ɑ ɶ æ ɐ ʌ",
    "oh": "ɒ ɔ o ø œ",
    "E": "ɛ ɜ e ə ɘ ɵ",
    "RR": "ɚ ɝ r ɾ ɽ ɹ ɻ",
    "ih": "ɪ i ɨ ɯ ɤ j ʝ",
    "ou": "u ʉ ʊ y ʏ w ʍ ɥ",
    "PP": "p b m ɓ β ɸ",
    "FF": "f v ɱ ʋ",
    "TH": "θ ð",
    "DD": "t d ʈ ɖ ɗ",
    "nn": "n ɳ l ɭ ɫ ɬ ʎ ɺ ɲ",
    "SS": "s z",
    "CH": "ʃ ʒ ʂ ʐ ɕ ʑ ç",
    "kk": "k ɡ ɠ g ŋ x ɣ c ɟ q ɢ ʁ χ ʀ ħ ʕ h ɦ ʔ",
}
VISEME_OF = {symbol: VISEMES.index(name) for name, symbols in _CLASSES.items() for symbol in symbols.split()}
VISEME_OF[PAUSE] = 0
CLOSED_LIPS = frozenset("pbmɓ")
_STOPS = frozenset("pbtdkɡgqɢʈɖcɟɓɗɠ")
_BURSTS = frozenset("ptk")
_AFFRICATES = {
    "tʃ": "ʃ", "dʒ": "ʒ", "tɕ": "ɕ", "dʑ": "ʑ", "ts": "s", "dz": "z", "tʂ": "ʂ", "ʈʂ": "ʂ", "dʐ": "ʐ", "ɖʐ": "ʐ",
}  # fmt: skip


class Phone(NamedTuple):
    """One phoneme, or PAUSE, from ``start`` to ``end`` in seconds."""

    start: float
    end: float
    symbol: str


class Targets(NamedTuple):
    """What the network shall say.  values (T, 5) float32: opening [0, 1], width [-1, 1], closure, labiodental,
    voice [0, 1]; visemes (T,) int64, indices into VISEMES.  Frame t is centred at (t + 0.5) / 50 s."""

    values: NDArray[np.float32]
    visemes: NDArray[np.int64]


def symbols(ipa: str) -> list[str] | None:
    """One event's IPA text as base symbols (affricates as one); None where it is a switch of language."""
    if ipa.startswith("("):
        return None
    if ipa == "ʲ":
        return ["j"]
    letters = [letter for letter in unicodedata.normalize("NFD", ipa) if letter in VISEME_OF and letter != PAUSE]
    merged: list[str] = []
    for letter in letters:
        if merged and merged[-1] + letter in _AFFRICATES:
            merged[-1] += letter
        elif not (letter == BREATH and merged and merged[-1][0] in _STOPS):  # aspiration belongs to its stop
            merged.append(letter)
    return merged


def timeline(events: Sequence[tuple[int, str]], sound: NDArray[np.int16], rate: int) -> list[Phone] | None:
    """espeak's phoneme events (sample, IPA) and its sound -> phones; None where the text switched language.

    espeak's event of a stop marks the burst.  The closure is the silence before it, found by walking back over
    frames of low energy; a voiceless burst is over 12 ms later and the rest is breath.
    """
    quiet = _quiet_frames(sound, rate)
    bounds = [sample / rate for sample, _ in events] + [len(sound) / rate]
    phones: list[Phone] = []
    for (_, ipa), start, end in zip(events, bounds, bounds[1:], strict=False):
        if end - start < 0.002:
            continue
        found = symbols(ipa)
        if found is None:
            return None
        found = found or [PAUSE]
        step = (end - start) / len(found)
        for place, symbol in enumerate(found):
            a, b = start + place * step, start + (place + 1) * step
            if symbol[0] in _STOPS and place == 0:
                a, release = _close(phones, quiet, a), min(a + 0.012, b)
                if symbol in _BURSTS:
                    phones.append(Phone(a, release, symbol))
                    if b - release > 0.001:
                        phones.append(Phone(release, b, BREATH))
                    continue
            phones.append(Phone(a, b, symbol))
    return phones


_FRAME_S = 0.004


def _quiet_frames(sound: NDArray[np.int16], rate: int) -> NDArray[np.bool_]:
    size = max(1, int(rate * _FRAME_S))
    count = len(sound) // size
    energy = np.sqrt((sound[: count * size].astype(np.float32).reshape(count, size) ** 2).mean(1) + 1e-9)
    threshold = max(8.0, 0.004 * float(np.percentile(energy, 98))) if count else 0.0
    result: NDArray[np.bool_] = energy < threshold
    return result


def _close(phones: list[Phone], quiet: NDArray[np.bool_], burst: float) -> float:
    """Where the closure before ``burst`` begins; shortens the phone that it covers.  At most 110 ms back."""
    frame = last = min(int(burst / _FRAME_S), len(quiet))
    while frame > 0 and (last - frame) * _FRAME_S < 0.11 and quiet[frame - 1]:
        frame -= 1
    begin = frame * _FRAME_S
    if not phones:
        return min(begin, burst)
    before = phones[-1]
    if before.symbol == PAUSE:
        begin = max(begin, burst - 0.07)
    if begin < before.end:
        begin = max(begin, before.start + 0.02)
        if begin < before.end:
            phones[-1] = before._replace(end=max(begin, before.start + 0.001))
    return max(min(begin, burst), phones[-1].end - 1e-6)


_FINE = 200


def targets(phones: Sequence[Phone], seconds: float) -> Targets:
    """What lips, closure and voice do over ``seconds``: the dominance-weighted mean of the table's values.

    In a pause the lips stay parted near speech (0.35) and come to rest (0) within a second or two.
    """
    count = int(seconds * _FINE) + 1
    times = (np.arange(count) + 0.5) / _FINE
    pull, classes, marks = _paint(phones, times)
    opening = np.asarray(OPENING)[:, None] * np.ones(count)
    opening[0] *= np.exp(-np.maximum(0.0, _distance(marks[2] > 0, times) - PAUSE_HOLD) / PAUSE_FADE)
    tracks = []
    for values, weights in ((opening, OPENING_WEIGHT), (np.asarray(WIDTH)[:, None], WIDTH_WEIGHT)):
        weighted = pull * np.asarray(weights)[:, None]
        tracks.append((weighted * values).sum(0) / (weighted.sum(0) + 1e-6))
    sigmas = (0.022, 0.022, 0.007, 0.007, 0.015)
    smooth = [_smooth(track, sigma) for track, sigma in zip([*tracks, *marks], sigmas, strict=True)]
    centres = (np.arange(int(seconds * RATE)) + 0.5) / RATE
    values = np.stack([np.interp(centres, times, track) for track in smooth], 1)
    at = np.minimum((centres * _FINE).astype(np.int64), count - 1)
    return Targets(values.astype(np.float32), classes[at])


def rest(frames: int) -> Targets:
    """Targets of something that is not speech: closed, silent."""
    return Targets(np.zeros((frames, 5), np.float32), np.zeros(frames, np.int64))


_Paint = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]


def _paint(phones: Sequence[Phone], times: NDArray[np.float64]) -> _Paint:
    """Pull of each viseme (15, T), viseme per instant (T,), and 0/1 marks of closure, labiodental, voice (3, T)."""
    pull = np.zeros((len(VISEMES), len(times)))
    classes = np.zeros(len(times), np.int64)
    marks = np.zeros((3, len(times)))
    for start, end, symbol in phones:
        viseme = VISEME_OF[_AFFRICATES.get(symbol, symbol)]
        near = slice(max(0, int((start - 0.4) * _FINE)), int((end + 0.4) * _FINE) + 1)
        away = np.maximum(np.maximum(start - times[near], times[near] - end), 0.0)
        pull[viseme, near] = np.maximum(pull[viseme, near], np.exp(-away * 1000.0 / REACH_MS[viseme]))
        first = round(start * _FINE)
        inside = slice(first, max(first + 1, round(end * _FINE)))
        classes[inside] = viseme
        marks[0, inside] = symbol in CLOSED_LIPS
        marks[1, inside] = viseme == VISEMES.index("FF")
        marks[2, inside] = symbol != PAUSE
    return pull, classes, marks


def _distance(mask: NDArray[np.bool_], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds from each instant to the nearest one in ``mask``; 1000 if it is empty."""
    marked = times[mask]
    if not len(marked):
        return np.full(len(times), 1000.0)
    after = np.searchsorted(marked, times)
    right = np.abs(marked[np.minimum(after, len(marked) - 1)] - times)
    left = np.abs(marked[np.maximum(after - 1, 0)] - times)
    result: NDArray[np.float64] = np.minimum(left, right)
    return result


def _smooth(track: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    reach = 16
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _FINE / sigma) ** 2)
    return np.convolve(np.pad(track, reach, "edge"), kernel / kernel.sum(), "valid")
