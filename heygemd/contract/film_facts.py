"""What the renderer reports of a finished film; the journal and the film log keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from heygemd.contract.figures import Report


class StageTime(TypedDict):
    """How long one stage took and how many frames it saw."""

    name: str
    seconds: float
    frames: int


class FilmWarning(TypedDict):
    """What the inputs could do better, or what had to be done to them."""

    code: str
    message: str


class PeakUse(TypedDict):
    """The most that a task took; ``vram_mib`` where CUDA was used."""

    ram_mib: int
    vram_mib: int | None


class EngineFacts(TypedDict, total=False):
    """Who drew the mouths; engines add facts of their own."""

    name: str
    renderer: str
    reasons: list[str]


class EncodeFacts(TypedDict, total=False):
    """How the video was encoded."""

    encoder: str
    crf: int
    preset: str


class OutputFacts(TypedDict, total=False):
    """What was measured on the finished film, and how it was written."""

    container: str
    frames: int
    fps: str  # "25/1"
    seconds: float
    width: int
    height: int
    codec: str
    pix_fmt: str
    sar: str
    color_range: str | None
    color_space: str | None
    color_primaries: str | None
    color_transfer: str | None
    audio: Mapping[str, object]
    encode: EncodeFacts
    mark: str | None  # the metadata's value
    label: Mapping[str, object] | None


class InputFacts(TypedDict, total=False):
    """What probing found, by input."""

    audio: Mapping[str, object]
    video: Mapping[str, object]


class FilmFacts(TypedDict, total=False):
    """Everything that the film log says of how its film was made.

    A renderer's reply has every key; the journal's records of older versions may lack some.
    """

    film: str  # path
    engine: EngineFacts
    face_finder: str | None
    stages: list[StageTime]
    warnings: list[FilmWarning]
    passed_through: list[list[int]]  # first and last output frame of each range left as the template has it
    quality: Report | None  # None: not asked for
    inputs: InputFacts
    output: OutputFacts
    verified: bool
    versions: Mapping[str, str]
    peak: PeakUse
