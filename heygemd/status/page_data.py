"""``status.json``: what the people of one line may know.  Pure.

Their own line's jobs in full; of other lines only that one of their films is being made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from heygemd.common.names import display
from heygemd.contract.status import GradeReason, JobRow, Json, OrderRow, RunningRow, Status, WaitingRow, line_row


class RunningJob(TypedDict):
    """The job that is being made; ``percent`` of its frames, ``fps`` frames per second, ``eta`` seconds."""

    job: str
    name: str
    stage: str | None
    percent: int | None
    fps: float | None
    eta: float | None
    started: str | None


class QueuedJob(TypedDict):
    """A job that waits; ``code`` and ``values`` say ``waits_for`` in other languages."""

    job: str
    name: str
    priority: str
    waits_for: str | None
    since: str | None
    holders: Sequence[str]
    code: str | None
    values: Json | None


class PageWaiting(TypedDict):
    """A file of the inbox that no drop has taken yet."""

    path: str
    reason: str
    since: str
    code: str | None
    values: Json | None


class PageFilm(TypedDict):
    """A film in the outbox, or ``held`` for review; ``folder`` is below the outbox."""

    job: str
    name: str
    at: str | None
    grade: str | None
    grade_reason: GradeReason | None
    held: bool
    folder: str
    film: str
    report: str | None


class FailedJob(TypedDict):
    """A job that failed or was cancelled."""

    job: str
    name: str
    at: str | None
    reason: str
    code: str | None


class PageData(TypedDict):
    """``status.json`` without the time at which it was written."""

    schema: str
    line: str
    state: str
    problem: str | None
    paused: bool
    orders: Sequence[OrderRow]
    running: Sequence[RunningJob]
    elsewhere: bool
    queue: Sequence[QueuedJob]
    waiting: Sequence[PageWaiting]
    delivered: Sequence[PageFilm]
    failed: Sequence[FailedJob]


def data(status: Status, line: str) -> PageData:
    """The status as this line's people may see it, without times that only tick."""
    own = [job for job in status["running"] if job["line"] == line]
    row = next((row for row in status["lines"] if row["name"] == line), line_row(line))
    recent = [job for job in status["recent"] if job["line"] == line]
    return {
        "schema": "heygemd/status/1",
        "line": line,
        "state": status["state"],
        "problem": row["problem"],
        "paused": row["paused"],
        "orders": list(row["orders"]),
        "running": [_running(job) for job in own],
        "elsewhere": bool(status["running"]) and not own,
        "queue": [_queued(job) for job in status["queue"] if job["line"] == line],
        "waiting": [_waiting(row) for row in status["waiting"] if row["line"] == line],
        "delivered": [_delivered(job) for job in recent if job["state"] == "delivered"],
        "failed": [_failed(job) for job in recent if job["state"] != "delivered"],
    }


def to_json(page: PageData, at: str) -> bytes:
    """``status.json``; ``at`` is when it was written, ISO 8601."""
    return (json.dumps({**page, "at": at}, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _running(job: RunningRow) -> RunningJob:
    of, frame = job.get("of"), job.get("frame") or 0
    return {
        "job": job["id"], "name": _name(job), "stage": job.get("stage"), "percent": 100 * frame // of if of else None,
        "fps": job.get("fps"), "eta": job.get("eta"), "started": job["started"],
    }  # fmt: skip


def _queued(job: JobRow) -> QueuedJob:
    return {
        "job": job["id"], "name": _name(job), "priority": job["priority"], "waits_for": job["deferred_reason"],
        "since": job["deferred_since"], "holders": job.get("holders") or [],
        "code": job.get("deferred_kind"), "values": job.get("deferred_values"),
    }  # fmt: skip


def _waiting(row: WaitingRow) -> PageWaiting:
    return {
        "path": row["path"], "reason": row["reason"], "since": row["since"], "code": row.get("code"),
        "values": row.get("values"),
    }  # fmt: skip


def _delivered(job: JobRow) -> PageFilm:
    base = display(job["film"] or "")
    return {
        "job": job["id"], "name": _name(job), "at": job["ended"], "grade": job["grade"],
        "grade_reason": job["grade_reason"], "held": job["held"], "folder": display(job["folder"]),
        "film": f"{base}.mp4", "report": f"{base}.report.html" if job["has_page"] else None,
    }  # fmt: skip


def _failed(job: JobRow) -> FailedJob:
    return {
        "job": job["id"], "name": _name(job), "at": job["ended"], "reason": display(job["reason"] or ""),
        "code": job["reason_code"],
    }  # fmt: skip


def _name(job: JobRow) -> str:
    folder = display(job["folder"])
    return f"{folder}/{display(job['name'])}" if folder else display(job["name"])
