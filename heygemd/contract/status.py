"""The rows of ``heygemd status`` and ``heygemd jobs``: their types, their one maker and their one reader.

The daemon and, while it is down, the command line make a status with ``make``.  Whoever gets one as JSON reads it with
``read_status``: the daemon on the other side may be of another version, so a key that is missing or of another type
becomes empty and is never an error.  All times are ISO 8601 with their offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

Json = Mapping[str, object]
"""A JSON object of which nothing is known yet."""


class GradeReason(TypedDict):
    """The worst finding about a film: a code of ``messages`` and the numbers for its text."""

    code: str
    values: Json


class _HeldBack(TypedDict, total=False):
    holders: Sequence[str]
    deferred_kind: str
    deferred_values: Json


class JobRow(_HeldBack):
    """One job.  ``film`` is the output's name without its suffix; ``deferred_since`` and ``deferred_reason`` are set
    while the job must wait.  ``holders``, ``deferred_kind`` and ``deferred_values`` are there while this daemon's guard
    holds it back: who uses what it needs, a stable word, and the values of the reason in other languages."""

    id: str
    drop: str
    line: str
    name: str
    folder: str
    state: str
    priority: str
    engine: str | None
    attempts: int
    created: str
    started: str | None
    ended: str | None
    reason: str | None
    reason_code: str | None
    film: str | None
    grade: str | None
    held: bool
    has_page: bool
    grade_reason: GradeReason | None
    deferred_since: str | None
    deferred_reason: str | None


class Progress(TypedDict, total=False):
    """The renderer's last progress message: frame ``frame`` of ``of``, ``fps`` frames per second, ``eta`` seconds."""

    stage: str | None
    frame: int | None
    of: int | None
    fps: float | None
    eta: float | None


class RunningRow(JobRow, Progress):
    """The running job; it has no progress until the renderer's first message."""


class OrderRow(TypedDict):
    """An order given by a file in the inbox, and its answer: a code of ``messages`` with its values."""

    at: str
    order: str
    code: str
    values: Json


class LineRow(TypedDict):
    """One line; ``problem`` is a sentence while something is wrong, ``orders`` has the newest first."""

    name: str
    root: str
    inbox: str
    watch: str
    state: str
    problem: str | None
    paused: bool
    orders: Sequence[OrderRow]


class _Waiting(TypedDict):
    line: str
    path: str
    reason: str
    since: str


class WaitingRow(_Waiting, total=False):
    """A file of an inbox that no drop has taken yet; ``code`` and ``values`` say ``reason`` in other languages."""

    code: str
    values: Json


class DeviceRow(TypedDict):
    """Where an engine runs, and why."""

    device: str
    reason: str


class GpuRow(TypedDict):
    """A GPU as the guard last read it; ``utilisation`` in percent."""

    uuid: str
    name: str
    free_mib: int
    total_mib: int
    utilisation: int | None
    celsius: int | None
    holders: Sequence[str]


class GuardRow(TypedDict):
    """``devices`` by engine; ``kept_for`` is the job for which GPU memory is kept free."""

    devices: Mapping[str, DeviceRow]
    problem: str | None
    kept_for: str | None
    deferred: int
    gpus: Sequence[GpuRow]


class Status(TypedDict):
    """The whole reply.  Of a daemon that does not run, ``pid``, ``version``, ``started`` and ``guard`` are ``None``."""

    pid: int | None
    version: str | None
    started: str | None
    state: str
    lines: Sequence[LineRow]
    running: Sequence[RunningRow]
    queue: Sequence[JobRow]
    guard: GuardRow | None
    waiting: Sequence[WaitingRow]
    recent: Sequence[JobRow]
    counts: Mapping[str, int]


def make(
    *, lines: Sequence[LineRow], queue: Sequence[JobRow], recent: Sequence[JobRow], counts: Mapping[str, int],
    state: str = "stopped", pid: int | None = None, version: str | None = None, started: str | None = None,
    running: Sequence[RunningRow] = (), guard: GuardRow | None = None, waiting: Sequence[WaitingRow] = (),
) -> Status:  # fmt: skip
    """A status; without the optional values that of a daemon that does not run."""
    return {
        "pid": pid, "version": version, "started": started, "state": state, "lines": lines, "running": list(running),
        "queue": queue, "guard": guard, "waiting": list(waiting), "recent": recent, "counts": counts,
    }  # fmt: skip


def line_row(
    name: str, *, root: str = "", inbox: str = "", watch: str = "", state: str = "", problem: str | None = None,
    paused: bool = False, orders: Sequence[OrderRow] = (),
) -> LineRow:  # fmt: skip
    """A line; without the optional values one that no daemon watches."""
    return {
        "name": name, "root": root, "inbox": inbox, "watch": watch, "state": state, "problem": problem,
        "paused": paused, "orders": list(orders),
    }  # fmt: skip


def running_row(job: JobRow, progress: Json) -> RunningRow:
    """The row of a job that runs, with the renderer's last progress message."""
    return {**job, "state": "running", **read_progress(progress)}


# ---------------------------------------------------------------- from JSON


