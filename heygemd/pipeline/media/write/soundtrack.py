"""The sound of the film: copied as it is, or encoded once, and put beside the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from heygemd.common.errors import EngineError
from heygemd.contract.job import Quiet, Settings, Tell
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED_WRITER, run
from heygemd.pipeline.media.info import AudioInfo
from heygemd.pipeline.media.read.probe import input_argv, probe

COPIED = frozenset({"aac", "mp3", "alac", "ac3", "eac3"})  # what mp4 holds and every player plays
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_AAC_BITS_PER_CHANNEL = 96_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sound as it will lie in the film, and what was done to it, as words."""

    path: Path
    treatment: str


def mux(
    video: Path,
    audio: Path,
    info: AudioInfo,
    out: Path,
    settings: Settings,
    seconds: float,
    fps: Fraction,
    entries: Mapping[str, str] | None = None,
    tell: Tell | None = None,
    encoded: Encoded | None = None,
) -> str:
    """Put the sound of ``audio`` beside the pictures of ``video``; what was done to it, as words.

    Copied untouched where mp4 holds it and where the copy lasts as long as what was decoded (``seconds``) to half
    a frame: a copied mp3 loses the note that says how much of its last block is padding.  Else ``encoded``, or what
    ``encode_sound`` makes of it now.  ``entries``: metadata that is written into the film; nothing else is.  Its
    progress is reported as the beginning of ``verify``.

    Returns such as ``"copied aac"`` or ``"encoded aac 192k"``.  Raises ``EngineError``.
    """
    tags, teller, of = metadata_argv(entries or {}), tell or Quiet(), round(seconds * fps)

    def on_frames(_: int) -> None:
        teller.progress("verify", 0, of)

    def tried(sound: Path, stream: int) -> str | None:
        maps = ["-map", "0:v:0", "-map", f"1:{stream}", "-c", "copy", *tags]
        return _failed(["-i", f"file:{video}", *input_argv(sound), *maps], out, settings, on_frames)

    if info.codec in COPIED and tried(audio, info.index) is None:
        copied = probe(out, out.name, settings).audio
        if copied is not None and abs(copied.seconds - seconds) <= 1 / (2 * fps):
            return f"copied {info.codec}"
    made = encoded or encode_sound(audio, info, out.with_name("sound.m4a"), settings, on_frames)
    failed = tried(made.path, 0)
    made.path.unlink()
    if failed is not None:
        raise EngineError("The sound could not be written into the film.", detail=failed)
    return made.treatment


def encode_sound(
    audio: Path, info: AudioInfo, out: Path, settings: Settings, on_frames: Callable[[int], None] = lambda _: None
) -> Encoded:
    """One AAC encode at the sound's own sample rate and channels, or in stereo where AAC has no layout for that number.

    ``on_frames`` is called while it lasts, so that hours of sound do not pass for a child that hangs.

    Raises ``EngineError``.
    """
    failed = None
    for channels in (1,) if info.mix else dict.fromkeys((info.channels, 2)):
        bits = _AAC_BITS_PER_CHANNEL * max(1, min(channels, 6))
        argv = [*input_argv(audio), "-map", f"0:{info.index}", *_aac(info, channels, bits), *metadata_argv({})]
        failed = _failed(argv, out, settings, on_frames)
        if failed is None:
            mixed = "" if channels == info.channels else f", mixed to {'mono' if channels == 1 else 'stereo'}"
            return Encoded(out, f"encoded aac {bits // 1000}k{mixed}")
    out.unlink(missing_ok=True)
    raise EngineError("The sound could not be written into the film.", detail=failed or "")


def metadata_argv(entries: Mapping[str, str]) -> list[str]:
    """Output options that write these metadata entries into an mp4 and leave the inputs' own away."""
    words = [word for name, value in entries.items() for word in ("-metadata", f"{name}={value}")]
    flags = "+faststart+use_metadata_tags" if entries else "+faststart"  # keys of our own need the flag
    return ["-map_metadata", "-1", "-map_chapters", "-1", *words, "-movflags", flags]


def _aac(info: AudioInfo, channels: int, bits: int) -> list[str]:
    rate = min((r for r in _AAC_RATES if r >= info.sample_rate), default=_AAC_RATES[0])
    filters = ",".join(filter(None, (info.mix, "aresample=async=1:first_pts=0")))  # as in decode_audio: both agree
    return ["-c:a", "aac", "-b:a", str(bits), "-ar", str(rate), "-ac", str(channels), "-af", filters]


def _failed(argv: Sequence[str], out: Path, settings: Settings, on_frames: Callable[[int], None]) -> str | None:
    """Have ffmpeg write ``out``; its words where it could not."""
    argv = [*FFMPEG, "-y", *argv, "-f", "mp4", f"file:{out}"]
    done = run(argv, limits=UNTRUSTED_WRITER, stall=settings.media_seconds, on_frames=on_frames)
    return done.stderr if done.code else None
