"""What a start finds in the folders, and drops to which two come at the same time."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import InputError, StorageError
from heygemd.common.request import DropRequest, JobRequest, Move, Source
from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.config.tables import DaemonConfig
from heygemd.config.whole import Config
from heygemd.share.client import ShareError
from heygemd.share.queries import stamp_of
from heygemd.store import recovery
from heygemd.store.drops import DropStore, Journal
from heygemd.store.states import Drop, DropState, Job, JobState
from tests.share.here import Here, client
from tests.site import Site


class Shop:
    """A store with one line and one drop, whose job failed."""

    def __init__(self, root: Path) -> None:
        self.line = LineConfig(name="main", root=root / "line")
        config = Config(source=root / "c", daemon=DaemonConfig(state_dir=root / "state"), lines=(self.line,))
        (root / "state").mkdir()
        self.share = Here()
        self.journal = Journal(root / "state" / "journal.sqlite")
        self.store = DropStore(Live(config), self.journal, {"main": client(self.share)})

    async def failed(self) -> tuple[Drop, Job]:
        """A claimed pair, its job failed and filed."""
        await self.store.look_at(self.line)
        for name in ("a.wav", "a.mp4"):
            (self.line.inbox / name).write_text(name)
        job = JobRequest("a", Source("a.wav"), Source("a.mp4"))
        infos = {name: os.stat(self.line.inbox / name) for name in ("a.wav", "a.mp4")}
        moves = tuple(Move(name, name, {name: stamp_of(info)}) for name, info in infos.items())
        drop = await self.store.claim(self.line, DropRequest("pair", "a", "", moves, (job,)))
        self.journal.set_job(self.journal.jobs_of(drop.id)[0], JobState.FAILED, reason="it is bad")
        drop = await self.store.file_if_over(drop)
        assert drop.state is DropState.ENDED and (self.line.failed / "a" / "a.mp4").exists()
        return drop, self.journal.jobs_of(drop.id)[0]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.journal.close()


def story(told: Callable[[Shop], Coroutine[Any, Any, None]]) -> Callable[[Shop], None]:
    """A test that is a coroutine."""

    def test(shop: Shop) -> None:
        asyncio.run(told(shop))

    return test


@story
async def test_a_retry_that_finds_the_share_away_can_be_asked_again(shop: Shop) -> None:
    drop, job = await shop.failed()
    shop.share.refuse["move"] = StorageError("the share is away")
    with pytest.raises(StorageError):
        await shop.store.retry(job)
    await shop.store.retry(job)
    assert shop.journal.drop(drop.id).state is DropState.HELD
    assert shop.journal.job(job.id).state is JobState.QUEUED and Path(shop.store.held(drop), "a.mp4").exists()


@story
async def test_a_retry_that_was_interrupted_and_whose_inputs_are_gone_does_not_end_the_next_start(shop: Shop) -> None:
    drop, _ = await shop.failed()
    shop.journal.set_drop(drop, DropState.RETURNING)
    shutil.rmtree(shop.line.failed / "a")
    await recovery.line(shop.store, shop.line)
    assert shop.journal.drop(drop.id).state is DropState.ENDED


@story
async def test_a_retry_that_meets_the_filing_of_its_drop_queues_a_job_that_can_run(shop: Shop) -> None:
    drop, job = await shop.failed()
    await shop.store.retry(job)
    job = shop.journal.set_job(shop.journal.job(job.id), JobState.FAILED, reason="again")
    await asyncio.gather(shop.store.file_if_over(drop), shop.store.retry(job), shop.store.file_if_over(drop))
    assert shop.journal.drop(drop.id).state is DropState.HELD
    assert shop.journal.job(job.id).state is JobState.QUEUED and Path(shop.store.held(drop), "a.mp4").exists()


@story
async def test_claim_and_delivery_that_file_a_drop_at_once_file_it_once(shop: Shop) -> None:
    drop, job = await shop.failed()
    await shop.store.retry(job)
    shop.journal.set_job(shop.journal.job(job.id), JobState.FAILED, reason="again")
    await asyncio.gather(*(shop.store.file_if_over(drop) for _ in range(3)))
    filed = shop.journal.drop(drop.id)
    assert filed.state is DropState.ENDED and filed.home is not None
    assert (shop.line.failed / filed.home / "a.mp4").exists(), "the journal knows where it is"


@story
async def test_our_own_full_disk_is_not_blamed_on_the_file(shop: Shop) -> None:
    _, job = await shop.failed()
    await shop.store.retry(job)
    work = str(shop.store.scratch(job) / "audio.wav")
    shop.share.refuse["stage"] = ShareError("Permission denied", errno.EACCES, work)
    with pytest.raises(StorageError):
        await shop.store.stage(shop.journal.job(job.id))
    shop.share.refuse["stage"] = ShareError(
        "denied", errno.EACCES, f"{shop.store.held(shop.journal.drop(job.drop_id))}/a.wav"
    )
    with pytest.raises(InputError, match=r"a\.wav cannot be read"):
        await shop.store.stage(shop.journal.job(job.id))


@story
async def test_a_record_that_cannot_be_read_now_may_be_there_all_the_same(shop: Shop) -> None:
    await shop.store.look_at(shop.line)
    (shop.line.processing / "20260101-000000-abcdef").mkdir()
    shop.share.refuse["read"] = ShareError("Input/output error", errno.EIO, "request.json")
    with pytest.raises(StorageError):
        await recovery.line(shop.store, shop.line)
    await recovery.line(shop.store, shop.line)
    assert list(shop.line.processing.glob("*/")) == [], "there is none, and nothing was ever moved"


@story
async def test_a_drop_that_cannot_be_filed_because_of_a_link_does_not_keep_the_line_closed(shop: Shop) -> None:
    drop, job = await shop.failed()
    await shop.store.retry(job)
    shop.journal.set_job(shop.journal.job(job.id), JobState.FAILED, reason="again")
    shop.share.refuse["write_whole"] = ShareError("it is a symbolic link", errno.ELOOP, "reason.txt")
    await recovery.line(shop.store, shop.line)
    assert shop.journal.drop(drop.id).state is DropState.HELD
    shop.share.refuse["write_whole"] = ShareError("Input/output error", errno.EIO, "reason.txt")
    with pytest.raises(StorageError):
        await recovery.line(shop.store, shop.line)
    await recovery.line(shop.store, shop.line)
    assert shop.journal.drop(drop.id).state is DropState.ENDED


def test_without_the_journal_a_link_in_the_outbox_does_not_keep_the_line_closed(site: Site, media: Path) -> None:
    site.of_bytes = True
    (site.inbox / "zhang").mkdir()
    shutil.copy(media / "voice.wav", site.inbox / "zhang" / "lesson.wav")
    shutil.copy(media / "film.mp4", site.inbox / "zhang" / "lesson.mp4")
    assert site.once() == 0
    drop = json.loads((site.outbox / "zhang" / "lesson.json").read_text())["drop"]["id"]
    (site.done / "zhang" / "lesson").rename(site.processing / drop)
    (site.outbox / "zhang").rename(site.root / "taken")
    (site.outbox / "zhang").symlink_to(site.root / "taken")
    for file in site.state.glob("journal.sqlite*"):
        file.unlink()
    site.start()
    site.until(lambda: site.status()["lines"][0]["problem"], "it waits for its place")
    assert site.status()["lines"][0]["state"] == "ok"
    assert sorted(os.listdir(site.root / "taken")) == ["lesson.json", "lesson.mp4"]
    (site.outbox / "zhang").unlink()
    site.until(lambda: site.tree("done"), "it is delivered")
    assert site.tree("outbox") == ["zhang/lesson.json", "zhang/lesson.mp4"]
    assert site.stop() == 0


def test_a_drop_that_is_back_in_processing_after_it_was_filed_is_filed_again(site: Site, media: Path) -> None:
    site.of_bytes = True
    shutil.copy(media / "voice.wav", site.inbox / "lesson.wav")
    shutil.copy(media / "film.mp4", site.inbox / "lesson.mp4")
    assert site.once() == 0
    drop = json.loads((site.outbox / "lesson.json").read_text())["drop"]["id"]
    (site.done / "lesson").rename(site.processing / drop)
    assert site.once() == 0
    assert site.tree("done") == ["lesson/lesson.mp4", "lesson/lesson.wav"] and site.tree("processing") == []
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"]


@pytest.mark.parametrize("path", ["../../secret.wav", "/etc/hostname"])
@pytest.mark.parametrize("library", [False, True])
@pytest.mark.parametrize("consent", [False, True])
def test_a_forged_record_in_processing_moves_and_reads_nothing_elsewhere(
    site: Site, path: str, library: bool, consent: bool
) -> None:
    """Where processing/ lies on the share, people can write there."""
    secret = site.line.parent / "secret.wav"
    secret.write_text("mine")
    source = {"path": str(secret) if library else path, "library": library}
    inner = {"path": "a.wav", "library": False} if consent else source
    consents = [source] if consent else []
    job = {"name": "x", "audio": inner, "video": inner, "options": {}, "problem": None, "consents": consents}
    moves = [] if library or consent else [{"source": path, "target": "x.wav", "stamps": {}}]
    request = {
        "kind": "pair",
        "name": "x",
        "folder": "",
        "moves": moves,
        "jobs": [job],
        "priority": "normal",
        "problem": None,
    }
    folder = site.line / "processing" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"request": request}))
    assert site.once() == 0
    assert secret.read_text() == "mine" and site.tree("outbox") == site.tree("done") == site.tree("failed") == []
    assert any(event["event"] == "request_refused" for event in site.events())
