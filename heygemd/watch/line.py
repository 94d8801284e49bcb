"""One line's watch: open its folders, scan the inbox, claim what has settled; wait until a lost share is back.

Each line has its own task, so that a share that hangs stops nothing but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from heygemd.common import log
from heygemd.common.aio import Pace
from heygemd.common.errors import StorageError
from heygemd.common.names import display
from heygemd.config.live import Live
from heygemd.config.tables import IntakeConfig
from heygemd.intake import plan as intake_plan
from heygemd.intake.settling import Settled, Settler
from heygemd.intake.view import Clause
from heygemd.share.client import ShareClient, ShareError
from heygemd.share.entry import InboxEntry
from heygemd.store import recovery
from heygemd.store.drops import DropStore
from heygemd.watch import inbox_readme
from heygemd.watch.obstacles import Obstacles
from heygemd.watch.order_files import LineOrders, LoggedReply, OrderFile, OrderReply
from heygemd.watch.planning import InboxPlanner
from heygemd.watch.watcher import Watcher

LEAVE_SECONDS = 5.0  # at the end nobody waits long for a share


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """Something in the inbox that is not claimed yet.

    ``path`` is for people; ``since`` is ISO 8601.  ``code`` and ``values`` give the reason in other languages.
    """

    path: str
    reason: str
    since: str
    code: str | None = None
    values: Mapping[str, object] | None = None


class WatchedLine:
    """The inbox of one line, watched."""

    def __init__(
        self, live: Live, name: str, share: ShareClient, store: DropStore, on_news: Callable[[], None],
        carry_out: Callable[[str, OrderFile], Awaitable[OrderReply]], pace: Pace,
    ) -> None:  # fmt: skip
        """``on_news`` is called when new jobs are in the journal or a job may start now; ``carry_out`` does what an
        order file asks."""
        self._live, self.name, self.share, self._store = live, name, share, store
        self._config, self.settings = live.now, live.lines[name]
        self._on_news, self._pace = on_news, pace
        self._orders = LineOrders(name, carry_out)
        self.obstacles = Obstacles(name)
        self.open = False
        self.problem: str | None = None  #: why the line is not open
        self.waiting: list[WaitingFile] = []
        self.looked = 0  #: scans, and failed tries, so far
        self.at_rest = False  #: whether nothing in the inbox will settle by waiting
        self._blind = True  # whether the inbox must be polled
        self._settler = _settler(self._config.intake)
        self._planner = InboxPlanner(share)
        self._wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        trusted = self.settings.trusted
        self._watcher = Watcher([self.settings.inbox], lambda: loop.call_soon_threadsafe(self._wake.set), trusted)
        self._due: float | None = None
        self._warned: set[str] = set()  # overdue paths that the log has named
        self._log = log.get(line=name)

    # ------------------------------------------------------------ settings

    @property
    def pending(self) -> bool:
        """Whether no look by the settings in force has begun yet."""
        in_force = self._live.now.intake, self._live.lines.get(self.name)
        return not self.looked or (self._config.intake, self.settings) != in_force

    def _take_up_settings(self) -> None:
        """Go by the settings in force; between two looks, so that one look goes by one configuration.

        The line's folders stay the same: a line with other folders is another line, for which this one is closed.
        """
        old, self._config = self._config.intake, self._live.now
        self.settings = self._live.lines[self.name]
        new = self._config.intake
        if new != old:
            self._settler = _settler(new)
        if new.watch != old.watch:
            self.open = False  # it is opened again, and watched in the new way
            self._watcher.stop()

    def wake(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                self._take_up_settings()
                try:
                    await self.check()
                    await self._look()
                except (StorageError, ShareError) as error:
                    self._lost(error)
                await self._pause()
        finally:
            self._watcher.stop()

    # ------------------------------------------------------------ state

    @property
    def full(self) -> str | None:
        """Why the outbox has no room; ``None``: it has.  No job of this line begins meanwhile."""
        return self.obstacles.full

    @property
    def paused(self) -> bool:
        """Whether a file PAUSE is in the inbox: then no job of this line begins."""
        return self._orders.paused

    @property
    def watch(self) -> str:
        """How changes are noticed: ``polling`` or ``inotify``."""
        return "polling" if self._blind else "inotify"

    @property
    def order_replies(self) -> Sequence[LoggedReply]:
        """What became of the last order files, the newest first."""
        return tuple(self._orders.replies)

    # ------------------------------------------------------------ the share

    async def check(self) -> None:
        """Make sure that the folders are there and ours; the first time, finish what was interrupted in them.

        Raises ``StorageError``.
        """
        opened = await self._store.look_at(self.settings)
        if self.open:
            return
        await recovery.line(self._store, self.settings)
        await self._write_readme()
        self._start_watcher(opened.blind)
        self.open, self.problem = True, None
        self._log.info("line_open", root=str(self.settings.root), watch=self.watch)
        self._on_news()

    async def leave(self) -> None:
        """Let another daemon have the line, once nothing of ours is done on it any more."""
        if self.open:
            with contextlib.suppress(StorageError):  # then it is left to the others to find out
                me = self._store.hold(self.name).me()
                await self.share.leave_line(str(self.settings.processing), me, seconds=LEAVE_SECONDS)

    async def _write_readme(self) -> None:
        """Put the README for people into the inbox; a line works without it."""
        text = inbox_readme.text(self._config, self.settings)
        try:
            await self.share.lay_down(str(self.settings.inbox / inbox_readme.NAME), text)
        except ShareError as error:
            self._log.warning("readme_refused", problem=str(error))

    def _start_watcher(self, blind: bool) -> None:
        """``blind``: whether the inbox's file system reports no changes that other machines make."""
        choice = self._config.intake.watch
        self._blind = choice == "polling" or (choice == "auto" and blind)
        if not self._blind and (problem := self._watcher.start()):
            self._blind = True
            self._log.warning("watch_refused", problem=problem)

    def _lost(self, error: Exception) -> None:
        self.looked += 1
        self.at_rest = True  # nothing more can be taken from it for now
        if self.problem != str(error):
            self._log.error("line_unavailable", problem=str(error))
        self.open, self.problem = False, str(error)
        self._watcher.stop()

    # ------------------------------------------------------------ looking

    async def _look(self) -> None:
        entries = await self._take_orders(await self.share.scan(str(self.settings.inbox)))
        now = time.monotonic()
        settled = self._settler.observe(now, entries)
        if settled.to_inspect:
            await self._inspect(settled)
            settled = self._settler.observe(time.monotonic(), entries)
        plan = await self._planner.plan(now, entries, settled, self.settings, self._config.intake)
        for request in plan.drops:
            await self._store.claim(self.settings, request)
        if plan.drops:
            self._wake.set()
            self._on_news()
        self._due = plan.due
        self._note_waiting(now, plan.waiting)
        self.at_rest = not plan.drops and self._settler.next_due(now) is None
        self.looked += 1

    async def _take_orders(self, entries: list[InboxEntry]) -> list[InboxEntry]:
        """Carry out the order files among the entries; the rest is for intake."""
        before = self._orders.paused, self._orders.count
        rest = await self._orders.take(entries, self.share, self.settings)
        if before != (self._orders.paused, self._orders.count):
            self._on_news()
        return rest

    async def _inspect(self, settled: Settled) -> None:
        paths = [entry.path for entry in settled.to_inspect]
        problems = await self.share.inspect(str(self.settings.inbox), paths)
        for entry in settled.to_inspect:
            self._settler.inspected(entry.path, entry.stamp, problems[entry.path])

    def _note_waiting(self, now: float, waiting: Sequence[intake_plan.Waiting]) -> None:
        wall = datetime.now().astimezone()
        self.waiting = []
        for item in waiting:
            since = (wall - timedelta(seconds=now - item.since)).isoformat(timespec="seconds")
            clause = item.reason if isinstance(item.reason, Clause) else None
            code, values = (clause.code, clause.values) if clause is not None else (None, None)
            self.waiting.append(WaitingFile(display(item.path), str(item.reason), since, code, values))
            if item.overdue and item.path not in self._warned:
                self._warned.add(item.path)
                self._log.warning("still_waiting", file=display(item.path), reason=item.reason)
        self._warned &= {item.path for item in waiting}

    async def _pause(self) -> None:
        """Until something wakes the line, or the next look is due."""
        rules, breath = self._config.intake, self._pace.breath
        seconds = rules.poll_seconds if self._blind else rules.rescan_seconds
        if not self.open:
            seconds = min(self._pace.retry, max(seconds, breath))
        else:
            now = time.monotonic()
            due = [at - now for at in (self._settler.next_due(now), self._due) if at is not None]
            seconds = min([seconds, *(max(wait, breath) for wait in due)])
        await asyncio.sleep(min(breath, seconds))
        try:
            await asyncio.wait_for(self._wake.wait(), max(seconds - breath, 0.0))
        except TimeoutError:
            if not self._blind and not self._watcher.alive() and self.open:
                self._start_watcher(False)
        self._wake.clear()


def _settler(rules: IntakeConfig) -> Settler:
    return Settler(rules.settle_readings, rules.settle_seconds, rules.folder_seconds, rules.incomplete_seconds)
