"""Requests and messages between the daemon and the renderer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
from heygemd.contract import renderer, wire
from heygemd.contract.job import CommandSettings, LabelSettings, Probed, Settings, Task
from heygemd.contract.renderer import (
    DoneMessage,
    EventMessage,
    FailedMessage,
    LookRequest,
    Message,
    NamedFile,
    PingRequest,
    PlanRequest,
    ProbeRequest,
    ProgressMessage,
    RenderRequest,
    ReportRequest,
    Request,
    SheetRequest,
    WarmRequest,
)

SETTINGS = Settings(
    engine="command", command=CommandSettings(("run", "{audio}"), 5.0), label=LabelSettings("always", text="标识")
)
TASK = Task(Path("/w/a.wav"), Path("/w/v.mp4"), Path("/w"), "教程.wav", "é.mp4", SETTINGS)
FILE = NamedFile(Path("/w/a.wav"), "教程.wav")
REQUESTS: list[Request[object]] = [
    RenderRequest(TASK),
    PlanRequest(Task(*(Path(name) for name in "avw"), "a", "v", Settings(), Probed({"x": 1}, {}, (640, 480)))),
    LookRequest(FILE, NamedFile(Path("v"), "v"), SETTINGS),
    ProbeRequest(Path("v"), "v", "still"),
    SheetRequest("b", "a", "o", crop=(1, 2, 3, 4)),
    ReportRequest(Path("f"), SETTINGS, video=Path("v")),
    WarmRequest("footage"),
    PingRequest(),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.task)
def test_a_request_travels_unchanged(request_: Request[object]) -> None:
    line = renderer.encode_request("7", request_)
    data = json.loads(line)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and data["id"] == "7"
    assert renderer.decode_request(data) == request_


def test_every_request_has_a_case_here() -> None:
    assert {request.task for request in REQUESTS} == set(renderer.REQUESTS)


def test_an_unknown_task_and_an_unknown_key_are_refused() -> None:
    with pytest.raises(EngineError, match="knows no task 'dance'"):
        renderer.decode_request({"id": "1", "task": "dance"})
    with pytest.raises(wire.NotUnderstood, match=r"asked for warm wrongly: engin is unknown"):
        renderer.decode_request({"id": "1", "task": "warm", "engin": "footage"})


@pytest.mark.parametrize(
    "message",
    [
        ProgressMessage("render", 3, 9, 24.5, 0.2),
        ProgressMessage("join", again=True),
        EventMessage("segments_kept", "warning", {"segments": 2, "of": [1, None], "text": "é\n"}),
        DoneMessage({"film": "/w/film.mp4"}),
        DoneMessage(None),
        FailedMessage("input", "no_face", "No face.", "detail"),
    ],
)
def test_a_message_travels_unchanged(message: Message) -> None:
    line = renderer.encode_message("7", message)
    assert line.endswith("\n") and line.count("\n") == 1 and line.isascii()
    assert renderer.decode_message(line.encode()) == ("7", message)


def test_an_event_cannot_pass_for_another_message() -> None:
    line = renderer.encode_message("7", EventMessage("it", "info", {"id": "8", "type": "done", "level": "x"}))
    assert renderer.decode_message(line.encode()) == ("7", EventMessage("it", "info", {}))


@pytest.mark.parametrize(
    "line", [b"", b"a stray print\n", b"[1]\n", b'{"type": "dance"}\n', b'{"id": "1", "type": "progress"}\n', b"\xff\n"]
)
def test_a_line_that_is_no_message_is_none(line: bytes) -> None:
    assert renderer.decode_message(line) is None


@pytest.mark.parametrize(
    "error",
    [
        InputError("No face.", detail="d", reason="no_face"),
        *(kind("m", detail="d") for kind in (EngineError, GpuMemoryError, EngineAway)),
        *(kind("m", detail="d") for kind in (WorkerDied, SetupError, Cancelled)),
    ],
    ids=lambda error: error.code,
)
def test_an_error_arrives_as_what_it_was(error: HeygemdError) -> None:
    again = FailedMessage.of(error).error()
    assert type(again) is type(error)
    assert (again.message, again.detail) == (error.message, error.detail)
    assert getattr(again, "reason", None) == getattr(error, "reason", None)


def test_an_error_of_no_known_kind_is_an_engine_error() -> None:
    assert type(FailedMessage("dance", message="m").error()) is EngineError
    assert type(FailedMessage.of(wire.NotUnderstood("m")).error()) is EngineError


def test_a_result_of_another_form_is_refused() -> None:
    with pytest.raises(wire.NotUnderstood, match=r"result\.engine is missing"):
        RenderRequest(TASK).reply({"film": "/w/film.mp4"})
    with pytest.raises(wire.NotUnderstood, match=r"result\.planned must be bool"):
        PlanRequest(TASK).reply({"planned": "yes"})
