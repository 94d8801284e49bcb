"""One line's watch: open its folders, look, take what has settled; wait out a share that has gone away.

Each line has its own task, so that a share that hangs stops nothing but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from heygemd.common import log
from heygemd.common.errors import StorageError
from heygemd.common.names import display, folded, split
from heygemd.common.request import Stamp
from heygemd.config.load import Config, IntakeConfig, LineConfig
from heygemd.intake import plan as intake_plan
from heygemd.intake.settling import Settled, Settler
from heygemd.intake.view import Clause, consent_of
from heygemd.share.client import UNREADABLE, ShareError
from heygemd.share.entry import InboxEntry
from heygemd.store import recovery
from heygemd.store.drops import DropStore
from heygemd.watch import inbox_readme
from heygemd.watch.order_files import Answer, Desk, Order
from heygemd.watch.watcher import Watcher

BREATH = 0.1  # seconds between two looks at least, however many events come
RETRY_SECONDS = 5.0  # between two tries to reach a share that has gone away
LEAVE_SECONDS = 5.0  # at the end nobody waits long for a share


class Line:
    """The inbox of one line, watched."""

    def __init__(
        self, config: Config, line: LineConfig, store: DropStore, claimed: Callable[[], None],
        obey: Callable[[str, Order], Awaitable[Answer]],
    ) -> None:  # fmt: skip
        """``claimed`` is called whenever new jobs are in the journal; ``obey`` carries out people's orders."""
        self.config, self.line, self.store, self.claimed = config, line, store, claimed
        self._desk = Desk(line.name, obey)
        self.share = store.shares[line.name]
        self.open = False
        self.blind = True
        self.problem: str | None = None
        self._no_room: dict[str, str] = {}
        self._held_up: dict[str, str] = {}  # drops that cannot be delivered or filed, and why
        self.waiting: list[dict[str, Any]] = []
        self.looked = 0
        self.at_rest = False
        self._log = log.get(line=line.name)
        self._settler = _settler(config.intake)
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._watcher = Watcher([line.inbox], lambda: self._loop.call_soon_threadsafe(self._wake.set), line.trusted)
        self._manifests: dict[str, tuple[Stamp, bytes | str]] = {}  # what was read, or why it could not be
        self._due: float | None = None
        self._named: set[str] = set()
        self._next: tuple[Config, LineConfig] | None = None

    def heed(self, config: Config, line: LineConfig) -> None:
        """Go by these settings from the next look on; the folders are the same."""
        self._next = config, line
        self.wake()

    @property
    def pending(self) -> bool:
        """Whether the settings in force have not been looked by yet."""
        return self._next is not None or not self.looked

    def _take_up(self) -> None:
        if self._next is None:
            return
        old = self.config.intake
        (self.config, self.line), self._next = self._next, None
        if self.config.intake != old:
            self._settler = _settler(self.config.intake)
        if self.config.intake.watch != old.watch:
            self.open = False  # it is opened anew, watched in the new way
            self._watcher.stop()

    def wake(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                self._take_up()
                try:
                    await self.check()
                    await self._look()
                except (StorageError, ShareError) as error:
                    self._lost(error)
                await self._pause()
        finally:
            self._watcher.stop()

    # ------------------------------------------------------------ room

    @property
    def full(self) -> str | None:
        """What was said when something found no room; nothing new is begun for this line until it has."""
        return next(iter(self._no_room.values()), None)

    def finds_no_room(self, drop_id: str, problem: str) -> None:
        """A film or log of this drop could not be laid down."""
        if not self._no_room:
            self._log.error("line_full", problem=problem)
        self._no_room[drop_id] = problem

    def finds_obstacle(self, drop_id: str, problem: str) -> None:
        """A film or folder of this drop could not be put where it belongs; others may."""
        self._held_up[drop_id] = problem

    def finds_room(self, drop_id: str) -> None:
        """What could not be laid down now was."""
        self._held_up.pop(drop_id, None)
        if self._no_room.pop(drop_id, None) and not self._no_room:
            self._log.info("line_has_room")

    # ------------------------------------------------------------ the share

    async def check(self) -> None:
        """Make sure that the folders are there and ours; the first time, finish what was interrupted in them.

        Raises ``StorageError``.
        """
        opened = await self.store.look_at(self.line)
        if self.open:
            return
        await recovery.line(self.store, self.line)
        await self._explain()
        self._watch(opened.blind)
        self.open, self.problem = True, None
        self._log.info("line_open", root=str(self.line.root), watch=self.watch)
        self.claimed()

    async def leave(self) -> None:
        """Let another daemon have the line, once nothing of ours is done on it any more."""
        if self.open:
            with contextlib.suppress(StorageError):  # then it is left to the others to find out
                me = self.store.hold(self.line.name).me()
                await self.share.leave_line(str(self.line.processing), me, seconds=LEAVE_SECONDS)

    async def _explain(self) -> None:
        """Lay the README for people into the inbox; a line works without it."""
        text = inbox_readme.text(self.config, self.line)
        try:
            await self.share.lay_down(str(self.line.inbox / inbox_readme.NAME), text)
        except ShareError as error:
            self._log.warning("readme_refused", problem=str(error))

    def _watch(self, blind: bool) -> None:
        choice = self.config.intake.watch
        self.blind = choice == "polling" or (choice == "auto" and blind)
        if not self.blind and (problem := self._watcher.start()):
            self.blind = True
            self._log.warning("watch_refused", problem=problem)

    @property
    def watch(self) -> str:
        """How changes are noticed."""
        return "polling" if self.blind else "inotify"

    def _lost(self, error: Exception) -> None:
        self.looked += 1
        self.at_rest = True  # nothing more can be taken from it for now
        if self.problem != str(error):
            self._log.error("line_unavailable", problem=str(error))
        self.open, self.problem = False, str(error)
        self._watcher.stop()

    # ------------------------------------------------------------ looking

    async def _look(self) -> None:
        entries = await self._heed_orders(await self.share.scan(str(self.line.inbox)))
        now = time.monotonic()
        settled = self._settler.observe(now, entries)
        if settled.to_inspect:
            await self._inspect(settled)
            settled = self._settler.observe(time.monotonic(), entries)
        plan = await self._plan(now, entries, settled)
        for request in plan.drops:
            await self.store.claim(self.line, request)
        if plan.drops:
            self._wake.set()
            self.claimed()
        self._due = plan.due
        self._note_waiting(now, plan.waiting)
        self.at_rest = not plan.drops and self._settler.next_due(now) is None
        self.looked += 1

    @property
    def paused(self) -> bool:
        """Whether a file PAUSE lies in the inbox: then no job of this line is begun."""
        return self._desk.paused

    async def _heed_orders(self, entries: list[InboxEntry]) -> list[InboxEntry]:
        """Carry out the orders among what was found; the rest is for intake."""
        before, obeyed = self._desk.paused, self._desk.obeyed
        rest = await self._desk.heed(entries, self.share, self.line)
        if before != self._desk.paused or obeyed != self._desk.obeyed:
            self.claimed()
        return rest

    async def _inspect(self, settled: Settled) -> None:
        paths = [entry.path for entry in settled.to_inspect]
        found = await self.share.inspect(str(self.line.inbox), paths)
        for entry in settled.to_inspect:
            self._settler.inspected(entry.path, entry.stamp, found[entry.path])

    async def _plan(self, now: float, entries: list[InboxEntry], settled: Settled) -> intake_plan.InboxPlan:
        stamps = {entry.path: entry.stamp for entry in entries}
        self._manifests = {p: v for p, v in self._manifests.items() if stamps.get(p) == v[0]}
        while True:
            view = intake_plan.InboxView(
                now=now,
                entries=tuple(entries),
                settled=settled.files,
                quiet_dirs=settled.quiet_dirs,
                first_seen=settled.first_seen,
                incomplete=settled.incomplete,
                manifest_bytes={p: v for p, (_, v) in self._manifests.items() if isinstance(v, bytes)},
                unreadable={p: v for p, (_, v) in self._manifests.items() if isinstance(v, str)},
                library_has=self._library_has,
                library_consents=self._library_consents,
                line=self.line,
                rules=self.config.intake,
            )
            plan = intake_plan.plan(view)
            wanted = [path for path in plan.manifests_to_read if path not in self._manifests]
            if not wanted:
                return plan
            for path in wanted:
                self._manifests[path] = (stamps[path], await self._read(path))

    async def _read(self, path: str) -> bytes | str:
        """A manifest's bytes, or a clause why it cannot be read.  Raises ``ShareError`` where that may pass."""
        limit = self.config.intake.max_manifest_kib * 1024
        try:
            return await self.share.read(f"{self.line.inbox}/{path}", limit)
        except ShareError as error:
            if error.errno not in UNREADABLE:
                raise
            return f"cannot be read: {os.strerror(error.errno).lower()}"

    def _library_has(self, path: str) -> str | None:
        """The absolute path of a library file.  Libraries are local or mounted for good; a stat is all it takes."""
        for folder in self.line.library:
            with contextlib.suppress(OSError, RuntimeError):  # not ours to read, or links in a circle: not there
                candidate = (folder / path).resolve()
                if candidate.is_relative_to(folder.resolve()) and candidate.is_file():
                    return str(candidate)
        return None

    def _library_consents(self, path: str) -> tuple[str, ...]:
        """The consent files beside a library file."""
        folder, name = os.path.split(path)
        key = folded(split(name)[0])
        found = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                whose = consent_of(entry.name)
                if whose is not None and folded(whose) == key and entry.is_file() and entry.stat().st_size:
                    found.append(entry.path)
        return tuple(sorted(found))

    def _note_waiting(self, now: float, waiting: tuple[intake_plan.Waiting, ...]) -> None:
        wall = datetime.now().astimezone()
        self.waiting = []
        for item in waiting:
            since = (wall - timedelta(seconds=now - item.since)).isoformat(timespec="seconds")
            name = display(item.path)
            row: dict[str, Any] = {"line": self.line.name, "path": name, "reason": str(item.reason), "since": since}
            if isinstance(item.reason, Clause):
                row |= {"code": item.reason.code, "values": item.reason.values}
            self.waiting.append(row)
            if item.overdue and item.path not in self._named:
                self._named.add(item.path)
                self._log.warning("still_waiting", file=name, reason=item.reason)
        self._named &= {item.path for item in waiting}

    async def _pause(self) -> None:
        rules = self.config.intake
        seconds = rules.poll_seconds if self.blind else rules.rescan_seconds
        if not self.open:
            seconds = min(RETRY_SECONDS, max(seconds, BREATH))
        else:
            now = time.monotonic()
            due = [at - now for at in (self._settler.next_due(now), self._due) if at is not None]
            seconds = min([seconds, *(max(wait, BREATH) for wait in due)])
        await asyncio.sleep(min(BREATH, seconds))
        try:
            await asyncio.wait_for(self._wake.wait(), max(seconds - BREATH, 0.0))
        except TimeoutError:
            if not self.blind and not self._watcher.alive() and self.open:
                self._watch(False)
        self._wake.clear()

    def row(self) -> dict[str, Any]:
        """The line as ``status`` shows it."""
        return {
            "name": self.line.name, "root": str(self.line.root), "inbox": str(self.line.inbox), "watch": self.watch,
            "state": "unavailable" if not self.open else "full" if self.full else "paused" if self.paused else "ok",
            "problem": self.problem or self.full or next(iter(self._held_up.values()), None),
            "paused": self.paused, "orders": list(self._desk.answers),
        }  # fmt: skip


def _settler(rules: IntakeConfig) -> Settler:
    return Settler(rules.settle_readings, rules.settle_seconds, rules.folder_seconds, rules.incomplete_seconds)
