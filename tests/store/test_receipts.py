"""The film's log: one schema, whether the daemon or ``heygemd render`` has made the film."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from heygemd.common.request import DropRequest, JobRequest, Source
from heygemd.common.shipped import shipped
from heygemd.contract.job import Settings, Task
from heygemd.store import receipts
from heygemd.store.states import Drop, DropState, FilmRecord, Job, JobState

HASH = "a" * 64
STAMP = "2026-01-02T03:04:05.678+01:00"
RECORD: FilmRecord = {
    "film": "/w/film.mp4", "engine": {"name": "footage", "renderer": "r", "reasons": []}, "face_finder": "haar",
    "stages": [{"name": "render", "seconds": 1.0, "frames": 25}], "warnings": [], "passed_through": [[0, 3]],
    "quality": None, "inputs": {"audio": {"container": "wav"}, "video": {"container": "mp4"}},
    "output": {"frames": 25, "fps": "25/1", "seconds": 1.0, "width": 640, "height": 360, "codec": "h264"},
    "verified": True, "versions": {"ffmpeg": "6"},
    "peak": {"ram_mib": 1, "vram_mib": None}, "rendered": STAMP, "film_file": {"sha256": HASH, "bytes": 9},
}  # fmt: skip
STAGED: Any = {"path": "/w/x", "name": "x", "sha256": HASH, "size": 7}


def job() -> Job:
    request = JobRequest("lesson", Source("a.wav"), Source("/lib/v.mp4", library=True))
    inputs: Any = {"audio": STAGED, "video": STAGED, "settings": Settings().flat(),
                   "consents": [{"name": "c.pdf", "library": False, "sha256": HASH, "size": 3}]}  # fmt: skip
    return Job(
        "d.1", "d", 1, JobState.PUBLISHING, request, 2, STAMP, STAMP, None, None, None,
        {**RECORD, "held": True, "has_page": True}, "lesson", inputs, STAMP, "memory", 3,
    )  # fmt: skip


def drop(job: Job) -> Drop:
    request = DropRequest("pair", "lesson", "sub", (), (job.request,))
    return Drop("d", "main", DropState.HELD, request, "anna", STAMP, None, None, None, None, False)


def rendered() -> dict[str, Any]:
    task = Task(Path("/w/a.wav"), Path("/w/v.mp4"), Path("/w"), "教程.wav", "v.mp4", Settings(crf=3))
    files: Any = ({"sha256": HASH, "bytes": 7}, {"sha256": HASH, "bytes": 8})
    return receipts.render_log(
        task, Path("/o/o.mp4"), RECORD, files, started=STAMP, page=None, machine=receipts.machine_facts()
    )


def delivered(job: Job) -> dict[str, Any]:
    return receipts.film_log(drop(job), job, machine=receipts.machine_facts())


def test_both_logs_have_the_same_keys_and_fit_the_schema() -> None:
    schema = json.loads(shipped("film-log.schema.json"))
    logs = [json.loads(receipts.to_bytes(log)) for log in (delivered(job()), rendered())]
    for log in logs:
        jsonschema.validate(log, schema)
    assert list(logs[0]) == list(logs[1])


def test_a_delivered_film_s_log_says_where_it_came_from() -> None:
    log = delivered(job())
    assert (log["job"], log["line"], log["submitter"], log["attempts"]) == ("d.1", "main", "anna", 2)
    assert log["drop"]["folder"] == "sub" and log["deferrals"]["count"] == 3 and log["held_for_review"]
    assert (log["report"], log["film"]["file"], log["film"]["bytes"]) == ("lesson.report.html", "lesson.mp4", 9)
    assert log["inputs"]["video"] == {
        "file": "v.mp4", "library": True, "sha256": HASH, "bytes": 7, "probe": {"container": "mp4"},
    }  # fmt: skip
    assert log["consents"] == [{"file": "c.pdf", "library": False, "sha256": HASH, "bytes": 3}]


def test_a_film_without_a_daemon_names_its_files_and_settings() -> None:
    log = rendered()
    assert (log["job"], log["drop"], log["attempts"], log["report"]) == (None, None, 1, None)
    assert log["inputs"]["audio"]["file"] == "教程.wav" and log["inputs"]["video"]["bytes"] == 8
    assert log["options"]["crf"] == 3 and log["film"]["frames"] == 25


def test_a_report_that_was_not_asked_for_is_null() -> None:
    assert delivered(job())["quality"] is None and rendered()["quality"] is None


@pytest.mark.parametrize("record", [None, {"held": False, "has_page": False}])
def test_what_an_older_record_lacks_is_empty(record: Any) -> None:
    log = delivered(replace(job(), result=record, inputs=None))
    assert (log["engine"], log["stages"], log["quality"], log["verified"]) == ({}, [], None, False)
    assert log["inputs"]["audio"]["sha256"] is None and log["options"]["crf"] is None
