"""What is measured of a finished film, as the film log, ``heygemd report`` and the report's page have it.

Milliseconds, seconds, percent, decibels; ``io`` is the distance between the eyes.  ``None``: it could not be told.
A group without keys was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from heygemd.common.messages import ExplainedReason, MessageReason


class Closures(TypedDict):
    """Closed lips (p, b, m) of the sound, and the share of them that is seen, and would be by chance."""

    heard: int
    seen: float | None
    by_chance: float | None


class Movement(TypedDict):
    """How much the mouth moves; see ``quality.sync.movement``."""

    speech_seconds: float
    speech_sd_io: float | None
    silence_seconds: float
    silence_movement: float | None  # speech = 1


class SyncFigures(TypedDict, total=False):
    """Mouth against sound; more is later."""

    offset_ms: int | None
    confidence: str  # high | low | none
    r: float | None
    chance_r: float | None
    z: float | None
    second_offset_ms: int  # by the own network, where another drove the film
    second_confidence: str
    second_r: float
    speech_seconds: float
    speech_sd_io: float | None
    silence_seconds: float
    silence_movement: float | None
    closures: Closures
    template_sd_io: float | None
    articulation: float | None  # template = 1
    av_offset_ms: int  # the value of [wav2lip] that would make the offset 0


class PictureFigures(TypedDict, total=False):
    """Frames of the film against the template's."""

    sharpness: float | None  # template = 1
    seam: float | None  # template = 1
    outside_db: float | None
    identity: float | None  # 1: the same face
    held_percent: float
    held: list[list[int]]  # first and last frame of each run
    jumps_per_minute: float
    jitter_io: float | None
    passed_percent: float


class StructureFigures(TypedDict, total=False):
    """The file itself."""

    frames: int
    fps: str  # "25/1"
    picture_seconds: float
    sound_seconds: float | None
    variable_rate: bool
    mark: Mapping[str, str] | None  # as the file carries it
    label: bool | None  # whether it is seen; None: there should be none


class SoundFigures(TypedDict, total=False):
    """The film's sound against the given one."""

    r: float | None
    offset_ms: int | None


class Measured(TypedDict):
    """The frames that the figures are of."""

    frames: int
    of: int
    ranges: list[list[int]]  # first and last frame of each stretch


class Graded(TypedDict, total=False):
    """Everything that is measured, with the grade.  A film that could not be measured has no groups of figures."""

    grade: str | None  # good | fair | poor; None: the film could not be measured
    problem: str  # why it could not
    measured: Measured
    structure: StructureFigures
    sound: SoundFigures
    sync: SyncFigures
    picture: PictureFigures
    cpu_seconds: float  # what measuring took


class Figures(Graded, total=False):
    """What a measurement gives."""

    reasons: list[MessageReason]


class Report(Graded, total=False):
    """``Figures`` with their reasons in words, as the film log has them."""

    reasons: list[ExplainedReason]


class PagedReport(Report, total=False):
    """With the text of the report's page."""

    page: str
