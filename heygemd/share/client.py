"""The parent's half of ``operations.py``: one child per line, one typed method an operation, each with a deadline.

An operation that does not come back in time is given up: its child is killed (which may take effect only when the
kernel lets go of it) and a later operation starts a new one.  The daemon's loop never waits for a share.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

from heygemd.common.errors import StorageError
from heygemd.common.request import Stamp
from heygemd.common.spawn import environment, python
from heygemd.share import answers
from heygemd.share.answers import LineOpened, RemovedFiles, StagedFile
from heygemd.share.entry import InboxEntry
from heygemd.share.owner import OwnerRecord

BYTES_PER_SECOND = 2e6  # slower than any share worth the name; sets the deadline of a copy
STAGED_BYTES = 1 << 34  # what an input may have at most, for the deadline of its copy

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


class ShareChild:
    """Sends one request at a time to the child, and starts it where there is none."""

    def __init__(self, name: str, folders: Sequence[str]) -> None:
        self.name = name
        self._folders = tuple(folders)
        self._child: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def ask(self, operation: str, args: Sequence[object], seconds: float) -> object:
        """Run one operation within ``seconds``; its value.  Raises ``ShareError`` and ``StorageError``."""
        async with self._lock:
            try:
                answer = await asyncio.wait_for(self._send(operation, args), seconds)
            except TimeoutError:
                await self._drop_child()
                raise StorageError(
                    f"line {self.name}: the folder did not answer '{operation}' within "
                    f"{seconds:.0f} s; is the share reachable?"
                ) from None
            except BaseException:
                await self._drop_child()  # a cancelled request would leave its answer in the pipe
                raise
        if "errno" in answer:
            path = answers.text(answer["path"]) if answer["path"] else None
            where = f" ({path})" if path else ""
            raise ShareError(f"{answer['error']}{where}", answers.number(answer["errno"]), path)
        return answer["value"]

    async def _send(self, operation: str, args: Sequence[object]) -> Mapping[str, object]:
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
        return answers.table(json.loads(line))

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


class ShareClient:
    """The operations of ``operations.py`` and ``queries.py``, which say what each does and what a second run does.

    Raises ``ShareError`` for what the operating system refused and ``StorageError`` for a share that does not answer.
    """

    def __init__(
        self, name: str, seconds: float | Callable[[], float], folders: Sequence[str], child: ShareChild | None = None
    ) -> None:
        """``name`` is for messages; ``seconds`` is the deadline of an operation that moves no data, or returns it
        where it may change; below ``folders`` no link is followed.  ``child``: another way to have operations done."""
        self.name = name
        self._seconds = seconds
        self._child = child or ShareChild(name, folders)

    @property
    def seconds(self) -> float:
        """The deadline of an operation that moves no data, now."""
        return self._seconds() if callable(self._seconds) else self._seconds

    async def _do(self, operation: str, *args: object, size: int = 0, seconds: float | None = None) -> object:
        """``size``: bytes that are copied, for which the deadline is extended."""
        limit = seconds or self.seconds + size / BYTES_PER_SECOND
        return await self._child.ask(operation, args, limit)

    async def close(self) -> None:
        """End the child."""
        await self._child.close()

    # ------------------------------------------------------------ the line

    async def open_line(
        self,
        folders: Mapping[str, str],
        marker: str | None,
        me: OwnerRecord | None = None,
        stale: tuple[str, int] | None = None,
    ) -> LineOpened:
        """Make sure that the line's folders are there and ours."""
        record = me.to_json() if me else None
        return answers.line_opened(await self._do("open_line", dict(folders), marker, record, stale))

    async def leave_line(self, processing: str, me: OwnerRecord, *, seconds: float | None = None) -> None:
        """Let others have the line at once."""
        await self._do("leave_line", processing, me.to_json(), seconds=seconds)

    async def scan(self, inbox: str) -> list[InboxEntry]:
        """Everything below the inbox that is not on the ignore list."""
        return [InboxEntry.from_list(answers.items(row)) for row in answers.items(await self._do("scan", inbox))]

    async def inspect(self, inbox: str, paths: Sequence[str]) -> dict[str, str | None]:
        """For each path: a sentence why the file looks unfinished, or ``None``."""
        answer = answers.table(await self._do("inspect", inbox, list(paths)))
        return {path: None if why is None else answers.text(why) for path, why in answer.items()}

    async def read(self, path: str, limit: int) -> bytes:
        """The file's bytes; more than ``limit`` raise ``EFBIG``."""
        return base64.b64decode(answers.text(await self._do("read", path, limit)))

    async def listing(self, path: str) -> list[str]:
        """The names in a folder; an absent folder has none."""
        return answers.texts(await self._do("listing", path))

    async def owner(self, path: str) -> str | None:
        """The login name of the file's owner; ``None`` where the file is gone."""
        name = await self._do("owner", path)
        return None if name is None else answers.text(name)

    async def free_mib(self, path: str) -> int:
        """Free space in a folder, or in the nearest existing one above it, in MiB."""
        return answers.number(await self._do("free_mib", path))

    # ------------------------------------------------------------ claim and stage

    async def open_drop(self, drop: str, request: Mapping[str, object]) -> None:
        """Make ``processing/<drop>/`` with ``request.json`` in it."""
        await self._do("open_drop", drop, dict(request))

    async def take_input(self, source: str, target: str, stamps: Mapping[str, Stamp]) -> answers.Taken:
        """Move an input out of the inbox if it still has the stamps with which it settled.

        ``stamps`` by path below ``source``; a file's own is at ``""``.
        """
        known = {path: _as_list(stamp) for path, stamp in stamps.items()}
        answer = await self._do("take_input", source, target, known)
        return answers.choice(answer, get_args(answers.Taken))

    async def put_back(self, source: str, target: str) -> answers.PutBack:
        """Move an input back into the inbox, replacing nothing."""
        return answers.choice(await self._do("put_back", source, target), get_args(answers.PutBack))

    async def sync_folders(self, folders: Iterable[str]) -> None:
        """Make durable what was moved between these folders."""
        await self._do("sync_folders", list(folders))

    async def discard_drop(self, drop: str, folders: Iterable[str] = ()) -> None:
        """Remove a drop folder in which no input is left, with empty ``folders`` in it."""
        await self._do("discard_drop", drop, list(folders))

    async def move(self, source: str, target: str) -> answers.Moved:
        """Rename a file or folder that is ours."""
        return answers.choice(await self._do("move", source, target), get_args(answers.Moved))

    async def stage(self, source: str, target: str) -> StagedFile:
        """Copy an input to a local file while hashing it."""
        return answers.staged_file(await self._do("stage", source, target, size=STAGED_BYTES))

    # ------------------------------------------------------------ publish

    async def put(self, source: str, part: str, *, size: int) -> str:
        """Copy a local file of ``size`` bytes to a part on the share; its SHA-256."""
        return answers.text(await self._do("put", source, part, size=size))

    async def write_part(self, part: str, data: bytes) -> None:
        """Write a part."""
        await self._do("write_part", part, _b64(data))

    async def reveal(self, part: str, final: str, outbox: str) -> answers.Revealed:
        """Give a whole part its final name."""
        return answers.choice(await self._do("reveal", part, final, outbox), get_args(answers.Revealed))

    async def write_whole(self, path: str, data: bytes) -> None:
        """Replace one of our own files."""
        await self._do("write_whole", path, _b64(data))

    async def lay_down(self, path: str, data: bytes) -> answers.LaidDown:
        """Write a file where no file of that name is."""
        return answers.choice(await self._do("lay_down", path, _b64(data)), get_args(answers.LaidDown))

    # ------------------------------------------------------------ file and remove

    async def file_drop(self, source: str, target: str) -> answers.Filed:
        """Move a drop's folder to ``done/`` or ``failed/``."""
        return answers.choice(await self._do("file_drop", source, target), get_args(answers.Filed))

    async def remove_seen(self, path: str, stamp: Stamp) -> answers.Removed:
        """Remove a regular file if it still has the stamp with which it was listed."""
        return answers.choice(await self._do("remove_seen", path, _as_list(stamp)), get_args(answers.Removed))

    async def remove_filed(self, drop: str, files: Sequence[tuple[str, int, int]], ours: Sequence[str]) -> RemovedFiles:
        """Remove what was filed in a drop's folder: ``files`` are path, size and mtime_ns."""
        return answers.removed_files(await self._do("remove_filed", drop, list(files), list(ours)))

    async def remove_film(self, base: str, size: int, job: str) -> answers.Removed:
        """Remove a film of ours with its page and log."""
        return answers.choice(await self._do("remove_film", base, size, job), get_args(answers.Removed))


def _as_list(stamp: Stamp) -> list[int]:
    return [stamp.size, stamp.mtime_ns, stamp.inode]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
