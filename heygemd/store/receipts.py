"""Film logs, batch logs and ``reason.txt`` as plain data.

Pure: the journal's rows in, dictionaries and texts out.  ``drops.py`` writes them through ``share/operations.py``.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from heygemd import __version__
from heygemd.common.messages import say, why
from heygemd.common.names import display
from heygemd.common.request import Source
from heygemd.contract.job import Task
from heygemd.store.states import Drop, FileIdentity, FilmRecord, Job, JobState, StagedInput, now

FILM_LOG = "heygemd/film-log/1"
BATCH_LOG = "heygemd/batch-log/1"


class InputRow(TypedDict):
    """One input of a film."""

    file: str
    library: bool
    sha256: str | None
    bytes: int | None
    probe: Mapping[str, object] | None


class ConsentRow(TypedDict):
    """A file in which the person shown agrees."""

    file: str
    library: bool
    sha256: str
    bytes: int


class MachineFacts(TypedDict):
    """The machine that made a film."""

    host: str
    system: str
    cpus: int | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a job came from and how it fared; the defaults are those of a film that was made without a daemon."""

    job: str | None = None
    drop: Mapping[str, str] | None = None
    line: str | None = None
    submitter: str | None = None
    claimed: str | None = None
    started: str | None = None
    attempts: int = 1
    deferrals: int = 0
    deferred_since: str | None = None
    deferred_reason: str | None = None
    consents: Sequence[ConsentRow] = ()


def film_log(drop: Drop, job: Job, *, machine: MachineFacts) -> dict[str, object]:
    """The JSON log of one delivered film (``data/film-log.schema.json`` describes it)."""
    record: FilmRecord = job.result or {}
    inputs = job.inputs
    origin = Origin(
        job=job.id,
        drop={
            "id": drop.id, "kind": drop.request.kind, "name": display(drop.request.name),
            "folder": display(drop.request.folder), "priority": job.request.options.priority or drop.request.priority,
        },
        line=drop.line, submitter=drop.submitter, claimed=drop.created, started=job.started, attempts=job.attempts,
        deferrals=job.deferrals, deferred_since=job.deferred_since, deferred_reason=job.deferred_reason,
        consents=[
            {"file": copy["name"], "library": copy["library"], "sha256": copy["sha256"], "bytes": copy["size"]}
            for copy in (inputs.get("consents", []) if inputs else [])
        ],
    )  # fmt: skip
    probes, request = record.get("inputs", {}), job.request
    audio = _input(request.audio, inputs["audio"] if inputs else None, probes.get("audio"))
    video = _input(request.video, inputs["video"] if inputs else None, probes.get("video"))
    options = inputs.get("settings") if inputs else None
    page = f"{display(job.base or '')}.report.html" if record.get("has_page") else None
    return _log(
        origin, f"{display(job.base or '')}.mp4", (audio, video), options or asdict(request.options), record, page,
        machine,
    )  # fmt: skip


def render_log(
    task: Task, film: Path, record: FilmRecord, files: tuple[FileIdentity, FileIdentity], *, started: str,
    page: str | None, machine: MachineFacts,
) -> dict[str, object]:  # fmt: skip
    """The JSON log beside a film that ``heygemd render`` made without a daemon; ``files``: the sound and the video."""
    probes, (sound, picture) = record.get("inputs", {}), files
    audio: InputRow = {
        "file": display(task.audio_name), "library": False, **sound, "probe": probes.get("audio"),
    }  # fmt: skip
    video: InputRow = {
        "file": display(task.video_name), "library": False, **picture, "probe": probes.get("video"),
    }  # fmt: skip
    options = task.settings.flat()
    return _log(Origin(started=started), display(film.name), (audio, video), options, record, page, machine)


