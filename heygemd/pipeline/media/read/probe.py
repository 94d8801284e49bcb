"""What a media file is, found out by ffprobe and a short trial decode, or one sentence why it cannot be
used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from heygemd.common.errors import InputError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import DEMUXERS, FFMPEG, UNTRUSTED, Done, run
from heygemd.pipeline.media.read.interlace import flagged, order_of_fields
from heygemd.pipeline.media.read.rates import frame_rate
from heygemd.pipeline.media.read.stills import still_demuxer, turn_of

Want = Literal["audio", "video", "still"]

MIN_SIDE, MAX_SIDE = 16, 16384  # pixels; H.264 itself ends at 16384
MAX_PIXELS = 8192 * 8192  # of one picture, so that a frame stays below 100 MB
RULES = ("-protocol_whitelist", "file,pipe", "-format_whitelist", DEMUXERS)
_COLOUR_KEYS = ("color_range", "color_space", "color_primaries", "color_transfer")
_LEAST_RATE = 1000  # Hz; a second of a file that says 1 Hz would become hours
_PLACED_CHANNELS, _MOST_CHANNELS = 8, 64  # for more than eight ffmpeg may not know how to mix them; pan ends at 64
_TRIAL_FRAMES = 50  # codec frames of sound that are decoded to see that it can be decoded at all


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The picture stream that would be used."""

    index: int  # the stream's number in its file
    width: int  # as displayed: after rotation, before sample aspect ratio
    height: int
    fps: Fraction  # the constant rate it is used at
    native_fps: Fraction  # the average that the container tells; 0 where it tells none
    vfr: bool  # the container's two rates disagree, so frames are not equally spaced
    frames: int  # estimate at ``fps``; a decode tells the truth
    seconds: float
    start: float  # seconds on the container's clock
    codec: str
    pix_fmt: str
    bit_depth: int
    rotation: int  # degrees counterclockwise that a player turns it by, one of 0 90 180 270
    sar: Fraction  # width of a pixel by its height
    color_range: str | None  # "tv" or "pc"; None: the stream does not say
    color_space: str | None
    color_primaries: str | None
    color_transfer: str | None
    field_order: str | None  # as the container or codec tells
    still: str | None  # the demuxer of a still picture, None for a film
    fields: str | None = None  # "tff" or "bff": two moments are in each picture, this field first; known with ``want``

    def to_json(self) -> dict[str, Any]:
        """For the log: fractions as ``"30000/1001"``."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The sound stream that would be used."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    seconds: float  # as the container tells, 0 where it does not
    start: float  # seconds on the container's clock
    bit_rate: int  # bits a second, 0 where unknown

    @property
    def mix(self) -> str:
        """A filter that makes one channel of more than ffmpeg knows places for, all alike; empty where it knows."""
        if self.channels <= _PLACED_CHANNELS:
            return ""
        return "pan=mono|c0=" + "+".join(f"{1 / self.channels:.6f}*c{n}" for n in range(self.channels))

    def ends(self, media: Media) -> float:
        """When the sound ends, in seconds after the container's zero."""
        return max(0.0, self.start - media.start) + self.seconds

    def to_json(self) -> dict[str, Any]:
        """For the log."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Media:
    """A file as a whole."""

    container: str
    seconds: float
    start: float  # the container's earliest time stamp: what players call zero
    video: VideoInfo | None
    audio: AudioInfo | None

    @property
    def is_mp4(self) -> bool:
        """Whether it is of the mp4 and QuickTime family."""
        return "mp4" in self.container.split(",")

    def to_json(self) -> dict[str, Any]:
        """For the log."""
        return {
            "container": self.container,
            "seconds": round(self.seconds, 3),
            "video": self.video.to_json() if self.video else None,
            "audio": self.audio.to_json() if self.audio else None,
        }


def exact(media: Media) -> dict[str, Any]:
    """All of it as plain data; ``from_exact`` reads it back equal."""
    parts = {name: part.to_json() if part else None for name, part in (("video", media.video), ("audio", media.audio))}
    return {"container": media.container, "seconds": media.seconds, "start": media.start, **parts}


def from_exact(data: Mapping[str, Any]) -> Media:
    """The inverse of ``exact``."""
    video, audio = data["video"], data["audio"]
    if video:
        video = VideoInfo(**{**video, **{key: Fraction(video[key]) for key in ("fps", "native_fps", "sar")}})
    return Media(data["container"], data["seconds"], data["start"], video, AudioInfo(**audio) if audio else None)


def _plain(value: Any) -> Any:
    return f"{value.numerator}/{value.denominator}" if isinstance(value, Fraction) else value


def probe(path: Path, name: str, settings: Settings, want: Want | None = None) -> Media:
    """Look into ``path``, which the user knows as ``name``.

    With ``want``, the stream wanted must be there and a first piece of it must decode.  Raises
    ``InputError`` with one of the reasons ``empty_file not_media truncated unreadable no_video no_audio
    empty_audio bad_size bad_rate undecodable``.
    """
    _check_file(path, name)
    still = still_demuxer(path)
    media = _read(path, name, settings, still)
    if want == "audio":
        _try_audio(path, name, settings, media)
    elif want in ("video", "still"):
        media = replace(media, video=_try_video(path, name, settings, media))
    return media


def input_argv(path: Path, info: VideoInfo | None = None) -> list[str]:
    """``-i`` of a user's file with every rule that keeps it from reaching further than itself."""
    return [*RULES, *_forced(info.still if info else None), "-i", f"file:{path}"]


