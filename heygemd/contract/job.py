"""What the renderer is asked to make: one frozen ``Task`` with its ``Settings``.  Imports nothing heavy.

``config.render_settings`` builds the settings, ``to_json`` and ``from_json`` carry them to the child process.  Nothing
in ``pipeline/`` reads the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Protocol

from heygemd.contract import wire


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """The engine ``command``."""

    argv: tuple[str, ...] = field(default=(), metadata={"log": "command"})  # with {audio} {video} {output}
    seconds: float = 3600.0  # deadline


@dataclass(frozen=True, slots=True)
class Wav2LipSettings:
    """The engine ``wav2lip``."""

    model: str = ""  # name of an imported checkpoint; empty: the one imported last
    av_offset_ms: float = field(default=0.0, metadata={"log": "av_offset_ms"})  # more moves the mouth later
    sharpen: float = field(default=1.0, metadata={"log": "sharpen"})  # share of the template's sharpness to restore
    batch: int = field(default=0, metadata={"log": "batch"})  # frames at a time; 0 = chosen for the device


@dataclass(frozen=True, slots=True)
class DuixSettings:
    """The engine ``duix``."""

    url: str = "http://127.0.0.1:8383"  # of the Duix.Avatar container
    shared: str = ""  # the folder that the container has as /code/data
    part_seconds: float = 60.0  # longest part of a film that the container is sent
    seconds: float = 900.0  # deadline of one part
    poll_seconds: float = 2.0  # between two queries


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """Words over the picture."""

    when: str = field(default="off", metadata={"log": "label"})  # off | start | always
    text: str = "AI generated"
    position: str = "top-left"  # one of request.LABEL_POSITIONS
    seconds: float = 4.0  # of a label at the start
    percent: float = 5.0  # least height of its capitals, of the picture's shorter side
    font: str = ""  # a font file; empty: the one in the package


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A film beyond one of these is fair, twice as far from the ideal it is poor."""

    offset_ms: float = 75.0  # between mouth and sound
    articulation: float = 0.5  # movement of the lips against the template's own
    sharpness: float = 0.8  # of the mouth against the template's
    held_percent: float = 3.0  # of frames that repeat the one before
    passed_percent: float = 15.0  # of frames left as the template has them


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
    cache_days: float = 30.0  # entries unused for longer are removed
    segment_seconds: float = 30.0  # of film; a death costs at most the segment that was being made
    finder: str = "auto"  # auto | haar | insightface: the face detector; auto takes an imported model
    models_dir: str = ""  # the operator's imported models (heygemd.models.Store)
    media_seconds: float = 600.0  # an ffmpeg child is killed after this long without any output
    mark: str = "on"  # on | off: metadata that says that a machine made the film
    producer: str = ""  # who answers for it, as the mark names them
    language: str = "en"  # en | zh: of the report's page
    report: str = "on"  # on | off: whether the finished film is measured
    report_seconds: float = 30.0  # length of film to measure, at most; 0: all of it
    thresholds: Thresholds = field(default=Thresholds(), metadata={"log": "report"})
    label: LabelSettings = LabelSettings()
    command: CommandSettings = CommandSettings()
    wav2lip: Wav2LipSettings = Wav2LipSettings()
    duix: DuixSettings = DuixSettings()

    def to_json(self) -> dict[str, object]:
        """Plain values; ``from_json`` reads them back equal."""
        return wire.table(self)

    @staticmethod
    def from_json(data: object) -> Settings:
        """The inverse of ``to_json``.  Absent keys take their defaults; raises ``wire.NotUnderstood``."""
        return wire.build(Settings, data, "settings")

    def flat(self) -> dict[str, object]:
        """Plain values in one level, under the names that film logs have; hashes of settings are made of these.

        A group's values are called ``group_name``, unless ``metadata`` gives another name.
        """
        values: dict[str, object] = {}
        for own in fields(self):
            value = getattr(self, own.name)
            if not is_dataclass(value):
                values[own.name] = wire.plain(value)
                continue
            group = own.metadata.get("log", own.name)
            for part in fields(value):
                values[part.metadata.get("log", f"{group}_{part.name}")] = wire.plain(getattr(value, part.name))
        return values


@dataclass(frozen=True, slots=True)
class Probed:
    """What both inputs are; the renderer alone reads ``audio`` and ``video`` (``media.read.probe.exact``)."""

    audio: Mapping[str, object]
    video: Mapping[str, object]
    frame: tuple[int, int]  # width and height of the template's frames, px


@dataclass(frozen=True, slots=True)
class Task:
    """One film to be made from two staged files; the result is ``work / "film.mp4"``."""

    audio: Path  # staged local copies under names of our own
    video: Path
    work: Path  # an existing private folder
    audio_name: str  # what the user called them, for messages
    video_name: str
    settings: Settings = Settings()
    probed: Probed | None = None  # the reply to a ``LookRequest`` about both files

    def to_json(self) -> dict[str, object]:
        """Plain values; ``from_json`` reads them back equal."""
        return wire.table(self)

    @staticmethod
    def from_json(data: object) -> Task:
        """The inverse of ``to_json``.  Raises ``wire.NotUnderstood``."""
        return wire.build(Task, data, "job")


class Tell(Protocol):
    """Progress reports of the pipeline; the child writes them to the daemon as JSON lines."""

    def progress(self, stage: str, frame: int, of: int) -> None:
        """Report that ``frame`` of ``of`` frames of ``stage`` are done (0 of 0 if a stage cannot count)."""

    def event(self, name: str, level: str = "info", **fields: object) -> None:
        """Something worth a line in the job's log: a snake_case name and values that JSON can hold, or numpy's."""


class Quiet:
    """A ``Tell`` without output."""

    def progress(self, stage: str, frame: int, of: int) -> None:
        """Say nothing."""

    def event(self, name: str, level: str = "info", **fields: object) -> None:
        """Say nothing."""
