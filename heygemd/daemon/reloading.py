"""A changed configuration file comes into force while the daemon runs: all of it, or nothing.

read      the file, outside of the event loop; every fault refuses it
compare   what has changed (config/changes.py); a line with unfinished drops keeps its folders
close     lines that are removed, or get other folders
replace   the live configuration, in one step; everybody reads it from there
open      new lines, and those with other folders; the others go by the new settings from their next look on
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable

from heygemd.common import log
from heygemd.common.aio import Pace
from heygemd.common.errors import HeygemdError
from heygemd.config import changes as config_changes
from heygemd.config.changes import ChangedNames
from heygemd.config.live import Live
from heygemd.config.load import load
from heygemd.config.whole import Config
from heygemd.daemon.line_set import LineSet
from heygemd.scheduler.render_loop import Rendering
from heygemd.store.drops import Journal
from heygemd.store.states import DropState

_LOG_KEYS = ("log_level", "log_file", "log_mib", "log_keep")


class ReloadReply(ChangedNames):
    """The names of what has changed, and the file that was read."""

    source: str


class Reloading:
    """Reads the file again when asked to; one reload at a time."""

    def __init__(
        self, live: Live, journal: Journal, lines: LineSet, rendering: Rendering, wake: Callable[[], None], pace: Pace
    ) -> None:
        """``wake``: something has changed that may let a job start."""
        self._live, self._journal, self._lines, self._rendering = live, journal, lines, rendering
        self._wake, self._pace = wake, pace
        self._one_at_a_time = asyncio.Lock()
        self._on_signal: asyncio.Task[None] | None = None
        self._log = log.get()

    def begin(self) -> None:
        """Reload without a reply, as SIGHUP asks; the log has the result."""

        async def quietly() -> None:
            with contextlib.suppress(HeygemdError):
                await self.reload(wait=False)

        self._on_signal = asyncio.create_task(quietly())

    async def reload(self, *, wait: bool) -> ReloadReply:
        """Read the file and put it into force.  ``wait``: return once every line goes by it, or after
        ``share_seconds``.

        Raises ``HeygemdError`` where the file is refused; then the old configuration stays in force.
        """
        async with self._one_at_a_time:
            changes = await self._weighed()
            await self._lines.close(changes.removed)
            self._live.replace(changes.config)
            for name in changes.added:
                self._lines.open(self._live.lines[name])
            for name in changes.changed:
                self._lines[name].wake()
        self._wake()
        names = changes.names()
        self._log.info("reloaded", **names)
        if wait:
            await self._until_taken_up()
        return {"source": str(changes.config.source), **names}

    async def _weighed(self) -> config_changes.Changes:
        """What the file changes; when this returns, nothing can refuse it any more."""
        if self._rendering.stopping:
            raise HeygemdError("The daemon is stopping; the next start reads the file.")
        try:
            new = await asyncio.to_thread(load, self._live.now.source)
            changes = config_changes.weigh(self._live.now, new, self._unfinished())
            _set_up_log(self._live.now, changes.config)
        except HeygemdError as error:
            self._log.error("reload_refused", reason=error.message)
            raise
        return changes

    def _unfinished(self) -> dict[str, int]:
        """Number of drops under way, by line."""
        states = [state for state in DropState if state is not DropState.ENDED]
        return dict(Counter(drop.line for drop in self._journal.drops(*states)))

    async def _until_taken_up(self) -> None:
        ends = time.monotonic() + self._live.now.intake.share_seconds
        while time.monotonic() < ends and any(line.pending for line in self._lines.values()):
            await asyncio.sleep(self._pace.start_turn)


def _set_up_log(old: Config, new: Config) -> None:
    """If the log's settings differ, use the new ones.  Raises ``SetupError`` if the new file cannot be written."""
    if any(getattr(old.daemon, key) != getattr(new.daemon, key) for key in _LOG_KEYS):
        own = new.daemon
        log.setup(own.log_level, own.log_file, own.log_mib, own.log_keep, terminal=log.on_terminal())