def _forced(still: str | None) -> list[str]:
    """A still's demuxer is named, because ffmpeg would take its file name for a pattern of many files."""
    return ["-f", still, "-noautorotate"] if still else []


def _check_file(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(1)
    except PermissionError as error:
        raise InputError(
            f"{name} cannot be opened: its permissions do not allow this service to read it.", reason="unreadable"
        ) from error
    except OSError as error:
        raise InputError(f"{name} cannot be opened: {error.strerror}.", reason="unreadable") from error
    if not head:
        raise InputError(f"{name} is empty (0 bytes).  Please copy it again.", reason="empty_file")


def _read(path: Path, name: str, settings: Settings, still: str | None) -> Media:
    argv = ["ffprobe", "-hide_banner", "-loglevel", "repeat+level+warning", *RULES, *_forced(still)[:2]]
    argv += ["-of", "json", "-show_format", "-show_streams", f"file:{path}"]
    done = run(argv, limits=UNTRUSTED, stall=settings.media_seconds)
    if done.code != 0:
        raise _unreadable(path, name, done)
    told = json.loads(done.stdout)
    streams = told.get("streams", [])
    container = told.get("format", {})
    start = _number(container.get("start_time"))
    seconds = _number(container.get("duration"))
    video = _pick(streams, "video")
    audio = _pick(streams, "audio")
    return Media(
        container=container.get("format_name", "unknown"),
        seconds=seconds,
        start=start,
        video=_video_info(video, name, seconds, path, still) if video else None,
        audio=_audio_info(audio, seconds) if audio else None,
    )


def _unreadable(path: Path, name: str, done: Done) -> InputError:
    said = done.stderr
    with path.open("rb") as file:
        box = file.read(8)[4:]  # ffmpeg misses the moov of any text that is called .mp4
    if "moov atom not found" in said and box in (b"ftyp", b"mdat", b"free", b"wide", b"skip"):
        return InputError(
            f"{name} is cut off: the index at the end of an MP4 file (moov) is missing.  The copy or the "
            "recording was interrupted; please copy or export it again.",
            detail=said,
            reason="truncated",
        )
    return InputError(
        f"{name} is not a supported video or audio file, whatever its name.",
        detail=said,
        reason="not_media",
    )


def _pick(streams: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """The stream a player would take: the one marked default, else the first; cover pictures do not count."""
    fit = [s for s in streams if s.get("codec_type") == kind and not s.get("disposition", {}).get("attached_pic")]
    marked = [s for s in fit if s.get("disposition", {}).get("default")]
    return next(iter(marked or fit), None)


def _video_info(
    told: Mapping[str, Any], name: str, container_seconds: float, path: Path, still: str | None
) -> VideoInfo:
    width, height = int(told.get("width") or 0), int(told.get("height") or 0)
    _check_size(width, height, name)
    turn = turn_of(path, still).rotation if still else _rotation(told)
    if turn in (90, 270):
        width, height = height, width
    rate = frame_rate(told) if not still else (Fraction(25), False)
    if rate is None:
        raise InputError(f"{name} has no frame rate.", reason="bad_rate")
    fps, vfr = rate
    seconds = float(1 / fps) if still else _number(told.get("duration")) or container_seconds
    colour = {key: _known(told.get(key)) for key in _COLOUR_KEYS}
    pix_fmt = str(told.get("pix_fmt", "unknown"))
    if pix_fmt.startswith("yuvj"):
        colour["color_range"] = "pc"
    return VideoInfo(
        index=int(told["index"]),
        width=width,
        height=height,
        fps=fps,
        native_fps=_fraction(told.get("avg_frame_rate")),
        vfr=vfr,
        frames=max(1, round(seconds * fps)),
        seconds=seconds,
        start=_number(told.get("start_time")),
        codec=str(told.get("codec_name", "unknown")),
        pix_fmt=pix_fmt,
        bit_depth=_bit_depth(told, pix_fmt),
        rotation=turn,
        sar=_fraction(str(told.get("sample_aspect_ratio", "1:1")).replace(":", "/")) or Fraction(1),
        field_order=_known(told.get("field_order")),
        still=still,
        **colour,
    )


def _audio_info(told: Mapping[str, Any], container_seconds: float) -> AudioInfo:
    return AudioInfo(
        index=int(told["index"]),
        codec=str(told.get("codec_name", "unknown")),
        sample_rate=int(_number(told.get("sample_rate"))),
        channels=int(_number(told.get("channels"))),
        seconds=_number(told.get("duration")) or container_seconds,
        start=_number(told.get("start_time")),
        bit_rate=int(_number(told.get("bit_rate"))),
    )


def _check_size(width: int, height: int, name: str) -> None:
    if not width or not height:
        raise InputError(
            f"No frame of {name} can be read: it is damaged, or cut off at its beginning.",
            reason="undecodable",
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"The picture of {name} is {width}x{height} pixels; each side must have at least {MIN_SIDE}.",
            reason="bad_size",
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"The picture of {name} is {width}x{height} pixels; at most {MAX_SIDE} per side and "
            f"{MAX_PIXELS // 1_000_000} million in total can be encoded.",
            reason="bad_size",
        )


def _rotation(told: Mapping[str, Any]) -> int:
    for data in told.get("side_data_list", ()):
        if "rotation" in data:
            return round(_number(data["rotation"]) / 90) * 90 % 360
    return 0


def _bit_depth(told: Mapping[str, Any], pix_fmt: str) -> int:
    raw = int(_number(told.get("bits_per_raw_sample")))
    if raw:
        return raw
    return next((depth for depth in (9, 10, 12, 14, 16) if f"p{depth}" in pix_fmt), 8)


def _try_audio(path: Path, name: str, settings: Settings, media: Media) -> None:
    if media.audio is None:
        raise InputError(f"{name} contains no sound.", reason="no_audio")
    if 0 < media.audio.sample_rate < _LEAST_RATE:
        told = f"has {media.audio.sample_rate} samples per second"
        raise InputError(f"The sound of {name} {told}; speech needs at least {_LEAST_RATE}.", reason="undecodable")
    if media.audio.channels > _MOST_CHANNELS:
        told = f"has {media.audio.channels} channels; at most {_MOST_CHANNELS} can be mixed"
        raise InputError(f"The sound of {name} {told}.  Please export it in mono or stereo.", reason="undecodable")
    argv = [*FFMPEG, *input_argv(path), "-map", f"0:{media.audio.index}"]
    argv += ["-af", media.audio.mix] if media.audio.mix else []
    argv += ["-frames:a", str(_TRIAL_FRAMES), "-ac", "1", "-ar", "8000", "-f", "s16le", "pipe:1"]
    done = run(argv, limits=UNTRUSTED, stall=settings.media_seconds)
    if not done.stdout and done.code == 0:
        raise InputError(f"The sound of {name} has zero length.", reason="empty_audio", detail=done.stderr)
    if not done.stdout:
        raise InputError(
            f"The sound of {name} ({media.audio.codec}) cannot be decoded.",
            detail=done.stderr,
            reason="undecodable",
        )


def _try_video(path: Path, name: str, settings: Settings, media: Media) -> VideoInfo:
    """The picture stream, of which one picture decodes, with the order of its fields."""
    info = media.video
    if info is None:
        what = "only sound" if media.audio else "neither picture nor sound"
        raise InputError(f"{name} contains no picture, {what}; a video is needed.", reason="no_video")
    source = [*input_argv(path, info), "-map", f"0:{info.index}"]
    shown: list[str] = []

    def hear(line: str) -> bool:
        told = "[Parsed_showinfo" in line
        if told:
            shown.append(line)
        return told or "[info]" in line

    argv = [*FFMPEG[:-1], "repeat+level+info", *source, "-frames:v", "1"]
    argv += ["-vf", "showinfo=checksum=0,scale=16:16,format=gray", "-f", "rawvideo", "pipe:1"]
    done = run(argv, limits=UNTRUSTED, stall=settings.media_seconds, on_line=hear)
    if not done.stdout:
        raise InputError(
            f"No frame of {name} ({info.codec}) can be decoded: it is damaged, cut off or protected.",
            detail=done.stderr,
            reason="undecodable",
        )
    flag = None if info.still else flagged("\n".join(shown), info.field_order)
    return replace(info, fields=order_of_fields(source, flag, settings)) if flag else info


def _number(told: Any) -> float:
    """What ffprobe wrote as a number, 0 where it wrote none or ``N/A``."""
    try:
        return float(told)
    except (TypeError, ValueError):
        return 0.0


def _fraction(told: Any) -> Fraction:
    try:
        return Fraction(str(told))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)


def _known(told: Any) -> str | None:
    return None if told in (None, "", "unknown", "unspecified", "reserved") else str(told)
