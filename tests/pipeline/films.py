"""Media for the tests, made on the spot by ffmpeg: pictures that carry their number, sounds with a burst."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heygemd.contract.job import Settings
from heygemd.pipeline.media import Clip, Frame, open_clip, probe
from tests.site import ROOT

DATA = ROOT / "heygemd" / "data"
QUICK = Settings(threads=1, preset="ultrafast", media_seconds=30, encoder="libx264", report="off")
BITS = 8
WIDTH, HEIGHT = 128, 96


def ffmpeg(*words: str | Path, feed: bytes = b"") -> None:
    """Run ffmpeg; a failure fails the test with ffmpeg's words."""
    argv = ["ffmpeg", "-v", "error", "-y", *map(str, words)]
    done = subprocess.run(argv, input=feed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def numbered(
    path: Path,
    count: int,
    *words: str,
    fps: str = "25",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pix_fmt: str = "yuv420p",
) -> Path:
    """A film of ``count`` pictures, each with its number in eight bars and a little noise, encoded by ``words``."""
    feed = b"".join(_picture(n, *size) for n in range(count))
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{size[0]}x{size[1]}", "-r", fps, "-i", "pipe:0")
    ffmpeg(*raw, *(words or ("-c:v", "libx264", "-preset", "ultrafast")), "-pix_fmt", pix_fmt, path, feed=feed)
    return path


def _picture(number: int, width: int, height: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 12, (3, height, width), np.uint8)
    bars = np.array([200 if number >> bit & 1 else 40 for bit in range(BITS)], np.uint8)
    noise[0] += bars[np.arange(width) * BITS // width]
    noise[1:] += 122
    return noise.tobytes()


def number(frame: Frame) -> int:
    """The number that a decoded picture carries."""
    return number_of(frame.y)


def number_of(luma: npt.NDArray[np.uint8]) -> int:
    """The number in the bars of one luma plane."""
    edges = np.arange(BITS + 1) * luma.shape[1] // BITS
    return sum(1 << b for b in range(BITS) if luma[:, edges[b] + 3 : edges[b + 1] - 3].mean() > 120)


def swaying(
    folder: Path, *words: str, seconds: float, speech: float, size: tuple[int, int] = (640, 480)
) -> tuple[Path, Path]:
    """``template.mp4``, a portrait that sways, encoded by ``words``, and ``voice.wav``, so many seconds of speech."""
    film, voice = folder / "template.mp4", folder / "voice.wav"
    frame = f"crop=432:324:'8+4*sin(n/4)':'4+3*sin(n/3)',scale={size[0]}:{size[1]}:out_range=tv,format=yuv420p"
    ffmpeg("-i", DATA / "demo_speech.flac", "-t", str(speech), voice)
    ffmpeg("-loop", "1", "-i", DATA / "portrait.jpg", "-vf", frame, "-r", "25", "-t", str(seconds), *words, film)
    return film, voice


def clip_of(path: Path, settings: Settings = QUICK) -> Clip:
    """The film at ``path`` as the pipeline opens it."""
    media = probe(path, path.name, settings, want="video")
    assert media.video is not None
    return open_clip(path, media.video, settings, path.name, media.start)


def pictures(frames: Iterable[Frame]) -> list[bytes]:
    """All pixels, to be compared."""
    return [frame.data.tobytes() for frame in frames]


def bursts(path: Path, *words: str, rate: int = 44100, channels: int = 2, seconds: float = 2.5) -> Path:
    """A sound with 50 ms of 1 kHz at 0.5 s and at 2 s, quiet noise elsewhere, encoded by ``words``."""
    t = np.arange(int(rate * seconds)) / rate
    sound = 0.001 * np.random.default_rng(0).standard_normal(len(t))
    for at in (0.5, 2.0):
        sound += 0.7 * np.sin(2 * np.pi * 1000 * t) * ((t >= at) & (t < at + 0.05))
    feed = np.repeat((sound * 32000).astype("<i2"), channels).tobytes()
    raw = ("-f", "s16le", "-ar", str(rate), "-ac", str(channels), "-i", "pipe:0")
    ffmpeg(*raw, *words, path, feed=feed)
    return path


def onsets(samples: npt.NDArray[np.float32], rate: int = 16000) -> list[float]:
    """Seconds at which the bursts of ``bursts`` begin."""
    loud = np.flatnonzero(np.abs(samples) > 0.3)
    return [loud[0] / rate, loud[loud > 1.2 * rate][0] / rate]


def tone(path: Path, seconds: float, *words: str, rate: int = 16000) -> Path:
    """A plain tone of that length."""
    ffmpeg("-f", "lavfi", "-i", f"sine=f=300:r={rate}:d={seconds}", *words, path)
    return path


def film_sound(path: Path, rate: int = 16000) -> npt.NDArray[np.float32]:
    """What a player plays of a film's sound, from the film's zero on: decoded without any code of ours."""
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a", "-af", "aresample=async=1:first_pts=0"]
    done = subprocess.run(
        [*argv, "-ac", "1", "-ar", str(rate), "-f", "f32le", "pipe:1"], capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.float32)


def raw_planes(path: Path, width: int, height: int) -> Iterator[npt.NDArray[np.uint8]]:
    """A film's decoded planes without any code of ours."""
    argv = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo"]
    done = subprocess.run([*argv, "pipe:1"], capture_output=True, check=True)
    yield from np.frombuffer(done.stdout, np.uint8).reshape(-1, width * height * 3 // 2)


def turned(path: Path, matrix: Sequence[int]) -> None:
    """Write a display matrix (nine 32-bit numbers) into an mp4's only track, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = b"".join(int(value & 0xFFFFFFFF).to_bytes(4, "big") for value in matrix)
    path.write_bytes(data)
