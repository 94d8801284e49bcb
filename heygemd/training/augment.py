"""What happens to a voice between a mouth and a file: rooms, microphones, noise, telephones, codecs.

Sounds are float32 (n,) at 16 kHz; nothing here moves them in time (codecs are realigned).
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, resample_poly

from heygemd.common.errors import SetupError
from heygemd.pipeline.speech.mel import SAMPLE_RATE
from heygemd.training.synthesis import sounds

Floats = NDArray[np.float32]
Rng = np.random.Generator
_CODECS = (("mp3", "libmp3lame"), ("adts", "aac"), ("ogg", "libopus"))
_BITRATES = ("16k", "24k", "32k", "48k", "64k")


def disturb(sound: Floats, rng: Rng) -> Floats:
    """One random recording of ``sound``: gain wander, equaliser, room, noise or music or babble, channel; at an RMS
    between -38 and -14 dBFS."""
    if rng.random() < 0.5:
        sound = sound * _wander(len(sound), rng)
    if rng.random() < 0.8:
        sound = _equalise(sound, rng)
    if rng.random() < 0.5:
        sound = fftconvolve(sound, _room(rng))[: len(sound)].astype(np.float32)
    sound = sound * np.float32(0.1 / (np.sqrt(np.mean(sound**2)) + 1e-9))
    sound = _channel(_add_noise(sound, rng), rng)
    return np.asarray(sound * 10.0 ** (rng.uniform(-18, 6) / 20), np.float32)


def _wander(count: int, rng: Rng) -> Floats:
    steps = count // 2400 + 2
    gains = 10.0 ** (np.cumsum(rng.standard_normal(steps) * 1.2) * 0.6 / 20)
    return np.interp(np.arange(count), np.arange(steps) * 2400, gains).astype(np.float32)


def _equalise(sound: Floats, rng: Rng) -> Floats:
    """Six random points within 9 dB and a tilt within 4 dB an octave."""
    freqs = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    points = np.sort(rng.uniform(60, 8000, 6))
    gain = np.interp(np.log(freqs + 20), np.log(points), rng.uniform(-9, 9, 6))
    gain += rng.uniform(-4, 4) * np.log2((freqs + 100) / 1000)
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (gain / 20), len(sound)).astype(np.float32)


def _room(rng: Rng) -> Floats:
    """Impulse response: the direct sound, then decaying noise (RT60 0.1 to 0.6 s)."""
    decay = rng.uniform(0.1, 0.6)
    count = int(decay * SAMPLE_RATE)
    tail = rng.standard_normal(count) * np.exp(-6.9 * np.arange(count) / SAMPLE_RATE / decay)
    tail[:32] = 0.0
    tail *= 10 ** (-rng.uniform(2, 14) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def _add_noise(sound: Floats, rng: Rng) -> Floats:
    draw, ratio = rng.random(), rng.uniform(3, 30)
    if draw < 0.45:
        sound = sound + _scaled(sounds.noise(len(sound), rng.uniform(-0.5, 2), rng), ratio)
    elif draw < 0.6:
        sound = sound + _scaled(sounds.music(len(sound), rng), ratio)
    elif draw < 0.7:
        sound = sound + _scaled(_babble(sound, rng), max(ratio, 8.0))
    return sound + _scaled(sounds.noise(len(sound), rng.uniform(0, 1), rng), rng.uniform(35, 65))


def _scaled(unit: Floats, ratio: float) -> Floats:
    return unit * np.float32(0.1 * 10 ** (-ratio / 20))


def _babble(sound: Floats, rng: Rng) -> Floats:
    """Several voices far away: shuffled pieces of the same voice on top of each other, RMS 1."""
    pieces = np.array_split(sound, max(2, len(sound) // 8000))
    layers = np.zeros(len(sound), np.float32)
    for _ in range(rng.integers(2, 7)):
        layer = np.concatenate([pieces[place] for place in rng.permutation(len(pieces))])
        layers += layer[::-1] if rng.random() < 0.5 else layer
    unit: Floats = layers / np.float32(np.sqrt(np.mean(layers**2)) + 1e-9)
    return unit


def _channel(sound: Floats, rng: Rng) -> Floats:
    draw = rng.random()
    if draw < 0.12:
        return _telephone(sound)
    if draw < 0.22:
        return _codec(sound, rng)
    if draw < 0.28:
        sound = np.tanh(sound * np.float32(rng.uniform(2, 6)))
    return sound


def _telephone(sound: Floats) -> Floats:
    """8 kHz, mu-law with 8 bits."""
    narrow = np.clip(resample_poly(sound, 1, 2), -1, 1)
    coded = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    decoded = np.sign(coded) * (256 ** np.abs(coded) - 1) / 255
    wide: Floats = resample_poly(decoded, 2, 1)[: len(sound)].astype(np.float32)
    return wide


def _codec(sound: Floats, rng: Rng) -> Floats:
    """Through mp3, aac or opus at 16 to 64 kbit/s and back, realigned: a pipe drops the codec's delay."""
    form, encoder = _CODECS[int(rng.integers(len(_CODECS)))]
    rate = _BITRATES[int(rng.integers(len(_BITRATES)))]
    raw = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "1"]
    coded = _ffmpeg([*raw, "-i", "-", "-c:a", encoder, "-b:a", rate, "-f", form, "-"], sound.tobytes())
    back = np.frombuffer(_ffmpeg(["-i", "-", *raw, "-"], coded), np.float32)
    reach = 2048
    span = min(len(sound), len(back), 4 * SAMPLE_RATE)
    match = fftconvolve(back[:span], sound[:span][::-1])
    delay = int(np.argmax(np.abs(match[span - 1 - reach : span + reach]))) - reach
    back = back[delay:] if delay > 0 else np.pad(back, (-delay, 0))
    whole: Floats = np.pad(back, (0, max(0, len(sound) - len(back))))[: len(sound)].astype(np.float32)
    return whole


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    program = shutil.which("ffmpeg")
    if program is None:
        raise SetupError("ffmpeg is not installed: 'apt install ffmpeg'.")
    argv = [program, "-v", "error", "-nostdin", "-threads", "1", *arguments]
    done = subprocess.run(argv, input=data, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise SetupError(
            "This ffmpeg cannot code speech as mp3, aac and opus, which training needs: 'apt install ffmpeg'.",
            detail=done.stderr.decode("utf-8", "replace")[-500:],
        )
    return done.stdout
