"""Lines that are opened and closed, in one place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.config.tables import IntakeConfig
from heygemd.config.whole import Config
from heygemd.daemon.line_set import LineSet
from heygemd.share.client import ShareClient
from heygemd.watch.line import WatchedLine

A, B = LineConfig("a", Path("/srv/a")), LineConfig("b", Path("/srv/b"))


@dataclass
class Watch:
    """What ``LineSet`` needs of a line; notes the order in which it is ended."""

    share: ShareClient
    diary: list[str] = field(default_factory=list)

    async def run(self) -> None:
        try:
            await asyncio.sleep(300)
        finally:
            self.diary.append("ended")

    async def leave(self) -> None:
        self.diary.append("left")


def line_set(live: Live) -> LineSet:
    def make(_: LineConfig, share: ShareClient) -> WatchedLine:
        return cast(WatchedLine, Watch(share))

    return LineSet(live, make)


def test_a_closed_line_is_gone_at_once_and_is_left_only_when_its_task_has_ended() -> None:
    async def story() -> None:
        lines = line_set(Live(Config(lines=(A, B))))
        lines.open(A)
        lines.open(B)
        assert list(lines) == list(lines.shares) == ["a", "b"] and len(lines.tasks) == 2
        watch, shares = cast(Watch, lines["a"]), lines.shares
        assert shares["a"] is watch.share
        await asyncio.sleep(0)
        closing = asyncio.create_task(lines.close(["a"]))
        await asyncio.sleep(0)
        assert list(lines) == list(shares) == ["b"]
        await closing
        assert watch.diary == ["ended", "left"]
        with pytest.raises(KeyError):
            shares["a"]
        await lines.stop()
        await lines.leave_all()
        assert list(lines) == ["b"], "the last status shows it"
        assert cast(Watch, lines["b"]).diary == ["ended", "left"]

    asyncio.run(story())


def test_the_deadline_of_a_share_is_the_one_in_force() -> None:
    async def story() -> None:
        live = Live(Config(lines=(A,), intake=IntakeConfig(share_seconds=60)))
        lines = line_set(live)
        lines.open(A)
        assert lines.shares["a"].seconds == 60
        live.replace(replace(live.now, intake=IntakeConfig(share_seconds=7)))
        assert lines.shares["a"].seconds == 7
        await lines.close(["a"])

    asyncio.run(story())
