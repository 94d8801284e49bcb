"""Orders that people give by dropping a file: ``<name>.cancel``, ``<name>.retry``, ``PAUSE``.

A line obeys them where ``folder_control`` is on, and only for its own drops.  The name is the whole order; what is in
the file does not matter.  An order is carried out, answered, and its file removed, in this sequence: a death in between
repeats the order, which then finds nothing more to do, rather than losing it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heygemd.common import log
from heygemd.common.errors import HeygemdError, StorageError
from heygemd.common.messages import say
from heygemd.common.names import display, folded, parent, safe_component, split
from heygemd.common.request import AUDIO_SUFFIXES, MANIFEST_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES, DropRequest, Stamp
from heygemd.config.load import LineConfig
from heygemd.share.client import ShareClient, ShareError
from heygemd.share.entry import InboxEntry
from heygemd.store.drops import DropStore, Job, JobState, Journal
from heygemd.store.states import DropState, now

ANSWERS = 10
"""So many are shown on the status page."""

_ENDINGS: dict[str, Literal["cancel", "retry"]] = {".cancel": "cancel", ".retry": "retry"}
_PAUSE = frozenset({"pause", "pause.txt"})  # file managers like to add .txt
_MOST_BYTES = 4096  # a file with more in it is somebody's work, not an order
_MEDIA = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES | MANIFEST_SUFFIXES
_LOOKED_BACK = 500  # ended jobs among which one to be tried again is looked for


@dataclass(frozen=True, slots=True)
class Order:
    """One file that is an order: for what is called ``name`` in the subfolder ``folder`` of the inbox."""

    path: str
    stamp: Stamp
    kind: Literal["cancel", "retry"]
    folder: str
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an order: a code of ``wording`` with its values."""

    code: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """A listing, told apart: orders, whether the line is to pause, and what is left for intake."""

    orders: tuple[Order, ...]
    paused: bool
    rest: tuple[InboxEntry, ...]


def read(entries: Iterable[InboxEntry]) -> Read:
    """Tell the orders of an inbox from what was dropped.  Pure."""
    orders, rest, paused = [], [], False
    for entry in entries:
        order = None if entry.is_dir or entry.other or entry.stamp.size > _MOST_BYTES else _order(entry)
        if order is not None:
            orders.append(order)
        elif not entry.is_dir and not entry.other and entry.path.lower() in _PAUSE:
            paused = True
        else:
            rest.append(entry)
    return Read(tuple(orders), paused, tuple(rest))


def _order(entry: InboxEntry) -> Order | None:
    folder, _, name = entry.path.rpartition("/")
    stem, suffix = split(name)
    if suffix == ".txt":
        stem, suffix = split(stem)
    kind = _ENDINGS.get(suffix)
    return Order(entry.path, entry.stamp, kind, folder, stem) if kind and stem else None


def meant(request: DropRequest, jobs: Sequence[Job], order: Order) -> list[Job]:
    """The jobs of a drop that an order speaks of: all, where it names the drop, or those whose film it names.  Pure."""
    stem, suffix = split(order.name)
    wanted = {folded(safe_component(n)) for n in (order.name, *([stem] if suffix in _MEDIA else []))}
    top, _, below = order.folder.partition("/")
    place = folded(below if top.lower() in ("high", "low") else order.folder)
    around = parent(request.folder) if request.kind == "folder" else request.folder
    if folded(around) == place and folded(request.name) in wanted:
        return list(jobs)
    here = folded(request.folder) == place
    return [job for job in jobs if here and folded(safe_component(job.request.name)) in wanted]


class Orders:
    """Carries orders out."""

    def __init__(self, journal: Journal, store: DropStore, cancel: Callable[[Job], None]) -> None:
        """``cancel`` ends a queued or running job, and raises ``HeygemdError`` for any other."""
        self._journal, self._store, self._cancel = journal, store, cancel

    async def obey(self, line: str, order: Order) -> Answer:
        """Do what an order says.  Raises ``StorageError`` where the line's share does not answer."""
        return self._end(line, order) if order.kind == "cancel" else await self._again(line, order)

    def _end(self, line: str, order: Order) -> Answer:
        states = (state for state in DropState if state is not DropState.ENDED)
        open_drops = [drop for drop in self._journal.drops(*states) if drop.line == line]
        jobs = [j for d in open_drops for j in meant(d.request, self._journal.jobs_of(d.id), order)]
        stopped = [job for job in jobs if job.state in (JobState.QUEUED, JobState.RUNNING)]
        for job in stopped:
            self._cancel(job)
        shown = display(order.name)
        if stopped:
            return Answer("order:cancelled", {"name": shown, "count": len(stopped)})
        return Answer("order:too_late" if jobs else "order:unknown", {"name": shown})

    async def _again(self, line: str, order: Order) -> Answer:
        rows = self._journal.jobs({JobState.FAILED.value, JobState.CANCELLED.value}, _LOOKED_BACK)
        drops = [self._journal.drop(name) for name in dict.fromkeys(row["drop"] for row in rows if row["line"] == line)]
        shown = display(order.name)
        for drop in drops:  # the newest first
            jobs = [j for j in self._journal.jobs_of(drop.id) if j.state in (JobState.FAILED, JobState.CANCELLED)]
            found = meant(drop.request, jobs, order)
            if found:
                return await self._queue(found, shown)
        return Answer("order:unknown", {"name": shown})

    async def _queue(self, jobs: Sequence[Job], shown: str) -> Answer:
        tried, refused = 0, ""
        for job in jobs:
            try:
                await self._store.retry(job)
                tried += 1
            except HeygemdError as error:
                if isinstance(error, StorageError):
                    raise
                refused = error.message
        if tried:
            return Answer("order:again", {"name": shown, "count": tried})
        return Answer("order:refused", {"name": shown, "why": refused})


class Desk:
    """One line's orders: obeyed once, answered, and cleared away."""

    def __init__(self, line: str, obey: Callable[[str, Order], Awaitable[Answer]]) -> None:
        self._line, self._obey = line, obey
        self.paused = False
        self.obeyed = 0
        self.answers: deque[dict[str, Any]] = deque(maxlen=ANSWERS)  #: the newest first
        self._left: set[tuple[str, Stamp]] = set()  # obeyed, but their files could not be removed
        self._log = log.get(line=line)

    async def heed(self, entries: list[InboxEntry], share: ShareClient, line: LineConfig) -> list[InboxEntry]:
        """Carry out the orders among ``entries`` where the line takes any; the other entries.

        Raises ``StorageError`` where the share does not answer.
        """
        if not line.folder_control:
            self.paused = False
            return entries
        found = read(entries)
        if found.paused != self.paused:
            self.paused = found.paused
            self._answer("PAUSE", Answer("order:paused" if self.paused else "order:resumed", {}))
        self._left &= {(order.path, order.stamp) for order in found.orders}
        for order in found.orders:
            if (order.path, order.stamp) not in self._left:
                self._answer(order.path, await self._obey(self._line, order))
                self._left.add((order.path, order.stamp))
            with contextlib.suppress(ShareError):  # it stays there, obeyed; the answer says what was done
                await share.remove_seen(f"{line.inbox}/{order.path}", order.stamp)
        return list(found.rest)

    def _answer(self, path: str, answer: Answer) -> None:
        self.obeyed += 1
        said = {"at": now(), "order": display(path), "code": answer.code, "values": answer.values}
        self.answers.appendleft(said)
        self._log.info("order_obeyed", order=display(path), answer=say("en", answer.code, answer.values))
