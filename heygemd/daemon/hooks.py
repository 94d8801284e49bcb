"""Programs of the site's own, run when a film is delivered, a job fails or has to wait: mail, tickets, copies.

``[hooks]`` names an argv for each; it gets a notice as JSON on its standard input (``notice``).  A hook runs at most
once for each event, and nothing waits for it: few run at a time, each has a deadline, a failure is logged.

As a service, hooks run outside the renderer's sandbox: the daemon hands the notice to ``heygemd-hook.socket``, and
systemd starts one ``heygemd-hook@.service`` for it, which is ``heygemd hook``.  The daemon says which event it is and
which configuration; the program is read from that file, which must be root's.  Elsewhere the daemon runs hooks itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import signal
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from heygemd.common import log
from heygemd.common.aio import ended
from heygemd.common.errors import HeygemdError, SetupError
from heygemd.common.names import display
from heygemd.config.live import Live
from heygemd.config.load import Config
from heygemd.store.states import Job, JobState, now

NOTICE = "heygemd/notice/1"
AT_ONCE = 4
MOST = 200
"""Number of notices that may wait for their turn; one more is dropped, and that is logged."""
GRACE_SECONDS = 5.0  # what starting, and bringing the answer back, may take beyond the hook's own deadline
OUTPUT_BYTES = 2000  # of a failed hook's standard error, for the log


class Notice(TypedDict):
    """What a hook reads; ``schema`` is ``NOTICE``, times are ISO 8601, paths and names are for people."""

    schema: str
    event: str
    time: str
    host: str
    line: str
    drop: str
    job: str
    name: str
    attempts: int
    film: str | None
    held: bool
    log: str | None
    reason: str | None
    since: str | None


class HookReply(TypedDict):
    """What ``heygemd hook`` replies; ``problem`` is a sentence where ``ok`` is false."""

    ok: bool
    problem: str | None


def event_of(before: Job, after: Job) -> str | None:
    """Which hook a change of a job calls, if any."""
    if after.state is not before.state and after.state is JobState.DELIVERED:
        return "on_done"
    if after.state is not before.state and after.state is JobState.FAILED:
        return "on_failed"
    if after.waits and after.deferred_since != before.deferred_since:
        return "on_deferred"
    return None


def notice(event: str, job: Job, line: str, outlet: str) -> Notice:
    """The notice of an event.  ``outlet`` is the folder of the film."""
    done = event == "on_done"
    film = str(Path(outlet) / f"{job.base}.mp4") if done and job.base else None
    return {
        "schema": NOTICE, "event": event, "time": now(), "host": platform.node(), "line": line,
        "drop": job.drop_id, "job": job.id, "name": display(job.request.name), "attempts": job.attempts,
        "film": display(film) if film else None, "held": bool((job.result or {}).get("held")),
        "log": display(film.removesuffix(".mp4") + ".json") if film else None,
        "reason": job.reason if event == "on_failed" else job.deferred_reason if event == "on_deferred" else None,
        "since": job.deferred_since if event == "on_deferred" else None,
    }  # fmt: skip


class Hooks:
    """The daemon's side: takes notices, never raises, never waits."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()
        self._log = log.get()

    def fire(self, event: Notice) -> None:
        """Have the hook of this event run, if one is configured."""
        name, job = event["event"], event["job"]
        if not _argv(self._live.now, name):
            return
        if len(self._running) >= MOST:
            self._log.warning("hook_dropped", hook=name, job=job, waiting=len(self._running))
            return
        task = asyncio.create_task(self._run(event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, event: Notice) -> None:
        name, job = event["event"], event["job"]
        async with self._turn:
            config = self._live.now
            own = config.hooks
            outside = own.socket.is_socket()
            if outside:
                problem = await _ask_systemd(own.socket, config.source, event, own.seconds)
            else:
                problem = await execute(_argv(config, name), _bytes(event), own.seconds)
        where = "service" if outside else "daemon"
        if problem is None:
            self._log.info("hook_ran", hook=name, job=job, by=where)
        else:
            self._log.warning("hook_failed", hook=name, job=job, by=where, problem=problem)

    async def close(self, seconds: float = GRACE_SECONDS) -> None:
        """Wait up to ``seconds`` for running hooks, then kill them."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        await ended(list(self._running))


def _argv(config: Config, event: str) -> tuple[str, ...]:
    """The program of an event with its arguments; empty: none is configured."""
    own = config.hooks
    return {"on_done": own.on_done, "on_failed": own.on_failed, "on_deferred": own.on_deferred}[event]


def _bytes(message: Mapping[str, object]) -> bytes:
    return (json.dumps(message, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


async def execute(argv: Sequence[str], data: bytes, seconds: float) -> str | None:
    """Run one hook with ``data`` on its standard input; returns the problem, or ``None``.

    It and all that it has started are killed after ``seconds``, or when this is cancelled.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *argv, start_new_session=True, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return f"{argv[0]} cannot be run: {error.strerror or error}"
    try:
        _, errors = await asyncio.wait_for(child.communicate(data), seconds)
    except TimeoutError:
        return f"{argv[0]} took longer than {seconds:g} s and was killed"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), GRACE_SECONDS)
    words = errors[-OUTPUT_BYTES:].decode(errors="replace").strip()
    return f"{argv[0]} exited with code {child.returncode}: {words or 'no output'}" if child.returncode else None


async def _ask_systemd(socket: Path, source: Path, event: Notice, seconds: float) -> str | None:
    """Have systemd's instance run it, and wait for its answer."""
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(_bytes({"config": str(source), "notice": event}))
                writer.write_eof()
                answer = json.loads(await reader.readline())
                return None if answer["ok"] else str(answer["problem"])
            finally:
                writer.close()
    except TimeoutError:
        return f"heygemd-hook@.service did not answer within {seconds + GRACE_SECONDS:g} s"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"heygemd-hook@.service did not answer: {error}; see the system journal (journalctl)"


# ---------------------------------------------------------------- in heygemd-hook@.service


EVENTS = ("on_done", "on_failed", "on_deferred")


def serve(request: bytes, load: Callable[[Path], Config]) -> HookReply:
    """Run the hook that one request asks for (``heygemd hook``); the reply.

    ``load`` reads a configuration.  A file that anybody but root could have written is refused.
    """
    try:
        asked = json.loads(request)
        source, message = Path(asked["config"]), asked["notice"]
        event = EVENTS[EVENTS.index(message["event"])]
        check_roots_own(source)
        config = load(source)
    except HeygemdError as error:
        return {"ok": False, "problem": error.message}
    except (ValueError, KeyError, TypeError) as error:
        return {"ok": False, "problem": f"the request is not a heygemd hook request: {error!r}"}
    argv = _argv(config, event)
    if not argv:
        return {"ok": False, "problem": f"{source} no longer has {event} in [hooks]"}
    problem = asyncio.run(execute(argv, _bytes(message), config.hooks.seconds))
    return {"ok": problem is None, "problem": problem}


def check_roots_own(source: Path) -> None:
    """Raises ``SetupError`` if a user other than root could have written the file or replaced it."""
    path = source.resolve()
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except OSError as error:
            raise SetupError(f"{place} cannot be checked: {error.strerror or error}.") from error
        shared = stat.S_IMODE(status.st_mode) & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid != 0 or shared:
            raise SetupError(
                f"{place} is writable by users other than root; hooks are run only from files that root alone can "
                "write."
            )