def read_status(reply: Json) -> Status:
    """A status from the socket."""
    guard = reply.get("guard")
    return make(
        pid=_whole(reply, "pid"), version=_words(reply, "version"), started=_words(reply, "started"),
        state=_text(reply, "state") or "stopped", lines=[_line(row) for row in _rows(reply, "lines")],
        running=[{**read_job(row), **read_progress(row)} for row in _rows(reply, "running")],
        queue=[read_job(row) for row in _rows(reply, "queue")],
        guard=_guard(guard) if isinstance(guard, Mapping) else None,
        waiting=[_waiting(row) for row in _rows(reply, "waiting")],
        recent=[read_job(row) for row in _rows(reply, "recent")],
        counts={name: count for name, count in _object(reply, "counts").items() if isinstance(count, int)},
    )  # fmt: skip


def read_jobs(reply: Json) -> list[JobRow]:
    """The jobs of a reply to ``jobs``."""
    return [read_job(row) for row in _rows(reply, "jobs")]


def read_job(row: Json) -> JobRow:
    """One job."""
    reason = row.get("grade_reason")
    job: JobRow = {
        "id": _text(row, "id"), "drop": _text(row, "drop"), "line": _text(row, "line"), "name": _text(row, "name"),
        "folder": _text(row, "folder"), "state": _text(row, "state"), "priority": _text(row, "priority") or "normal",
        "engine": _words(row, "engine"), "attempts": _whole(row, "attempts") or 0, "created": _text(row, "created"),
        "started": _words(row, "started"), "ended": _words(row, "ended"), "reason": _words(row, "reason"),
        "reason_code": _words(row, "reason_code"), "film": _words(row, "film"), "grade": _words(row, "grade"),
        "held": _flag(row, "held"), "has_page": _flag(row, "has_page"),
        "grade_reason": _grade_reason(reason) if isinstance(reason, Mapping) else None,
        "deferred_since": _words(row, "deferred_since"), "deferred_reason": _words(row, "deferred_reason"),
    }  # fmt: skip
    if "holders" in row:
        job["holders"] = _texts(row, "holders")
    if "deferred_kind" in row:
        job["deferred_kind"] = _text(row, "deferred_kind")
    if "deferred_values" in row:
        job["deferred_values"] = _object(row, "deferred_values")
    return job


def read_progress(message: Json) -> Progress:
    """The progress in a renderer's message or in a running job's row; keys that are missing stay missing."""
    progress: Progress = {}
    if "stage" in message:
        progress["stage"] = _words(message, "stage")
    if "frame" in message:
        progress["frame"] = _whole(message, "frame")
    if "of" in message:
        progress["of"] = _whole(message, "of")
    if "fps" in message:
        progress["fps"] = _number(message, "fps")
    if "eta" in message:
        progress["eta"] = _number(message, "eta")
    return progress


def _grade_reason(reason: Json) -> GradeReason:
    return {"code": _text(reason, "code"), "values": _object(reason, "values")}


def _line(row: Json) -> LineRow:
    orders: list[OrderRow] = [
        {"at": _text(o, "at"), "order": _text(o, "order"), "code": _text(o, "code"), "values": _object(o, "values")}
        for o in _rows(row, "orders")
    ]
    return line_row(
        _text(row, "name"), root=_text(row, "root"), inbox=_text(row, "inbox"), watch=_text(row, "watch"),
        state=_text(row, "state"), problem=_words(row, "problem"), paused=_flag(row, "paused"), orders=orders,
    )  # fmt: skip


def _waiting(row: Json) -> WaitingRow:
    waiting: WaitingRow = {
        "line": _text(row, "line"), "path": _text(row, "path"), "reason": _text(row, "reason"),
        "since": _text(row, "since"),
    }  # fmt: skip
    if "code" in row:
        waiting |= {"code": _text(row, "code"), "values": _object(row, "values")}
    return waiting


def _guard(row: Json) -> GuardRow:
    gpus: list[GpuRow] = [
        {
            "uuid": _text(gpu, "uuid"), "name": _text(gpu, "name"), "free_mib": _whole(gpu, "free_mib") or 0,
            "total_mib": _whole(gpu, "total_mib") or 0, "utilisation": _whole(gpu, "utilisation"),
            "celsius": _whole(gpu, "celsius"), "holders": _texts(gpu, "holders"),
        }
        for gpu in _rows(row, "gpus")
    ]  # fmt: skip
    devices: dict[str, DeviceRow] = {
        name: {"device": _text(device, "device"), "reason": _text(device, "reason")}
        for name, device in _object(row, "devices").items()
        if isinstance(device, Mapping)
    }
    return {
        "devices": devices, "problem": _words(row, "problem"), "kept_for": _words(row, "kept_for"),
        "deferred": _whole(row, "deferred") or 0, "gpus": gpus,
    }  # fmt: skip


def _text(row: Json, key: str) -> str:
    return _words(row, key) or ""


def _words(row: Json, key: str) -> str | None:
    value = row.get(key)
    return value if isinstance(value, str) else None


def _texts(row: Json, key: str) -> list[str]:
    value = row.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _flag(row: Json, key: str) -> bool:
    return row.get(key) is True


def _number(row: Json, key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(row: Json, key: str) -> int | None:
    value = row.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object(row: Json, key: str) -> Json:
    value = row.get(key)
    return value if isinstance(value, Mapping) else {}


def _rows(row: Json, key: str) -> list[Json]:
    value = row.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
