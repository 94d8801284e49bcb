"""The worker: warm from job to job, ended when it is idle, after an error and after so many jobs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import EngineError, WorkerDied
from heygemd.contract.job import Settings, Task
from heygemd.contract.renderer import LookRequest, NamedFile, News, PingRequest, ProgressMessage, RenderRequest, Request
from heygemd.scheduler.worker import Worker

PING = PingRequest()
FILE = NamedFile(Path("none"), "none")
TASK = Task(Path("a"), Path("v"), Path("w"), "a", "v")


@dataclass(frozen=True)
class Dance(Request[object]):
    task = "dance"


def run(story: Callable[[Worker], Awaitable[Any]], **limits: Any) -> Any:
    """Tell a worker's story from its start to its end."""

    async def told() -> Any:
        worker = Worker(**{"stall_seconds": 30.0, **limits})
        try:
            return await story(worker)
        finally:
            await worker.stop()

    return asyncio.run(told())


async def pid(worker: Worker) -> int:
    return int((await worker.run(PING, lambda _: None))["pid"])


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_child_serves_job_after_job() -> None:
    async def story(worker: Worker) -> set[int]:
        return {await pid(worker) for _ in range(3)}

    assert len(run(story)) == 1


def test_after_so_many_jobs_a_fresh_child_takes_over() -> None:
    async def story(worker: Worker) -> list[int]:
        return [await pid(worker) for _ in range(5)]

    pids = run(story, max_jobs=2)
    assert pids[0] == pids[1] and pids[2] == pids[3] and len(set(pids)) == 3
    assert not any(map(alive, pids))


def test_after_an_error_the_next_job_begins_with_a_clean_child() -> None:
    async def story(worker: Worker) -> tuple[int, bool, int]:
        first = await pid(worker)
        with pytest.raises(EngineError, match="does not know the task"):
            await worker.run(Dance(), lambda _: None)
        return first, worker.alive, await pid(worker)

    first, stayed, second = run(story)
    assert not stayed and first != second and not alive(first)


def test_an_idle_child_is_ended_so_that_its_memory_goes_back() -> None:
    async def story(worker: Worker) -> tuple[int, bool]:
        process = await pid(worker)
        await worker.rest()
        assert worker.alive, "its time is not over"
        worker.idle_seconds = 0.0
        await worker.rest()
        return process, worker.alive

    process, stayed = run(story)
    assert not stayed and not alive(process)


def test_the_child_gives_way_on_the_processor_as_far_as_it_is_told() -> None:
    async def story(worker: Worker) -> tuple[int, int, bool]:
        before = await pid(worker)
        first = os.getpriority(os.PRIO_PROCESS, before)
        await worker.use(None, nice=9)
        after = await pid(worker)
        await worker.use(None, nice=9)
        return first, os.getpriority(os.PRIO_PROCESS, after), await pid(worker) == after != before

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert run(story, nice=3) == (min(own + 3, 19), min(own + 9, 19), True)


SAYS = """
import json, sys, time
request = json.loads(sys.stdin.readline())
def say(**fields):
    told = {"id": request["id"], "type": "progress", "stage": "join", "frame": 0, "of": 0, **fields}
    print(json.dumps(told), flush=True)
say()
while True:
    time.sleep(0.1)
    say(%s)
"""


def test_what_is_said_again_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[News] = []

    async def story(worker: Worker) -> None:
        with pytest.raises(WorkerDied, match="made no progress for 1 s"):
            await worker.run(RenderRequest(TASK), heard.append)

    monkeypatch.setattr("heygemd.scheduler.worker.python", lambda _: [sys.executable, "-c", SAYS % "again=True"])
    run(story, stall_seconds=1.0)
    again = [message.again for message in heard if isinstance(message, ProgressMessage)]
    assert len(again) == len(heard) > 2 and not again[0] and again[-1], "it is told all the same"


def test_work_that_is_given_up_ends_with_the_reason_that_was_given() -> None:
    async def story(worker: Worker) -> float:
        await pid(worker)
        worker.give_up("nobody is at work")  # which is no reason for the next job to end
        job = asyncio.create_task(worker.run(LookRequest(FILE, FILE, Settings()), lambda _: None))
        await asyncio.sleep(0)
        worker.give_up("The GPU failed: it is gone.")
        began = time.monotonic()
        with pytest.raises(WorkerDied, match="The GPU failed: it is gone"):
            await job
        return time.monotonic() - began

    assert run(story) < 20


def test_a_child_is_warmed_while_nobody_waits_and_does_the_next_job() -> None:
    async def story(worker: Worker) -> tuple[int | None, int, int | None, int]:
        await worker.warm("footage")
        started = worker.pid
        first = await pid(worker)
        worker.cancel()  # there is nothing to be ended
        return started, first, worker.pid, await pid(worker)

    assert len(set(run(story))) == 1


def test_a_warmed_child_has_loaded_what_a_film_takes() -> None:
    async def story(worker: Worker) -> bool:
        await worker.warm("footage")
        maps = Path(f"/proc/{await pid(worker)}/maps").read_text()  # answered after the warming
        return "cv2" in maps

    assert run(story)
