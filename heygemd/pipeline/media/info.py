"""What a media file is: its container, the picture stream and the sound stream that would be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction

from heygemd.pipeline.media.json_fields import Json, exactly, number, or_none

Plain = str | int | float | bool | None
"""A value in JSON that is neither list nor object."""
_PLACED_CHANNELS = 8  # for more, ffmpeg may not know how to mix them


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

    def to_json(self) -> dict[str, Plain]:
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

    def to_json(self) -> dict[str, Plain]:
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

    def to_json(self) -> dict[str, object]:
        """For the log."""
        return {
            "container": self.container,
            "seconds": round(self.seconds, 3),
            "video": self.video.to_json() if self.video else None,
            "audio": self.audio.to_json() if self.audio else None,
        }


def exact(media: Media) -> dict[str, object]:
    """All of it as plain data; ``from_exact`` reads it back equal."""
    parts = {name: part.to_json() if part else None for name, part in (("video", media.video), ("audio", media.audio))}
    return {"container": media.container, "seconds": media.seconds, "start": media.start, **parts}


def from_exact(data: Json) -> Media:
    """The inverse of ``exact``.  Raises ``ValueError`` where a field is missing or of another type."""
    video, audio = data["video"], data["audio"]
    return Media(
        container=exactly(str, data, "container"),
        seconds=number(data["seconds"]),
        start=number(data["start"]),
        video=_video(video) if isinstance(video, dict) else None,
        audio=_audio(audio) if isinstance(audio, dict) else None,
    )


def _video(data: Json) -> VideoInfo:
    return VideoInfo(
        index=exactly(int, data, "index"),
        width=exactly(int, data, "width"),
        height=exactly(int, data, "height"),
        fps=Fraction(exactly(str, data, "fps")),
        native_fps=Fraction(exactly(str, data, "native_fps")),
        vfr=exactly(bool, data, "vfr"),
        frames=exactly(int, data, "frames"),
        seconds=number(data["seconds"]),
        start=number(data["start"]),
        codec=exactly(str, data, "codec"),
        pix_fmt=exactly(str, data, "pix_fmt"),
        bit_depth=exactly(int, data, "bit_depth"),
        rotation=exactly(int, data, "rotation"),
        sar=Fraction(exactly(str, data, "sar")),
        color_range=or_none(str, data, "color_range"),
        color_space=or_none(str, data, "color_space"),
        color_primaries=or_none(str, data, "color_primaries"),
        color_transfer=or_none(str, data, "color_transfer"),
        field_order=or_none(str, data, "field_order"),
        still=or_none(str, data, "still"),
        fields=or_none(str, data, "fields"),
    )


def _audio(data: Json) -> AudioInfo:
    return AudioInfo(
        index=exactly(int, data, "index"),
        codec=exactly(str, data, "codec"),
        sample_rate=exactly(int, data, "sample_rate"),
        channels=exactly(int, data, "channels"),
        seconds=number(data["seconds"]),
        start=number(data["start"]),
        bit_rate=exactly(int, data, "bit_rate"),
    )


def _plain(value: Plain | Fraction) -> Plain:
    return f"{value.numerator}/{value.denominator}" if isinstance(value, Fraction) else value
