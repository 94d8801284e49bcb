"""Both ends of the daemon's local socket: one JSON object a line, a request and its reply.

``{"cmd": "status"}`` → ``{"ok": true, …}`` or ``{"ok": false, "error": "a sentence"}``.  Who may open the
socket may give orders: it is 0660 and belongs to the daemon's user and group.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from heygemd.common.aio import ended
from heygemd.common.errors import HeygemdError, NoDaemon, SetupError

Request = dict[str, object]
Reply = dict[str, object]
Handler = Callable[[Request], Awaitable[Mapping[str, object]]]

REQUEST_BYTES = 1 << 20
REPLY_BYTES = 64 << 20
"""An inbox with tens of thousands of waiting files makes a long status."""
PATH_BYTES = 107
"""``sun_path`` of unix(7) holds 108 bytes with its final zero."""
_IDLE_SECONDS = 300.0


@contextlib.asynccontextmanager
async def serve(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Answer requests at ``path`` with ``handler`` while the block runs; the socket is removed after it.

    A HeygemdError of the handler becomes its sentence in the reply.  A stale socket is replaced.  Raises
    SetupError where another daemon answers there, or where the path is too long or cannot be used.
    """
    sessions = _Sessions(handler)
    server = await asyncio.start_unix_server(sessions, sock=_bound(path), limit=REQUEST_BYTES)
    inode = path.stat().st_ino
    try:
        yield
    finally:
        server.close()
        await sessions.end()
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == inode:  # not one that a successor has put there meanwhile
                path.unlink()


class _Sessions:
    """Serves each client until it hangs up."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._open: set[asyncio.Task[object]] = set()

    async def end(self) -> None:
        """Hang up on everybody."""
        await ended(list(self._open))

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._open.add(session)
        session.add_done_callback(self._open.discard)
        try:
            while line := await asyncio.wait_for(reader.readline(), _IDLE_SECONDS):
                await self._send(writer, await self._answer(line))
        except ValueError:  # what readline raises for a line over the limit
            await self._send(writer, _refusal("The request is longer than 1 MiB."))
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            request = json.loads(line)
        except ValueError:
            return _refusal("The request is not JSON.")
        if not isinstance(request, dict) or not isinstance(request.get("cmd"), str):
            return _refusal('The request is not a JSON object with a text "cmd".')
        try:
            return {"ok": True, **await self._handler(request)}
        except HeygemdError as error:
            return _refusal(error.message)

    async def _send(self, writer: asyncio.StreamWriter, reply: Mapping[str, object]) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()


def _refusal(sentence: str) -> Reply:
    return {"ok": False, "error": sentence}


def _bound(path: Path) -> socket.socket:
    """A listening socket at ``path`` that only user and group may open."""
    check_length(path)
    _make_folder(path.parent)
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must be right from the first moment, and bind() takes it from the umask.
    umask = os.umask(0o117)
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        raise SetupError(f"The socket {path} cannot be created: {error.strerror or error}.") from error
    finally:
        os.umask(umask)
    listener.setblocking(False)
    return listener


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise SetupError(f"The socket's folder {folder} cannot be created: {error.strerror or error}.") from error


def _make_room(path: Path) -> None:
    """Remove the stale socket of a killed daemon; refuse to remove anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"The socket {path} cannot be checked: {error.strerror or error}.") from error
    if not stat.S_ISSOCK(mode):
        raise SetupError(f"{path} is not a socket, but the daemon's socket must be there; move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise SetupError(f"Another program uses the socket {path}: {error.strerror or error}.") from error
    raise SetupError(f"Another heygemd uses {path}. Stop it first, or give this one its own state_dir.")


def call(path: Path, request: Mapping[str, object], timeout: float = 10.0) -> Reply:
    """Ask the daemon at ``path`` and return its reply, whatever its ``ok``.

    Raises NoDaemon where nobody answers, SetupError where this user may not ask or no reply came within
    ``timeout`` seconds.  A request over 1 MiB is a mistake of the caller's: ValueError.
    """
    check_length(path)
    line = json.dumps(dict(request)).encode() + b"\n"
    if len(line) > REQUEST_BYTES:
        raise ValueError(f"a request of {len(line)} bytes")
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(os.fspath(path))
            client.sendall(line)
            line = _line(client, deadline)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise NoDaemon(f"No heygemd daemon answers at {path}.") from error
        except PermissionError as error:
            raise SetupError(
                f"This user has no permission to use the daemon at {path}; use sudo or join the daemon's group."
            ) from error
        except TimeoutError as error:
            raise SetupError(f"The daemon at {path} did not answer within {timeout:g} s.") from error
        except OSError as error:
            raise NoDaemon(f"The connection to the daemon at {path} was closed: {error.strerror or error}.") from error
    return _reply(line, path)


def _line(client: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = client.recv(1 << 16)
        if not piece or len(received) > REPLY_BYTES:
            raise ConnectionAbortedError("the reply was incomplete")
        received += piece
    return bytes(received)


def _reply(line: bytes, path: Path) -> Reply:
    try:
        reply = json.loads(line)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise SetupError(f"The program that answers at {path} is not a heygemd daemon.")
    return reply


def check_length(path: Path) -> None:
    """Raises ``SetupError`` if the socket path is too long for the kernel."""
    length = len(os.fsencode(path))
    if length > PATH_BYTES:
        raise SetupError(
            f"The socket's path {path} has {length} bytes, but Linux allows only {PATH_BYTES}: set a shorter path "
            "as socket in [daemon]."
        )
