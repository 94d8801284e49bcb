"""A very small HTTP server for this machine only: fixed pages, read by a monitoring system.

Bounded in every way: few connections at a time, short requests, a deadline for each, one answer and the end.
``prometheus_client``'s own server has no such bound (a thread for every connection, for ever) and no page but one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from heygemd.common import log
from heygemd.common.aio import ended

HOST = "127.0.0.1"
REQUEST_BYTES = 8192
AT_ONCE = 16
SECONDS = 5.0  # for a request to come and its answer to go

_CURE = {
    97: "the service has no network; install examples/localhost-network.conf as a drop-in",  # EAFNOSUPPORT
    98: "another program uses this port",  # EADDRINUSE
    13: "ports below 1024 need root",  # EACCES
}


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    kind: str  #: its media type
    body: bytes


class Server:
    """Answers GET and HEAD with the result of ``page`` for a path."""

    def __init__(self, page: Callable[[str], Page | None]) -> None:
        """``page`` must return at once; ``None`` means that there is no such page."""
        self._page = page
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._problem: str | None = None
        self._log = log.get()

    async def listen(self, port: int) -> None:
        """Listen at this port of the loopback address, 0: nowhere.  A port that cannot be had is logged once, and
        tried again with the next call."""
        if port == self._port:
            return
        if self._server is not None:
            self._server.close()
            await ended(list(self._open))
            self._server, self._port = None, 0
        if not port:
            return
        try:
            self._server = await asyncio.start_server(self._speak, sock=_bound(port), limit=REQUEST_BYTES)
        except OSError as error:
            problem = _CURE.get(error.errno or 0) or error.strerror or str(error)
            if problem != self._problem:
                self._log.error("metrics_port_refused", port=port, problem=problem)
            self._problem = problem
            return
        self._port, self._problem = port, None
        self._log.info("metrics_served", url=f"http://{HOST}:{port}/metrics")

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._open.add(session)
        session.add_done_callback(self._open.discard)
        try:
            if len(self._open) <= AT_ONCE:
                async with asyncio.timeout(SECONDS):
                    writer.write(self._reply(await _request(reader)))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, OSError):
            pass
        finally:
            writer.transport.abort()  # what a slow reader has not taken by now is dropped

    def _reply(self, head: bytes | None) -> bytes:
        """The whole answer to a request's head; ``None``: it was longer than is read."""
        if head is None:
            return _framed(plain_page(431))
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _framed(plain_page(400))
        method, path = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _framed(plain_page(405))
        return _framed(self._page(path) or plain_page(404), head=method == "HEAD")


def _bound(port: int) -> socket.socket:
    """A socket at the port.  asyncio would make a server without any where the sandbox refuses the address family."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    with contextlib.suppress(asyncio.LimitOverrunError):
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            return cut.partial
    return None


def plain_page(status: int) -> Page:
    """A page that says no more than its status."""
    return Page(status, "text/plain; charset=utf-8", f"{HTTPStatus(status).phrase}\n".encode())


def _framed(page: Page, *, head: bool = False) -> bytes:
    lines = [
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}", f"Content-Type: {page.kind}",
        f"Content-Length: {len(page.body)}", "Cache-Control: no-store", "X-Content-Type-Options: nosniff",
        "Connection: close", *(["Allow: GET, HEAD"] if page.status == 405 else []),
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head else page.body)
