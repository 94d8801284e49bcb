"""The film: one video encode fed picture by picture, and the sound put beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from heygemd.common.errors import EngineError, GpuMemoryError, SetupError
from heygemd.contract.film_facts import EncodeFacts
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, OURS, Child, cores, nvenc_works
from heygemd.pipeline.media.frame import Frame
from heygemd.pipeline.media.info import VideoInfo
from heygemd.pipeline.media.read.clip import Clip
from heygemd.pipeline.media.read.decoder import output_colour

_NVENC_PRESETS = {
    "ultrafast": "p1", "superfast": "p1", "veryfast": "p2", "faster": "p3", "fast": "p4",
    "medium": "p4", "slow": "p5", "slower": "p6", "veryslow": "p7",
}  # fmt: skip
_GAMMAS = {"bt470m": "gamma22", "bt470bg": "gamma28"}  # transfers that ffprobe names otherwise than ffmpeg's options


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


def encode_facts(settings: Settings) -> EncodeFacts:
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
    colour = output_colour(info)
    words = {
        "-color_range": colour["color_range"],
        "-colorspace": colour["color_space"],
        "-color_primaries": colour["color_primaries"],
        "-color_trc": _GAMMAS.get(colour["color_transfer"] or "", colour["color_transfer"]),
    }
    return [word for key, value in words.items() if value for word in (key, value)]


def encoder_failed(encoder: str, frames: int, code: int, tail: str) -> EngineError:
    """What to raise where an encode ended with ``code`` after ``frames`` and left ``tail`` on its stderr."""
    failure = f"The encoder {encoder} failed after {frames} frames"
    if encoder == "h264_nvenc" and "out of memory" in tail.lower():
        return GpuMemoryError(f"{failure}: the GPU ran out of memory.", detail=tail)
    return EngineError(f"{failure} (exit code {code}).", detail=tail)


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
        """``clip`` tells size, rate, sample aspect ratio and colour tags; ``laid``: the label over the pictures."""
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
