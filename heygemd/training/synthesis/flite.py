"""flite as a second synthesizer: its voices were recorded from people, and it prints when each phoneme ends."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heygemd.common.errors import SetupError
from heygemd.training.phonemes import BREATH, PAUSE, Phone
from heygemd.training.synthesis.espeak import CURE

_ARPABET = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ", "b": "b", "ch": "ʃ",
    "d": "d", "dh": "ð", "eh": "ɛ", "er": "ɝ", "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h", "ih": "ɪ", "iy": "i",
    "jh": "ʒ", "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ",
    "s": "s", "sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z",
    "zh": "ʒ", "pau": PAUSE, "ssil": PAUSE,
}  # fmt: skip


def find() -> str:
    """Path of the program.  SetupError where it is not installed."""
    path = shutil.which("flite")
    if path is None:
        raise SetupError(f"The speech synthesizer flite is not here. {CURE}")
    return path


def say(text: str, voice: str) -> tuple[NDArray[np.float32], int, list[Phone]]:
    """Synthesize: sound in [-1, 1], its rate, and its phones."""
    with tempfile.TemporaryDirectory(prefix="heygemd-flite-") as folder:
        target = Path(folder) / "speech.wav"
        argv = [find(), "-voice", voice, "-psdur", "-t", text, "-o", str(target)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode or not target.exists():
            raise SetupError(f"flite could not speak with its voice {voice!r}. {CURE}", detail=done.stderr[-500:])
        with wave.open(str(target)) as file:
            rate = file.getframerate()
            pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    sound = pcm.astype(np.float32) / np.float32(32768)
    return sound, rate, phones(done.stdout, len(sound) / rate)


def phones(durations: str, seconds: float) -> list[Phone]:
    """What ``-psdur`` printed ("p:0.234 iy:0.305", ends in seconds) as phones.

    Diphthongs are halved; the last part of a voiceless stop (30 ms, at most 45 %) is its release.
    """
    result: list[Phone] = []
    start = 0.0
    for item in durations.split():
        name, _, end_text = item.rpartition(":")
        end = float(end_text)
        letters = _ARPABET.get(name.rstrip("012"), "ə")
        step = (end - start) / len(letters)
        for place, letter in enumerate(letters):
            a, b = start + place * step, start + (place + 1) * step
            if letter in "ptk" and b - a > 0.03:
                release = max(b - 0.03, a + (b - a) * 0.55)
                result += [Phone(a, release, letter), Phone(release, b, BREATH)]
            else:
                result.append(Phone(a, b, letter))
        start = end
    if seconds > start:
        result.append(Phone(start, seconds, PAUSE))
    return result
