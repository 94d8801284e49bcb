"""One ffmpeg child that decodes a template from some point on: its pictures, each with its time."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED, Child, cores, has_filters
from heygemd.pipeline.media.frame import Frame, even, padded
from heygemd.pipeline.media.info import VideoInfo
from heygemd.pipeline.media.read.probe import input_argv
from heygemd.pipeline.media.read.stills import UPRIGHT, turn_of

MICRO = 1_000_000  # times are whole microseconds on the container's clock

# ffmpeg's showinfo filter writes one such line for each picture, just before the picture itself comes out
_SHOWN = re.compile(r"\] n: *\d+ pts: *(\S+).*? iskey:(\d)")
_FAULT = re.compile(r"^(\[[^\]]*\] )*\[(error|fatal)\]")
_CHATTER = re.compile(r"^(\[[^\]]*\] )*\[info\]|^\s*$")

_IN_FLIGHT = 2  # pictures for each core that are decoded at a time: with one, cores wait while it is handed over

HDR_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG, as ffprobe names them
_HDR_WHITE = 203  # cd/m² of a white page

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
    """``"pc"`` or ``"tv"``: the template's own where it has one; RGB and HDR pictures become ``tv``."""
    return "pc" if info.color_range == "pc" and not is_rgb(info) and not tone_mapped(info) else "tv"


def output_colour(info: VideoInfo) -> dict[str, str | None]:
    """What the planes mean that leave the filters, by ffprobe's names: the template's own tags, nothing invented."""
    if tone_mapped(info):
        plain: dict[str, str | None] = dict.fromkeys(("color_space", "color_primaries", "color_transfer"), "bt709")
        return plain | {"color_range": "tv"}
    rgb = is_rgb(info)  # converted, see upright_filters
    return {
        "color_space": "bt709" if rgb else info.color_space if info.color_space != "gbr" else None,
        "color_primaries": info.color_primaries,
        "color_transfer": info.color_transfer,
        "color_range": output_range(info) if info.color_range or rgb else None,
    }


def is_hdr(info: VideoInfo) -> bool:
    """Whether the pictures are brighter than a plain screen: PQ (HDR10) or HLG."""
    return info.color_transfer in HDR_TRANSFERS


def tone_mapped(info: VideoInfo) -> bool:
    """Whether HDR pictures are made plain ones: 8 bits of H.264 show bands in HDR, and most players show it pale."""
    return is_hdr(info) and has_filters("zscale", "tonemap")


def deinterlaced(info: VideoInfo) -> bool:
    """Whether one moment of each picture is kept, and the rows of the other interpolated."""
    return info.fields is not None and not info.rotation


def is_rgb(info: VideoInfo) -> bool:
    """Whether the pictures are red, green and blue rather than luma and chroma."""
    return info.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "pal8", "0rgb", "0bgr", "monob", "monow"))


def has_alpha(info: VideoInfo) -> bool:
    """Whether pictures may be transparent."""
    return info.pix_fmt.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8"))


def converted(info: VideoInfo) -> bool:
    """Whether the pictures are anything but plain 8-bit 4:2:0 and so had to be converted once."""
    return info.pix_fmt not in ("yuv420p", "yuvj420p") or tone_mapped(info)


def picture_filters(info: VideoInfo, path: Path) -> str:
    """``upright_filters``, and each picture's time told beside it."""
    return f"{upright_filters(info, path)},showinfo=checksum=0"


def upright_filters(info: VideoInfo, path: Path) -> str:
    """The filter chain from what the decoder gives to planar 8-bit 4:2:0, upright, the range kept, in microseconds."""
    filters = list(turn_of(path, info.still).filters) if info.still else list(UPRIGHT.filters)
    if deinterlaced(info):
        filters.append(f"bwdif=mode=send_frame:parity={info.fields}:deint=all")
    if tone_mapped(info):
        filters += _plain_light(info)
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


def _plain_light(info: VideoInfo) -> list[str]:
    """HDR to BT.709: light up to 120 cd/m² keeps its share of a white page, what is brighter is squeezed in above.

    A white page has 203 cd/m² in HDR (BT.2408) and is the brightest there is without; 1000 is what is filmed at most.
    """
    space, primaries = info.color_space or "bt2020nc", info.color_primaries or "bt2020"
    return [
        f"setparams=range={info.color_range or 'tv'}:color_primaries={primaries}:color_trc={info.color_transfer}"
        f":colorspace={space}",
        f"zscale=transfer=linear:npl={_HDR_WHITE}",
        "format=gbrpf32le",
        "zscale=primaries=bt709",
        f"tonemap=mobius:param=0.6:peak={1000 / _HDR_WHITE:.3f}:desat=0",
        "zscale=transfer=bt709:matrix=bt709:range=tv",
        "format=yuv420p",
    ]


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

        ``keys_apart``: only pictures at which decoding can start, at least this number of seconds apart."""
        self._name = name
        self._size = working_size(info)
        self._times: queue.SimpleQueue[tuple[int | None, bool]] = queue.SimpleQueue()
        self._stall = settings.media_seconds
        self.faults = 0  # lines in which ffmpeg reported damage
        argv = [*FFMPEG[:-1], "repeat+level+info", "-threads", str(_IN_FLIGHT * cores(settings.threads))]
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
                f"ffmpeg decoded a frame of {self._name} without a timestamp.", detail=self._child.tail
            ) from error

    def _end(self) -> None:
        code = self._child.finish()
        if code < 0:
            raise EngineError(f"ffmpeg crashed (signal {-code}) while decoding {self._name}.", detail=self._child.tail)

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
