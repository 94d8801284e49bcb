"""The child process that renders: started, kept warm, watched, ended.  Only the parent's half is here.

The child is ``python -m heygemd.pipeline`` in a session of its own, so that it and every ffmpeg that it starts can be
ended together.  Parent and child exchange the messages of ``contract/renderer.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from heygemd.common.errors import Cancelled, HeygemdError, WorkerDied
from heygemd.common.spawn import environment, python
from heygemd.contract.film_facts import FilmFacts
from heygemd.contract.job import Task
from heygemd.contract.renderer import (
    DoneMessage,
    FailedMessage,
    News,
    ProgressMessage,
    RenderRequest,
    Request,
    WarmRequest,
    decode_message,
    encode_request,
)

Reply = TypeVar("Reply")


class Worker:
    """At most one child, doing at most one task at a time."""

    def __init__(
        self, *, stall_seconds: float, idle_seconds: float = 60.0, max_seconds: float = 86400.0, max_jobs: int = 0,
        nice: int = 0,
    ) -> None:  # fmt: skip
        """A child that gets no further for ``stall_seconds`` hangs and is ended; one that has done ``max_jobs`` tasks
        (0: any number) is ended too, and so is one after any error: the next begins with a clean one.  ``nice``: how
        much lower than ours its priority on the processor is, 0 to 19."""
        self.stall_seconds = stall_seconds
        self.idle_seconds = idle_seconds
        self.max_seconds = max_seconds
        self.max_jobs = max_jobs
        self.nice = nice
        self.busy = False
        self._child: asyncio.subprocess.Process | None = None
        self._stderr: deque[str] = deque(maxlen=40)
        self._drain: asyncio.Task[None] | None = None
        self._idle_since = time.monotonic()
        self._cancelled = False
        self._ended_because = ""
        self._done = 0  # by the child that there is
        self._serial = 0
        self._device: str | None = None

    async def run(self, request: Request[Reply], hear: Callable[[News], None]) -> Reply:
        """Do one task; ``hear`` gets every progress and event message.

        Raises the error that the child reports; ``WorkerDied`` where it ended without one; ``Cancelled``;
        ``EngineError`` for a result of another form than the request's.
        """
        self.busy, self._cancelled, self._ended_because = True, False, ""
        self._serial += 1
        try:
            result = request.reply(await self._run(request, str(self._serial), hear))
            self._done += 1
            if 0 < self.max_jobs <= self._done:
                await self.stop()
            return result
        except HeygemdError:
            await self.stop()  # what a failed process holds, and what sticks to it, ends with it
            raise
        finally:
            self.busy, self._idle_since = False, time.monotonic()

    async def _run(self, request: Request[object], request_id: str, hear: Callable[[News], None]) -> object:
        child = await self._started()
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(encode_request(request_id, request))
        with contextlib.suppress(ConnectionError):
            await child.stdin.drain()
        ends, moved = time.monotonic() + self.max_seconds, time.monotonic()
        while True:
            patience = min(moved + self.stall_seconds, ends) - time.monotonic()
            try:
                line = await asyncio.wait_for(child.stdout.readline(), max(patience, 0.01))
            except TimeoutError:
                await self.stop()
                raise WorkerDied(
                    f"The renderer made no progress for {self.stall_seconds:.0f} s and was killed."
                    if time.monotonic() < ends
                    else f"The job took longer than {self.max_seconds / 3600:.1f} h and was stopped."
                ) from None
            if not line:
                raise await self._death()
            sender, message = decode_message(line) or ("", None)
            if message is None or sender != request_id:
                continue
            if not (isinstance(message, ProgressMessage) and message.again):  # a repeated line is no progress
                moved = time.monotonic()
            if isinstance(message, DoneMessage):
                return message.result
            if isinstance(message, FailedMessage):
                raise message.error()
            hear(message)

    async def use(self, device: str | None, nice: int = 0) -> None:
        """What is started from now on sees only this GPU, by UUID, or with ``None`` whatever there is, and runs at a
        priority that is ``nice`` lower than ours.

        A warm child that saw another is ended: CUDA looks once in a process's life, and nobody is let up again.
        """
        if (device, nice) != (self._device, self.nice):
            await self.stop()
            self._device, self.nice = device, nice

    async def warm(self, engine: str) -> None:
        """Have a child load what a film by this engine takes, while its inputs are being copied; nobody waits."""
        child = await self._started()
        assert child.stdin is not None
        child.stdin.write(encode_request("warm", WarmRequest(engine)))
        self._idle_since = time.monotonic()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        self._stderr.clear()
        self._done = 0
        self._child = await asyncio.create_subprocess_exec(
            *python("heygemd.pipeline"), f"--nice={self.nice}", start_new_session=True, limit=1 << 24,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment() | ({"CUDA_VISIBLE_DEVICES": self._device} if self._device else {}),
        )  # fmt: skip
        self._drain = asyncio.create_task(self._read_stderr(self._child))
        return self._child

    async def _read_stderr(self, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None
        with contextlib.suppress(ValueError):  # a line without end: what it says is not worth more
            async for line in child.stderr:
                self._stderr.append(line.decode(errors="replace").rstrip())

    async def _death(self) -> HeygemdError:
        child = self._child
        assert child is not None
        code = await child.wait()
        if self._drain is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drain, 1.0)
        await self.stop()
        if self._cancelled:
            return Cancelled("Cancelled during rendering.")
        if self._ended_because:
            return WorkerDied(self._ended_because)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        hint = " The machine may be short of memory." if code == -signal.SIGKILL else ""
        return WorkerDied(f"The renderer {how} during the job.{hint}", detail="\n".join(self._stderr))

    def cancel(self) -> None:
        """Stop the running task; its ``run`` raises ``Cancelled``.  An idle child keeps waiting."""
        if self.busy:
            self._cancelled = True
            self._kill(signal.SIGKILL)

    def give_up(self, why: str) -> None:
        """End the running task; its ``run`` raises ``WorkerDied`` with that sentence."""
        if self.busy:
            self._ended_because = why
            self._kill(signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        """The child's process, if it runs."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    @property
    def alive(self) -> bool:
        """Whether there is a child, busy or warm."""
        return self._child is not None and self._child.returncode is None

    async def rest(self) -> None:
        """End a child that has been idle for too long, so that its memory goes back."""
        if self.alive and not self.busy and time.monotonic() - self._idle_since > self.idle_seconds:
            await self.stop()

    async def stop(self) -> None:
        """End the child and everything that it has started."""
        child, self._child = self._child, None
        if child is None:
            return
        self._child = child
        self._kill(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 5.0)
        self._child = None

    def _kill(self, signum: signal.Signals) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signum)


def render_once(job: Task, hear: Callable[[News], None], *, stall_seconds: float = 300.0) -> FilmFacts:
    """Render one task in a new child and wait for it, for ``heygemd render``."""
    return run_once(RenderRequest(job), hear, stall_seconds=stall_seconds)


def run_once(request: Request[Reply], hear: Callable[[News], None], *, stall_seconds: float = 300.0) -> Reply:
    """Run one task of any kind in a new child.  Raises as ``Worker.run``."""

    async def once() -> Reply:
        worker = Worker(stall_seconds=stall_seconds)
        try:
            return await worker.run(request, hear)
        finally:
            await worker.stop()

    return asyncio.run(once())
