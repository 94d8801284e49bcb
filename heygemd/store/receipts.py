"""What is laid beside a film, and what a person reads when there is none: receipts as plain data.

Pure: the journal's rows in, dictionaries and texts out.  ``drops.py`` writes them through ``share/operations.py``.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heygemd import __version__
from heygemd.common.messages import say, why
from heygemd.common.names import display
from heygemd.common.request import Source
from heygemd.store.states import Drop, Job, JobState, now

FILM_LOG = "heygemd/film-log/1"
BATCH_LOG = "heygemd/batch-log/1"


def film_log(drop: Drop, job: Job, *, machine: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON log of one delivered film (``data/film-log.schema.json`` describes it)."""
    result, inputs = job.result or {}, job.inputs or {}
    return {
        "schema": FILM_LOG,
        "job": job.id,
        "drop": {
            "id": drop.id, "kind": drop.request.kind, "name": display(drop.request.name),
            "folder": display(drop.request.folder), "priority": job.request.options.priority or drop.request.priority,
        },
        "line": drop.line,
        "submitter": drop.submitter,
        "times": {
            "claimed": drop.created, "started": job.started, "rendered": result.get("rendered"), "published": now(),
        },
        "attempts": job.attempts,
        "deferrals": {
            "count": job.deferrals, "last_since": job.deferred_since, "last_reason": job.deferred_reason,
        },
        "inputs": {
            role: _input(source, inputs.get(role, {}), result.get("inputs", {}).get(role))
            for role, source in (("audio", job.request.audio), ("video", job.request.video))
        },
        "consents": [
            {"file": told["name"], "library": told["library"], "sha256": told["sha256"], "bytes": told["size"]}
            for told in inputs.get("consents", [])
        ],
        "options": inputs.get("settings", asdict(job.request.options)),
        **_rendering(result),
        "report": f"{display(job.base or '')}.report.html" if result.get("has_page") else None,
        "held_for_review": result.get("held", False),
        "film": {"file": f"{display(job.base or '')}.mp4", **result.get("film_file", {}), **result.get("output", {})},
        "machine": dict(machine),
    }  # fmt: skip


def _rendering(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "engine": result.get("engine", {}),
        "face_finder": result.get("face_finder"),
        "stages": result.get("stages", []),
        "warnings": result.get("warnings", []),
        "passed_through": result.get("passed_through", []),
        "verified": result.get("verified", False),
        "quality": result.get("quality"),
        "versions": {"heygemd": __version__, **result.get("versions", {})},
    }


def _input(source: Source | None, staged: Mapping[str, Any], probe: Any) -> dict[str, Any]:
    assert source is not None  # a job without its inputs is never rendered
    return {
        "file": display(os.path.basename(source.path)), "library": source.library, "sha256": staged.get("sha256"),
        "bytes": staged.get("size"), "probe": probe,
    }  # fmt: skip


def render_log(job: Mapping[str, Any], result: Mapping[str, Any], film: Path) -> dict[str, Any]:
    """The JSON log beside a film that ``heygemd render`` made without a daemon."""
    return {
        "schema": FILM_LOG,
        "job": None,
        "drop": None,
        "line": None,
        "submitter": None,
        "times": {
            "claimed": None,
            "started": result.get("started"),
            "rendered": result.get("rendered"),
            "published": now(),
        },
        "attempts": 1,
        "deferrals": {"count": 0, "last_since": None, "last_reason": None},
        "inputs": {
            role: {
                "file": display(str(job[f"{role}_name"])), "library": False, "sha256": None, "bytes": None,
                "probe": result.get("inputs", {}).get(role),
            }
            for role in ("audio", "video")
        },
        "consents": [],
        "options": dict(job.get("settings", {})),
        **_rendering(result),
        "report": result.get("page"),
        "held_for_review": False,
        "film": {"file": display(film.name), **result.get("film_file", {}), **result.get("output", {})},
        "machine": {},
    }  # fmt: skip


def batch_log(drop: Drop, jobs: Sequence[Job]) -> dict[str, Any]:
    """What became of each job of a drop that held several."""
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
    """In the people's language what it means, then the error's own sentence, which has the details."""
    meaning = why(language, job.reason_code)
    return f"{meaning} {job.reason}" if meaning else str(job.reason)


def request_record(drop: Drop) -> dict[str, Any]:
    """``request.json`` in the drop's folder: all that is needed to take the drop up again without a journal."""
    return {
        "schema": "heygemd/request/1", "id": drop.id, "line": drop.line, "submitter": drop.submitter,
        "claimed": drop.created, "request": drop.request.to_json(),
    }  # fmt: skip


def to_bytes(data: Mapping[str, Any]) -> bytes:
    """Indented JSON in UTF-8, with names that are not UTF-8 already made printable by ``display``."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def machine_facts() -> dict[str, Any]:
    """The machine as the film's log names it."""
    return {"host": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()}
