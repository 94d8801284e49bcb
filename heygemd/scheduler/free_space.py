"""Cached free-space queries for folders that may answer slowly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from heygemd.common.aio import ended
from heygemd.common.errors import StorageError
from heygemd.share.client import ShareClient
from heygemd.store.drops import DropStore


class FreeSpace:
    """The last answer of each folder, by name.

    A share that is busy taking a film answers late.  The first answer is waited for, so that no job starts without
    one; later answers are taken when they come.
    """

    def __init__(self, free_mib: Callable[[str], Awaitable[int]], keep_seconds: float) -> None:
        """``free_mib`` asks for a folder's free MiB and raises ``StorageError`` where there is no answer.  An answer
        older than ``keep_seconds`` is asked for again."""
        self._free_mib, self._keep_seconds = free_mib, keep_seconds
        self._replies: dict[str, tuple[float, int | None]] = {}  # when it was given, and MiB
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def ask(self, names: Iterable[str]) -> None:
        """Return when there is an answer for each of these."""
        wanted = list(names)
        self.refresh(wanted)
        for name in wanted:
            if name not in self._replies:
                await asyncio.wait([self._asking[name]])

    def refresh(self, names: Iterable[str]) -> None:
        """Begin to ask again where the answer is old; do not wait."""
        for name in names:
            at, _ = self._replies.get(name, (-self._keep_seconds, None))
            if time.monotonic() - at >= self._keep_seconds and name not in self._asking:
                self._asking[name] = asyncio.create_task(self._ask(name))

    def known_mib(self) -> dict[str, int]:
        """MiB by name; a folder that did not answer is missing."""
        return {name: mib for name, (_, mib) in self._replies.items() if mib is not None}

    async def close(self) -> None:
        """Ask no more."""
        await ended(list(self._asking.values()))

    async def _ask(self, name: str) -> None:
        try:
            free = await self._free_mib(name)
        except (StorageError, KeyError):  # it does not answer, or is not configured any more
            free = None
        finally:
            self._asking.pop(name, None)
        self._replies[name] = (time.monotonic(), free)


class OutboxSpace(FreeSpace):
    """Free space in the outboxes, by the line's name."""

    def __init__(self, store: DropStore, keep_seconds: float) -> None:
        super().__init__(lambda line: store.outbox_free_mib(line), keep_seconds)
        self._store = store

    def by_path(self) -> dict[Path, int]:
        """MiB by outbox; one that did not answer is missing."""
        lines = self._store.lines
        return {lines[line].outbox: mib for line, mib in self.known_mib().items() if line in lines}


class FolderSpace(FreeSpace):
    """Free space in folders outside of the lines, by path: they may be mounts as well, so a child process asks."""

    def __init__(self, name: str, seconds: Callable[[], float], keep_seconds: float) -> None:
        """``name`` is for messages; ``seconds`` returns the deadline of an answer."""
        self._share = ShareClient(name, seconds, ())
        super().__init__(lambda folder: self._share.free_mib(folder), keep_seconds)

    def by_path(self) -> dict[Path, int]:
        """MiB by folder; one that did not answer is missing."""
        return {Path(folder): mib for folder, mib in self.known_mib().items()}

    async def close(self) -> None:
        """Ask no more, and end the child."""
        await super().close()
        await self._share.close()
