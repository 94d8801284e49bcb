"""The film: one video encode fed picture by picture, and the sound put beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from heygemd.errors import EngineError, GpuMemoryError, SetupError
from heygemd.pipeline.media.clip import Clip
from heygemd.pipeline.media.decoder import output_colour
from heygemd.pipeline.media.frame import Frame
from heygemd.pipeline.media.probe import AudioInfo, VideoInfo, input_argv, probe
from heygemd.pipeline.settings import Quiet, Settings, Tell
from heygemd.pipeline.tools import FFMPEG, OURS, UNTRUSTED_WRITER, Child, cores, nvenc_works, run

_NVENC_PRESETS = {
    "ultrafast": "p1", "superfast": "p1", "veryfast": "p2", "faster": "p3", "fast": "p4",
    "medium": "p4", "slow": "p5", "slower": "p6", "veryslow": "p7",
}  # fmt: skip
_COPIED = frozenset({"aac", "mp3", "alac", "ac3", "eac3"})  # what mp4 holds and every player plays
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_GAMMAS = {"bt470m": "gamma22", "bt470bg": "gamma28"}  # transfers that ffprobe names otherwise than ffmpeg's options
_AAC_BITS_PER_CHANNEL = 96_000


def choose_encoder(settings: Settings) -> str:
    """``libx264`` or ``h264_nvenc``; ``auto`` is NVENC where one frame can really be encoded by it.

    Raises ``SetupError`` where NVENC is demanded and does not work.
    """
    if settings.encoder == "h264_nvenc" and not nvenc_works():
        raise SetupError(
            "The encoder h264_nvenc does not work on this machine (driver, card or ffmpeg).  "
            'Cure: set encoder = "auto" or "libx264" in config.toml.'
        )
    if settings.encoder != "auto":
        return settings.encoder
    return "h264_nvenc" if nvenc_works() else "libx264"


def encode_facts(settings: Settings) -> dict[str, Any]:
    """For the log: how the video is encoded."""
    return {"encoder": choose_encoder(settings), "crf": settings.crf, "preset": settings.preset}


def encoder_argv(settings: Settings, encoder: str) -> list[str]:
    """The encoder's options.  The thread count is an explicit number, because x264's output depends on it."""
    if encoder == "h264_nvenc":
        preset = _NVENC_PRESETS.get(settings.preset, "p4")
        quality = ["-rc", "vbr", "-cq", str(settings.crf), "-b:v", "0"]
        return ["-c:v", "h264_nvenc", "-preset", preset, *quality]
    threads = str(cores(settings.threads))
    return ["-c:v", encoder, "-preset", settings.preset, "-crf", str(settings.crf), "-threads", threads]


def colour_argv(info: VideoInfo) -> list[str]:
    """The tags that tell a player how to read the planes; see ``output_colour``."""
    told = output_colour(info)
    words = {
        "-color_range": told["color_range"],
        "-colorspace": told["color_space"],
        "-color_primaries": told["color_primaries"],
        "-color_trc": _GAMMAS.get(told["color_transfer"] or "", told["color_transfer"]),
    }
    return [word for key, value in words.items() if value for word in (key, value)]


def encoder_failed(encoder: str, frames: int, code: int, tail: str) -> EngineError:
    """What to raise where an encode ended with ``code`` after ``frames`` and left ``tail`` on its stderr."""
    said = f"The encoder {encoder} failed after {frames} frames"
    if encoder == "h264_nvenc" and "out of memory" in tail.lower():
        return GpuMemoryError(f"{said}: the GPU is out of memory.", detail=tail)
    return EngineError(f"{said} (exit code {code}).", detail=tail)


@dataclass(frozen=True, slots=True)
class Laid:
    """A rectangle of planes Y, U, V and opacity, 4:2:0 in a file, that lies over a film's first pictures."""

    planes: Path
    x: int
    y: int
    width: int
    height: int
    until: str  # an ffmpeg expression that is true for the pictures that show it

    def argv(self, tags: Sequence[str]) -> list[str]:
        """The input; ``tags``: the colour options of the pictures, so that ffmpeg converts neither."""
        size = f"{self.width}x{self.height}"
        return ["-f", "rawvideo", "-pix_fmt", "yuva420p", "-s", size, *tags, "-i", f"file:{self.planes}"]

    def filter(self) -> str:
        """What lays it over the picture before it."""
        return f"overlay={self.x}:{self.y}:eval=init:enable={self.until}"


