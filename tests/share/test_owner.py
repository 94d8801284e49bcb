"""Two daemons on one inbox: one holds the line, the other says who does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.share import owner as share_owner
from heygemd.share.owner import BEAT_SECONDS, STALE_SECONDS, Hold
from tests.site import Site


@pytest.fixture
def two(tmp_path: Path) -> tuple[Hold, Hold]:
    """One on this machine, one as another machine would write itself."""
    here, there = Hold(tmp_path / "here"), Hold(tmp_path / "there")
    there._me = replace(there._me, kernel="another", machine="another", boot="another", host="other", pid=1)
    return here, there


def test_a_line_is_held_until_it_is_left(tmp_path: Path, two: tuple[Hold, Hold]) -> None:
    here, there = two
    folder = str(tmp_path)
    assert share_owner.hold(folder, here.me(), None) is None
    assert share_owner.hold(folder, here.me(), None) is None
    found = share_owner.hold(folder, there.me(), None)
    assert found == here.me()
    said = there.rival(found, 0.0)
    assert said is not None and str(os.getpid()) in said and str(tmp_path / "here") in said
    share_owner.leave(folder, there.me())
    assert share_owner.hold(folder, there.me(), None), "only who holds it can leave it"
    share_owner.leave(folder, here.me())
    assert share_owner.hold(folder, there.me(), None) is None


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path, two: tuple[Hold, Hold]) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    record = replace(two[0].me(), id="dead", pid=dead.pid, began="1")
    assert share_owner.hold(str(tmp_path), record, None) is None
    assert share_owner.hold(str(tmp_path), two[0].me(), None) is None


def test_who_held_it_before_this_machine_was_booted_anew_holds_nothing(tmp_path: Path, two: tuple[Hold, Hold]) -> None:
    here, _ = two
    before = replace(here.me(), id="before", boot="the last", kernel="the last", pid=1)
    assert share_owner.hold(str(tmp_path), before, None) is None
    assert share_owner.hold(str(tmp_path), here.me(), None) is None


def test_another_namespace_of_this_machine_is_alive_until_it_is_silent(tmp_path: Path, two: tuple[Hold, Hold]) -> None:
    here, _ = two
    container = replace(here.me(), id="container", kernel="another namespace", pid=1)
    assert share_owner.hold(str(tmp_path), container, None) is None
    assert share_owner.hold(str(tmp_path), here.me(), None) == container


def test_of_another_machine_only_silence_counts(tmp_path: Path, two: tuple[Hold, Hold]) -> None:
    here, there = two
    folder, record = str(tmp_path), there.me()
    share_owner.hold(folder, record, None)
    assert here.rival(share_owner.hold(folder, here.me(), here.stale(0.0)), 0.0)
    later = STALE_SECONDS - 1
    assert here.rival(share_owner.hold(folder, here.me(), here.stale(later)), later)
    share_owner.hold(folder, replace(record, beat=record.beat + 1), None)  # a sign of life begins it anew
    assert here.rival(share_owner.hold(folder, here.me(), here.stale(later + 2)), later + 2)
    assert here.stale(later + 3) is None
    at = later + 2 + STALE_SECONDS
    assert here.rival(share_owner.hold(folder, here.me(), here.stale(at)), at) is None
    assert there.rival(share_owner.hold(folder, there.me(), None), at), "it finds the line taken over"
    assert STALE_SECONDS > 3 * BEAT_SECONDS


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b"null", b'{"id": 1}', b'{"id": "x", "pid": "../1", "beat": 0}', b"[" * 4000]
)
def test_a_record_cut_short_says_nothing(tmp_path: Path, two: tuple[Hold, Hold], text: bytes) -> None:
    (tmp_path / share_owner.OWNER).write_bytes(text)
    assert share_owner.hold(str(tmp_path), two[0].me(), None) is None


def test_two_daemons_on_one_inbox_make_each_film_once_and_the_second_says_who_holds_the_line(
    tmp_path: Path, media: Path
) -> None:
    first, second = (Site(tmp_path / name, of_bytes=True) for name in ("first", "second"))
    second.line = first.line
    second.write_config()
    try:
        first.start()
        first.until(lambda: first.status()["lines"][0]["state"] == "ok", "the first has the line")
        second.start()
        second.until(lambda: second.status()["lines"][0]["problem"], "the second has not")
        assert second.status()["lines"][0]["state"] == "unavailable"
        problem = second.status()["lines"][0]["problem"]
        assert (
            first.process is not None and f"process {first.process.pid} on" in problem and "uses this line" in problem
        )
        for number in range(3):
            shutil.copy(media / "voice.wav", first.inbox / f"{number}.wav")
            shutil.copy(media / "film.mp4", first.inbox / f"{number}.mp4")
        first.until(lambda: first.tree("processing"), "drops are claimed")
        first.until(lambda: len(first.tree("done")) == 6, "all is done")
        assert first.tree("outbox") == sorted(f"{n}.{end}" for n in range(3) for end in ("json", "mp4"))
        assert first.stop() == 0
        second.until(lambda: second.status()["lines"][0]["state"] == "ok", "the second takes it over")
    finally:
        first.kill()
        second.kill()


def test_a_line_that_is_taken_out_of_the_configuration_is_left_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    other = f'[[line]]\nname = "other"\nroot = "{tmp_path / "other"}"\nallowed_engines = ["command"]\n'
    before = site.config.read_text()
    site.config.write_text(before + other)
    owner = tmp_path / "other" / "processing" / share_owner.OWNER
    try:
        site.start()
        site.until(owner.exists, "the line is held")
        site.config.write_text(before)
        assert site.ask(cmd="reload", wait=True)["ok"]
        assert not owner.exists()
    finally:
        site.kill()
