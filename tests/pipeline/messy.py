"""Messy but honest media: one scene, whose every picture is known, in the forms that cameras and phones give it."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.pipeline.films import ffmpeg, turned

WIDTH, HEIGHT, BITS = 160, 128, 8
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "10", "-x265-params", "log-level=none", "-tag:v", "hvc1")
PATCHES = ((200, 60, 50), (50, 170, 60), (60, 70, 190), (130, 130, 130))
"""RGB of the four patches in the lower half, left to right: whatever is turned or mirrored shows by them."""


@dataclass(frozen=True)
class Case:
    """A template, and what a film of it must be."""

    make: Callable[[Path], object]
    suffix: str = "mp4"
    fps: Fraction = Fraction(25)
    count: int = 40  # pictures of the template at ``fps``
    shows: Callable[[int], int] = lambda k: k  # the number of the template's picture ``k``
    size: tuple[int, int] = (WIDTH, HEIGHT)
    tags: dict[str, str | None] = field(default_factory=dict)  # of the film
    said: frozenset[str] = frozenset()  # warnings
    tolerance: float = 4.0  # delta E of the patches; codecs of few colours get more
    loose: int = 0  # by which a shown number may differ

    def number(self, k: int) -> int:
        """The number that output picture ``k`` carries: the template goes to and fro."""
        phase = k % (2 * self.count - 2) if self.count > 1 else 0
        return self.shows(min(phase, 2 * self.count - 2 - phase) if self.count > 1 else 0)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """RGB ``(h, w, 3)``: the number in bars above, the patches below."""
    rgb = np.zeros((height, width, 3), np.uint8)
    bars = np.array([200 if number >> bit & 1 else 40 for bit in range(BITS)], np.uint8)
    rgb[: height // 2] = bars[np.arange(width) * BITS // width][None, :, None]
    rgb[height // 2 :] = np.array(PATCHES, np.uint8)[np.arange(width) * len(PATCHES) // width]
    return rgb


def scene(
    path: Path, *words: str, count: int = 40, fps: str = "25", matrix: str = "bt601", spread: str = "tv",
    size: tuple[int, int] = (WIDTH, HEIGHT), pix_fmt: str = "yuv420p", filters: str = "", last: str = "",
    shows: Callable[[int], int] = lambda n: n,
) -> Path:  # fmt: skip
    """The scene as a film, encoded by ``words``; ``filters`` come before its colours are turned into planes."""
    feed = b"".join(picture(shows(n), *size).tobytes() for n in range(count))
    planes = f"scale=out_color_matrix={matrix}:out_range={spread}:flags=accurate_rnd+full_chroma_int,format={pix_fmt}"
    argv = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", fps, "-i", "pipe:0"]
    encoder = words or ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12")
    ffmpeg(*argv, "-vf", ",".join(filter(None, (filters, planes, last))), *encoder, path, feed=feed)
    return path


def hdr(path: Path, transfer: str, turn: tuple[int, ...] = ()) -> None:
    """The scene as a phone's 10-bit HEVC in BT.2020; a white page has 203 cd/m², as everywhere in HDR."""
    linear = ",".join(
        (
            "format=gbrpf32le,setparams=color_trc=bt709:color_primaries=bt709:colorspace=gbr:range=pc",
            f"zscale=transfer={transfer}:primaries=bt2020:matrix=2020_ncl:range=tv:npl=203,format=yuv420p10le",
        )
    )
    feed = b"".join(picture(n).tobytes() for n in range(40))
    argv = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "25", "-i", "pipe:0", "-vf", linear]
    tags = ("-color_range", "tv", "-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer)
    ffmpeg(*argv, *HEVC, *tags, path, feed=feed)
    if turn:
        turned(path, turn)


@dataclass(frozen=True)
class Seen:
    """A film as a player shows it."""

    numbers: list[int]
    patches: npt.NDArray[np.float64]  # (4, 3) RGB of the first picture
    stream: dict[str, Any]
    combed: float  # mean difference of a row from the mean of its neighbours, in the bars


def seen(film: Path, width: int, height: int) -> Seen:
    """Decoded by ffmpeg alone, by the film's own tags."""
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v", "-show_streams", "-of", "json", str(film)],
        capture_output=True, check=True,
    )  # fmt: skip
    argv = ["ffmpeg", "-v", "error", "-i", str(film), "-map", "0:v", "-fps_mode", "passthrough"]
    argv += ["-vf", "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24", "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run(argv, capture_output=True, check=True).stdout
    shown = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    bars = shown[:, 8 : height // 2 - 8, :, 1].astype(float)
    edges = np.arange(BITS + 1) * width // BITS
    means = np.stack([bars[:, :, a + 4 : b - 4].mean((1, 2)) for a, b in itertools.pairwise(edges)], 1)
    numbers = ((means > 120) << np.arange(BITS)).sum(1).tolist()
    lower = shown[0, height // 2 + 8 : height - 8].astype(float)
    part = width // len(PATCHES)
    patches = np.array([lower[:, n * part + 8 : (n + 1) * part - 8].mean((0, 1)) for n in range(len(PATCHES))])
    combed = float(np.abs(bars[:, 1:-1] - (bars[:, :-2] + bars[:, 2:]) / 2).mean())
    return Seen(numbers, patches, json.loads(told.stdout)["streams"][0], combed)


def delta_e(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE 1976 colour difference of sRGB values 0..255, ``(n, 3)`` -> ``(n,)``."""
    difference: npt.NDArray[np.float64] = np.linalg.norm(_lab(one) - _lab(other), axis=-1)
    return difference


def _lab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    signal = np.asarray(rgb, float) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
