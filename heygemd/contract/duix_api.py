"""The HTTP client of a Duix.Avatar container, and the meaning of its answers.  Standard library only.

    POST /easy/submit {audio_url, video_url, code, chaofen, watermark_switch, pn}
    GET  /easy/query?code=…

Both answer HTTP 200 with ``{"code", "success", "msg", "data"}``.  ``success`` is true for a refusal too; only ``code``
counts: 10000 well, 10001 busy and **not queued**, 10002 a parameter is wrong, 10003 its lock failed, 10004 no such
task, 9999 something broke.  In a query's ``data``, ``status`` is 1 running, 2 done (``result`` names the film), 3
failed; an end is reported once and then forgotten, so the same query answers 10004 afterwards.  Duix-Avatar issues 206,
308, 328, 537.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode, urlsplit

WELL, BUSY, WRONG, LOCKED, NO_TASK, BROKEN = 10000, 10001, 10002, 10003, 10004, 9999
RUNNING, DONE, FAILED = 1, 2, 3
ANSWER_SECONDS = 15.0  # for one request, answer included
ANSWER_BYTES = 1 << 16  # of an answer at most; real ones have some hundred
WORDS = 300  # characters of what it says that are passed on


class Unreachable(Exception):
    """The connection was refused; the request was not received."""


class Unclear(Exception):
    """The reply is invalid; the request may have been received."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; ``server`` is the HTTP server's name."""

    code: int
    msg: str = ""
    data: Mapping[str, object] = field(default_factory=dict)
    success: bool = True
    server: str = ""


@dataclass(frozen=True, slots=True)
class TaskState:
    """What has become of a task, by a query's answer.

    ``result``: the film as the container names it; ``progress``: 0 to 100; ``message``: the container's own words.
    """

    state: Literal["running", "done", "failed", "no_task", "trouble"]
    progress: float = 0.0
    result: str = ""
    message: str = ""


class Client:
    """A client of one container.  Every call ends within ``seconds``, whatever the other side does."""

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        """``url``: ``http://HOST:PORT``, from the configuration only."""
        parts = urlsplit(url)
        self.url, self._seconds = url, seconds
        self._host, self._port = parts.hostname or "", parts.port or 80

    def submit(self, code: str, audio: str, video: str) -> Reply:
        """Ask for a film of two files in the shared folder, by their bare names."""
        asked = {
            "audio_url": audio, "video_url": video, "code": code, "chaofen": 0, "watermark_switch": 0, "pn": 1,
        }  # fmt: skip
        return self._ask("POST", "/easy/submit", json.dumps(asked).encode())

    def query(self, code: str) -> Reply:
        """Ask what has become of a task.  An end is reported once: keep it before acting on it."""
        return self._ask("GET", f"/easy/query?{urlencode({'code': code})}", None)

    def _ask(self, method: str, path: str, body: bytes | None) -> Reply:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)
        try:
            connection.connect()
        except OSError as error:
            raise Unreachable(error.strerror or str(error) or type(error).__name__) from error
        try:
            with _ended_after(connection.sock, self._seconds):
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                response = connection.getresponse()
                answer = response.read(ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Unclear(f"the connection failed: {words(str(error)) or type(error).__name__}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise Unclear(f"HTTP {response.status}")
        return reply_of(answer, words(response.getheader("Server") or "", 60))


@contextlib.contextmanager
def _ended_after(sock: socket.socket, seconds: float) -> Iterator[None]:
    """A peer that sends a byte now and then never runs into a socket's own time limit."""

    def end() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def reply_of(answer: bytes, server: str = "") -> Reply:
    """Parse a reply's bytes.  Raises ``Unclear`` if they are not a reply of this API."""
    if len(answer) > ANSWER_BYTES:
        raise Unclear(f"an answer of more than {ANSWER_BYTES >> 10} KiB")
    try:
        answered = json.loads(answer)
    except (ValueError, RecursionError):
        raise Unclear(f"not JSON: {words(answer[:80].decode(errors='replace'))}") from None
    code = _number(answered.get("code")) if isinstance(answered, dict) else None
    if code is None:
        raise Unclear("JSON without a code")
    data, success = answered.get("data"), answered.get("success") is not False
    return Reply(int(code), words(answered.get("msg")), data if isinstance(data, dict) else {}, success, server)


def accepted(reply: Reply) -> bool:
    """Whether the submitted task was accepted: code 10000 and no contradiction in the reply."""
    return reply.code == WELL and reply.success and _number(reply.data.get("status")) != FAILED


def task_state(reply: Reply) -> TaskState:
    """What a query's answer means; an answer that it does not know is trouble."""
    message = words(reply.data.get("msg")) or reply.msg
    if reply.code == NO_TASK:
        return TaskState("no_task", message=message)
    if reply.code != WELL:
        return TaskState("trouble", message=f"code {reply.code} {message}".strip())
    status, result = _number(reply.data.get("status")), reply.data.get("result")
    progress = min(max(_number(reply.data.get("progress")) or 0.0, 0.0), 100.0)
    named = result if isinstance(result, str) and len(result) <= 1000 else ""
    if status == FAILED or not reply.success:
        return TaskState("failed", progress, message=message)
    if status == DONE or (status == RUNNING and progress >= 100 and named):
        return TaskState("done", 100.0, named, message)
    if status == RUNNING:
        return TaskState("running", progress, message=message)
    return TaskState("trouble", message=f"code {reply.code} with an unknown status: {message}")


def words(value: object, most: int = WORDS) -> str:
    """The container's text as one short line for a log."""
    text = value if isinstance(value, str) else "" if value is None or isinstance(value, dict | list) else str(value)
    return "".join(c if c.isprintable() else " " for c in text[: 4 * most]).strip()[:most]


def _number(value: object) -> float | None:
    """A number, or digits as text; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
