"""One part's way through the container: submit, poll, collect, and what is done when it goes wrong.

The container does one task at a time, tells its end once, cannot be told to stop, forgets everything when it is
restarted, and leaves its files behind.  So: the id is on the disk before the task is sent (``record``), an end
before it is acted on, and a task that nobody knows any more is looked for by its film's name before another is sent in
its place.  A container that is busy or away is no failure of the job: it waits (``EngineAway``), and what is known is
kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heygemd.common.errors import EngineAway, EngineError
from heygemd.contract import duix_api as api
from heygemd.contract.duix_api import Client, TaskState, Unclear, Unreachable
from heygemd.contract.duix_folder import NotPlain, Shared, bare, inputs_of, new_code, result_of
from heygemd.contract.job import Tell
from heygemd.pipeline.engines.duix.task_record import ChunkTask, TaskRecord

TRIES = 3  # tasks for one part, and answers that are none to one submission
GONE_LOOKS = 3  # in a row in which it knows no such task and there is no film
RESTART = "Restart the container, then: heygemd retry"

Verdict = Literal["accepted", "unclear", "busy", "broken", "refused"]


class Unfit(Exception):
    """The task came to nothing, or to a film that is not the one asked for: another may do better."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: between two questions; for one task; that a busy container is waited for, and one that is away, before
    the job gives way, which costs it nothing; that answers may be none before the task is given up; that a film may
    take to appear."""

    poll: float = 2.0
    task: float = 900.0
    busy: float = 20.0
    silence: float = 20.0
    trouble: float = 60.0
    film: float = 60.0


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """What is to be made: ``name`` for messages; ``inputs`` makes the sound and the pictures when they are wanted;
    ``target``: where its film is copied to, ``most`` its bytes at most; ``whole`` tells whether a copy is complete,
    ``use`` takes the film and raises ``Unfit`` where it is not the one asked for."""

    number: int
    name: str
    inputs: Callable[[], tuple[Path, Path]]
    target: Path
    most: int
    whole: Callable[[Path], bool]
    use: Callable[[Path], None]


class Submitter:
    """Sees to one order after the other."""

    def __init__(
        self, client: Client, shared: Shared, record: TaskRecord, timeouts: Timeouts, tell: Tell,
        on_progress: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """``on_progress`` is called at each query with the progress of the running task, 0 to 1."""
        self._client, self._shared, self._record, self._timeouts = client, shared, record, timeouts
        self._tell, self._on_progress, self._clock, self._sleep = tell, on_progress, clock, sleep
        self.server = ""  #: what the container's HTTP server calls itself

    def run(self, order: ChunkRequest) -> ChunkTask:
        """Have it made and used.  Raises ``EngineError`` where it cannot be had, ``EngineAway``: try later."""
        entry = self._record.of(order.number)
        unsent = entry.phase == "chosen"  # by us in an earlier life: it may never have been sent
        while True:
            try:
                if not _collected(entry, order.target):
                    if not entry.code:
                        self._submit(entry, order)
                    self._await(entry, order)
                    self._take(entry, order)
                order.use(order.target)
                break
            except Unfit as error:
                self._failed(entry, order, str(error), excused=unsent and entry.phase == "chosen")
                unsent = False
        order.target.unlink()
        self.clean(entry.code)
        return entry

    def clean(self, code: str) -> None:
        """Remove what a task left in the shared folder; what cannot be removed costs no film."""
        try:
            self._shared.clean(code)
        except OSError as error:
            self._tell.event("duix_not_cleaned", level="warning", code=code, problem=error.strerror)

    def _spend(self, entry: ChunkTask) -> None:
        """The task is over for us; whatever may still come of it is removed later."""
        self.clean(entry.code)
        entry.spent.append(entry.code)
        entry.code, entry.phase, entry.answer, entry.bytes = "", "", {}, 0
        self._record.save()

    def _failed(self, entry: ChunkTask, order: ChunkRequest, why: str, excused: bool) -> None:
        entry.failures += not excused
        self._tell.event("duix_task_failed", level="warning", code=entry.code, part=order.number, reason=why)
        order.target.unlink(missing_ok=True)
        self._spend(entry)
        if entry.failures >= TRIES:
            entry.failures = 0
            self._record.save()
            tried = f"Attempts: {TRIES}."
            raise EngineError(f"The Duix container at {self._client.url} could not make {order.name}: {why}.  {tried}")

    # ------------------------------------------------------------ submit

    def _submit(self, entry: ChunkTask, order: ChunkRequest) -> None:
        sound, pictures = order.inputs()
        entry.code, entry.phase = new_code(), "chosen"
        self._record.save()
        names = inputs_of(entry.code)
        with self._giving_way(entry):
            self._shared.put(sound, names[0])
            self._shared.put(pictures, names[1])
        began, broken = self._clock(), 0
        while True:
            with self._giving_way(entry):
                verdict, answer = self._offer(entry, *names)
            if verdict in ("accepted", "unclear"):
                if verdict == "accepted" and entry.phase == "chosen":
                    entry.phase = "sent"
                    self._record.save()
                self._tell.event("duix_sent", code=entry.code, part=order.number)
                return
            broken += verdict == "broken"
            if verdict == "refused" or broken >= TRIES:
                self._spend(entry)
                raise EngineError(f"The Duix container at {self._client.url} refused {order.name}: {answer}.")
            if self._clock() - began >= self._timeouts.busy:
                self._spend(entry)
                raise EngineAway(f"The Duix container at {self._client.url} is busy with another film.")
            self._rest(0.0)

    def _offer(self, entry: ChunkTask, sound: str, pictures: str) -> tuple[Verdict, str]:
        try:
            reply = self._client.submit(entry.code, sound, pictures)
        except Unclear as error:
            return self._heard(entry), str(error)
        self.server = reply.server or self.server
        answer = f"code {reply.code} {reply.msg}".strip()
        if api.accepted(reply):
            return "accepted", answer
        if reply.code in (api.BUSY, api.LOCKED):
            return "busy", answer
        if reply.code == api.WRONG:
            return "refused", answer
        return self._heard(entry), answer

    def _heard(self, entry: ChunkTask) -> Verdict:
        """Whether a task that got no proper answer is known to the container all the same.  While that is unclear it
        must not be sent again: two would be made under one id."""
        try:
            state = self._ask(entry).state
        except (Unclear, Unreachable):
            return "unclear"
        return "broken" if state == "no_task" else "unclear" if state == "trouble" else "accepted"

    @contextlib.contextmanager
    def _giving_way(self, entry: ChunkTask) -> Iterator[None]:
        """A container that is away, or a folder that refuses, before the task was sent: the job waits."""
        try:
            yield
        except Unreachable as error:
            self._spend(entry)
            raise self._away(str(error)) from error
        except OSError as error:
            self._spend(entry)
            raise self._refused(error) from error

    # ------------------------------------------------------------ poll

    def _ask(self, entry: ChunkTask) -> TaskState:
        """Ask once; an end is on the disk before anybody acts on it."""
        reply = self._client.query(entry.code)
        self.server = reply.server or self.server
        task = api.task_state(reply)
        if task.state in ("done", "failed"):
            entry.phase, entry.answer = "answered", {"state": task.state, "result": task.result, "said": task.message}
            self._record.save()
        return task

    def _await(self, entry: ChunkTask, order: ChunkRequest) -> None:
        """Until the container has reported how the task ended, or its film is there without that."""
        ends = self._clock() + self._timeouts.task
        clear, gone, progress = self._clock(), 0, 0.0
        while entry.phase in ("chosen", "sent"):
            if self._clock() > ends:
                self._hung(entry, order)
            state, answer = self._look(entry)
            if isinstance(answer, TaskState):
                progress = answer.progress
            if state not in ("trouble", "away"):
                clear = self._clock()
            elif state == "away" and self._clock() - clear > self._timeouts.silence:
                raise self._away(str(answer))
            elif state == "trouble" and self._clock() - clear > self._timeouts.trouble:
                raise Unfit(f"it answers: {answer}")
            gone = gone + 1 if state == "no_task" else 0
            if gone and self._left_film(entry):
                return
            if gone >= GONE_LOOKS:
                raise Unfit("it no longer knows the task; it may have restarted or run out of memory")
            if entry.phase != "answered":
                self._rest(progress / 100)

    def _look(self, entry: ChunkTask) -> tuple[str, TaskState | str]:
        """The state, or that there is ``trouble`` or that it is ``away``, with the task, or what was answered."""
        try:
            task = self._ask(entry)
        except Unreachable as error:
            return "away", str(error)
        except Unclear as error:
            return "trouble", str(error)
        return task.state, task.message if task.state == "trouble" else task

    def _left_film(self, entry: ChunkTask) -> bool:
        """Whether a task that is not known any more has left its film: its end may have been reported to a process
        that did not live to note it."""
        with self._patience():
            if not self._shared.size(result_of(entry.code)):
                return False
        entry.phase, entry.answer = "answered", {"state": "done", "result": "", "said": ""}
        self._record.save()
        return True

    def _hung(self, entry: ChunkTask, order: ChunkRequest) -> None:
        self._spend(entry)
        raise EngineError(
            f"The Duix container at {self._client.url} did not finish {order.name} within {self._timeouts.task:g} s.  "
            f"{RESTART}."
        )

    # ------------------------------------------------------------ collect

    def _take(self, entry: ChunkTask, order: ChunkRequest) -> None:
        """Copy the film, once it is there and whole."""
        if entry.answer.get("state") == "failed":
            raise Unfit(explained(str(entry.answer.get("said", ""))))
        name = bare(str(entry.answer.get("result", "")), entry.code)
        began, before = self._clock(), None
        while True:
            with self._patience():
                size = self._shared.size(name)
                # Two looks alike: it appears late, and is written while one looks.
                if size and size == before and self._copied(name, size, order):
                    break
            before = size
            if self._clock() - began > self._timeouts.film:
                raise Unfit(f"it reports the film as done, but the film is {'incomplete' if size else 'missing'}")
            self._rest(1.0)
        entry.phase, entry.bytes = "collected", size
        self._record.save()

    def _copied(self, name: str, size: int, order: ChunkRequest) -> bool:
        return self._shared.take(name, order.target, order.most) == size and order.whole(order.target)

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """A folder that refuses while the task is under way: the job waits, the task stays known."""
        try:
            yield
        except NotPlain as error:
            raise Unfit(str(error)) from error
        except FileNotFoundError as error:
            if error.filename is not None and str(error.filename).startswith("heygemd-"):
                raise Unfit("its film was deleted during reading") from error
            raise self._refused(error) from error
        except OSError as error:
            raise self._refused(error) from error

    def _rest(self, progress: float) -> None:
        self._on_progress(progress)
        self._sleep(self._timeouts.poll)

    def _away(self, why: str) -> EngineAway:
        return EngineAway(f"The Duix container at {self._client.url} cannot be reached: {why}.")

    def _refused(self, error: OSError) -> EngineAway:
        where = f"temp in {self._shared.folder.name}, shared with the Duix container"
        return EngineAway(f"The folder {where}, cannot be used: {error.strerror}.")


def _collected(entry: ChunkTask, target: Path) -> bool:
    return entry.phase == "collected" and target.is_file() and target.stat().st_size == entry.bytes


_CURES = (
    ("no final result", "it gives up after 600 s; lower part_seconds in [duix]"),
    ("队列", "its queue is stuck; restart the container"),
    ("时长", "it cannot read its inputs; check that shared in [duix] is the folder that it mounts as /code/data"),
)
"""Parts of what it says (Duix-Avatar issues 471, 556; 226, 287; 464, 579) and what its users found to help."""


def explained(message: str) -> str:
    """What it says of a failure, with what is known to help."""
    cure = next((f" ({cure})" for sign, cure in _CURES if sign in message), "")
    return f"it reports {message or 'no reason'}{cure}"
