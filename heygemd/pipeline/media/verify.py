"""The finished film, decoded from end to end: promised is only what was seen."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from heygemd.errors import EngineError, InputError
from heygemd.pipeline.media.probe import Media, input_argv, probe
from heygemd.pipeline.settings import Settings
from heygemd.pipeline.tools import FFMPEG, UNTRUSTED, Child

_FRAMES = re.compile(r"^frame=\s*(\d+)")


def verify(
    film: Path, frames: int, fps: Fraction, audio_seconds: float, settings: Settings | None = None
) -> dict[str, Any]:
    """Decode ``film`` wholly and compare it with what it should be: what was measured, for the log.

    Raises ``EngineError`` where it does not decode without an error, has more than one frame too many or
    too few, another frame rate, or sound and picture that differ by more than a frame.
    """
    settings = settings or Settings()
    media, seen_frames, heard = measure(film, settings)
    assert media.video is not None
    if abs(seen_frames - frames) > 1:
        raise EngineError(f"The film has {seen_frames} frames where {frames} are due.")
    if media.video.fps != fps:
        raise EngineError(f"The film runs at {media.video.fps} frames a second where {fps} are due.")
    apart = abs(seen_frames / fps - heard)
    if apart > 1 / fps + Fraction(1, 1000):  # a millisecond for what time stamps are rounded to
        raise EngineError(
            f"Sound and picture of the film differ by {float(apart):.3f} s, more than one frame."
        )
    if abs(heard - audio_seconds) > 1 / fps + Fraction(1, 1000):
        raise EngineError(f"The film's sound lasts {heard:.3f} s where {audio_seconds:.3f} s are due.")
    return describe(media, seen_frames, heard)


def describe(media: Media, frames: int, heard: float) -> dict[str, Any]:
    """The output's facts for the log."""
    assert media.video is not None and media.audio is not None
    video, audio = media.video, media.audio
    return {
        "container": "mp4",
        "frames": frames,
        "fps": f"{video.fps.numerator}/{video.fps.denominator}",
        "seconds": round(float(frames / video.fps), 3),
        "width": video.width,
        "height": video.height,
        "codec": video.codec,
        "pix_fmt": video.pix_fmt,
        "sar": f"{video.sar.numerator}/{video.sar.denominator}",
        "color_range": video.color_range,
        "color_space": video.color_space,
        "color_primaries": video.color_primaries,
        "color_transfer": video.color_transfer,
        "audio": {
            "codec": audio.codec,
            "sample_rate": audio.sample_rate,
            "channels": audio.channels,
            "seconds": round(heard, 3),
        },
        "verified": True,
    }


def measure(film: Path, settings: Settings) -> tuple[Media, int, float]:
    """(what ffprobe tells, frames that decode, seconds of sound that decode).

    Raises ``EngineError`` where the film lacks picture or sound or does not decode without an error.
    """
    try:
        media = probe(film, film.name, settings, want="video")
    except InputError as error:
        raise EngineError(f"The finished film cannot be read: {error}", detail=error.detail) from error
    if media.video is None or media.audio is None:
        raise EngineError("The finished film lacks its sound.")
    frames = 0

    def count(line: str) -> bool:
        nonlocal frames
        told = _FRAMES.match(line)
        frames = int(told.group(1)) if told else frames
        return "=" in line and not line.startswith("[")

    argv = [*FFMPEG, "-xerror", "-err_detect", "explode", "-progress", "pipe:2", *input_argv(film)]
    argv += ["-map", f"0:{media.video.index}", "-fps_mode", "passthrough", "-f", "null", "-"]
    argv += ["-map", f"0:{media.audio.index}", "-c:a", "pcm_s16le", "-f", "s16le", "pipe:1"]
    child = Child(argv, limits=UNTRUSTED, stall=settings.media_seconds, on_line=count)
    heard = 0
    try:
        while chunk := child.read_some(1 << 18):
            heard += len(chunk)
        code = child.finish()
    finally:
        child.kill()
    if code != 0 or "[error]" in child.tail:
        raise EngineError("The finished film does not decode without an error.", detail=child.tail)
    return media, frames, heard / (2 * media.audio.channels * media.audio.sample_rate)
