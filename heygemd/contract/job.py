"""What the child process is told: one frozen ``Task`` with its ``Settings``.  Imports nothing heavy.

The daemon writes it with ``to_json``; the child reads it with ``from_json``.  Nothing in ``pipeline/``
reads the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Settings:
    """How one film is to be made; the defaults are those of the configuration."""

    engine: str = "footage"  # footage | wav2lip | duix | command
    crf: int = 18  # constant quality of the one video encode, 0 (lossless) to 51
    preset: str = "veryfast"  # x264's name for the trade of speed against size
    ears: str = "whisper"  # whisper | own: what turns sound into mouth shapes
    encoder: str = "auto"  # auto | libx264 | h264_nvenc; auto takes NVENC where a trial encode works
    extend: str = "bounce"  # bounce | loop | hold: what a template does that is shorter than the sound
    face: str = "largest"  # largest | left | right | center: which face speaks
    threads: int = 0  # of each ffmpeg child and of the network; 0 = all cores
    device: str = "auto"  # auto | cpu | cuda
    min_eye_px: float = 40.0  # eye distance in pixels below which a face is refused
    cache_dir: str = ""  # where the analysis of templates is kept; empty: nowhere
    cache_mib: int = 2048  # at most; 0: nothing is kept
    cache_days: float = 30.0  # what was last used longer ago is forgotten
    command: tuple[str, ...] = ()  # argv of the command engine with {audio} {video} {output}
    command_seconds: float = 3600.0  # deadline of the command engine
    duix_url: str = "http://127.0.0.1:8383"  # of the Duix.Avatar container
    duix_shared: str = ""  # the folder that it has as /code/data
    duix_part_seconds: float = 60.0  # of film that it is asked for at a time, at most
    duix_seconds: float = 900.0  # deadline of one part
    duix_poll_seconds: float = 2.0  # between two questions
    segment_seconds: float = 30.0  # of film; a death costs at most the segment that was being made
    finder: str = "auto"  # auto | haar | insightface: what looks for faces; auto takes an imported model
    models_dir: str = ""  # the operator's imported models (heygemd.models.Store)
    wav2lip_model: str = ""  # which of them; empty: the one imported last
    av_offset_ms: float = 0.0  # of wav2lip: more moves the mouth later
    sharpen: float = 1.0  # of wav2lip: share of the template's sharpness that mouths are brought to
    batch: int = 0  # of wav2lip: frames at a time; 0 = what suits the device
    mark: str = "on"  # on | off: metadata that says that a machine made the film
    producer: str = ""  # who answers for it, as the mark names them
    label: str = "off"  # off | start | always: words over the picture
    label_text: str = "AI generated"
    label_position: str = "top-left"  # one of requests.LABEL_POSITIONS
    label_seconds: float = 4.0  # of a label at the start
    label_percent: float = 5.0  # of the picture's shorter side: how high its capitals are at least
    label_font: str = ""  # empty: ours
    language: str = "en"  # en | zh: of the report's page
    report: str = "on"  # on | off: whether the finished film is measured
    report_seconds: float = 30.0  # of film that are looked at, at most; 0: all of it
    report_offset_ms: float = 75.0  # these are thresholds: beyond one the film is fair, twice as far it is poor
    report_articulation: float = 0.5  # movement of the lips against the template's own
    report_sharpness: float = 0.8  # of the mouth against the template's
    report_held_percent: float = 3.0  # of pictures that repeat the one before
    report_passed_percent: float = 15.0  # of frames left as the template has them
    media_seconds: float = 600.0  # an ffmpeg child is killed after this long without any output

    def to_json(self) -> dict[str, Any]:
        """A plain dict; ``from_json`` reads it back equal."""
        return asdict(self) | {"command": list(self.command)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Settings:
        """The inverse of ``to_json``.  Absent keys take their defaults; an unknown key is a ``TypeError``."""
        values = dict(data)
        if "command" in values:
            values["command"] = tuple(values["command"])
        return Settings(**values)


@dataclass(frozen=True, slots=True)
class Task:
    """One film to be made from two staged files; the result is ``work / "film.mp4"``."""

    audio: Path  # staged local copies under names of our own
    video: Path
    work: Path  # an existing private folder
    audio_name: str  # what the user called them, for messages
    video_name: str
    settings: Settings = field(default_factory=Settings)
    probed: Mapping[str, Any] | None = None  # what the child's task ``look`` said of both files

    def to_json(self) -> dict[str, Any]:
        """A plain dict of strings and numbers; ``from_json`` reads it back equal."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        paths = {name: str(values[name]) for name in ("audio", "video", "work")}
        return values | paths | {"settings": self.settings.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Task:
        """The inverse of ``to_json``."""
        return Task(
            audio=Path(data["audio"]),
            video=Path(data["video"]),
            work=Path(data["work"]),
            audio_name=data["audio_name"],
            video_name=data["video_name"],
            settings=Settings.from_json(data["settings"]),
            probed=data.get("probed"),
        )


class Tell(Protocol):
    """How the pipeline says what it is doing; the child writes it to the daemon as JSON lines."""

    def progress(self, stage: str, frame: int, of: int) -> None:
        """``frame`` of ``of`` frames of ``stage`` are done (0 of 0 where a stage cannot count)."""

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """Something worth a line in the job's log: a snake_case name and JSON values."""


class Quiet:
    """A ``Tell`` that says nothing."""

    def progress(self, stage: str, frame: int, of: int) -> None:
        """Say nothing."""

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """Say nothing."""
