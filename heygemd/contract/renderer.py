"""What the daemon's side and the renderer say to each other: one JSON object a line, both ways.

    parent -> child    {"id", "task", …}: one of ``REQUESTS``, done one after the other
    child -> parent    any number of {"id", "type": "progress", …} and {"id", "type": "event", "level", "event", …},
                       then {"id", "type": "done", "result"} or {"id", "type": "failed", "error"}

``scheduler/worker.py`` is the parent's half, ``pipeline/__main__.py`` the child's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypedDict, TypeVar

from heygemd.common.errors import (
    Cancelled,
    EngineAway,
    EngineError,
    GpuMemoryError,
    HeygemdError,
    InputError,
    SetupError,
    WorkerDied,
)
from heygemd.contract import wire
from heygemd.contract.figures import PagedReport
from heygemd.contract.film_facts import FilmFacts
from heygemd.contract.job import Probed, Settings, Task

Reply = TypeVar("Reply", covariant=True)

# ---------------------------------------------------------------- replies


class PlanReply(TypedDict):
    """Whether a render will find its plan."""

    planned: bool


class Moment(TypedDict):
    """One column of a before/after sheet."""

    seconds: float
    frame: int
    template_frame: int


class SheetReply(TypedDict):
    """A before/after sheet; ``region``: x, y, width, height of the enlarged place, px."""

    sheet: str
    region: list[int] | None
    moments: list[Moment]


class PingReply(TypedDict):
    """The child's process."""

    pid: int


# ---------------------------------------------------------------- requests


class Request(Generic[Reply]):
    """A task for the child.  Subclasses are frozen dataclasses; ``task`` is their name on the wire."""

    task: ClassVar[str]

    def reply(self, data: object) -> Reply:
        """The child's result, checked.  Raises ``wire.NotUnderstood``."""
        raise NotImplementedError


@dataclass(frozen=True)
class RenderRequest(Request[FilmFacts]):
    """Make a film."""

    task = "render"
    job: Task

    def reply(self, data: object) -> FilmFacts:
        """See ``Request``."""
        return wire.checked(FilmFacts, data, "result", whole=True)


@dataclass(frozen=True)
class PlanRequest(Request[PlanReply]):
    """Make a film's plan ahead of its render."""

    task = "plan"
    job: Task

    def reply(self, data: object) -> PlanReply:
        """See ``Request``."""
        return wire.checked(PlanReply, data, "result")


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, and what the user called it."""

    path: Path
    name: str


@dataclass(frozen=True)
class LookRequest(Request[Probed]):
    """Probe both inputs of a film."""

    task = "look"
    audio: NamedFile
    video: NamedFile
    settings: Settings

    def reply(self, data: object) -> Probed:
        """See ``Request``."""
        return wire.build(Probed, data, "result")


@dataclass(frozen=True)
class ProbeRequest(Request[Mapping[str, object]]):
    """Probe one file; the reply is that of ``Media.to_json``."""

    task = "probe"
    path: Path
    name: str
    kind: Literal["audio", "video", "still"]
    settings: Settings = field(default_factory=Settings)

    def reply(self, data: object) -> Mapping[str, object]:
        """See ``Request``."""
        return wire.mapping(data, "result")


@dataclass(frozen=True)
class SheetRequest(Request[SheetReply]):
    """Draw a before/after sheet; see ``pipeline.sheet.make``."""

    task = "sheet"
    before: str
    after: str
    out: str
    columns: int = 8
    crop: tuple[int, int, int, int] | None = None
    extend: str = "bounce"

    def reply(self, data: object) -> SheetReply:
        """See ``Request``."""
        return wire.checked(SheetReply, data, "result")


@dataclass(frozen=True)
class ReportRequest(Request[PagedReport]):
    """Measure any film; ``video`` and ``audio``: what it was made from, where that is known."""

    task = "report"
    film: Path
    settings: Settings
    video: Path | None = None
    audio: Path | None = None

    def reply(self, data: object) -> PagedReport:
        """See ``Request``."""
        return wire.checked(PagedReport, data, "result")


@dataclass(frozen=True)
class WarmRequest(Request[None]):
    """Load what a film by this engine takes."""

    task = "warm"
    engine: str

    def reply(self, data: object) -> None:
        """See ``Request``."""


@dataclass(frozen=True)
class PingRequest(Request[PingReply]):
    """Answer."""

    task = "ping"

    def reply(self, data: object) -> PingReply:
        """See ``Request``."""
        return wire.checked(PingReply, data, "result")


REQUESTS: dict[str, type[Request[object]]] = {
    kind.task: kind
    for kind in (
        RenderRequest, PlanRequest, LookRequest, ProbeRequest, SheetRequest, ReportRequest, WarmRequest, PingRequest,
    )
}  # fmt: skip


def encode_request(request_id: str, request: Request[object]) -> bytes:
    """One line for the child."""
    return json.dumps({"id": request_id, "task": request.task, **wire.table(request)}).encode() + b"\n"


def decode_request(data: Mapping[str, object]) -> Request[object]:
    """The request that a line of the parent's holds, without its ``id``.  Raises ``EngineError``."""
    kind = REQUESTS.get(str(data.get("task")))
    if kind is None:
        raise EngineError(f"The renderer knows no task {data.get('task')!r}.")
    try:
        return wire.build(kind, {key: value for key, value in data.items() if key not in ("id", "task")})
    except wire.NotUnderstood as error:
        raise wire.NotUnderstood(f"The renderer was asked for {kind.task} wrongly: {error.message}") from error