class FilmWriter:
    """Encodes pictures to an H.264 mp4 without sound; a context manager.

    Leaving it normally ends the encode and raises ``EngineError`` where ffmpeg failed (``GpuMemoryError`` where NVENC
    found no room); leaving it by an exception kills ffmpeg.  The planes reach the encoder as they are.
    """

    def __init__(self, path: Path, clip: Clip, settings: Settings, laid: Laid | None = None) -> None:
        """``clip`` tells size, rate, sample aspect ratio and colour tags; ``laid``: what lies over the pictures."""
        self.path = path
        self.encoder = choose_encoder(settings)
        self.frames = 0
        info = clip.info
        tags = colour_argv(info)
        rate = f"{clip.fps.numerator}/{clip.fps.denominator}"
        argv = [*FFMPEG, "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{clip.width}x{clip.height}"]
        argv += ["-r", rate, *tags, "-i", "pipe:0"]
        sar = f"setsar={info.sar.numerator}/{info.sar.denominator}"
        if laid is None:
            argv += ["-vf", sar]
        else:
            argv += [*laid.argv(tags), "-filter_complex", f"[0:v][1:v]{laid.filter()},{sar}[film]", "-map", "[film]"]
        argv += encoder_argv(settings, self.encoder)
        argv += ["-pix_fmt", "yuv420p", *tags, "-fps_mode", "passthrough", "-f", "mp4", f"file:{path}"]
        self._child = Child(argv, limits=OURS, stall=settings.media_seconds, feed=True)

    def write(self, frame: Frame) -> None:
        """Encode one picture; ``EngineError`` where ffmpeg has ended early."""
        if not self._child.write(frame.data.data):
            self._fail(self._child.finish())
        self.frames += 1

    def _fail(self, code: int) -> None:
        raise encoder_failed(self.encoder, self.frames, code, self._child.tail)

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and (code := self._child.finish()):
                self._fail(code)
        finally:
            self._child.kill()


def mux(
    video: Path,
    audio: Path,
    audio_info: AudioInfo,
    out: Path,
    settings: Settings,
    seconds: float,
    fps: Fraction,
    entries: Mapping[str, str] | None = None,
    tell: Tell | None = None,
) -> str:
    """Put the sound of ``audio`` beside the pictures of ``video``; what was done to it, as words.

    Copied untouched where mp4 holds it and where the copy lasts as long as what was decoded (``seconds``) to half
    a frame: a copied mp3 loses the note that says how much of its last block is padding.  Else one AAC encode at
    its own sample rate and channels.  ``entries``: metadata that is written into the film; nothing else is.  What it
    takes is told as the beginning of ``verify``.

    Returns such as ``"copied aac"`` or ``"encoded aac 192k"``.  Raises ``EngineError``.
    """
    tags, teller, of = metadata_argv(entries or {}), tell or Quiet(), round(seconds * fps)

    def told(_: int) -> None:
        teller.progress("verify", 0, of)

    def tried(*sound: str) -> str | None:
        return _mux(video, audio, audio_info, out, settings, [*sound, *tags], told)

    if audio_info.codec in _COPIED and tried("-c:a", "copy") is None:
        copied = probe(out, out.name, settings).audio
        if copied is not None and abs(copied.seconds - seconds) <= 1 / (2 * fps):
            return f"copied {audio_info.codec}"
    failed = None
    for channels in (1,) if audio_info.mix else dict.fromkeys((audio_info.channels, 2)):
        bits = _AAC_BITS_PER_CHANNEL * max(1, min(channels, 6))
        failed = tried(*_aac(audio_info, channels, bits))
        if failed is None:
            mixed = "" if channels == audio_info.channels else f", mixed to {'mono' if channels == 1 else 'stereo'}"
            return f"encoded aac {bits // 1000}k{mixed}"
    raise EngineError("The sound could not be put into the film.", detail=failed or "")


def metadata_argv(entries: Mapping[str, str]) -> list[str]:
    """Output options that write these metadata entries into an mp4 and leave the inputs' own away."""
    words = [word for name, value in entries.items() for word in ("-metadata", f"{name}={value}")]
    flags = "+faststart+use_metadata_tags" if entries else "+faststart"  # keys of our own need the flag
    return ["-map_metadata", "-1", "-map_chapters", "-1", *words, "-movflags", flags]


def _aac(info: AudioInfo, channels: int, bits: int) -> list[str]:
    rate = min((r for r in _AAC_RATES if r >= info.sample_rate), default=_AAC_RATES[0])
    filters = ",".join(filter(None, (info.mix, "aresample=async=1:first_pts=0")))  # as in decode_audio: both agree
    return ["-c:a", "aac", "-b:a", str(bits), "-ar", str(rate), "-ac", str(channels), "-af", filters]


def _mux(
    video: Path, audio: Path, info: AudioInfo, out: Path, settings: Settings, sound: list[str],
    told: Callable[[int], None],
) -> str | None:  # fmt: skip
    """Run it; ffmpeg's words where it failed."""
    argv = [*FFMPEG, "-y", "-i", f"file:{video}", *input_argv(audio)]
    argv += ["-map", "0:v:0", "-map", f"1:{info.index}", "-c:v", "copy", *sound]
    argv += ["-f", "mp4", f"file:{out}"]
    done = run(argv, limits=UNTRUSTED_WRITER, stall=settings.media_seconds, told=told)
    return done.stderr if done.code else None
