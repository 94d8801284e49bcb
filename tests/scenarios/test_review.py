"""What becomes of a film that was measured to be poor."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import StorageError
from heygemd.common.request import DropRequest, JobRequest, Source
from heygemd.config import load as configuration
from heygemd.config.live import Live
from heygemd.share.client import ShareClient
from heygemd.store.drops import Drop, DropStore, Job, JobState, Journal
from heygemd.store.publish import Publishing


class Interrupted(Publishing):
    """Dies between writing a film's parts and revealing them."""

    async def _reveal(self, drop: Drop, job: Job) -> Job:
        raise StorageError("the share went away")


async def _published(
    tmp_path: Path, on_poor: str, grade: str | None, *, changed: str | None = None
) -> tuple[Job, Path]:
    """A rendered job with that grade, published; ``changed``: another ``on_poor`` once its parts are written."""
    text = f'[daemon]\nstate_dir = "{tmp_path}/state"\n[[line]]\nname = "main"\nroot = "{tmp_path}/line"\n'
    (tmp_path / "config.toml").write_text(f'{text}on_poor = "{on_poor}"\n')
    config = configuration.load(tmp_path / "config.toml")
    (tmp_path / "state").mkdir()
    journal, share = Journal(tmp_path / "state/journal.sqlite"), ShareClient("main", 60, [])
    live = Live(config)
    store = DropStore(live, journal, {"main": share})
    wanted = JobRequest(name="lesson", audio=Source("a.wav"), video=Source("v.mp4"))
    drop = journal.add_drop("d1", "main", DropRequest("pair", "lesson", "zhang", (), (wanted,)), None)
    job = journal.jobs_of(drop.id)[0]
    scratch = store.scratch(job)
    scratch.mkdir(parents=True)
    (scratch / "film.mp4").write_bytes(b"film")
    (scratch / "report.html").write_bytes(b"page")
    job = journal.set_job(job, JobState.RENDERED, result=_result(grade))
    try:
        if changed is not None:
            with pytest.raises(StorageError):
                await Interrupted(store.places, journal, {"main": share}).publish(job)
            live.replace(replace(config, lines=(replace(config.lines[0], on_poor=changed),)))
            job = journal.job(job.id)
            assert job.state is JobState.REVEALING
        return await store.publish(job), tmp_path / "line"
    finally:
        await share.close()
        journal.close()


def _result(grade: str | None) -> dict[str, Any]:
    return {"engine": {"name": "footage"}, "output": {}, "quality": {"grade": grade, "reasons": []}}


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


FILM = ["zhang/lesson.json", "zhang/lesson.mp4", "zhang/lesson.report.html"]


@pytest.mark.parametrize(
    ("on_poor", "grade", "place"),
    [
        ("hold", "poor", "review"),
        ("hold", "fair", "outbox"),
        ("hold", None, "outbox"),
        ("deliver", "poor", "outbox"),
    ],
)
def test_only_poor_films_are_held_and_only_where_that_is_wished(
    tmp_path: Path, on_poor: str, grade: str | None, place: str
) -> None:
    job, line = asyncio.run(_published(tmp_path, on_poor, grade))
    assert job.state is JobState.DELIVERED
    assert files(line) == [f"{place}/{name}" for name in FILM]
    log = json.loads((line / place / "zhang/lesson.json").read_text())
    assert log["held_for_review"] is (place == "review")
    assert log["quality"]["grade"] == grade and log["report"] == "lesson.report.html"


@pytest.mark.parametrize(
    ("on_poor", "changed", "place"), [("hold", "deliver", "review"), ("deliver", "hold", "outbox")]
)
def test_a_film_on_its_way_keeps_its_place_when_the_configuration_changes(
    tmp_path: Path, on_poor: str, changed: str, place: str
) -> None:
    job, line = asyncio.run(_published(tmp_path, on_poor, "poor", changed=changed))
    assert job.state is JobState.DELIVERED
    assert files(line) == [f"{place}/{name}" for name in FILM]
