"""What the daemon does.

    start     lock the state folder, open the journal, note what was interrupted
    lines     one task a line: watch the inbox, claim what has settled                    (lines.py)
    render    one task: the next job when the guard lets it, in the worker's process      (scheduler/render_loop.py)
    deliver   one task: finished films into the outbox, drops into done/ or failed/       (delivery.py)
    answer    status, cancel, pause … on the control socket                               (commands.py)
    tell      status pages, figures for Prometheus, hooks              (status_pages.py, monitor.py, hooks.py)
    reload    the configuration anew, all of it or nothing                                (config/changes.py)
    stop      the same backwards; a job that cannot end in time starts anew later

One event loop that never blocks: share I/O, rendering and probing are in children.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from typing import Any, TextIO

from heygemd import __version__
from heygemd.common import log
from heygemd.common.aio import Later, ended
from heygemd.common.errors import HeygemdError, SetupError
from heygemd.config import changes as config_changes
from heygemd.config.load import Config, LineConfig, load
from heygemd.contract import control
from heygemd.daemon.commands import Answers
from heygemd.daemon.delivery import Delivery
from heygemd.daemon.hooks import Hooks, event_of, notice
from heygemd.daemon.housekeeping import Housekeeper
from heygemd.daemon.monitor import Monitor
from heygemd.daemon.status_pages import Board
from heygemd.daemon.systemd import Notifier
from heygemd.scheduler.render_loop import Rendering
from heygemd.share.client import Share
from heygemd.store import recovery
from heygemd.store.drops import Job, Journal, Store
from heygemd.store.states import DropState
from heygemd.watch.line import Line
from heygemd.watch.order_files import Orders

EXIT_OK, EXIT_JOBS_FAILED = 0, 3
TURN_SECONDS = 1.0
START_TURN_SECONDS = 0.1
PATIENCE_SECONDS = 15.0  # what systemd is asked for at a time, while the start or the stop goes on


def run(config: Config, *, once: bool = False, terminal: bool = False) -> int:
    """Serve the configured lines until told to stop, or with ``once`` until all that is there has been done.

    Returns 0, or with ``once`` 3 where a job failed or a line could not be reached.  Raises ``HeygemdError`` where it
    cannot start.
    """
    settings = config.daemon
    log.setup(settings.log_level, settings.log_file, settings.log_mib, settings.log_keep, terminal)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    with _only_one(config):
        journal = Journal(settings.state_dir / "journal.sqlite")
        try:
            return asyncio.run(Daemon(config, journal, once=once).serve())
        finally:
            journal.close()


@contextlib.contextmanager
def _only_one(config: Config) -> Any:
    """Hold the state folder's lock: two daemons on one journal would deliver twice."""
    path = config.daemon.state_dir / "lock"
    file: TextIO = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise SetupError(
            f"Another heygemd (process {file.read().strip() or 'unknown'}) runs with the state folder "
            f"{config.daemon.state_dir}; stop it first."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    try:
        yield
    finally:
        file.close()


class Daemon:
    """One daemon: its lines, its store, and the tasks on them."""

    def __init__(self, config: Config, journal: Journal, *, once: bool) -> None:
        self.config, self.journal, self.once = config, journal, once
        self.shares = {line.name: Share(line.name, config.intake.share_seconds, line.trusted) for line in config.lines}
        self.store = Store(config, journal, self.shares)
        self.lines: dict[str, Line] = {}
        later = Later()
        self.rendering = Rendering(config, journal, self.store, self.lines, later, self._wake)
        self.delivery = Delivery(journal, self.store, self.lines, later)
        self.answers = Answers(journal, self.store, self.lines, self.rendering, self._reload, self._wake)
        self.orders = Orders(journal, self.store, self.rendering.cancel)
        self.board = Board(lambda: self.config, self.lines, self.answers.status)
        self.monitor = Monitor(lambda: self.config, journal, self.lines, self.rendering)
        self.housekeeper = Housekeeper(lambda: self.config, journal, self.lines)
        self.hooks = Hooks(config)
        self._stop = asyncio.Event()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._hangup: asyncio.Task[None] | None = None
        self._log = log.get()

    # ------------------------------------------------------------ the story

    async def serve(self) -> int:
        """Start, go on until told to stop, stop in the reverse order."""
        self.journal.changed = self._job_changed
        recovery.interrupted(self.store)
        self._listen_to_signals()
        async with control.serve(self.config.daemon.socket, self.answers.answer), self._watched_lines():
            notifier = Notifier()
            self._log.info("daemon_started", version=__version__, pid=os.getpid(), lines=sorted(self.lines))
            render = asyncio.create_task(self.rendering.loop())
            deliver = asyncio.create_task(self.delivery.loop(render))
            ready = False
            while not self._stop.is_set():
                _raise_dead([render, deliver, *self._watches.values()])
                if not ready and (ready := all(line.looked for line in self.lines.values())):
                    notifier.ready()
                    self._log.info("daemon_ready", unavailable=[n for n, line in self.lines.items() if line.problem])
                if not ready:
                    notifier.more_time(PATIENCE_SECONDS)
                notifier.beat(self.answers.summary)
                if self.once and self._drained():
                    break
                await self.rendering.tend()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TURN_SECONDS if ready else START_TURN_SECONDS)
            notifier.stopping()
            await self._wind_down([render, deliver], notifier)
        await self.hooks.close()
        bad = self.journal.failed_since(self.answers.started) or any(line.problem for line in self.lines.values())
        self._log.info("daemon_stopped")
        return EXIT_JOBS_FAILED if self.once and bad else EXIT_OK

    @contextlib.asynccontextmanager
    async def _watched_lines(self) -> AsyncIterator[None]:
        for settings in self.config.lines:
            self._open_line(settings)
        self._watches["status pages"] = asyncio.create_task(self.board.run())  # no line's name has a space
        self._watches["house keeping"] = asyncio.create_task(self.housekeeper.run())
        self._watches["the metrics"] = asyncio.create_task(self.monitor.run())
        try:
            yield
        finally:
            await ended(list(self._watches.values()))
            await self.board.last()
            await self.monitor.last()
            for line in self.lines.values():
                await line.leave()
            for share in self.shares.values():
                await share.close()

    def _open_line(self, settings: LineConfig) -> None:
        name = settings.name
        self.shares[name] = Share(name, self.config.intake.share_seconds, settings.trusted)
        self.store.lines[name] = settings
        self.lines[name] = Line(self.config, settings, self.store, self._wake, self.orders.obey)
        self._watches[name] = asyncio.create_task(self.lines[name].run())

    async def _close_lines(self, names: Collection[str]) -> None:
        tasks = [self._watches.pop(name) for name in names]
        shares = [self.shares.pop(name) for name in names]
        lines = [self.lines.pop(name) for name in names]
        for name in names:
            del self.store.lines[name]
        await ended(tasks)
        for line in lines:
            await line.leave()
        for share in shares:
            await share.close()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._told_to_stop, signum)
        if not sys.stdin.isatty():  # a terminal that is closed means the end
            loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)

    def _told_to_stop(self, signum: signal.Signals) -> None:
        if self.rendering.stopping and signum == signal.SIGINT:  # a second Ctrl-C does not wait for the job
            self.rendering.break_off()
        self._log.info("stop_requested", signal=signum.name)
        self.rendering.stopping = True
        self._stop.set()
        self._wake()

    def _wake(self) -> None:
        """Something has changed that may let a job start, or a film go out."""
        self.rendering.work.set()
        self.delivery.news.set()

    async def _wind_down(self, tasks: list[asyncio.Task[None]], notifier: Notifier) -> None:
        """Let the running job end within ``stop_seconds``; else it is queued again, at no cost to it."""
        self.rendering.stopping = True
        self._wake()
        ends = time.monotonic() + self.config.daemon.stop_seconds
        while not all(task.done() for task in tasks) and (left := ends - time.monotonic()) > 0:
            notifier.more_time(PATIENCE_SECONDS)
            notifier.beat(self.answers.summary)
            await asyncio.wait(tasks, timeout=min(left, TURN_SECONDS))
        notifier.more_time(PATIENCE_SECONDS)
        if not all(task.done() for task in tasks):
            await ended(tasks)
            self.rendering.interrupt()
        await self.rendering.close()

    def _job_changed(self, before: Job, after: Job) -> None:
        self.monitor.changed(before, after)
        event = event_of(before, after)
        if event is not None:
            drop = self.journal.drop(after.drop_id)
            self.hooks.fire(notice(event, after, drop.line, self.store.outlet(drop, after)))

    def _drained(self) -> bool:
        """With ``once``: every line has been looked at, nothing is on its way, and no job is left that could run."""
        if not all(line.looked and line.at_rest for line in self.lines.values()):
            return False
        reachable = {line.line.name for line in self.lines.values() if line.open and not line.paused}
        states = (DropState.CLAIMING, DropState.HELD, DropState.FILING, DropState.RETURNING)
        return not any(drop.line in reachable for drop in self.journal.drops(*states))

    # ------------------------------------------------------------ a new configuration

    def _told_to_reload(self) -> None:
        async def answer() -> None:
            with contextlib.suppress(HeygemdError):  # the log has it
                await self._reload(False)

        self._hangup = asyncio.create_task(answer())

    async def _reload(self, wait: bool) -> dict[str, object]:
        """Read the file again; all of it comes into force, or nothing.  With ``wait`` each line has taken it up."""
        source = self.config.source
        if self.rendering.stopping:
            raise HeygemdError("The daemon is about to end; the next start reads the file.")
        try:
            new = await asyncio.to_thread(load, source)
            changes = config_changes.weigh(self.config, new, self._unfinished())
            _log_anew(self.config, changes.config)
        except HeygemdError as error:
            self._log.error("reload_refused", reason=error.message)
            raise
        self._heed(changes.config)
        await self._close_lines(changes.removed)
        for line in changes.config.lines:
            if line.name in changes.added:
                self._open_line(line)
            elif line.name in changes.changed:
                self.store.lines[line.name] = line
                self.lines[line.name].heed(changes.config, line)
        self._wake()
        self._log.info("reloaded", **changes.told())
        if wait:
            await self._until_heeded()
        return {"source": str(source), **changes.told()}

    def _heed(self, new: Config) -> None:
        self.config = self.store.config = self.hooks.config = new
        self.rendering.heed(new)
        self.monitor.heed()
        for share in self.shares.values():
            share.seconds = new.intake.share_seconds

    def _unfinished(self) -> dict[str, int]:
        states = [state for state in DropState if state is not DropState.ENDED]
        return dict(Counter(drop.line for drop in self.journal.drops(*states)))

    async def _until_heeded(self) -> None:
        ends = time.monotonic() + self.config.intake.share_seconds
        while time.monotonic() < ends and any(line.pending for line in self.lines.values()):
            await asyncio.sleep(START_TURN_SECONDS)


def _log_anew(old: Config, new: Config) -> None:
    """Where the log's settings differ, the new ones.  Raises ``SetupError`` where the new file cannot be written."""
    keys = ("log_level", "log_file", "log_mib", "log_keep")
    if any(getattr(old.daemon, key) != getattr(new.daemon, key) for key in keys):
        own = new.daemon
        log.setup(own.log_level, own.log_file, own.log_mib, own.log_keep, terminal=log.on_terminal())


def _raise_dead(tasks: list[asyncio.Task[None]]) -> None:
    """A task of ours that has ended is a fault of ours: better to end and be started anew than to go on half."""
    for task in tasks:
        if task.done() and not task.cancelled():
            error = task.exception()
            if error is not None:
                log.get().error("daemon_fault", problem=repr(error), exc_info=error)
                print(f"heygemd: internal fault, ending: {error!r}", file=sys.stderr)
                raise error
