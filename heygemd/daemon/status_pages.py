"""Keeps the status page of each line up to date in its outbox: a task of the daemon that nothing else waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from heygemd.common import log
from heygemd.common.errors import StorageError
from heygemd.config.load import Config
from heygemd.status import page
from heygemd.store.states import now
from heygemd.watch.line import Line

SECONDS = 4.0  # between two looks; a share may be slow, and people do not read faster
LIFE_SECONDS = 60.0  # a page on which nothing changes is written anew after this time: its date says that we live


class Board:
    """Writes ``STATUS.html`` and ``status.json`` where something has changed."""

    def __init__(self, config: Callable[[], Config], lines: Mapping[str, Line], status: Callable[[], Any]) -> None:
        """``lines`` may come and go; ``status`` gives what ``heygemd status`` shows."""
        self._config, self._lines, self._status = config, lines, status
        self._shown: dict[str, tuple[dict[str, Any], float]] = {}
        self._refused: set[str] = set()
        self._log = log.get()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.post()
            await asyncio.sleep(SECONDS)

    async def post(self, **instead: Any) -> None:
        """Bring the page of every line that answers up to date; ``instead`` of what the status says."""
        status = {**self._status(), **instead}
        for line in list(self._lines.values()):
            if line.open and line.line.status_page == "on":
                await self._post(line, status)

    async def _post(self, line: Line, status: Any) -> None:
        name, clock = line.line.name, asyncio.get_running_loop().time()
        told = page.data(status, name)
        before = self._shown.get(name)
        if before is not None and before[0] == told and clock - before[1] < LIFE_SECONDS:
            return
        language, at = self._config().daemon.language, now()
        pages = {
            page.PAGE: page.to_html(told, at, language, line.line.failed.name),
            page.DATA: page.to_json(told, at),
        }
        try:
            for file, content in pages.items():
                await line.share.write_whole(str(line.line.outbox / file), content)
        except StorageError as error:  # the next change tries again; the line itself says if its share is gone
            if name not in self._refused:
                self._log.warning("status_page_refused", line=name, problem=str(error))
            self._refused.add(name)
            return
        self._refused.discard(name)
        self._shown[name] = told, clock

    async def last(self, seconds: float = 5.0) -> None:
        """Say that the daemon has stopped, as far as the shares allow it in that time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.post(state="stopped", running=[]), seconds)
