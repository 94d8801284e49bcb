"""Which stretches of a film are looked at, and their pictures, cropped to the face.

A long film is sampled: a few stretches, evenly spread, each begun at a picture at which decoding can start, so that
nothing is decoded that is not looked at.
"""

from __future__ import annotations

import queue
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED, Child, cores, run
from heygemd.pipeline.media import Frame, Media
from heygemd.pipeline.media.info import VideoInfo
from heygemd.pipeline.media.read.decoder import picture_filters
from heygemd.pipeline.media.read.probe import input_argv

FRAMES_MOST = 1000
"""Pictures that are looked at, whatever the configuration allows: beyond, the figures hardly change any more."""
_PIECES = 5
_SHOWN = re.compile(r"\] n: *\d+ pts: *(-?\d+) ")
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """Frames ``first`` to ``stop - 1`` of a film."""

    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Film:
    """A film that is measured: what it is, when its first picture is shown, where decoding can start."""

    path: Path
    media: Media
    info: VideoInfo
    begins: float  # seconds on the container's clock
    keys: tuple[int, ...]  # frame numbers, rising
    frames: int

    @property
    def fps(self) -> float:
        """Pictures a second."""
        return float(self.info.fps)


def open_film(path: Path, media: Media, settings: Settings) -> Film:
    """Read the film's index; nothing is decoded.  Raises ``EngineError`` where it has none."""
    assert media.video is not None
    info = media.video
    argv = ["ffprobe", "-v", "error", "-select_streams", str(info.index), *input_argv(path)]
    argv += ["-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"]
    done = run(argv, limits=UNTRUSTED, stall=settings.media_seconds)
    packets = [line.split(",") for line in done.stdout.decode("ascii", "replace").splitlines()]
    times = [(float(p[0]), p[1].startswith("K")) for p in packets if len(p) > 1 and p[0] != "N/A"]
    if done.code or not times:
        raise EngineError(f"The index of {path.name} cannot be read.", detail=done.stderr)
    begins = min(time for time, _ in times)
    keys = sorted(round((time - begins) * float(info.fps)) for time, key in times if key)
    return Film(path, media, info, begins, tuple(keys), len(times))


def windows(frames: int, keys: Sequence[int], most: int) -> list[Window]:
    """At most ``most`` of ``frames`` frames as a few stretches, evenly spread, the beginning and the end included."""
    if frames <= most:
        return [Window(0, frames)]
    length = max(1, most // _PIECES)
    found: list[Window] = []
    for n in range(_PIECES):
        wanted = n * (frames - length) // (_PIECES - 1)
        place = bisect_right(keys, wanted) - 1
        near = place >= 0 and wanted - keys[place] < frames / _PIECES / 2
        first = max(keys[place] if near else wanted, found[-1].stop if found else 0)
        if first < frames:
            found.append(Window(first, min(first + length, frames)))
    return found


@dataclass(frozen=True, slots=True)
class Crop:
    """An even-aligned part of a picture, luma px."""

    x: int
    y: int
    width: int
    height: int


def read(film: Film, window: Window, crop: Crop, settings: Settings) -> Iterator[tuple[int, Frame]]:
    """The window's pictures that the film really holds, each with its number, the part ``crop`` of the film's.

    Numbers come from the pictures' times, so a film whose pictures are not equally spaced skips some.
    """
    times: queue.SimpleQueue[int] = queue.SimpleQueue()

    def hear(line: str) -> bool:
        if shown := _SHOWN.search(line):
            times.put(int(shown.group(1)))
        return "[error]" not in line and "[fatal]" not in line

    filters = picture_filters(film.info, film.path)
    filters += f",crop={crop.width}:{crop.height}:{crop.x}:{crop.y}:exact=1"
    argv = [*FFMPEG[:-1], "repeat+level+info", "-threads", str(cores(settings.threads))]
    if window.first:
        # To the key picture before; those between are decoded, and passed over below.
        seek = film.begins - film.media.start + (window.first + 0.25) / film.fps
        argv += ["-noaccurate_seek", "-ss", f"{seek:.6f}"]
    argv += ["-copyts", *input_argv(film.path, film.info), "-map", f"0:{film.info.index}", "-vf", filters]
    argv += ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    child = Child(argv, limits=UNTRUSTED, stall=settings.media_seconds, on_line=hear)
    try:
        while True:
            raw = np.empty(crop.width * crop.height * 3 // 2, np.uint8)
            if child.read_into(raw.data) < len(raw):
                if child.finish() < 0:
                    raise EngineError(f"ffmpeg crashed while measuring {film.path.name}.", detail=child.tail)
                return
            number = round((_next(times, settings, child) / _MICRO - film.begins) * film.fps)
            if number >= window.stop:
                return
            if number >= window.first:
                yield number, Frame(raw, crop.width, crop.height)
    finally:
        child.kill()


def _next(times: queue.SimpleQueue[int], settings: Settings, child: Child) -> int:
    try:
        return times.get(timeout=settings.media_seconds)
    except queue.Empty as error:
        raise EngineError("ffmpeg decoded a frame without a timestamp.", detail=child.tail) from error