def _log(
    origin: Origin, film: str, inputs: tuple[InputRow, InputRow], options: Mapping[str, object], record: FilmRecord,
    page: str | None, machine: MachineFacts,
) -> dict[str, object]:  # fmt: skip
    file: Mapping[str, object] = record.get("film_file", {})
    return {
        "schema": FILM_LOG,
        "job": origin.job,
        "drop": origin.drop,
        "line": origin.line,
        "submitter": origin.submitter,
        "times": {
            "claimed": origin.claimed, "started": origin.started, "rendered": record.get("rendered"),
            "published": now(),
        },
        "attempts": origin.attempts,
        "deferrals": {
            "count": origin.deferrals, "last_since": origin.deferred_since, "last_reason": origin.deferred_reason,
        },
        "inputs": {"audio": inputs[0], "video": inputs[1]},
        "consents": list(origin.consents),
        "options": dict(options),
        "engine": record.get("engine", {}),
        "face_finder": record.get("face_finder"),
        "stages": record.get("stages", []),
        "warnings": record.get("warnings", []),
        "passed_through": record.get("passed_through", []),
        "verified": record.get("verified", False),
        "quality": record.get("quality"),
        "versions": {"heygemd": __version__, **record.get("versions", {})},
        "report": page,
        "held_for_review": record.get("held", False),
        "film": {"file": film, **file, **record.get("output", {})},
        "machine": machine,
    }  # fmt: skip


def _input(source: Source | None, staged: StagedInput | None, probe: Mapping[str, object] | None) -> InputRow:
    assert source is not None  # a job without its inputs is never rendered
    return {
        "file": display(os.path.basename(source.path)), "library": source.library,
        "sha256": staged["sha256"] if staged else None, "bytes": staged["size"] if staged else None, "probe": probe,
    }  # fmt: skip


def batch_log(drop: Drop, jobs: Sequence[Job]) -> dict[str, object]:
    """The outcome of each job of a drop with several jobs."""
    return {
        "schema": BATCH_LOG,
        "drop": {"id": drop.id, "kind": drop.request.kind, "name": display(drop.request.name)},
        "line": drop.line,
        "submitter": drop.submitter,
        "times": {"claimed": drop.created, "ended": now()},
        "jobs": [
            {
                "job": job.id, "name": display(job.request.name), "state": job.state.value,
                "film": f"{display(job.base)}.mp4" if job.state is JobState.DELIVERED and job.base else None,
                "reason": job.reason,
            }
            for job in jobs
        ],
        "delivered": sum(job.state is JobState.DELIVERED for job in jobs),
        "failed": sum(job.state is not JobState.DELIVERED for job in jobs),
    }  # fmt: skip


def reason_text(drop: Drop, jobs: Sequence[Job], language: str = "en") -> str:
    """``reason.txt``: for the person who dropped the files."""
    if drop.request.problem:
        meaning = why(language, "manifest")
        return f"{meaning} {drop.request.problem}\n" if meaning else f"{drop.request.problem}\n"
    bad = [job for job in jobs if job.state is not JobState.DELIVERED]
    if len(jobs) == 1:
        return f"{_why(bad[0], language)}\n"
    lines = [f"{job.request.name}: {_why(job, language)}" for job in bad]
    good = len(jobs) - len(bad)
    if good:
        lines.append(say(language, "why:others_delivered", {"good": good, "all": len(jobs)}))
    return "\n".join(display(line) for line in lines) + "\n"


def _why(job: Job, language: str) -> str:
    """The reason's meaning in the people's language, then the error's own sentence with details."""
    meaning = why(language, job.reason_code)
    return f"{meaning} {job.reason}" if meaning else str(job.reason)


def request_record(drop: Drop) -> dict[str, object]:
    """``request.json`` in the drop's folder: all that is needed to take the drop up again without a journal."""
    return {
        "schema": "heygemd/request/1", "id": drop.id, "line": drop.line, "submitter": drop.submitter,
        "claimed": drop.created, "request": drop.request.to_json(),
    }  # fmt: skip


def to_bytes(data: Mapping[str, object]) -> bytes:
    """Indented JSON in UTF-8, with names that are not UTF-8 already made printable by ``display``."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def machine_facts() -> MachineFacts:
    """The machine as the film's log names it."""
    return {"host": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()}
