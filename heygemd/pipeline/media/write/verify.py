"""The finished film, decoded from end to end: promised is only what was seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TypedDict

from heygemd.common.errors import EngineError, InputError
from heygemd.contract.job import Quiet, Settings, Tell
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED, Child
from heygemd.pipeline.media.info import AudioInfo, Media, VideoInfo
from heygemd.pipeline.media.read.probe import input_argv, probe
from heygemd.pipeline.media.write.packets import CAREFUL, Packets, consists_of

ROUNDING = 0.001  # seconds: what containers round time stamps to
_BLOCK = 4096  # samples of the longest codec block that may be missing at the end
_FRAMES = re.compile(r"^frame=\s*(\d+)")


class SoundFacts(TypedDict):
    """Of a film's sound; ``seconds`` as measured."""

    codec: str
    sample_rate: int
    channels: int
    seconds: float


class MeasuredFilm(TypedDict):
    """Of a finished film, for the log; fractions as ``"30000/1001"``."""

    container: str
    frames: int
    fps: str
    seconds: float
    width: int
    height: int
    codec: str
    pix_fmt: str
    sar: str
    color_range: str | None
    color_space: str | None
    color_primaries: str | None
    color_transfer: str | None
    audio: SoundFacts


def verify(
    film: Path,
    frames: int,
    fps: Fraction,
    audio_seconds: float,
    settings: Settings | None = None,
    tell: Tell | None = None,
    parts: Sequence[Packets] = (),
) -> MeasuredFilm:
    """Decode ``film`` wholly and compare it with what it should be: what was measured, for the log.

    ``parts``: what it was joined from and has been decoded (``packets.decoded``); where its picture is these packets
    and nothing else, only its sound is decoded now.
    Raises ``EngineError`` where it does not decode without an error, has more than one frame too many or too
    few, another frame rate, or where picture, sound and the sound that was given differ by more than a frame.
    """
    media, seen_frames, heard = measure(film, settings or Settings(), tell, frames, parts)
    assert media.video is not None
    if abs(seen_frames - frames) > 1:
        raise EngineError(f"The film has {seen_frames} frames instead of {frames}.")
    if abs(media.video.fps - fps) > fps / 5000:  # 30 and 29.97 are a thousandth apart
        raise EngineError(f"The film has {media.video.fps} frames per second instead of {fps}.")
    agree(float(seen_frames / fps), heard, audio_seconds, float(1 / fps) + ROUNDING)
    return describe(media, seen_frames, heard)


def agree(shown: float, heard: float, due: float, tolerance: float) -> None:
    """All in seconds: picture, sound, and the sound that was given.  ``EngineError`` where two differ by more than
    ``tolerance``."""
    if abs(shown - heard) > tolerance:
        raise EngineError(f"The film's picture lasts {shown:.3f} s, its sound {heard:.3f} s.")
    if abs(heard - due) > tolerance:
        raise EngineError(f"The film's sound lasts {heard:.3f} s instead of {due:.3f} s.")
    if abs(shown - due) > tolerance:
        raise EngineError(f"The film's picture lasts {shown:.3f} s instead of {due:.3f} s.")


def describe(media: Media, frames: int, heard: float) -> MeasuredFilm:
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
    }


def measure(
    film: Path, settings: Settings, tell: Tell | None = None, of: int = 0, parts: Sequence[Packets] = ()
) -> tuple[Media, int, float]:
    """(what ffprobe tells, frames that decode, seconds of sound).

    The sound's length is the container's, which players obey, provided that as much decodes: AAC decodes in whole
    blocks, up to 0.13 s more.  ``parts`` as for ``verify``.

    Raises ``EngineError`` where the film is no mp4, lacks picture or sound or does not decode without an error.
    """
    try:
        media = probe(film, film.name, settings, want=None if parts else "video")
    except InputError as error:
        raise EngineError(f"The finished film cannot be read: {error}", detail=error.detail) from error
    if media.video is None or media.audio is None:
        raise EngineError("The finished film has no sound.")
    if not media.is_mp4:
        raise EngineError(f"The finished film is {media.container} instead of mp4.")
    frames, decoded = _decoded(film, media.video, media.audio, settings, tell or Quiet(), of, parts)
    begins, duration = media.audio.ends(media) - media.audio.seconds, media.audio.seconds
    complete = duration > 0 and decoded >= duration - _BLOCK / media.audio.sample_rate
    return media, frames, begins + (duration if complete else decoded)


def _decoded(
    film: Path, video: VideoInfo, audio: AudioInfo, settings: Settings, tell: Tell, of: int, parts: Sequence[Packets]
) -> tuple[int, float]:
    """(frames that decode, or have been decoded as ``parts``; seconds of sound that decode)."""
    if not parts:
        return _decode(film, video, audio, settings, tell, of)
    with ThreadPoolExecutor(1, "packets") as beside:
        comparison = beside.submit(consists_of, film, parts, settings)
        _, heard = _decode(film, None, audio, settings, tell, of)
        if comparison.result():
            return sum(part.count for part in parts), heard
    return _decode(film, video, audio, settings, tell, of)


def _decode(
    film: Path, video: VideoInfo | None, audio: AudioInfo, settings: Settings, tell: Tell, of: int
) -> tuple[int, float]:
    """Decode the sound, and the picture if it is given, to the end: frames, and seconds of sound."""
    frames = 0

    def count(line: str) -> bool:
        nonlocal frames
        if match := _FRAMES.match(line):
            frames = int(match.group(1))
        return "=" in line and not line.startswith("[")

    argv = [*FFMPEG, *CAREFUL, "-progress", "pipe:2", *input_argv(film)]
    if video is not None:
        argv += ["-map", f"0:{video.index}", "-fps_mode", "passthrough", "-f", "null", "-"]
    argv += ["-map", f"0:{audio.index}", "-c:a", "pcm_s16le", "-f", "s16le", "pipe:1"]
    child = Child(argv, limits=UNTRUSTED, stall=settings.media_seconds, on_line=count)
    heard = 0
    try:
        while chunk := child.read_some(1 << 18):
            heard += len(chunk)
            tell.progress("verify", frames, of)
        code = child.finish()
    finally:
        child.kill()
    if code != 0 or "[error]" in child.tail:
        raise EngineError("The finished film cannot be decoded without errors.", detail=child.tail)
    return frames, heard / (2 * audio.channels * audio.sample_rate)
