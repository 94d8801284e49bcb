"""What is removed after its time, and what never is."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from heygemd.cli import main
from heygemd.common.request import DropRequest, JobRequest, Source
from heygemd.config.live import Live
from heygemd.config.load import load
from heygemd.contract import control
from heygemd.daemon.housekeeping import Housekeeper
from heygemd.share import operations
from heygemd.share.answers import RemovedFiles
from heygemd.store.drops import DropState, JobState, Journal
from tests.daemon.test_service import drop
from tests.share.here import Here, client
from tests.site import Site


class OpenLine:
    """What the housekeeper needs of a line."""

    def __init__(self, site: Site) -> None:
        self.settings, self.share, self.open = load(site.config).lines[0], client(Here()), True


def round_in(site: Site, **days: float) -> None:
    """One round of the housekeeper, so many days from now."""
    journal = Journal(site.state / "journal.sqlite")
    at = datetime.now().astimezone() + timedelta(**days)
    keeper = Housekeeper(Live(load(site.config)), journal, {"main": OpenLine(site)})  # type: ignore[dict-item]
    try:
        asyncio.run(keeper.round(at))
    finally:
        journal.close()


@pytest.fixture
def filed(site: Site, media: Path) -> Callable[..., Site]:
    """A site whose pair has been done, and another that has failed, with settings for its line."""
    site.of_bytes = True

    def make(*settings: str) -> Site:
        site.config.write_text(site.config.read_text() + "".join(f"{line}\n" for line in settings))
        drop(media, site)
        shutil.copy(media / "voice.wav", site.inbox / "bad.wav")
        (site.inbox / "bad.mp4").write_bytes(b"bad")
        assert site.once() == 3
        assert site.tree("done") and site.tree("failed")
        return site

    return make


def test_inputs_are_removed_after_their_days_and_not_before(filed: Callable[..., Site]) -> None:
    site = filed("done_days = 10", "failed_days = 20")
    round_in(site, days=9)
    assert len(site.tree("done")) == 2 and len(site.tree("failed")) >= 2
    round_in(site, days=11)
    assert site.tree("done") == [] and not list(site.done.iterdir()) and len(site.tree("failed")) >= 2
    round_in(site, days=21)
    assert not list(site.failed.iterdir())
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"], "films are people's"


def test_nothing_is_removed_where_nothing_is_said(filed: Callable[..., Site]) -> None:
    site = filed()
    before = site.tree("done"), site.tree("failed")
    round_in(site, days=30_000)
    assert (site.tree("done"), site.tree("failed")) == before


def test_what_somebody_has_added_or_changed_stays(filed: Callable[..., Site], tmp_path: Path) -> None:
    site = filed("done_days = 1")
    home = site.done / "lesson"
    (home / "notes.txt").write_text("mine")
    (home / "Thumbs.db").write_bytes(b"small pictures of faces")
    (home / "lesson.wav").write_bytes(b"cut anew")
    precious = tmp_path / "precious.mp4"
    shutil.copy2(home / "lesson.mp4", precious)
    (home / "lesson.mp4").unlink()
    (home / "lesson.mp4").symlink_to(precious)
    (site.done / "by hand").mkdir()
    (site.done / "by hand/lesson.mp4").write_bytes(b"x")
    round_in(site, days=2)
    assert site.tree("done") == ["by hand/lesson.mp4", "lesson/lesson.mp4", "lesson/lesson.wav", "lesson/notes.txt"]
    assert precious.exists()


def test_a_folder_that_was_put_in_place_of_ours_is_not_followed(tmp_path: Path) -> None:
    away, home = tmp_path / "away", tmp_path / "done/lesson"
    (away / "course").mkdir(parents=True)
    (away / "course/a.mp4").write_bytes(b"x")
    home.mkdir(parents=True)
    (home / "course").symlink_to(away / "course")
    info = os.stat(away / "course/a.mp4")
    told = operations.remove_filed(str(home), [("course/a.mp4", info.st_size, info.st_mtime_ns)], [])
    assert told.removed == 0 and (away / "course/a.mp4").exists()
    home.joinpath("course").unlink()
    home.rmdir()
    home.symlink_to(away)
    operations.remove_filed(str(home), [("course/a.mp4", info.st_size, info.st_mtime_ns)], [])
    assert (away / "course/a.mp4").exists()


def test_what_was_removed_cannot_be_tried_again_and_says_so(filed: Callable[..., Site]) -> None:
    site = filed("failed_days = 1")
    round_in(site, days=2)
    site.start()
    failed = next(job for job in site.ask(cmd="jobs")["jobs"] if job["state"] == "failed")
    told = control.call(site.state / "heygemd.sock", {"cmd": "retry", "job": failed["id"]})
    assert not told["ok"] and "deleted when their retention time ended" in told["error"]


def test_held_films_go_with_their_log_and_page_if_they_are_ours(tmp_path: Path) -> None:
    def lay(name: str, job: str, size: int = 4) -> str:
        (tmp_path / f"{name}.mp4").write_bytes(b"x" * size)
        (tmp_path / f"{name}.json").write_text(json.dumps({"job": job}, indent=1))
        (tmp_path / f"{name}.report.html").write_text("page")
        return str(tmp_path / name)

    assert operations.remove_film(lay("a", "j-1"), 4, "j-1") == "removed"
    assert operations.remove_film(str(tmp_path / "a"), 4, "j-1") == "gone"
    assert operations.remove_film(lay("b", "j-2"), 4, "j-1") == "changed", "another job's"
    assert operations.remove_film(lay("c", "j-3", size=5), 4, "j-3") == "changed", "somebody's own film"
    assert sorted(p.name[0] for p in tmp_path.iterdir()) == ["b"] * 3 + ["c"] * 3


def test_an_idle_daemon_forgets_faces_past_their_days(site: Site) -> None:
    cache = site.state / "cache"
    cache.mkdir(parents=True)
    for name, days in (("old", 31), ("new", 29)):
        entry = cache / f"{name}.npz"
        entry.write_bytes(b"a face")
        os.utime(entry, (time.time() - days * 86_400,) * 2)
    round_in(site)
    assert [p.name for p in cache.iterdir()] == ["new.npz"]


def test_a_persons_footage_is_listed_and_then_removed(
    filed: Callable[..., Site], capsys: pytest.CaptureFixture[str]
) -> None:
    site = filed()
    argv = ["purge", "--drop", "LESSON.mp4", "--config", str(site.config)]
    assert main.main(argv) == 0
    told = capsys.readouterr().out
    assert str(site.done / "lesson") in told and str(site.outbox / "lesson.mp4") in told
    assert "Nothing was deleted" in told
    assert len(site.tree("done")) == 2
    assert main.main([*argv, "--yes"]) == 0
    assert not list(site.done.iterdir()) and site.tree("outbox") == [] and site.tree("failed"), "others' stays"
    assert main.main([*argv[:2], "nobody", *argv[3:]]) != 0
    assert "No drop has the name nobody" in capsys.readouterr().err


def test_a_film_that_nobody_took_out_of_review_goes_after_its_days_once(site: Site) -> None:
    site.config.write_text(site.config.read_text() + "review_days = 5\n")
    review = site.line / "review"
    review.mkdir()
    site.state.mkdir()
    journal = Journal(site.state / "journal.sqlite")
    source = Source("a.wav")
    for name, held in (("poor", True), ("good", False)):
        request = DropRequest("pair", name, "", (), (JobRequest(name, source, source),))
        job = journal.jobs_of(journal.add_drop(name, "main", request, None).id)[0]
        result = {"held": held, "film_file": {"bytes": 4}}
        journal.set_job(job, JobState.DELIVERED, base=name, result=result)
        (review / f"{name}.mp4").write_bytes(b"film")
        (review / f"{name}.json").write_text(json.dumps({"job": job.id}, indent=1))
    journal.close()
    round_in(site, days=4)
    assert len(list(review.iterdir())) == 4
    round_in(site, days=6)
    assert sorted(path.name for path in review.iterdir()) == ["good.json", "good.mp4"]
    journal = Journal(site.state / "journal.sqlite")
    assert [job["film"] for job in journal.jobs({"delivered"}) if job["held"]] == [None]
    journal.close()


def test_a_drop_that_is_taken_up_again_meanwhile_is_left_alone(filed: Callable[..., Site]) -> None:
    site = filed("failed_days = 1")
    journal = Journal(site.state / "journal.sqlite")

    class Taken(Here):
        """Somebody tries the drop again before the housekeeper's operation is done."""

        async def ask(self, operation: str, args: Sequence[object], seconds: float) -> object:
            (drop,) = (d for d in journal.drops(DropState.ENDED) if d.verdict == "failed")
            journal.set_drop(drop, DropState.HELD, home=None, verdict=None, ended=None)
            return {"removed": 0, "left": []}

    line = OpenLine(site)
    line.share = client(Taken())
    keeper = Housekeeper(Live(load(site.config)), journal, {"main": line})  # type: ignore[dict-item]
    asyncio.run(keeper.round(datetime.now().astimezone() + timedelta(days=2)))
    assert [d.state for d in journal.drops(DropState.HELD)] == [DropState.HELD]
    journal.close()


def test_a_folder_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    assert operations.remove_filed(str(tmp_path / "gone"), [], []) == RemovedFiles(0, ())
