"""Orders that people give by dropping a file into the inbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from heygemd.common.request import Stamp
from heygemd.share import operations, queries
from heygemd.share.entry import InboxEntry
from heygemd.watch.order_files import jobs_named, sort_entries
from tests.daemon.test_service import drop, wait_for
from tests.intake.test_plan import Inbox, only
from tests.site import Site


def entry(path: str, size: int = 0, **more: bool) -> InboxEntry:
    return InboxEntry(path, more.get("is_dir", False), Stamp(size, 1, 1), more.get("other", False))


@pytest.mark.parametrize(
    ("path", "kind", "folder", "name"),
    [
        ("lesson.cancel", "cancel", "", "lesson"),
        ("lesson.RETRY", "retry", "", "lesson"),
        ("zhang/课程 1.cancel", "cancel", "zhang", "课程 1"),
        ("lesson.mp4.cancel", "cancel", "", "lesson.mp4"),
        ("lesson.cancel.txt", "cancel", "", "lesson"),
    ],
)
def test_a_files_name_is_the_order(path: str, kind: str, folder: str, name: str) -> None:
    found = sort_entries([entry(path), entry("lesson.wav", 9)])
    assert [(o.kind, o.folder, o.name) for o in found.orders] == [(kind, folder, name)]
    assert [e.path for e in found.rest] == ["lesson.wav"] and not found.paused


@pytest.mark.parametrize(
    "none", [entry(".cancel"), entry("lesson.txt"), entry("a.cancel", is_dir=True), entry("a.cancel", other=True),
             entry("a.cancel", 5000), entry("zhang/PAUSE"), entry("pauses"), entry("cancel")],
)  # fmt: skip
def test_what_is_no_order_is_left_to_intake(none: InboxEntry) -> None:
    assert sort_entries([none]).rest == (none,) and not sort_entries([none]).paused


@pytest.mark.parametrize("name", ["PAUSE", "pause", "Pause.txt"])
def test_a_file_pause_at_the_top_pauses(name: str) -> None:
    assert sort_entries([entry(name)]).paused and not sort_entries([entry(name)]).rest


def named(inbox: Inbox, order: str) -> list[str]:
    """Which of the drop's films an order means."""
    request = only(inbox.plan())
    jobs = [type("J", (), {"request": job})() for job in request.jobs]
    (found,) = sort_entries([entry(order)]).orders
    return [job.request.name for job in jobs_named(request, jobs, found)]


def test_an_order_means_a_drop_by_its_name_or_one_of_its_films() -> None:
    pair = Inbox("zhang/lesson.wav", "zhang/Lesson.mp4")
    assert named(pair, "zhang/LESSON.cancel") == named(pair, "zhang/lesson.mp4.cancel") == ["Lesson"]
    assert named(pair, "lesson.cancel") == named(pair, "zhang/less.cancel") == named(pair, "li/lesson.cancel") == []
    course = Inbox("course/v.wav", "course/a.mp4", "course/b.mp4")
    assert named(course, "course.cancel") == ["a", "b"] and named(course, "course/b.cancel") == ["b"]
    batch = Inbox("v.wav", "a.mp4", "b.mp4").put("x.json", {"audio": "v.wav", "videos": ["a.mp4", "b.mp4"]})
    assert named(batch, "x.cancel") == ["a", "b"] and named(batch, "b.retry") == ["b"]
    assert named(Inbox("high/a.wav", "high/a.mp4"), "high/a.cancel") == ["a"]


def test_a_file_is_removed_only_as_it_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.cancel"
    path.touch()
    (row,) = queries.scan(str(tmp_path))
    path.write_text("changed")
    assert operations.remove_seen(str(path), row[2:5]) == "changed" and path.exists()
    (row,) = queries.scan(str(tmp_path))
    assert operations.remove_seen(str(path), row[2:5]) == "removed" and not path.exists()
    assert operations.remove_seen(str(path), row[2:5]) == "gone"


@pytest.fixture
def obeying(site: Site) -> Site:
    """A line that takes orders and has a status page."""
    site.of_bytes = True
    site.status_page = "on"
    site.write_config()
    site.config.write_text(site.config.read_text() + "folder_control = true\n")
    return site


def answers(site: Site) -> list[str]:
    return [row["code"] for row in site.status()["lines"][0]["orders"]]


def test_pause_cancel_and_retry_from_the_folder(obeying: Site, media: Path) -> None:
    site = obeying
    (site.inbox / "PAUSE").touch()
    site.start()
    drop(media, site, "anna")
    drop(media, site, "li")
    site.until(lambda: len(site.status()["queue"]) == 2, "both are claimed")
    assert site.status()["lines"][0]["state"] == "paused" and not site.status()["running"]
    (site.inbox / "anna.cancel").touch()
    site.until(lambda: site.tree("failed"), "the cancelled drop is filed")
    assert site.tree("inbox") == ["PAUSE"], "the order is consumed, the pause stays"
    assert answers(site) == ["order:cancelled", "order:paused"]
    (site.inbox / "nobody.cancel").touch()
    (site.inbox / "anna.retry.txt").write_text("please")
    site.until(lambda: site.tree("inbox") == ["PAUSE"], "both are answered")
    assert sorted(answers(site)[:2]) == ["order:again", "order:unknown"]
    page = site.outbox / "STATUS.html"
    site.until(lambda: page.exists() and "no job of this name" in page.read_text(), "the page answers")
    assert "Remove the file PAUSE from the inbox" in page.read_text()
    (site.inbox / "PAUSE").unlink()
    site.until(lambda: {"anna.mp4", "li.mp4"} <= set(site.tree("outbox")), "both are made")
    assert site.tree("failed") == [] and answers(site)[0] == "order:resumed"


def test_a_running_job_is_cancelled_from_the_folder(obeying: Site, media: Path) -> None:
    site = obeying
    site.of_bytes = False
    site.argv = wait_for(site.root / "flag")
    site.write_config()
    site.config.write_text(site.config.read_text() + "folder_control = true\n")
    site.start()
    drop(media, site)
    site.until(lambda: site.status()["running"], "it runs")
    (site.inbox / "lesson.cancel").touch()
    site.until(lambda: site.tree("failed"), "it ends")
    assert "reason.txt" in " ".join(site.tree("failed")) and site.tree("outbox") in ([], ["STATUS.html", "status.json"])


def test_a_line_that_takes_no_orders_leaves_the_files_alone(site: Site, media: Path) -> None:
    site.of_bytes = True
    (site.inbox / "PAUSE").touch()
    (site.inbox / "lesson.cancel").touch()
    drop(media, site)
    assert site.once() == 0
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"] and site.tree("inbox") == ["PAUSE", "lesson.cancel"]


def test_once_ends_while_a_line_is_paused(obeying: Site, media: Path) -> None:
    (obeying.inbox / "PAUSE").touch()
    drop(media, obeying)
    assert obeying.once() == 0
    held = [p for p in obeying.tree("processing") if p.endswith("lesson.wav")]
    assert held or obeying.tree("inbox") == ["PAUSE", "lesson.mp4", "lesson.wav"], "kept, wherever it was"
