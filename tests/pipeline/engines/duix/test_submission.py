"""One task's way through the stand-in container, whatever it does and whoever dies: made once, collected, cleaned up.

Real HTTP and a real folder; the "film" is a copy of what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import EngineAway, EngineError
from heygemd.contract.duix_api import Client
from heygemd.contract.duix_folder import Shared
from heygemd.contract.job import Quiet
from heygemd.pipeline.engines.duix.submission import ChunkRequest, Submitter, Timeouts, Unfit
from heygemd.pipeline.engines.duix.task_record import TaskRecord
from tests.fakes.duix import Duix, Faults, serving

RULES = Timeouts(poll=0.02, task=20, busy=0.2, silence=0.2, trouble=0.2, film=0.6)
PICTURES = b"pictures" * 1000


class Killed(BaseException):
    """This process ends here."""


class Bench:
    """A container, a work folder, and what was made of one order."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.work, self.duix, self._stack = folder / "work", Duix(folder / "shared", plain=True), stack
        self.work.mkdir()
        self.timeouts = RULES
        self.used: list[bytes] = []
        self.url = stack.enter_context(serving(self.duix))

    def runner(self, on_progress: Callable[[float], None] = lambda _: None) -> Submitter:
        """As after a start of this process."""
        record = TaskRecord(self.work / "duix.json", "key")
        return Submitter(Client(self.url, 5), Shared(self.duix.folder), record, self.timeouts, Quiet(), on_progress)

    def run(self, **how: Any) -> None:
        self.runner(**how).run(self.order())

    def order(self) -> ChunkRequest:
        return ChunkRequest(0, "the film", self._inputs, self.work / "back.mp4", 1 << 20, _whole, self._use)

    def _inputs(self) -> tuple[Path, Path]:
        sound, pictures = self.work / "s.wav", self.work / "p.mp4"
        sound.write_bytes(b"RIFF")
        pictures.write_bytes(PICTURES)
        return sound, pictures

    def _use(self, film: Path) -> None:
        if film.read_bytes() != PICTURES:
            raise Unfit("its film does not show the template")
        self.used.append(film.read_bytes())

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.duix.temp.iterdir())

    def code(self) -> str:
        return TaskRecord(self.work / "duix.json", "key").of(0).code


def _whole(film: Path) -> bool:
    return film.read_bytes() in (PICTURES, b"another")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def named(value: Any) -> str:
    """A case by its faults."""
    if not isinstance(value, Faults):
        return str(value)[:20]
    changed = [name for name, v in vars(value).items() if v != getattr(Faults(), name)]
    return "-".join(changed) or "none"


@pytest.mark.parametrize(
    ("faults", "tasks"),
    [
        (Faults(), 1), (Faults(busy=3), 1), (Faults(locked=2), 1), (Faults(broken=2), 1), (Faults(http500=2), 1),
        (Faults(garbage=2), 1), (Faults(mute=1), 1), (Faults(mute=1, slow=0.3), 1), (Faults(fail=2), 3),
        (Faults(lose=2), 3), (Faults(forget_end=1), 1), (Faults(late=0.2), 1), (Faults(half=0.2), 1),
        (Faults(foreign=1), 2), (Faults(query500=3), 1), (Faults(query_garbage=3), 1), (Faults(mute=1, query500=1), 1),
        (Faults(result="../../etc/passwd"), 1), (Faults(result="x" * 5000), 1), (Faults(result="/else.mp4"), 1),
    ],
    ids=named,
)  # fmt: skip
def test_whatever_it_does_the_film_is_had_once_and_nothing_stays(bench: Bench, faults: Faults, tasks: int) -> None:
    bench.duix.faults = faults
    bench.run()
    assert bench.used == [PICTURES]
    assert len(bench.duix.submitted) == len(set(bench.duix.submitted)) == tasks
    runner = bench.runner()
    for code in TaskRecord(bench.work / "duix.json", "key").codes():
        runner.clean(code)
    assert bench.left == []


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (Faults(wrong=1), "refused the film: code 10002 wrong 参数缺失"),
        (Faults(broken=3), "refused the film: code 9999"),
        (Faults(http500=3), "refused the film: HTTP 500"),
        (Faults(garbage=3), "refused the film: not JSON"),
        (Faults(fail=3), r"could not make the film: it reports .*no final result.*lower part_seconds.*Attempts: 3"),
        (Faults(fail=3, said="任务视频驱动队列满"), "its queue is stuck; restart the container"),
        (Faults(lose=3), "no longer knows the task"),
        (Faults(foreign=3), "its film does not show the template"),
        (Faults(late=3), "the film as done, but the film is missing"),
        (Faults(half=3), "the film as done, but the film is incomplete"),
        (Faults(link="/etc/passwd"), "is not a regular file"),
        (Faults(query500=1000), "it answers: HTTP 500"),
    ],
    ids=named,
)
def test_what_it_cannot_do_is_told_in_a_sentence(bench: Bench, faults: Faults, said: str) -> None:
    bench.duix.faults = faults
    with pytest.raises(EngineError, match=said) as caught:
        bench.run()
    assert not isinstance(caught.value, EngineAway) and bench.used == []
    assert bench.duix.faults.late or bench.duix.faults.half or bench.left == []


