"""Orders that people give by dropping a file: ``<name>.cancel``, ``<name>.retry``, ``PAUSE``.

A line takes them if ``folder_control`` is on, and only for its own drops.  The name is the whole order; the content of
the file does not matter.  An order is carried out, replied to, and its file removed, in this sequence: a death in
between repeats the order, which then finds nothing more to do, rather than losing it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from heygemd.common import log
from heygemd.common.errors import HeygemdError, StorageError
from heygemd.common.messages import say
from heygemd.common.names import display, folded, parent, safe_component, split
from heygemd.common.request import AUDIO_SUFFIXES, MANIFEST_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES, DropRequest, Stamp
from heygemd.config.line import LineConfig
from heygemd.share.client import ShareClient, ShareError
from heygemd.share.entry import InboxEntry
from heygemd.store.drops import DropStore, Job, JobState, Journal
from heygemd.store.states import DropState, now

REPLIES = 10
"""Number of replies that the status page shows."""

_ENDINGS: dict[str, Literal["cancel", "retry"]] = {".cancel": "cancel", ".retry": "retry"}
_PAUSE = frozenset({"pause", "pause.txt"})  # file managers like to add .txt
_MOST_BYTES = 4096  # a file with more in it is somebody's work, not an order
_MEDIA = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES | MANIFEST_SUFFIXES
_LOOKED_BACK = 500  # number of ended jobs among which one to be tried again is searched


@dataclass(frozen=True, slots=True)
class OrderFile:
    """One file that is an order: for the drop or film ``name`` in the subfolder ``folder`` of the inbox."""

    path: str
    stamp: Stamp
    kind: Literal["cancel", "retry"]
    folder: str
    name: str


@dataclass(frozen=True, slots=True)
class OrderReply:
    """What became of an order: a code of ``common.messages`` with its values."""

    code: str
    values: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class LoggedReply:
    """A reply with its time (ISO 8601) and the order file's name, for people."""

    at: str
    order: str
    reply: OrderReply


@dataclass(frozen=True, slots=True)
class SortedEntries:
    """A listing in parts: order files, whether the line must pause, and the rest, which is for intake."""

    orders: tuple[OrderFile, ...]
    paused: bool
    rest: tuple[InboxEntry, ...]


def sort_entries(entries: Iterable[InboxEntry]) -> SortedEntries:
    """Separate the order files of an inbox from what was dropped.  Pure."""
    orders, rest, paused = [], [], False
    for entry in entries:
        order = None if entry.is_dir or entry.other or entry.stamp.size > _MOST_BYTES else _order(entry)
        if order is not None:
            orders.append(order)
        elif not entry.is_dir and not entry.other and entry.path.lower() in _PAUSE:
            paused = True
        else:
            rest.append(entry)
    return SortedEntries(tuple(orders), paused, tuple(rest))


def _order(entry: InboxEntry) -> OrderFile | None:
    folder, _, name = entry.path.rpartition("/")
    stem, suffix = split(name)
    if suffix == ".txt":
        stem, suffix = split(stem)
    kind = _ENDINGS.get(suffix)
    return OrderFile(entry.path, entry.stamp, kind, folder, stem) if kind and stem else None


def jobs_named(request: DropRequest, jobs: Sequence[Job], order: OrderFile) -> list[Job]:
    """The jobs of a drop that an order names: all, if it names the drop, or those whose film it names.  Pure."""
    stem, suffix = split(order.name)
    wanted = {folded(safe_component(n)) for n in (order.name, *([stem] if suffix in _MEDIA else []))}
    top, _, below = order.folder.partition("/")
    place = folded(below if top.lower() in ("high", "low") else order.folder)
    around = parent(request.folder) if request.kind == "folder" else request.folder
    if folded(around) == place and folded(request.name) in wanted:
        return list(jobs)
    here = folded(request.folder) == place
    return [job for job in jobs if here and folded(safe_component(job.request.name)) in wanted]


