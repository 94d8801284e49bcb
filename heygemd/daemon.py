"""What the daemon does.

    start     lock the state folder, open the journal, note what was interrupted
    lines     one task a line: watch the inbox, claim what has settled                    (lines.py)
    render    one task: the next job when the guard lets it, in the worker's process      (_render)
    deliver   finished films into the outbox, drops into done/ or failed/                 (_deliver)
    answer    status, cancel, pause, reload … on the control socket                       (_answer)
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
from dataclasses import dataclass, field
from typing import Any, TextIO

from heygemd import __version__, control, log, reload
from heygemd.admission import Admission, Deferred, Refused, Ticket
from heygemd.board import Board
from heygemd.config import Config, LineConfig, load
from heygemd.errors import (
    FULL,
    Cancelled,
    EngineError,
    GpuMemoryError,
    HeygemdError,
    InputError,
    SetupError,
    StorageError,
    WorkerDied,
)
from heygemd.hooks import Hooks, event_of, notice
from heygemd.jobs import Job, JobState, Journal, Store, settings_for
from heygemd.journal import ENDED, DropState, now
from heygemd.lines import Line
from heygemd.notify import Notifier, Work, summary
from heygemd.shares import Share, ShareError
from heygemd.staging import Stager
from heygemd.tasks import ended
from heygemd.worker import Message, Worker

EXIT_OK, EXIT_JOBS_FAILED = 0, 3
DELIVERY_RETRY_SECONDS = 5.0
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


@dataclass
class Running:
    """The job that the worker has, as status shows it."""

    job: Job
    progress: Message = field(default_factory=dict)
    cancelled: bool = False


class Daemon:
    """One daemon: its lines, its store, its one worker."""

    def __init__(self, config: Config, journal: Journal, *, once: bool) -> None:
        self.config, self.journal, self.once = config, journal, once
        self.shares = {line.name: Share(line.name, config.intake.share_seconds) for line in config.lines}
        self.store = Store(config, journal, self.shares)
        limits = config.limits
        self.worker = Worker(
            stall_seconds=limits.stall_seconds,
            idle_seconds=limits.idle_seconds,
            max_seconds=limits.max_hours * 3600,
            max_jobs=limits.max_jobs,
        )
        self.stager = Stager(self.store)
        self.admission = Admission(config, journal, self.store, lambda: self.worker.pid, frame_of=self.stager.frame)
        self.lines: dict[str, Line] = {}
        self.hooks = Hooks(config)
        self.running: Running | None = None
        self.paused = False
        self.stopping = False
        self.started = now()
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._not_before: dict[str, float] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self.board = Board(lambda: self.config, self.lines, self.status)
        self._ended_in_a_row = 0
        self._hangup: asyncio.Task[None] | None = None
        self._log = log.get()

    # ------------------------------------------------------------ the story

    async def serve(self) -> int:
        """Start, go on until told to stop, stop in the reverse order."""
        self.journal.changed = self._tell_hooks
        self.store.recover_jobs()
        self._listen_to_signals()
        async with control.serve(self.config.daemon.socket, self._answer), self._watched_lines():
            notifier = Notifier()
            self._log.info("daemon_started", version=__version__, pid=os.getpid(), lines=sorted(self.lines))
            render = asyncio.create_task(self._render_loop())
            deliver = asyncio.create_task(self._deliver_loop(render))
            ready = False
            while not self._stop.is_set():
                _raise_dead([render, deliver, *self._watches.values()])
                if not ready and (ready := all(line.looked for line in self.lines.values())):
                    notifier.ready()
                    self._log.info("daemon_ready", unavailable=[n for n, line in self.lines.items() if line.problem])
                if not ready:
                    notifier.more_time(PATIENCE_SECONDS)
                notifier.beat(self._summary)
                if self.once and self._drained():
                    break
                await self._tend()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TURN_SECONDS if ready else START_TURN_SECONDS)
            notifier.stopping()
            await self._wind_down([render, deliver], notifier)
        await self.hooks.close()
        bad = self.journal.failed_since(self.started) or any(line.problem for line in self.lines.values())
        self._log.info("daemon_stopped")
        return EXIT_JOBS_FAILED if self.once and bad else EXIT_OK

    async def _tend(self) -> None:
        """What is to be done about once a second, whatever else goes on."""
        await self.worker.rest()
        gone = await self.admission.sample()
        if gone is not None:
            self.worker.give_up(gone)
        self._stage_ahead()

    def _stage_ahead(self) -> None:
        """Copy and look at what comes next while the worker is at something else."""
        ready = self._ready()
        hand = [self.running.job.id] if self.running is not None else []
        self.stager.only([*hand, *(job.id for job in ready)])
        if ready and (hand or len(self.admission.deferrals)) and not self.stopping and not self.paused:
            settings = settings_for(self.config, ready[0].request.options)
            self.stager.ahead(ready[0], settings, self.admission.disk_in_use_mib() + self.config.limits.free_disk_mib)

    @contextlib.asynccontextmanager
    async def _watched_lines(self) -> AsyncIterator[None]:
        for settings in self.config.lines:
            self._open_line(settings)
        self._watches["status pages"] = asyncio.create_task(self.board.run())  # no line's name has a space
        try:
            yield
        finally:
            await ended(list(self._watches.values()))
            await self.board.last()
            for share in self.shares.values():
                await share.close()

    def _open_line(self, settings: LineConfig) -> None:
        name = settings.name
        self.shares[name] = Share(name, self.config.intake.share_seconds)
        self.store.lines[name] = settings
        self.lines[name] = Line(self.config, settings, self.store, self._wake)
        self._watches[name] = asyncio.create_task(self.lines[name].run())

    async def _close_lines(self, names: Collection[str]) -> None:
        tasks = [self._watches.pop(name) for name in names]
        shares = [self.shares.pop(name) for name in names]
        for name in names:
            del self.lines[name], self.store.lines[name]
        await ended(tasks)
        for share in shares:
            await share.close()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._told_to_stop, signum)
        if not sys.stdin.isatty():  # a terminal that is closed means the end
            loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)

    def _told_to_stop(self, signum: signal.Signals) -> None:
        if self.stopping and signum == signal.SIGINT:  # a second Ctrl-C does not wait for the job
            self.worker.cancel()
        self._log.info("stop_requested", signal=signum.name)
        self.stopping = True
        self._stop.set()
        self._wake()

    def _wake(self) -> None:
        """Something has changed that may let a job start, or a film go out."""
        self._work.set()
        self._news.set()

    async def _wind_down(self, tasks: list[asyncio.Task[None]], notifier: Notifier) -> None:
        """Let the running job end within ``stop_seconds``; else it is queued again, at no cost to it."""
        self.stopping = True
        self._wake()
        ends = time.monotonic() + self.config.daemon.stop_seconds
        while not all(task.done() for task in tasks) and (left := ends - time.monotonic()) > 0:
            notifier.more_time(PATIENCE_SECONDS)
            notifier.beat(self._summary)
            await asyncio.wait(tasks, timeout=min(left, TURN_SECONDS))
        notifier.more_time(PATIENCE_SECONDS)
        if not all(task.done() for task in tasks):
            await ended(tasks)
            if self.running is not None:
                job = self.journal.job(self.running.job.id)
                if job.state is JobState.RUNNING:
                    self._requeue(job)
        await self.stager.close()
        await self.admission.outboxes.close()
        await self.worker.stop()

    # ------------------------------------------------------------ rendering

    async def _render_loop(self) -> None:
        while not self.stopping:
            self._work.clear()
            turn = None if self.paused else await self.admission.choose(self._ready())
            if isinstance(turn, Refused):
                self._end(turn.job, JobState.FAILED, EngineError(turn.reason))
                continue
            if turn is not None and not self.stopping:
                self._limit_worker()
                job = await self._render(turn)
                self._ended_in_a_row += job.state is not JobState.QUEUED
                continue
            if turn is None and not self.journal.jobs_in(JobState.QUEUED):
                self._ended_in_a_row = 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), TURN_SECONDS)

    def _limit_worker(self) -> None:
        """The limits in force are those of the next job; the running one keeps its own."""
        limits = self.config.limits
        self.worker.stall_seconds, self.worker.idle_seconds = limits.stall_seconds, limits.idle_seconds
        self.worker.max_seconds, self.worker.max_jobs = limits.max_hours * 3600, limits.max_jobs

    def _ready(self) -> list[Job]:
        """The queued jobs, in order, whose line is reachable and whose time has come."""
        held = {drop.id: drop.line for drop in self.journal.drops(DropState.HELD)}
        open_lines = {name for name, line in self.lines.items() if line.open and not line.full}
        queued = self.journal.jobs_in(JobState.QUEUED)
        return [job for job in queued if held.get(job.drop_id) in open_lines and self._due(job.id)]

    async def _render(self, ticket: Ticket) -> Job:
        """One job: stage, render, and whatever came of it into the journal."""
        job = self.journal.set_job(
            ticket.job, JobState.RUNNING, attempts=ticket.job.attempts + 1, started=now(), reason=None, reason_code=None
        )
        self.running = Running(job)
        try:
            job = await self._make(job, ticket)
        except Cancelled as error:
            job = self._requeue(job) if self.stopping else self._end(job, JobState.CANCELLED, error)
        except Deferred as error:
            job = self.admission.put_back(job, error.wait)
        except StorageError as error:
            job = self._postpone(job, error)
        except (WorkerDied, InputError, EngineError, SetupError) as error:
            job = await self._failed(job, ticket, error)
        finally:
            self.admission.finish(ticket, job)
        self.running = None
        self._wake()
        return job

    async def _make(self, job: Job, ticket: Ticket) -> Job:
        staged, probed = await self.stager.take(job, ticket.settings)
        if self.running is not None and self.running.cancelled:
            raise Cancelled("Cancelled before it was begun.")
        task = {
            "audio": staged["audio"]["path"], "video": staged["video"]["path"], "work": str(self.store.scratch(job)),
            "audio_name": staged["audio"]["name"], "video_name": staged["video"]["name"], "probed": probed,
        }  # fmt: skip
        await self.admission.confirm(ticket)
        await self.worker.use(ticket.device)
        task["settings"] = ticket.settings
        job = self.journal.set_job(job, JobState.RUNNING, inputs={**staged, "settings": ticket.settings})
        result = await self.worker.run({"task": "render", "job": task}, self._hear)
        return self.journal.set_job(job, JobState.RENDERED, result={**result, "rendered": now()})

    async def _failed(self, job: Job, ticket: Ticket, error: HeygemdError) -> Job:
        """A failure is the job's own, the worker's, which may pass, or that of a GPU that is full or gone."""
        if isinstance(error, GpuMemoryError) and ticket.device is not None and not self.admission.had_all(ticket):
            wait = self.admission.outgrown(ticket)
            self._log.warning("gpu_memory_ran_out", job=job.id, reason=wait.reason, detail=error.detail)
            return self.admission.put_back(job, wait)
        gone = await self.admission.lost(ticket, error)
        if gone is not None:
            self._log.error("gpu_lost", job=job.id, reason=gone.reason, detail=error.message)
            return self.admission.put_back(job, gone)
        return self._died(job, error) if isinstance(error, WorkerDied) else self._end(job, JobState.FAILED, error)

    def _hear(self, message: Message) -> None:
        if self.running is None:
            return
        if message["type"] == "progress":
            self.running.progress = {k: message.get(k) for k in ("stage", "frame", "of", "fps", "eta")}
        elif message["type"] == "event":
            fields = {k: v for k, v in message.items() if k not in ("id", "type", "level", "event")}
            write = self._log.warning if message.get("level") == "warning" else self._log.info
            write(str(message.get("event")), job=self.running.job.id, **fields)

    # ------------------------------------------------------------ outcomes

    def _end(self, job: Job, state: JobState, error: HeygemdError) -> Job:
        reason = getattr(error, "reason", error.code)
        self._log.warning("job_ended_badly", job=job.id, state=state, reason=error.message, detail=error.detail)
        return self.journal.set_job(job, state, reason=error.message, reason_code=reason)

    def _died(self, job: Job, error: WorkerDied) -> Job:
        if self.stopping:
            return self._requeue(job)
        if job.attempts >= self.config.limits.attempts:
            message = f"{error.message} It was tried {job.attempts} times."
            return self._end(job, JobState.FAILED, WorkerDied(message, detail=error.detail))
        self._log.warning("worker_died", job=job.id, reason=error.message, detail=error.detail)
        self._not_before[job.id] = time.monotonic() + TURN_SECONDS * job.attempts
        return self.journal.set_job(job, JobState.QUEUED)

    def _requeue(self, job: Job) -> Job:
        """Back into the queue at no cost to the job: we are the ones who stopped."""
        self._log.info("job_interrupted", job=job.id)
        return self.journal.set_job(job, JobState.QUEUED, attempts=max(0, job.attempts - 1))

    def _postpone(self, job: Job, error: StorageError) -> Job:
        self._log.warning("job_postponed", job=job.id, reason=error.message)
        self._not_before[job.id] = time.monotonic() + DELIVERY_RETRY_SECONDS
        return self.journal.set_job(
            job, JobState.QUEUED, attempts=job.attempts - 1, deferred_since=job.deferred_since or now(),
            deferred_reason=error.message, deferrals=job.deferrals + 1,
        )  # fmt: skip

    def _tell_hooks(self, before: Job, after: Job) -> None:
        event = event_of(before, after)
        if event is not None:
            drop = self.journal.drop(after.drop_id)
            self.hooks.fire(notice(event, after, drop.line, self.store.outbox(drop)))

    # ------------------------------------------------------------ delivering

    async def _deliver_loop(self, render: asyncio.Task[None]) -> None:
        """Beside the rendering, so that a slow share does not hold up the next job; a last time after it."""
        render.add_done_callback(lambda _: self._news.set())
        while not render.done():
            self._news.clear()
            await self._deliver()
            if not render.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), TURN_SECONDS)
        await self._deliver()

    async def _deliver(self) -> None:
        """Publish what is rendered and file what is over; a share that refuses is tried again later."""
        for job in self.journal.jobs_in(JobState.REVEALING, JobState.PUBLISHING, JobState.RENDERED):
            await self._tried(job.drop_id, job)
        for drop in self.journal.drops(DropState.HELD, DropState.FILING):
            if all(job.state in ENDED for job in self.journal.jobs_of(drop.id)):
                await self._tried(drop.id, None)

    async def _tried(self, drop_id: str, job: Job | None) -> None:
        drop = self.journal.drop(drop_id)
        line = self.lines.get(drop.line)
        if line is None or not line.open or not self._due(drop_id):
            return
        try:
            await line.check()
            if job is not None:
                job = await self.store.publish(job)
                if job.state is JobState.DELIVERED:
                    self._log.info("film_delivered", job=job.id, film=f"{job.base}.mp4", line=drop.line)
            else:
                await self.store.file_if_over(drop)
            line.finds_room(drop_id)
        except StorageError as error:
            if isinstance(error, ShareError) and error.errno in FULL:
                line.finds_no_room(drop_id, error.message)
            else:
                self._log.warning("delivery_postponed", drop=drop_id, reason=error.message)
            self._not_before[drop_id] = time.monotonic() + DELIVERY_RETRY_SECONDS
            line.wake()

    def _due(self, key: str) -> bool:
        if self._not_before.get(key, 0.0) > time.monotonic():
            return False
        self._not_before.pop(key, None)
        return True

    def _drained(self) -> bool:
        """With ``once``: every line has been looked at, nothing is on its way, and no job is left that could run."""
        if not all(line.looked and line.at_rest for line in self.lines.values()):
            return False
        reachable = {line.line.name for line in self.lines.values() if line.open}
        states = (DropState.CLAIMING, DropState.HELD, DropState.FILING, DropState.RETURNING)
        return not any(drop.line in reachable for drop in self.journal.drops(*states))

    # ------------------------------------------------------------ answering

    async def _answer(self, request: Message) -> Message:
        command = request.get("cmd")
        if command == "ping":
            return {"pid": os.getpid(), "version": __version__}
        if command == "status":
            return self.status()
        if command == "jobs":
            states = set(request["states"]) if request.get("states") else None
            return {"jobs": self.journal.jobs(states, int(request.get("limit") or 100))}
        if command in ("pause", "resume"):
            self.paused = command == "pause"
            self._log.info("paused" if self.paused else "resumed")
            self._wake()
            return {"state": self.state}
        if command == "reload":
            return await self._reload(wait=bool(request.get("wait")))
        if command in ("cancel", "retry"):
            job = self._job(str(request.get("job", "")))
            return await (self._cancel(job) if command == "cancel" else self._retry(job))
        raise HeygemdError(f"There is no command {command!r}.")

    def _job(self, job_id: str) -> Job:
        """A job by its id, or by its drop's id where that has only one job."""
        with contextlib.suppress(KeyError):
            return self.journal.job(job_id)
        jobs = self.journal.jobs_of(job_id)
        if len(jobs) == 1:
            return jobs[0]
        raise HeygemdError(
            f"There is no job {job_id!r}; 'heygemd jobs' lists them."
            if not jobs
            else f"Drop {job_id} holds {len(jobs)} jobs; name one: {jobs[0].id} to {jobs[-1].id}."
        )

    async def _cancel(self, job: Job) -> Message:
        if job.state is JobState.RUNNING and self.running is not None and self.running.job.id == job.id:
            self.running.cancelled = True
            self.stager.cancel(job.id)
            self.worker.cancel()
        elif job.state is JobState.QUEUED:
            self._end(job, JobState.CANCELLED, Cancelled("Cancelled before it was begun."))
        else:
            raise HeygemdError(f"{job.id} is {job.state.value}; only a queued or running job can be cancelled.")
        self._wake()
        return {"job": job.id}

    async def _retry(self, job: Job) -> Message:
        job = await self.store.retry(job)
        self._wake()
        return {"job": job.id}

    # ------------------------------------------------------------ a new configuration

    def _told_to_reload(self) -> None:
        async def answer() -> None:
            with contextlib.suppress(HeygemdError):  # the log has it
                await self._reload(wait=False)

        self._hangup = asyncio.create_task(answer())

    async def _reload(self, *, wait: bool) -> Message:
        """Read the file again; all of it comes into force, or nothing.  With ``wait`` each line has taken it up."""
        source = self.config.source
        if self.stopping:
            raise HeygemdError("The daemon is about to end; the next start reads the file.")
        try:
            new = await asyncio.to_thread(load, source)
            changes = reload.weigh(self.config, new, self._unfinished())
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
        self.admission.heed(new)
        for share in self.shares.values():
            share.seconds = new.intake.share_seconds

    def _unfinished(self) -> dict[str, int]:
        states = [state for state in DropState if state is not DropState.ENDED]
        return dict(Counter(drop.line for drop in self.journal.drops(*states)))

    async def _until_heeded(self) -> None:
        ends = time.monotonic() + self.config.intake.share_seconds
        while time.monotonic() < ends and any(line.pending for line in self.lines.values()):
            await asyncio.sleep(START_TURN_SECONDS)

    @property
    def state(self) -> str:
        """``running``, ``paused`` or ``stopping``."""
        return "stopping" if self.stopping else "paused" if self.paused else "running"

    def status(self) -> Message:
        """What ``heygemd status`` shows."""
        running = []
        if self.running is not None:
            running = [{**self.journal.row(self.running.job), "state": "running", **self.running.progress}]
        return {
            "pid": os.getpid(), "version": __version__, "started": self.started, "state": self.state,
            "lines": [line.row() for line in self.lines.values()], "running": running,
            "queue": [self.admission.deferrals.row(row) for row in self.journal.queue()],
            "guard": self.admission.status(),
            "waiting": [w for line in self.lines.values() for w in line.waiting],
            "recent": self.journal.recent(), "counts": self.journal.counts(),
        }  # fmt: skip

    def _summary(self) -> str:
        """One line for systemd."""
        queued = self.journal.jobs_in(JobState.QUEUED)
        running = self.running
        work = Work(
            state=self.state, queued=len(queued), delivered=self.journal.counts().get("delivered", 0),
            name=running.job.request.name if running else None, number=self._ended_in_a_row + 1,
            progress=running.progress if running else {},
            deferred=[(j.deferred_reason or "", j.deferred_since) for j in queued if j.waits and j.deferred_since],
            lost=[name for name, line in self.lines.items() if line.problem],
        )  # fmt: skip
        return summary(work)


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
