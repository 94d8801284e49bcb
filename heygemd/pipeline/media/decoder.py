"""One ffmpeg child that decodes a template from some point on: its pictures, each with its time."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from heygemd.errors import EngineError
from heygemd.pipeline.media.frame import Frame, even, padded
from heygemd.pipeline.media.probe import VideoInfo, input_argv
from heygemd.pipeline.media.stills import UPRIGHT, turn_of
from heygemd.pipeline.settings import Settings
from heygemd.pipeline.tools import FFMPEG, UNTRUSTED, Child, cores

MICRO = 1_000_000  # times are whole microseconds on the container's clock

# ffmpeg's showinfo filter writes one such line for each picture, just before the picture itself comes out
_SHOWN = re.compile(r"\] n: *\d+ pts: *(\S+).*? iskey:(\d)")
_FAULT = re.compile(r"^(\[[^\]]*\] )*\[(error|fatal)\]")
_CHATTER = re.compile(r"^(\[[^\]]*\] )*\[info\]|^\s*$")

MAX_STILL_SIDE = 2160  # pixels: a photo holds more than a film needs, and than most players can decode as H.264


@dataclass(frozen=True, slots=True)
class Shown:
    """A decoded picture, its time in microseconds (``None``: the stream has none) and whether decoding can
    start at it."""

    time: int | None
    key: bool
    frame: Frame


def working_size(info: VideoInfo) -> tuple[int, int]:
    """(width, height) that pictures leave ffmpeg with; only large stills are scaled."""
    longest = max(info.width, info.height)
    if info.still is None or longest <= MAX_STILL_SIDE:
        return info.width, info.height
    return round(info.width * MAX_STILL_SIDE / longest), round(info.height * MAX_STILL_SIDE / longest)


def output_range(info: VideoInfo) -> str:
    """``"pc"`` or ``"tv"``: the template's own where it has one; RGB pictures become ``tv``."""
    return "pc" if info.color_range == "pc" and not is_rgb(info) else "tv"


def is_rgb(info: VideoInfo) -> bool:
    """Whether the pictures are red, green and blue rather than luma and chroma."""
    return info.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "pal8", "0rgb", "0bgr", "monob", "monow"))


def has_alpha(info: VideoInfo) -> bool:
    """Whether pictures may be transparent."""
    return info.pix_fmt.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8"))


def converted(info: VideoInfo) -> bool:
    """Whether the pictures are anything but 8-bit 4:2:0 and so had to be converted once."""
    return info.pix_fmt not in ("yuv420p", "yuvj420p")


def picture_filters(info: VideoInfo, path: Path) -> str:
    """``upright_filters``, and each picture's time told beside it."""
    return f"{upright_filters(info, path)},showinfo=checksum=0"


def upright_filters(info: VideoInfo, path: Path) -> str:
    """The filter chain from what the decoder gives to planar 8-bit 4:2:0, upright, the range kept, in microseconds."""
    filters = list(turn_of(path, info.still).filters) if info.still else list(UPRIGHT.filters)
    if has_alpha(info):  # laid on white: 1 - (1 - colour) * alpha
        filters.append("format=gbrap,negate,premultiply=inplace=1,format=gbrp,negate")
    width, height = working_size(info)
    if converted(info):
        matrix = ":out_color_matrix=bt709" if is_rgb(info) else ""
        size = f"{width}:{height}:" if info.still else ""
        filters.append(f"scale={size}flags=bicubic+accurate_rnd+full_chroma_int:out_range={output_range(info)}{matrix}")
        filters.append("format=yuv420p")
    elif info.still and (width, height) != (info.width, info.height):
        filters.append(f"scale={width}:{height}:flags=bicubic+accurate_rnd")
    filters.append("format=yuv420p|yuvj420p")
    return ",".join([*filters, f"settb=1/{MICRO}"])


class Decoder:
    """Iterates ``Shown``; a context manager, because the child must end with it."""

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        settings: Settings,
        name: str,
        seek: float | None = None,
        keys_apart: float | None = None,
    ) -> None:
        """``seek``: seconds after the container's start; pictures before it are not delivered where the
        container can be searched well, which is for the caller to check by their times.

        ``keys_apart``: only pictures at which decoding can start, at least so many seconds apart."""
        self._name = name
        self._size = working_size(info)
        self._times: queue.SimpleQueue[tuple[int | None, bool]] = queue.SimpleQueue()
        self._stall = settings.media_seconds
        self.faults = 0  # lines in which ffmpeg told of damage
        argv = [*FFMPEG[:-1], "repeat+level+info", "-threads", str(cores(settings.threads))]
        argv += ["-ss", f"{seek:.6f}"] if seek is not None else []
        argv += ["-skip_frame", "nokey"] if keys_apart is not None else []
        argv += ["-copyts", *input_argv(path, info), "-map", f"0:{info.index}"]
        some = "" if keys_apart is None else f"select=isnan(prev_selected_t)+gte(t-prev_selected_t\\,{keys_apart:.3f}),"
        argv += ["-vf", some + picture_filters(info, path), "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
        self._child = Child(argv, limits=UNTRUSTED, stall=self._stall, on_line=self._hear)

    def _hear(self, line: str) -> bool:
        """Pick the times out of stderr, in its own thread; True for lines that say nothing of a fault."""
        if shown := _SHOWN.search(line):
            told = shown.group(1)
            self._times.put((None if told == "NOPTS" else int(told), shown.group(2) == "1"))
            return True
        self.faults += bool(_FAULT.match(line))
        return bool(_CHATTER.match(line))

    def __iter__(self) -> Iterator[Shown]:
        width, height = self._size
        full_width, full_height = even(width), even(height)
        raw_bytes = width * height + full_width * full_height // 2
        while True:
            raw = np.empty(raw_bytes, np.uint8)
            got = self._child.read_into(raw.data)
            if got < raw_bytes:
                self._end()
                return
            data = raw if raw_bytes == full_width * full_height * 3 // 2 else padded(raw, width, height)
            time, key = self._next_time()
            yield Shown(time, key, Frame(data, full_width, full_height))

    def _next_time(self) -> tuple[int | None, bool]:
        try:
            return self._times.get(timeout=self._stall)
        except queue.Empty as error:
            raise EngineError(
                f"ffmpeg decoded a picture of {self._name} without telling its time.", detail=self._child.tail
            ) from error

    def _end(self) -> None:
        code = self._child.finish()
        if code < 0:
            raise EngineError(f"ffmpeg died (signal {-code}) while decoding {self._name}.", detail=self._child.tail)

    @property
    def tail(self) -> str:
        """The last lines that ffmpeg wrote about faults."""
        return self._child.tail

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