class OrderExecutor:
    """Carries orders out."""

    def __init__(self, journal: Journal, store: DropStore, cancel: Callable[[Job], None]) -> None:
        """``cancel`` ends a queued or running job, and raises ``HeygemdError`` for any other."""
        self._journal, self._store, self._cancel = journal, store, cancel

    async def carry_out(self, line: str, order: OrderFile) -> OrderReply:
        """Do what an order asks.  Raises ``StorageError`` where the line's share does not answer."""
        return self._end(line, order) if order.kind == "cancel" else await self._retry(line, order)

    def _end(self, line: str, order: OrderFile) -> OrderReply:
        states = (state for state in DropState if state is not DropState.ENDED)
        open_drops = [drop for drop in self._journal.drops(*states) if drop.line == line]
        jobs = [j for d in open_drops for j in jobs_named(d.request, self._journal.jobs_of(d.id), order)]
        stopped = [job for job in jobs if job.state in (JobState.QUEUED, JobState.RUNNING)]
        for job in stopped:
            self._cancel(job)
        name = display(order.name)
        if stopped:
            return OrderReply("order:cancelled", {"name": name, "count": len(stopped)})
        return OrderReply("order:too_late" if jobs else "order:unknown", {"name": name})

    async def _retry(self, line: str, order: OrderFile) -> OrderReply:
        rows = self._journal.jobs({JobState.FAILED.value, JobState.CANCELLED.value}, _LOOKED_BACK)
        drops = [self._journal.drop(name) for name in dict.fromkeys(row["drop"] for row in rows if row["line"] == line)]
        name = display(order.name)
        for drop in drops:  # the newest first
            ended = [j for j in self._journal.jobs_of(drop.id) if j.state in (JobState.FAILED, JobState.CANCELLED)]
            jobs = jobs_named(drop.request, ended, order)
            if jobs:
                return await self._queue(jobs, name)
        return OrderReply("order:unknown", {"name": name})

    async def _queue(self, jobs: Sequence[Job], name: str) -> OrderReply:
        queued, refusal = 0, ""
        for job in jobs:
            try:
                await self._store.retry(job)
                queued += 1
            except HeygemdError as error:
                if isinstance(error, StorageError):
                    raise
                refusal = error.message
        if queued:
            return OrderReply("order:again", {"name": name, "count": queued})
        return OrderReply("order:refused", {"name": name, "why": refusal})


class LineOrders:
    """One line's orders: carried out once, replied to, and their files removed."""

    def __init__(self, line: str, carry_out: Callable[[str, OrderFile], Awaitable[OrderReply]]) -> None:
        self._line, self._carry_out = line, carry_out
        self.paused = False
        self.count = 0  #: of replies so far
        self.replies: deque[LoggedReply] = deque(maxlen=REPLIES)  #: the newest first
        self._left: set[tuple[str, Stamp]] = set()  # carried out, but their files could not be removed
        self._log = log.get(line=line)

    async def take(self, entries: list[InboxEntry], share: ShareClient, line: LineConfig) -> list[InboxEntry]:
        """Carry out the order files among ``entries`` if the line allows them; the other entries.

        Raises ``StorageError`` where the share does not answer.
        """
        if not line.folder_control:
            self.paused = False
            return entries
        parts = sort_entries(entries)
        if parts.paused != self.paused:
            self.paused = parts.paused
            self._reply("PAUSE", OrderReply("order:paused" if self.paused else "order:resumed", {}))
        self._left &= {(order.path, order.stamp) for order in parts.orders}
        for order in parts.orders:
            if (order.path, order.stamp) not in self._left:
                self._reply(order.path, await self._carry_out(self._line, order))
                self._left.add((order.path, order.stamp))
            with contextlib.suppress(ShareError):  # the file stays, carried out; the reply says what was done
                await share.remove_seen(f"{line.inbox}/{order.path}", order.stamp)
        return list(parts.rest)

    def _reply(self, path: str, reply: OrderReply) -> None:
        self.count += 1
        self.replies.appendleft(LoggedReply(now(), display(path), reply))
        self._log.info("order_obeyed", order=display(path), answer=say("en", reply.code, reply.values))
