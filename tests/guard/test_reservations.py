"""Daemons that share a GPU agree through files; the kernel takes a dead one's reservation away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from heygemd.guard.readings import Gpu, Holder
from heygemd.guard.reservations import Reservations, place
from tests.site import ROOT

UUID = "GPU-1"
OTHER = """
import sys, time
from pathlib import Path
from heygemd.guard.reservations import Reservations
mine = Reservations(Path(sys.argv[1]))
with mine.deciding("GPU-1") as ours:
    assert ours
    mine.reserve("GPU-1", 6000)
print("reserved", flush=True)
time.sleep(60)
"""


def card(*holders: Holder) -> Gpu:
    return Gpu(UUID, 0, "x", 10_000, 0, 10_000, "", holders)


def another(folder: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", OTHER, str(folder)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "reserved\n"
    return process


def test_what_a_living_daemon_reserved_is_taken_and_a_dead_ones_is_not(tmp_path: Path) -> None:
    mine, process = Reservations(tmp_path), another(tmp_path)
    try:
        assert mine.taken(card()) == 6000 and mine.taken(Gpu("GPU-2", 0, "x", 1, 0, 1)) == 0
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert mine.taken(card()) == 0
    with mine.deciding(UUID):
        mine.sweep(UUID)
    assert list(tmp_path.glob("*.hold")) == []


def test_what_it_has_allocated_by_now_is_not_counted_twice(tmp_path: Path) -> None:
    mine, process = Reservations(tmp_path), another(tmp_path)
    try:
        assert mine.taken(card(Holder(process.pid, "python", 5000), Holder(1, "init", 900))) == 1000
        assert mine.taken(card(Holder(process.pid, "python", 7000))) == 0
    finally:
        process.kill()
        process.wait()


def test_ones_own_reservation_is_no_obstacle_and_is_given_back(tmp_path: Path) -> None:
    mine, other = Reservations(tmp_path), Reservations(tmp_path)
    with mine.deciding(UUID) as ours:
        assert ours
        with other.deciding(UUID) as theirs:
            assert not theirs
        mine.reserve(UUID, 4000)
    assert mine.taken(card()) == 0
    assert [reserved.mib for reserved in other.others(UUID)] == [4000]
    assert other.others(UUID)[0].pid == os.getpid()
    mine.release()
    assert other.others(UUID) == [] and list(tmp_path.glob("*.hold")) == []


def test_a_folder_that_is_not_there_is_replaced_by_ones_own(tmp_path: Path) -> None:
    assert place(tmp_path, tmp_path / "own") == (tmp_path, True)
    assert place(tmp_path / "missing", tmp_path / "own") == (tmp_path / "own", False)
    assert place(Path(), tmp_path / "own") == (tmp_path / "own", False)
