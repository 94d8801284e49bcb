"""How much may still be written to the lines' outboxes, asked for rarely and never waited for twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from heygemd.errors import StorageError
from heygemd.jobs import Store
from heygemd.tasks import ended

ASK_SECONDS = 10.0  # an answer is good for so long


class Outboxes:
    """What each outbox answered last.

    A share that is busy taking a film answers late.  The first answer is waited for, so that no job starts without
    one; a later one comes when it comes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: dict[str, tuple[float, int | None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def ask(self, lines: Iterable[str]) -> None:
        """See to it that there is an answer of each of these lines."""
        wanted = list(lines)
        self.refresh(wanted)
        for line in wanted:
            if line not in self._answers:
                await asyncio.wait([self._asking[line]])

    def refresh(self, lines: Iterable[str]) -> None:
        """Have these lines asked where their answer is old; wait for nobody."""
        for line in lines:
            asked, _ = self._answers.get(line, (-ASK_SECONDS, None))
            if time.monotonic() - asked >= ASK_SECONDS and line not in self._asking:
                self._asking[line] = asyncio.create_task(self._ask(line))

    def free_mib(self) -> dict[Path, int]:
        """MiB by outbox; one that did not answer is missing."""
        known = {line: mib for line, (_, mib) in self._answers.items() if mib is not None and line in self._store.lines}
        return {self._store.lines[line].outbox: mib for line, mib in known.items()}

    async def close(self) -> None:
        """Ask no more."""
        await ended(list(self._asking.values()))

    async def _ask(self, line: str) -> None:
        try:
            free = await self._store.outbox_free_mib(line)
        except (StorageError, KeyError):  # it does not answer, or is not configured any more
            free = None
        finally:
            self._asking.pop(line, None)
        self._answers[line] = (time.monotonic(), free)
