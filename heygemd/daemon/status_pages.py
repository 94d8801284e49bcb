"""Keeps the status page of each line up to date in its outbox: a task of the daemon that nothing else waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from heygemd.common import log
from heygemd.common.aio import Pace
from heygemd.common.errors import StorageError
from heygemd.config.live import Live
from heygemd.contract.status import Status
from heygemd.status import page, page_data
from heygemd.status.page_data import PageData
from heygemd.store.states import now
from heygemd.watch.line import WatchedLine

LIFE_SECONDS = 60.0  # an unchanged page is written again after this time: its date says that the daemon lives


class StatusPages:
    """Writes ``STATUS.html`` and ``status.json`` where something has changed."""

    def __init__(self, live: Live, lines: Mapping[str, WatchedLine], status: Callable[[], Status], pace: Pace) -> None:
        """``lines`` may come and go; ``status`` returns what ``heygemd status`` shows."""
        self._live, self._lines, self._status, self._pace = live, lines, status, pace
        self._written: dict[str, tuple[PageData, float]] = {}  # by line: the page's data, and when
        self._refused: set[str] = set()
        self._log = log.get()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self._write_all(self._status())
            await asyncio.sleep(self._pace.status_page)

    async def last(self, seconds: float = 5.0) -> None:
        """Write that the daemon has stopped, as far as the shares allow it within ``seconds``."""
        status: Status = {**self._status(), "state": "stopped", "running": []}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._write_all(status), seconds)

    async def _write_all(self, status: Status) -> None:
        """Bring the page of every open line up to date."""
        for line in list(self._lines.values()):
            if line.open and line.settings.status_page == "on":
                await self._write(line, status)

    async def _write(self, line: WatchedLine, status: Status) -> None:
        name, clock = line.name, asyncio.get_running_loop().time()
        data = page_data.data(status, name)
        before = self._written.get(name)
        if before is not None and before[0] == data and clock - before[1] < LIFE_SECONDS:
            return
        language, at = self._live.now.daemon.language, now()
        pages = {
            page.PAGE: page.to_html(data, at, language, line.settings.failed.name),
            page.DATA: page_data.to_json(data, at),
        }
        try:
            for file, content in pages.items():
                await line.share.write_whole(str(line.settings.outbox / file), content)
        except StorageError as error:  # the next change tries again; the line itself says if its share is gone
            if name not in self._refused:
                self._log.warning("status_page_refused", line=name, problem=str(error))
            self._refused.add(name)
            return
        self._refused.discard(name)
        self._written[name] = data, clock
