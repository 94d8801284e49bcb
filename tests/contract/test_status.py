"""The status rows: one maker, and a reader that no JSON can break."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from heygemd.contract import status
from heygemd.contract.status import GuardRow, JobRow, LineRow, Status, WaitingRow, read_jobs, read_status

AT = "2026-03-04T10:11:12.345+08:00"
JOB: JobRow = {
    "id": "d-1", "drop": "d", "line": "main", "name": "lesson", "folder": "zhang", "state": "queued",
    "priority": "high", "engine": "footage", "attempts": 1, "created": AT, "started": AT, "ended": AT,
    "reason": "No face.", "reason_code": "no_face", "film": "lesson", "grade": "poor", "held": True, "has_page": True,
    "grade_reason": {"code": "mouth_late", "values": {"ms": 240}}, "deferred_since": AT, "deferred_reason": "memory",
}  # fmt: skip
HELD_BACK: JobRow = {**JOB, "holders": ["vllm"], "deferred_kind": "gpu_memory", "deferred_values": {"need": 4000}}
WAITING: WaitingRow = {
    "line": "main", "path": "a.wav", "reason": "alone", "since": AT, "code": "picture", "values": {"like": "a.*"},
}  # fmt: skip
GUARD: GuardRow = {
    "devices": {"footage": {"device": "cpu", "reason": "no GPU"}}, "problem": "no driver", "kept_for": "d-1",
    "deferred": 1, "gpus": [{"uuid": "GPU-1", "name": "L40", "free_mib": 1, "total_mib": 2, "utilisation": None,
                             "celsius": 61, "holders": ["vllm"]}],
}  # fmt: skip
PROGRESS = {"stage": "render", "frame": 5, "of": 10, "fps": 24.5, "eta": 3.0}


def full() -> Status:
    order: Any = {"at": AT, "order": "lesson.cancel", "code": "order:cancelled", "values": {"count": 1}}
    line = status.line_row("main", root="/l", inbox="/l/inbox", watch="inotify", state="ok", problem="full",
                           paused=True, orders=[order])  # fmt: skip
    return status.make(
        pid=7, version="0.1.0", started=AT, state="running", lines=[line], queue=[JOB, HELD_BACK], recent=[JOB],
        running=[status.running_row(JOB, PROGRESS)], guard=GUARD, waiting=[WAITING], counts={"queued": 2},
    )  # fmt: skip


def test_what_the_daemon_makes_arrives_whole() -> None:
    made = full()
    assert read_status(json.loads(json.dumps({"ok": True, **made}))) == made
    assert read_jobs({"jobs": [json.loads(json.dumps(HELD_BACK))]}) == [HELD_BACK]
    assert made["running"][0]["state"] == "running" and made["running"][0]["frame"] == 5


def test_a_status_has_the_same_keys_whether_a_daemon_runs_or_not() -> None:
    offline = status.make(lines=[status.line_row("main")], queue=[], recent=[], counts={})
    assert offline.keys() == full().keys() == get_type_hints(Status).keys()
    assert offline["lines"][0].keys() == get_type_hints(LineRow).keys()
    assert offline["state"] == "stopped" and offline["guard"] is None


def test_a_job_that_has_told_nothing_yet_has_no_progress() -> None:
    assert "stage" not in status.running_row(JOB, {}) and status.running_row(JOB, {})["state"] == "running"


def test_an_empty_reply_is_a_status_of_nothing() -> None:
    assert read_status({}) == status.make(lines=[], queue=[], recent=[], counts={})


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_a_reply_with_any_value_anywhere_is_read(data: st.DataObject) -> None:
    reply: dict[str, Any] = json.loads(json.dumps(full()))
    place: Any = reply
    while place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(ANY_JSON)
            break
        place = place[key]
    read = read_status(reply)
    assert read.keys() == full().keys()
    assert all(isinstance(job["name"], str) for job in (*read["running"], *read["queue"], *read["recent"]))
