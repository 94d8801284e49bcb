"""The configuration in force: one object that everybody reads."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.config.whole import Config

A, B = LineConfig("a", Path("/srv/a")), LineConfig("b", Path("/srv/b"))


def test_lines_are_always_those_in_force() -> None:
    live = Live(Config(lines=(A,)))
    lines = live.lines
    assert list(lines) == ["a"] and lines["a"] is A
    live.replace(Config(lines=(replace(A, on_poor="hold"), B)))
    assert list(lines) == ["a", "b"] and lines["a"].on_poor == "hold" and len(lines) == 2
    live.replace(Config())
    assert not lines and "a" not in lines
    with pytest.raises(KeyError):
        lines["a"]


def test_who_waits_for_another_configuration_is_woken_and_a_replacement_just_before_is_not_missed() -> None:
    async def story() -> None:
        live = Live(Config())
        first = live.now
        waiting = asyncio.create_task(live.other_than(first, 300))
        await asyncio.sleep(0)
        live.replace(Config())
        await asyncio.wait_for(waiting, 5)
        await asyncio.wait_for(live.other_than(first, 300), 5)
        await asyncio.wait_for(live.other_than(live.now, 0.01), 5)

    asyncio.run(story())
