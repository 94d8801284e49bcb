"""The parent's half of ``operations.py``: one child per line, each operation with a deadline.

An operation that does not come back in time is given up: its child is killed (which may take effect only when the
kernel lets go of it) and a later operation starts a new one.  The daemon's loop never waits for a share.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections.abc import Callable, Sequence
from typing import Any

from heygemd.common.errors import StorageError
from heygemd.common.spawn import environment, python

UNREADABLE = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EFBIG, errno.EACCES, errno.EPERM,
)  # fmt: skip
"""What a file that cannot be read says of itself; any other error is the share's, and may pass."""


class ShareError(StorageError):
    """One operation failed; carries the ``errno`` and the path it was about."""

    def __init__(self, message: str, number: int, path: str | None) -> None:
        super().__init__(message)
        self.errno = number
        self.path = path


class Share:
    """Asks the child for operations, one at a time.

    Raises ``ShareError`` for what the operating system refused and ``StorageError`` for a share that does not answer.
    """

    def __init__(self, name: str, seconds: float | Callable[[], float], folders: Sequence[str]) -> None:
        """``name`` is for messages; ``seconds`` is the deadline of an operation that moves no data, or returns it
        where it may change; below ``folders`` no link is followed."""
        self.name = name
        self._seconds = seconds
        self._folders = tuple(folders)
        self._child: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    @property
    def seconds(self) -> float:
        """The deadline of an operation that moves no data, now."""
        return self._seconds() if callable(self._seconds) else self._seconds

    async def do(self, operation: str, *args: Any, seconds: float | None = None) -> Any:
        """Run one operation of ``operations.py``; copies of large files get a longer deadline from the caller."""
        async with self._lock:
            try:
                answer = await asyncio.wait_for(self._ask(operation, args), seconds or self.seconds)
            except TimeoutError:
                await self._drop_child()
                raise StorageError(
                    f"line {self.name}: the folder did not answer '{operation}' within "
                    f"{seconds or self.seconds:.0f} s; is the share reachable?"
                ) from None
            except BaseException:
                await self._drop_child()  # a cancelled request would leave its answer in the pipe
                raise
        if "errno" in answer:
            where = f" ({answer['path']})" if answer["path"] else ""
            raise ShareError(f"{answer['error']}{where}", answer["errno"], answer["path"])
        return answer["value"]

    async def _ask(self, operation: str, args: tuple[Any, ...]) -> dict[str, Any]:
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                *python("heygemd.share"), *self._folders, env=environment(),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 28,
            )  # fmt: skip
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps({"op": operation, "args": args}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await child.stdin.drain()
        line = await child.stdout.readline()
        if not line:
            raise StorageError(f"line {self.name}: the file process ended during '{operation}'")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        with contextlib.suppress(TimeoutError):  # in uninterruptible sleep it stays until the kernel lets go
            await asyncio.wait_for(child.wait(), 0.5)

    async def close(self) -> None:
        """End the child."""
        async with self._lock:
            await self._drop_child()