def test_one_that_hangs_is_given_up_after_its_time(bench: Bench) -> None:
    bench.duix.faults, bench.timeouts = Faults(hang=True), replace(RULES, task=0.2)
    with pytest.raises(EngineError, match=r"did not finish the film within 0.2 s.  Restart the container"):
        bench.run()
    assert bench.left == []


def test_a_busy_one_makes_the_job_wait(bench: Bench) -> None:
    bench.duix.running = "another"
    with pytest.raises(EngineAway, match="is busy with another film"):
        bench.run()
    assert bench.left == []
    bench.duix.running = ""
    bench.run()
    assert len(bench.duix.submitted) == 1 and bench.used == [PICTURES]


def test_one_that_is_away_makes_the_job_wait(bench: Bench) -> None:
    here, bench.url = bench.url, "http://127.0.0.1:9"
    with pytest.raises(EngineAway, match=r"http://127\.0\.0\.1:9 cannot be reached: Connection refused"):
        bench.run()
    assert bench.left == []
    bench.url = here
    bench.run()
    assert bench.used == [PICTURES]


def test_a_folder_that_refuses_makes_the_job_wait(bench: Bench) -> None:
    bench.duix.temp.rename(bench.duix.folder / "moved")
    with pytest.raises(EngineAway, match=r"temp in .*, shared with .* cannot be used: No such file"):
        bench.run()
    assert bench.duix.submitted == []


# ---------------------------------------------------------------- deaths of either side


def dying(at: int) -> Callable[[float], None]:
    """Ends the process at the so-manyeth look."""
    looks = iter(range(1 << 30))

    def on_progress(_: float) -> None:
        if next(looks) == at:
            raise Killed

    return on_progress


@pytest.mark.parametrize("at", range(6))
def test_a_worker_killed_at_any_look_finds_its_task_again(bench: Bench, at: int) -> None:
    bench.duix.faults = Faults(busy=1, slow=0.1, late=0.05)
    with pytest.raises(Killed):
        bench.run(on_progress=dying(at))
        raise Killed  # it was done before
    bench.run()
    assert bench.used and set(bench.used) == {PICTURES} and len(bench.duix.submitted) == 1


@pytest.mark.parametrize("moment", ["before it was sent", "after it was sent", "after its end was told"])
def test_a_worker_killed_around_an_answer_never_has_it_made_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    real_submit, real_query = Client.submit, Client.query

    def submit(self: Client, *args: str) -> Any:
        if moment == "after it was sent":
            real_submit(self, *args)
        raise Killed

    def query(self: Client, code: str) -> Any:
        reply = real_query(self, code)
        if reply.data.get("status") == 2:
            raise Killed  # the end was told, and nobody noted it
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(Client, "query" if moment == "after its end was told" else "submit",
                        query if moment == "after its end was told" else submit)  # fmt: skip
        with pytest.raises(Killed):
            bench.run()
    code = bench.code()
    assert code and (code in bench.duix.submitted) == (moment != "before it was sent")
    bench.run()
    assert bench.used == [PICTURES] and len(bench.duix.submitted) == 1


def test_a_container_restarted_in_the_middle_is_asked_again_under_a_new_id(bench: Bench) -> None:
    bench.duix.faults = Faults(hang=True)
    looks = iter(range(1 << 30))

    def restart(_: float) -> None:
        if next(looks) == 2:
            bench.duix.tasks.clear()
            bench.duix.running, bench.duix.faults = "", Faults()

    bench.run(on_progress=restart)
    assert bench.used == [PICTURES] and len(set(bench.duix.submitted)) == 2


def test_a_container_that_goes_away_in_the_middle_is_waited_for_and_its_film_found(bench: Bench) -> None:
    bench.duix.faults = Faults(slow=0.1)
    here, runner = bench.url, bench.runner()
    away = Client("http://127.0.0.1:9", 5)

    def leave(_: float) -> None:
        runner._client = away

    runner._on_progress = leave
    with pytest.raises(EngineAway, match="cannot be reached"):
        runner.run(bench.order())
    bench.url = here
    bench.run()
    assert bench.used == [PICTURES] and len(bench.duix.submitted) == 1
