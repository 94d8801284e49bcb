"""The configuration in force: held once, read by everybody, replaced in one step by a reload.

Whoever needs a setting reads it from ``now`` when it needs it, and keeps no copy beyond the work in hand.  So nobody
has to be told of a new configuration, and nobody can be forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

from heygemd.config.line import LineConfig
from heygemd.config.whole import Config


class Live:
    """Holds the current ``Config``."""

    def __init__(self, config: Config) -> None:
        self._now = config
        self.lines: Mapping[str, LineConfig] = _Lines(self)
        """The settings of its lines, by name, always those in force."""
        self._replaced = asyncio.Event()

    @property
    def now(self) -> Config:
        """The configuration in force at this moment."""
        return self._now

    def replace(self, config: Config) -> None:
        """From here on ``config`` is in force; whoever waits in ``other_than`` is woken."""
        self._now = config
        replaced, self._replaced = self._replaced, asyncio.Event()
        replaced.set()

    async def other_than(self, config: Config, seconds: float) -> None:
        """Wait until the configuration in force is another than ``config``, at most for ``seconds``."""
        if self._now is not config:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._replaced.wait(), seconds)


class _Lines(Mapping[str, LineConfig]):
    def __init__(self, live: Live) -> None:
        self._live = live

    def __getitem__(self, name: str) -> LineConfig:
        for line in self._live.now.lines:
            if line.name == name:
                return line
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (line.name for line in self._live.now.lines)

    def __len__(self) -> int:
        return len(self._live.now.lines)
