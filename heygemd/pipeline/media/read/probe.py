"""What a media file is, found out by ffprobe and a short trial decode, or one sentence why it cannot be
used."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from heygemd.common.errors import InputError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import DEMUXERS, FFMPEG, UNTRUSTED, Done, run
from heygemd.pipeline.media.info import AudioInfo, Media, VideoInfo
from heygemd.pipeline.media.json_fields import Json, fraction, json_object, member, members, number, words
from heygemd.pipeline.media.read.interlace import flagged, order_of_fields
from heygemd.pipeline.media.read.rates import frame_rate
from heygemd.pipeline.media.read.stills import still_demuxer, turn_of

Want = Literal["audio", "video", "still"]

MIN_SIDE, MAX_SIDE = 16, 16384  # pixels; H.264 itself ends at 16384
MAX_PIXELS = 8192 * 8192  # of one picture, so that a frame stays below 100 MB
RULES = ("-protocol_whitelist", "file,pipe", "-format_whitelist", DEMUXERS)
_COLOUR_KEYS = ("color_range", "color_space", "color_primaries", "color_transfer")
_LEAST_RATE = 1000  # Hz; a second of a file that says 1 Hz would become hours
_MOST_CHANNELS = 64  # where ffmpeg's pan ends
_TRIAL_FRAMES = 50  # codec frames of sound that are decoded to see that it can be decoded at all


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
    ffprobe_output = json_object(done.stdout)
    streams, container = members(ffprobe_output, "streams"), member(ffprobe_output, "format")
    start = number(container.get("start_time"))
    seconds = number(container.get("duration"))
    video = _pick(streams, "video")
    audio = _pick(streams, "audio")
    return Media(
        container=str(container.get("format_name", "unknown")),
        seconds=seconds,
        start=start,
        video=_video_info(video, name, seconds, path, still) if video else None,
        audio=_audio_info(audio, seconds) if audio else None,
    )


def _unreadable(path: Path, name: str, done: Done) -> InputError:
    stderr = done.stderr
    with path.open("rb") as file:
        box = file.read(8)[4:]  # ffmpeg misses the moov of any text that is called .mp4
    if "moov atom not found" in stderr and box in (b"ftyp", b"mdat", b"free", b"wide", b"skip"):
        return InputError(
            f"{name} is cut off: the index at the end of an MP4 file (moov) is missing.  The copy or the "
            "recording was interrupted; please copy or export it again.",
            detail=stderr,
            reason="truncated",
        )
    return InputError(
        f"{name} is not a supported video or audio file, whatever its name.",
        detail=stderr,
        reason="not_media",
    )


def _pick(streams: list[Json], kind: str) -> Json | None:
    """The stream a player would take: the one marked default, else the first; cover pictures do not count."""
    fit = [s for s in streams if s.get("codec_type") == kind and not member(s, "disposition").get("attached_pic")]
    marked = [s for s in fit if member(s, "disposition").get("default")]
    return next(iter(marked or fit), None)


def _video_info(stream: Json, name: str, container_seconds: float, path: Path, still: str | None) -> VideoInfo:
    width, height = int(number(stream.get("width"))), int(number(stream.get("height")))
    _check_size(width, height, name)
    turn = turn_of(path, still).rotation if still else _rotation(stream)
    if turn in (90, 270):
        width, height = height, width
    rate = frame_rate(stream) if not still else (Fraction(25), False)
    if rate is None:
        raise InputError(f"{name} has no frame rate.", reason="bad_rate")
    fps, vfr = rate
    seconds = float(1 / fps) if still else number(stream.get("duration")) or container_seconds
    colour = {key: words(stream.get(key)) for key in _COLOUR_KEYS}
    pix_fmt = str(stream.get("pix_fmt", "unknown"))
    if pix_fmt.startswith("yuvj"):
        colour["color_range"] = "pc"
    return VideoInfo(
        index=int(number(stream["index"])),
        width=width,
        height=height,
        fps=fps,
        native_fps=fraction(stream.get("avg_frame_rate")),
        vfr=vfr,
        frames=max(1, round(seconds * fps)),
        seconds=seconds,
        start=number(stream.get("start_time")),
        codec=str(stream.get("codec_name", "unknown")),
        pix_fmt=pix_fmt,
        bit_depth=_bit_depth(stream, pix_fmt),
        rotation=turn,
        sar=fraction(str(stream.get("sample_aspect_ratio", "1:1")).replace(":", "/")) or Fraction(1),
        field_order=words(stream.get("field_order")),
        still=still,
        **colour,
    )


def _audio_info(stream: Json, container_seconds: float) -> AudioInfo:
    return AudioInfo(
        index=int(number(stream["index"])),
        codec=str(stream.get("codec_name", "unknown")),
        sample_rate=int(number(stream.get("sample_rate"))),
        channels=int(number(stream.get("channels"))),
        seconds=number(stream.get("duration")) or container_seconds,
        start=number(stream.get("start_time")),
        bit_rate=int(number(stream.get("bit_rate"))),
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


def _rotation(stream: Json) -> int:
    for data in members(stream, "side_data_list"):
        if "rotation" in data:
            return round(number(data["rotation"]) / 90) * 90 % 360
    return 0


def _bit_depth(stream: Json, pix_fmt: str) -> int:
    raw = int(number(stream.get("bits_per_raw_sample")))
    if raw:
        return raw
    return next((depth for depth in (9, 10, 12, 14, 16) if f"p{depth}" in pix_fmt), 8)


def _try_audio(path: Path, name: str, settings: Settings, media: Media) -> None:
    if media.audio is None:
        raise InputError(f"{name} contains no sound.", reason="no_audio")
    if 0 < media.audio.sample_rate < _LEAST_RATE:
        fault = f"has {media.audio.sample_rate} samples per second"
        raise InputError(f"The sound of {name} {fault}; speech needs at least {_LEAST_RATE}.", reason="undecodable")
    if media.audio.channels > _MOST_CHANNELS:
        fault = f"has {media.audio.channels} channels; at most {_MOST_CHANNELS} can be mixed"
        raise InputError(f"The sound of {name} {fault}.  Please export it in mono or stereo.", reason="undecodable")
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
        is_showinfo = "[Parsed_showinfo" in line
        if is_showinfo:
            shown.append(line)
        return is_showinfo or "[info]" in line

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
