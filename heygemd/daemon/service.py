"""The daemon's main loop: start, tasks, reload and shutdown.

    start     lock the state folder, open the journal, note what was interrupted
    lines     one task a line: watch the inbox, claim what has settled              (line_set.py, watch/line.py)
    render    one task: the next job when the guard lets it, in the worker's process  (scheduler/render_loop.py)
    deliver   one task: finished films into the outbox, drops into done/ or failed/   (delivery.py)
    commands  status, cancel, pause … on the control socket                           (commands.py)
    report    status pages, figures for Prometheus, hooks                (status_pages.py, monitor.py, hooks.py)
    reload    the configuration file again, all of it or nothing                      (reloading.py)
    stop      the same backwards; a job that cannot end in time is queued again

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
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TextIO

from heygemd import __version__
from heygemd.common import exits, log
from heygemd.common.aio import Later, Pace, ended
from heygemd.common.errors import SetupError
from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.config.load import Config
from heygemd.contract import control
from heygemd.daemon.commands import Commands
from heygemd.daemon.delivery import Delivery
from heygemd.daemon.hooks import Hooks, event_of, notice
from heygemd.daemon.housekeeping import Housekeeper
from heygemd.daemon.line_set import LineSet
from heygemd.daemon.monitor import Monitor
from heygemd.daemon.reloading import Reloading
from heygemd.daemon.status_pages import StatusPages
from heygemd.daemon.systemd import Notifier
from heygemd.scheduler.render_loop import Rendering
from heygemd.share.client import ShareClient
from heygemd.store import recovery
from heygemd.store.drops import DropStore, Job, Journal
from heygemd.store.states import DropState
from heygemd.watch.line import WatchedLine
from heygemd.watch.order_files import OrderExecutor

PATIENCE_SECONDS = 15.0  # the time that systemd is asked for at once, while the start or the stop goes on


def run(config: Config, *, once: bool = False, terminal: bool = False) -> int:
    """Serve the configured lines until a signal stops it, or with ``once`` until no inbox has work left.

    Returns 0, or with ``once`` 3 where a job failed or a line could not be reached.  Raises ``HeygemdError`` where it
    cannot start.
    """
    settings = config.daemon
    log.setup(settings.log_level, settings.log_file, settings.log_mib, settings.log_keep, terminal)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    with _only_one(config):
        journal = Journal(settings.state_dir / "journal.sqlite")
        try:
            return asyncio.run(Daemon(config, journal, Pace(), once=once).serve())
        finally:
            journal.close()


@contextlib.contextmanager
def _only_one(config: Config) -> Iterator[None]:
    """Hold the state folder's lock: two daemons on one journal would deliver twice."""
    path = config.daemon.state_dir / "lock"
    file: TextIO = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise SetupError(
            f"Another heygemd (process {file.read().strip() or 'unknown'}) uses the state folder "
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

    def __init__(self, config: Config, journal: Journal, pace: Pace, *, once: bool) -> None:
        self.journal, self.pace, self.once = journal, pace, once
        self.live = Live(config)
        self.lines = LineSet(self.live, self._watch)
        self.store = DropStore(self.live, journal, self.lines.shares)
        later = Later()
        self.rendering = Rendering(self.live, journal, self.store, self.lines, later, self._wake, pace)
        self.delivery = Delivery(journal, self.store, self.lines, later, pace)
        self.orders = OrderExecutor(journal, self.store, self.rendering.cancel)
        self.reloading = Reloading(self.live, journal, self.lines, self.rendering, self._wake, pace)
        self.commands = Commands(journal, self.store, self.lines, self.rendering, self.reloading, self._wake)
        self.pages = StatusPages(self.live, self.lines, self.commands.status, pace)
        self.monitor = Monitor(self.live, journal, self.lines, self.rendering, pace)
        self.housekeeper = Housekeeper(self.live, journal, self.lines)
        self.hooks = Hooks(self.live)
        self._stop = asyncio.Event()
        self._log = log.get()

    # ------------------------------------------------------------ the story

    async def serve(self) -> int:
        """Start, go on until a signal, stop in the reverse order."""
        self.journal.changed = self._job_changed
        recovery.interrupted(self.store)
        self._listen_to_signals()
        notifier = Notifier()
        socket = self.live.now.daemon.socket
        async with control.serve(socket, self.commands.handle), self._open_lines(), self._reports() as reports:
            self._log.info("daemon_started", version=__version__, pid=os.getpid(), lines=sorted(self.lines))
            render = asyncio.create_task(self.rendering.loop())
            deliver = asyncio.create_task(self.delivery.loop(render))
            await self._go_on([render, deliver, *reports], notifier)
            notifier.stopping()
            await self._wind_down([render, deliver], notifier)
        await self.hooks.close()
        self._log.info("daemon_stopped")
        return self._exit_code()

    async def _go_on(self, tasks: Sequence[asyncio.Task[None]], notifier: Notifier) -> None:
        """The main loop: until a signal, or with ``once`` until no work is left.  Raises what one of ``tasks``, or a
        line's task, has raised."""
        ready = False
        while not self._stop.is_set():
            _raise_dead([*tasks, *self.lines.tasks])
            if not ready and (ready := all(line.looked for line in self.lines.values())):
                notifier.ready()
                unavailable = [name for name, line in self.lines.items() if line.problem]
                self._log.info("daemon_ready", unavailable=unavailable)
            if not ready:
                notifier.more_time(PATIENCE_SECONDS)
            notifier.beat(self.commands.summary)
            if self.once and self._drained():
                return
            await self.rendering.tend()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self.pace.turn if ready else self.pace.start_turn)

    async def _wind_down(self, tasks: list[asyncio.Task[None]], notifier: Notifier) -> None:
        """Let the running job end within ``stop_seconds``; else it is queued again, at no cost to it."""
        self.rendering.stopping = True
        self._wake()
        ends = time.monotonic() + self.live.now.daemon.stop_seconds
        while not all(task.done() for task in tasks) and (left := ends - time.monotonic()) > 0:
            notifier.more_time(PATIENCE_SECONDS)
            notifier.beat(self.commands.summary)
            await asyncio.wait(tasks, timeout=min(left, self.pace.turn))
        notifier.more_time(PATIENCE_SECONDS)
        if not all(task.done() for task in tasks):
            await ended(tasks)
            self.rendering.interrupt()
        await self.rendering.close()

    def _exit_code(self) -> int:
        bad = self.journal.failed_since(self.commands.started) or any(line.problem for line in self.lines.values())
        return exits.FAILED if self.once and bad else exits.OK

    # ------------------------------------------------------------ lines and reports

    @contextlib.asynccontextmanager
    async def _open_lines(self) -> AsyncIterator[None]:
        for settings in self.live.now.lines:
            self.lines.open(settings)
        try:
            yield
        finally:
            await self.lines.leave_all()

    @contextlib.asynccontextmanager
    async def _reports(self) -> AsyncIterator[list[asyncio.Task[None]]]:
        """The tasks that nothing else waits for."""
        runs = (self.pages.run(), self.housekeeper.run(), self.monitor.run())
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            yield tasks
        finally:
            await ended(tasks)
            await self.lines.stop()
            await self.pages.last()
            await self.monitor.last()

    def _watch(self, settings: LineConfig, share: ShareClient) -> WatchedLine:
        carry_out = self.orders.carry_out
        return WatchedLine(self.live, settings.name, share, self.store, self._wake, carry_out, self.pace)

    # ------------------------------------------------------------ signals and news

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_stop_signal, signum)
        if not sys.stdin.isatty():  # a terminal that is closed means the end
            loop.add_signal_handler(signal.SIGHUP, self.reloading.begin)

    def _on_stop_signal(self, signum: signal.Signals) -> None:
        if self.rendering.stopping and signum == signal.SIGINT:  # a second Ctrl-C does not wait for the job
            self.rendering.break_off()
        self._log.info("stop_requested", signal=signum.name)
        self.rendering.stopping = True
        self._stop.set()
        self._wake()

    def _wake(self) -> None:
        """Something has changed that may let a job start, or a film be delivered."""
        self.rendering.work.set()
        self.delivery.news.set()

    def _job_changed(self, before: Job, after: Job) -> None:
        self.monitor.changed(before, after)
        event = event_of(before, after)
        if event is not None:
            drop = self.journal.drop(after.drop_id)
            configured = drop.line in self.store.lines  # a line may be gone from the file, its old jobs still end
            self.hooks.fire(notice(event, after, drop.line, self.store.outlet(drop, after) if configured else ""))

    def _drained(self) -> bool:
        """With ``once``: every line has been looked at, nothing is on its way, and no job is left that could run."""
        if not all(line.looked and line.at_rest for line in self.lines.values()):
            return False
        reachable = {name for name, line in self.lines.items() if line.open and not line.paused}
        states = (DropState.CLAIMING, DropState.HELD, DropState.FILING, DropState.RETURNING)
        return not any(drop.line in reachable for drop in self.journal.drops(*states))


def _raise_dead(tasks: list[asyncio.Task[None]]) -> None:
    """A task that has ended is a defect of heygemd: better to end and be restarted than to go on without it."""
    for task in tasks:
        if task.done() and not task.cancelled():
            error = task.exception()
            if error is not None:
                log.get().error("daemon_fault", problem=repr(error), exc_info=error)
                print(f"heygemd: internal error, stopping: {error!r}", file=sys.stderr)
                raise error
