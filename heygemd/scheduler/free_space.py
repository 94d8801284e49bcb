"""How much may still be written to folders that may be slow: asked for rarely and never waited for twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from heygemd.common.aio import ended
from heygemd.common.errors import StorageError
from heygemd.share.client import ShareClient
from heygemd.store.drops import DropStore

ASK_SECONDS = 10.0  # an answer is good for so long


class Rooms:
    """What each folder answered last, by name.

    A share that is busy taking a film answers late.  The first answer is waited for, so that no job starts without
    one; a later one comes when it comes.
    """

    def __init__(self, free: Callable[[str], Awaitable[int]]) -> None:
        """``free`` asks for a folder's MiB; it raises ``StorageError`` where there is no answer."""
        self._free = free
        self._answers: dict[str, tuple[float, int | None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def ask(self, names: Iterable[str]) -> None:
        """See to it that there is an answer of each of these."""
        wanted = list(names)
        self.refresh(wanted)
        for name in wanted:
            if name not in self._answers:
                await asyncio.wait([self._asking[name]])

    def refresh(self, names: Iterable[str]) -> None:
        """Have these asked where their answer is old; wait for nobody."""
        for name in names:
            asked, _ = self._answers.get(name, (-ASK_SECONDS, None))
            if time.monotonic() - asked >= ASK_SECONDS and name not in self._asking:
                self._asking[name] = asyncio.create_task(self._ask(name))

    def known(self) -> dict[str, int]:
        """MiB by name; one that did not answer is missing."""
        return {name: mib for name, (_, mib) in self._answers.items() if mib is not None}

    async def close(self) -> None:
        """Ask no more."""
        await ended(list(self._asking.values()))

    async def _ask(self, name: str) -> None:
        try:
            free = await self._free(name)
        except (StorageError, KeyError):  # it does not answer, or is not configured any more
            free = None
        finally:
            self._asking.pop(name, None)
        self._answers[name] = (time.monotonic(), free)


class Outboxes(Rooms):
    """Those of the lines, by line."""

    def __init__(self, store: DropStore) -> None:
        super().__init__(lambda line: store.outbox_free_mib(line))
        self._store = store

    def free_mib(self) -> dict[Path, int]:
        """MiB by outbox; one that did not answer is missing."""
        lines = self._store.lines
        return {lines[line].outbox: mib for line, mib in self.known().items() if line in lines}


class Folders(Rooms):
    """Folders outside of the lines, by path: they may be mounts as well, so a child of their own is asked."""

    def __init__(self, name: str, seconds: float) -> None:
        """``name`` is for messages; ``seconds``: the deadline of an answer."""
        self._share = ShareClient(name, seconds, ())
        super().__init__(lambda folder: self._share.free_mib(folder))

    def free_mib(self) -> dict[Path, int]:
        """MiB by folder; one that did not answer is missing."""
        return {Path(folder): mib for folder, mib in self.known().items()}

    async def close(self) -> None:
        """Ask no more, and end the child."""
        await super().close()
        await self._share.close()
