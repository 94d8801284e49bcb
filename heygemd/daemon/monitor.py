"""Figures for a monitoring system: a file for node_exporter, and a page on this machine's loopback address.

A task of the daemon that nothing else waits for.  The figures are read every few seconds; a request over HTTP gets the
last ones, so that frequent requests cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from heygemd.common import log
from heygemd.common.aio import Pace
from heygemd.config.live import Live
from heygemd.daemon.health_server import Page, Server, plain_page
from heygemd.guard import host
from heygemd.scheduler.render_loop import Rendering
from heygemd.status.counters import CAUSES, Tally, known
from heygemd.status.snapshot import LineSnapshot, Snapshot
from heygemd.store.drops import Job, JobState, Journal
from heygemd.store.states import ENDED
from heygemd.watch.line import WatchedLine

_OPEN = [state for state in JobState if state not in ENDED]


class Monitor:
    """Counts what happens, and publishes it where ``[metrics]`` says."""

    def __init__(
        self, live: Live, journal: Journal, lines: Mapping[str, WatchedLine], rendering: Rendering, pace: Pace
    ) -> None:
        """``lines`` may come and go."""
        self._live, self._journal, self._lines, self._rendering = live, journal, lines, rendering
        self._pace = pace
        self.tally = Tally()
        self._started = self._changed_at = time.time()
        self._retried_at: dict[str, float] = {}  # jobs that were retried: their time in the queue begins there
        self._read_at = time.monotonic()
        self._figures: Page | None = None
        self._server = Server(self._page)
        self._file_problem: str | None = None
        self._log = log.get()

    def changed(self, before: Job, after: Job) -> None:
        """A job has changed, durably."""
        self._changed_at = time.time()
        if before.state in ENDED and after.state is JobState.QUEUED:
            self._retried_at[after.id] = self._changed_at
        elif after.state in ENDED:
            self._retried_at.pop(after.id, None)
        self.tally.changed(before, after, self._engine(after))

    async def run(self) -> None:
        """Go on until cancelled."""
        try:
            while True:
                config = self._live.now
                wanted = config.metrics
                await self._server.listen(wanted.port)
                if wanted.port or wanted.textfile != Path():
                    await self._publish(up=True)
                await self._live.other_than(config, self._pace.metrics)
        finally:
            await self._server.listen(0)

    async def last(self, seconds: float = 5.0) -> None:
        """Publish that the daemon was stopped in order, if that can be done within ``seconds``."""
        if self._live.now.metrics.textfile != Path():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._publish(up=False), seconds)

    async def _publish(self, *, up: bool) -> None:
        from heygemd.status import metrics  # not before figures are asked for: it loads prometheus_client

        text = metrics.to_text(metrics.figures(await self._snapshot(up), self.tally))
        self._figures = Page(200, metrics.CONTENT_TYPE, text)
        file = self._live.now.metrics.textfile
        if file == Path():
            return
        problem = await asyncio.to_thread(write, file, text)
        if problem and problem != self._file_problem:
            self._log.error("metrics_not_written", file=str(file), problem=problem)
        self._file_problem = problem

    # ------------------------------------------------------------ reading

    async def _snapshot(self, up: bool) -> Snapshot:
        now, config, admission = time.time(), self._live.now, self._rendering.admission
        jobs = self._journal.jobs_in(*_OPEN)
        deferred = self._waiting(jobs)
        clock = time.monotonic()
        self.tally.waited(deferred, clock - self._read_at)
        self._read_at = clock
        readings = admission.last_seen
        for gpu in readings.gpus if readings else ():
            self.tally.saw_gpu(gpu.uuid, gpu.used_mib)
        admission.outboxes.refresh(name for name, line in self._lines.items() if line.open)
        queued = [self._queued_since(job) for job in jobs if job.state is JobState.QUEUED]
        own = {"state": config.daemon.state_dir, "work": config.daemon.work_dir}
        free = await asyncio.to_thread(lambda: {place: host.disk_free_mib(path) for place, path in own.items()})
        return Snapshot(
            up=up, at=now, started=self._started, progress=max(self._changed_at, self._rendering.heard_at),
            paused=self._rendering.paused,
            unfinished=Counter((job.state.value, self._engine(job)) for job in jobs), deferred=deferred,
            queue_age=round(max(now - min(queued, default=now), 0.0), 3), lines=self._line_rows(),
            disks={place: mib for place, mib in free.items() if mib is not None},
            free_disk_mib=config.limits.free_disk_mib, gpus=readings.gpus if readings else (),
            gpus_at=now - (clock - readings.at) if readings else None, gpu_problem=admission.gpu_problem is not None,
        )  # fmt: skip

    def _engine(self, job: Job) -> str:
        return job.request.options.engine or self._live.now.render.engine

    def _waiting(self, jobs: list[Job]) -> Counter[str]:
        """Deferred jobs by cause; jobs unknown to the guard wait for their share."""
        kinds = self._rendering.admission.deferrals.kinds()
        return Counter(known(kinds.get(job.id, "share"), CAUSES) for job in jobs if job.waits)

    def _queued_since(self, job: Job) -> float:
        return self._retried_at.get(job.id) or datetime.fromisoformat(job.created).timestamp()

    def _line_rows(self) -> list[LineSnapshot]:
        free = self._rendering.admission.outboxes.by_path()
        return [
            LineSnapshot(name, line.open, line.full is not None, len(line.waiting), free.get(line.settings.outbox))
            for name, line in self._lines.items()
            if line.looked  # before that nothing is known of it
        ]

    # ------------------------------------------------------------ the pages

    def _page(self, path: str) -> Page | None:
        """The page at a path, if there is one."""
        if path == "/metrics":
            return self._figures or plain_page(503)
        if path == "/healthz":
            return self._health()
        return None

    def _health(self) -> Page:
        """200 while the daemon does its work.  A lost share is named, but is no reason to restart the daemon."""
        state = "stopping" if self._rendering.stopping else "paused" if self._rendering.paused else "running"
        looked = all(line.looked for line in self._lines.values())
        gone = sorted(name for name, line in self._lines.items() if line.looked and not line.open)
        word = "starting" if not looked and state == "running" else state
        text = f"{word}\n" + "".join(f"line {name} unavailable\n" for name in gone)
        return Page(200 if word in ("running", "paused") else 503, "text/plain; charset=utf-8", text.encode())


def write(file: Path, text: bytes) -> str | None:
    """Replace the file in one step, readable for everybody; returns the problem, or ``None``.

    ``prometheus_client.write_to_textfile`` would leave the mode to the service's umask, which shuts the collector out.
    The collector reads every file that ends in .prom, so the half-written one must end otherwise.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(made, "wb") as out:
            os.fchmod(out.fileno(), 0o644)  # whatever the service's umask
            out.write(text)
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        return f"{error.strerror or error}; the folder must exist, and heygemd's user must be able to write to it"
    return None
