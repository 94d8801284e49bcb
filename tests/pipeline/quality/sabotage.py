"""Five ways to spoil a good film, for the tests of what measures films."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from heygemd.contract.job import Settings
from heygemd.pipeline import media
from heygemd.pipeline.image.geometry import IO, compose, invert, move, scale_of
from heygemd.pipeline.media import FilmWriter, Frame
from tests.pipeline.films import ffmpeg

SETTINGS = Settings(threads=1)
MOUTH = (96.0, 150.0)  # canonical px: about where mouths are
Edit = Callable[[int, Frame], Frame]
MARKED = ("-movflags", "+use_metadata_tags")  # the film's mark stays: nothing but what was spoiled may be found


def late_sound(film: Path, out: Path, seconds: float) -> Path:
    """The sound comes so much later (or earlier, below 0) than it should; the film stays as long as it was."""
    delay, trim = f"adelay={round(1000 * seconds)}:all=1", f"atrim=start={-seconds},asetpts=PTS-STARTPTS"
    filters = f"{delay if seconds > 0 else trim},apad,atrim=end={_seconds(film):.4f}"
    ffmpeg("-i", film, "-map", "0:v", "-map", "0:a", "-c:v", "copy", "-af", filters, "-c:a", "aac", *MARKED, out)
    return out


def other_sound(film: Path, out: Path, sound: Path) -> Path:
    """Somebody else is heard, for as long as the film lasts."""
    filters = f"aloop=-1:10000000,atrim=end={_seconds(film):.4f}"
    words = ("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-af", filters, "-c:a", "aac", *MARKED)
    ffmpeg("-i", film, "-i", sound, *words, out)
    return out


def _seconds(film: Path) -> float:
    found = media.probe(film, film.name, SETTINGS, want="video").video
    assert found is not None
    return found.frames / float(found.fps)


def frozen(film: Path, out: Path, transforms: Any) -> Path:
    """The mouth of frame 0 in every frame, carried along with the face."""
    first: list[Frame] = []

    def edit(k: int, frame: Frame) -> Frame:
        if not first:
            first.append(frame.copy())
        moved = compose(transforms[k], invert(transforms[0]))
        return _mixed(frame, _carried(first[0], moved), transforms[k])

    return _again(film, out, edit)


def blurred(film: Path, out: Path, transforms: Any, sigma_io: float = 0.03) -> Path:
    """A soft mouth."""

    def edit(k: int, frame: Frame) -> Frame:
        soft = frame.copy()
        soft.y[:] = cv2.GaussianBlur(frame.y, (0, 0), sigma_io * IO * scale_of(transforms[k]))
        return _mixed(frame, soft, transforms[k])

    return _again(film, out, edit)


def stuttering(film: Path, out: Path, every: int = 10) -> Path:
    """Every tenth picture is the one before once more."""
    last: list[Frame] = []

    def edit(k: int, frame: Frame) -> Frame:
        if k % every != every - 1 or not last:
            last[:] = [frame.copy()]
        return last[0].copy()

    return _again(film, out, edit)


def _again(film: Path, out: Path, edit: Edit) -> Path:
    found = media.probe(film, film.name, SETTINGS, want="video")
    assert found.video is not None
    clip = media.open_clip(film, found.video, SETTINGS, film.name, found.start)
    silent = out.with_suffix(".silent.mp4")
    with FilmWriter(silent, clip, SETTINGS) as writer:
        for k, frame in enumerate(clip.frames()):
            writer.write(edit(k, frame))
    ffmpeg("-i", silent, "-i", film, "-map", "0:v", "-map", "1:a", "-map_metadata", 1, "-c", "copy", *MARKED, out)
    silent.unlink()
    return out


def _carried(frame: Frame, transform: Any) -> Frame:
    out = frame.copy()
    size = (frame.width, frame.height)
    out.y[:] = cv2.warpAffine(frame.y, transform, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    half = transform.copy()
    half[:, 2] = (transform[:, :2] @ [0.5, 0.5] + transform[:, 2] - 0.5) / 2
    for plane, new in ((out.u, frame.u), (out.v, frame.v)):
        plane[:] = cv2.warpAffine(new, half, (size[0] // 2, size[1] // 2), borderMode=cv2.BORDER_REPLICATE)
    return out


def _mixed(below: Frame, above: Frame, transform: Any) -> Frame:
    """``above`` in a soft ellipse around the mouth."""
    x, y = move(transform, np.array([MOUTH]))[0]
    unit = IO * scale_of(transform)
    rows, columns = np.mgrid[0 : below.height, 0 : below.width].astype(np.float32)
    reach = np.sqrt(((columns - x) / (0.75 * unit)) ** 2 + ((rows - y) / (0.75 * unit)) ** 2)
    mask = np.clip((1.15 - reach) / 0.3, 0, 1).astype(np.float32)
    out = below.copy()
    half = mask[::2, ::2]
    for plane, new, share in ((out.y, above.y, mask), (out.u, above.u, half), (out.v, above.v, half)):
        plane[:] = np.round(plane * (1 - share) + new * share).astype(np.uint8)
    return out
