"""The lines that are open: each with its settings, its share, its watch and its task.  The only place that opens and
closes one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from heygemd.common.aio import ended
from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.share.client import ShareClient
from heygemd.watch.line import WatchedLine


@dataclass(frozen=True, slots=True)
class _OpenLine:
    share: ShareClient
    line: WatchedLine
    task: asyncio.Task[None]


class LineSet(Mapping[str, WatchedLine]):
    """Open lines by name; others only read it, and see lines come and go."""

    def __init__(self, live: Live, watch: Callable[[LineConfig, ShareClient], WatchedLine]) -> None:
        """``watch`` makes the watch of a line whose share is given; nothing runs yet."""
        self._live, self._watch = live, watch
        self._open: dict[str, _OpenLine] = {}
        self.shares: Mapping[str, ShareClient] = _Shares(self._open)

    def __getitem__(self, name: str) -> WatchedLine:
        return self._open[name].line

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The task of each line; one that has ended is a fault."""
        return [line.task for line in self._open.values()]

    def open(self, settings: LineConfig) -> None:
        """Start to watch a line that the configuration in force has."""
        share = ShareClient(settings.name, lambda: self._live.now.intake.share_seconds, settings.trusted)
        line = self._watch(settings, share)
        self._open[settings.name] = _OpenLine(share, line, asyncio.create_task(line.run()))

    async def close(self, names: Collection[str]) -> None:
        """End these lines, and return once nothing of them runs any more.  From the call on nobody finds them."""
        await _left([self._open.pop(name) for name in names])

    async def stop(self) -> None:
        """At the end of the daemon, before the last status page: end every task."""
        await ended(self.tasks)

    async def leave_all(self) -> None:
        """At the end of the daemon: let other daemons have the lines.  They stay in the set, as they were last."""
        await _left(list(self._open.values()))


async def _left(lines: Sequence[_OpenLine]) -> None:
    await ended([line.task for line in lines])
    for line in lines:
        await line.line.leave()
    for line in lines:
        await line.share.close()


class _Shares(Mapping[str, ShareClient]):
    """The shares of the open lines, by the line's name."""

    def __init__(self, lines: Mapping[str, _OpenLine]) -> None:
        self._lines = lines

    def __getitem__(self, name: str) -> ShareClient:
        return self._lines[name].share

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)