# ---------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class ProgressMessage:
    """``frame`` of ``of`` frames of ``stage`` are done (0 of 0 where a stage cannot count).

    ``fps`` frames a second; ``eta`` seconds, ``None`` while nothing can be said.  ``again``: the last message,
    repeated as a sign of life, so that two seconds never pass without any.
    """

    stage: str
    frame: int = 0
    of: int = 0
    fps: float = 0.0
    eta: float | None = None
    again: bool = False

    def to_json(self) -> dict[str, object]:
        """As the status shows it."""
        return {"stage": self.stage, "frame": self.frame, "of": self.of, "fps": self.fps, "eta": self.eta}


@dataclass(frozen=True, slots=True)
class EventMessage:
    """A line for the job's log; ``level`` is ``info`` or ``warning``."""

    name: str
    level: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DoneMessage:
    """The task's result, as the request's ``reply`` reads it."""

    result: object


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """The error that a task ended with: a ``HeygemdError`` of ``common.errors``."""

    code: str = "engine"
    reason: str = "input"
    message: str = ""
    detail: str = ""

    @staticmethod
    def of(error: HeygemdError) -> FailedMessage:
        """The error, to be sent."""
        return FailedMessage(error.code, str(getattr(error, "reason", error.code)), error.message, error.detail)

    def error(self) -> HeygemdError:
        """The same error, to be raised."""
        if self.code == "input":
            return InputError(self.message, detail=self.detail, reason=self.reason)
        return _ERRORS.get(self.code, EngineError)(self.message, detail=self.detail)


_ERRORS: dict[str, type[HeygemdError]] = {
    kind.code: kind for kind in (EngineError, GpuMemoryError, WorkerDied, SetupError, Cancelled, EngineAway)
}
Message = ProgressMessage | EventMessage | DoneMessage | FailedMessage
News = ProgressMessage | EventMessage
"""What comes before a task has ended."""


def encode_message(request_id: str, message: Message) -> str:
    """One line for the parent, ASCII, with its end."""
    match message:
        case ProgressMessage():
            again = {"again": True} if message.again else {}
            body = {"type": "progress", **message.to_json(), **again}
        case EventMessage():
            body = {**message.fields, "type": "event", "level": message.level, "event": message.name}
        case DoneMessage():
            body = {"type": "done", "result": message.result}
        case FailedMessage():
            body = {"type": "failed", "error": wire.table(message)}
    return json.dumps({**body, "id": request_id}, ensure_ascii=True, default=_plain) + "\n"


def _plain(value: object) -> object:
    """What ``json`` does not know: numpy's numbers and arrays, paths."""
    as_list = getattr(value, "tolist", None)
    if callable(as_list):
        return as_list()
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def decode_message(line: bytes) -> tuple[str, Message] | None:
    """The id of a request and what a line says of it; ``None`` for a line that is no message."""
    try:
        data = wire.mapping(json.loads(line), "message")
        return str(data.get("id", "")), _message(data)
    except (ValueError, wire.NotUnderstood):
        return None


def _message(data: Mapping[str, object]) -> Message:
    kind, rest = data.get("type"), {key: value for key, value in data.items() if key not in ("id", "type")}
    match kind:
        case "progress":
            return wire.build(ProgressMessage, rest)
        case "event":
            fields = {key: value for key, value in rest.items() if key not in ("level", "event")}
            return EventMessage(str(rest.get("event")), str(rest.get("level")), fields)
        case "done":
            return DoneMessage(rest.get("result"))
        case "failed":
            return wire.build(FailedMessage, rest.get("error"))
    raise wire.NotUnderstood(f"There is no message of type {kind!r}.")
