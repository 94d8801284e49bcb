"""What is staged ahead, and what is known of an outbox that is busy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heygemd.common.errors import Cancelled, InputError, StorageError
from heygemd.contract.job import Probed, Settings
from heygemd.contract.renderer import PlanRequest
from heygemd.guard import host
from heygemd.scheduler import staging
from heygemd.scheduler.free_space import OutboxSpace
from heygemd.scheduler.staging import Stager

PROBED = Probed({}, {}, (1280, 720))
SETTINGS = Settings()


class Shelf:
    """As much of a store as staging uses; each staging takes the next of ``outcomes``, a failure or nothing."""

    def __init__(self, work: Path, *outcomes: Exception | None, size: int = 1 << 20) -> None:
        self.work, self.size, self.outcomes, self.staged = work, size, list(outcomes), 0
        self.held = asyncio.Event()
        self.held.set()

    def scratch(self, job: Any) -> Path:
        return self.work / str(job.id)

    def input_bytes(self, job: Any) -> tuple[int, int]:
        return self.size, 0

    async def stage(self, job: Any) -> dict[str, Any]:
        self.staged += 1
        await self.held.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        path = self.work / f"{job.id}.mp4"
        path.write_bytes(b"film")
        return {role: {"path": str(path), "name": role, "size": 4} for role in ("audio", "video")}


@pytest.fixture(autouse=True)
def probed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(inputs: Any, settings: Any) -> Probed:
        return PROBED

    monkeypatch.setattr(staging, "_look", look)


def job(name: str) -> Any:
    return SimpleNamespace(id=name)


def test_what_was_staged_ahead_is_taken_as_it_is_and_its_frames_are_known(tmp_path: Path) -> None:
    async def story() -> None:
        shelf = Shelf(tmp_path)
        stager = Stager(shelf)  # type: ignore[arg-type]
        assert stager.frame("a") == ""
        stager.ahead(job("a"), SETTINGS, 0)
        inputs, found = await stager.take(job("a"), SETTINGS)
        assert (shelf.staged, found, stager.frame("a")) == (1, PROBED, "720p") and inputs["video"]["size"] == 4
        stager.only(["b"])
        assert stager.frame("a") == ""
        Path(inputs["video"]["path"]).unlink()
        await stager.take(job("a"), SETTINGS)
        assert shelf.staged == 2

    asyncio.run(story())


def test_one_job_is_staged_ahead_at_a_time_and_none_where_the_disk_would_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        shelf = Shelf(tmp_path)
        stager = Stager(shelf)  # type: ignore[arg-type]
        monkeypatch.setattr(host, "disk_free_mib", lambda _: 100)
        stager.ahead(job("a"), SETTINGS, 100)
        await asyncio.sleep(0)
        assert shelf.staged == 0, "one more MiB would be one too many"
        shelf.held.clear()
        for name in ("a", "b"):
            stager.ahead(job(name), SETTINGS, 99)
            await asyncio.sleep(0)
        assert shelf.staged == 1
        shelf.held.set()
        await stager.close()

    asyncio.run(story())


def test_a_failure_ahead_is_no_news_and_staging_at_its_turn_says_why(tmp_path: Path) -> None:
    async def story(first: Exception, second: Exception | None) -> Any:
        stager = Stager(Shelf(tmp_path, first, second))  # type: ignore[arg-type]
        stager.ahead(job("a"), SETTINGS, 0)
        return await stager.take(job("a"), SETTINGS)

    assert asyncio.run(story(StorageError("the share is away"), None))[1] == PROBED
    with pytest.raises(InputError, match="cannot be read"):
        asyncio.run(story(StorageError("the share is away"), InputError("a cannot be read")))


def test_a_job_that_is_cancelled_while_it_is_staged_ends_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        shelf = Shelf(tmp_path)
        shelf.held.clear()
        stager = Stager(shelf)  # type: ignore[arg-type]
        taken = asyncio.create_task(stager.take(job("a"), SETTINGS))
        await asyncio.sleep(0.01)
        stager.cancel("a")
        with pytest.raises(Cancelled):
            await asyncio.wait_for(taken, 5)
        shelf.held.set()
        await stager.take(job("a"), SETTINGS)  # asked for again

    asyncio.run(story())


def test_the_plan_of_what_is_staged_is_made_once_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        asked: list[tuple[PlanRequest, int]] = []
        held = asyncio.Event()

        async def plan(request: PlanRequest, nice: int) -> None:
            asked.append((request, nice))
            await held.wait()

        monkeypatch.setattr(staging, "_plan", plan)
        stager = Stager(Shelf(tmp_path))  # type: ignore[arg-type]
        stager.plan(job("a"), SETTINGS, 5)
        stager.ahead(job("a"), SETTINGS, 0)
        stager.plan(job("a"), SETTINGS, 5)
        await asyncio.sleep(0)
        assert asked == [], "it is not staged yet"
        await stager.take(job("a"), SETTINGS)
        for _ in range(2):
            stager.plan(job("a"), Settings(crf=3), 5)
            await asyncio.sleep(0)
        ((request, nice),) = asked
        assert nice == 5 + staging.PLAN_NICE and request.job.settings == Settings(crf=3)
        assert request.job.probed == PROBED and request.job.work == tmp_path / "a"
        waited = asyncio.create_task(stager.planned(job("a")))
        await asyncio.sleep(0.01)
        assert not waited.done()
        held.set()
        await asyncio.wait_for(waited, 5)
        await stager.planned(job("b"))  # of which there is none

    asyncio.run(story())


def test_a_plan_goes_with_the_job_that_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        ended = asyncio.Event()

        async def plan(request: Any, nice: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        monkeypatch.setattr(staging, "_plan", plan)
        stager = Stager(Shelf(tmp_path))  # type: ignore[arg-type]
        stager.ahead(job("a"), SETTINGS, 0)
        await stager.take(job("a"), SETTINGS)
        stager.plan(job("a"), SETTINGS, 0)
        await asyncio.sleep(0)
        stager.only(["b"])
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(story())


def test_the_first_answer_of_an_outbox_is_waited_for_and_no_later_one(tmp_path: Path) -> None:
    async def story() -> None:
        answers, busy = [500, 400], asyncio.Event()

        async def free(line: str) -> int:
            if len(answers) < 2:
                await busy.wait()
            return answers.pop(0)

        store = SimpleNamespace(outbox_free_mib=free, lines={"main": SimpleNamespace(outbox=tmp_path)})
        room = OutboxSpace(store, 0.0)  # type: ignore[arg-type]
        await room.ask(["main"])
        assert room.by_path() == {tmp_path: 500}
        await asyncio.wait_for(room.ask(["main"]), 5)
        assert room.by_path() == {tmp_path: 500}, "a film is being taken; what was known is good enough"
        busy.set()
        await asyncio.sleep(0.01)
        assert room.by_path() == {tmp_path: 400}
        await room.close()

    asyncio.run(story())


def test_an_outbox_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    async def story() -> None:
        async def free(line: str) -> int:
            raise StorageError("the share is away")

        store = SimpleNamespace(outbox_free_mib=free, lines={"main": SimpleNamespace(outbox=tmp_path)})
        room = OutboxSpace(store, 10.0)  # type: ignore[arg-type]
        await room.ask(["main"])
        assert room.by_path() == {}

    asyncio.run(story())
