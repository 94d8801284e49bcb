"""Killed before each of its file operations and restarted, or refused by the disk: nothing lost, twice, or half.

One undisturbed life counts its N operations; then N lives are each killed (SIGKILL, real processes) before one of
them, and judged at once and after the next start (``promise.py``).  The same with pairs of deaths, with errors of the
disk in place of deaths, and with four orders that are wrong on purpose, which the judge must find.

The whole matrix is marked slow; the default suite runs a sample of it, the same each time.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.scenarios.lives import Matrix, every_operation

SAMPLE = 5  # operations of each kind in the default suite
PAIRS = 150  # pairs of deaths in the whole matrix
WAYS = ("left", "taken", "nfs", "child")


def lay(root: Path, way: str = "left") -> Matrix:
    """A site with the batch in its inbox, before its first start."""
    matrix = Matrix(root, nfs=way == "nfs")
    matrix.drop_batch()
    return matrix


def deaths(root: Path, way: str, *ats: int | str) -> list[str] | None:
    """Lives that end before those operations, one after the other, and one that recovers; what was broken.

    ``None`` where a life ended by itself before that, or there was nothing to take.  ``taken``: after each death
    somebody fetches what is to be seen; ``child``: only the process dies that came to the operation; ``nfs``: there is
    no renameat2.
    """
    matrix = lay(root, way)
    broken: list[str] = []
    for at in ats:
        if not matrix.killed(at, "self" if way == "child" else "group"):
            return None
        if way != "nfs":
            broken += matrix.promise.broken_now()
        if way == "taken" and not matrix.promise.take():
            return None  # the same as left
    broken += matrix.recovered()
    shutil.rmtree(root)
    return broken


def all_of(root: Path, way: str, points: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], list[str]]:
    """What was broken, by the points of death; empty where the promise was kept."""
    found, count = {}, 0
    for ats in points:
        broken = deaths(root / "-".join(map(str, ats)), way, *ats)
        count += broken is not None
        if broken:
            found[ats] = broken
    print(f"{count} times killed ({way})")
    assert count
    return found


def count(root: Path, way: str = "left") -> int:
    """How many operations an undisturbed life has."""
    matrix = lay(root, way)
    assert matrix.recovered() == []
    return len(matrix.done)


def test_an_undisturbed_life_is_counted_and_keeps_the_promise(tmp_path: Path) -> None:
    matrix = lay(tmp_path)
    assert matrix.recovered() == []
    assert len(matrix.done) > 90 and sum("renameat2" in line for line in matrix.done) >= 12
    assert "commit ended" in matrix.done and "look scandir line/inbox" in matrix.operations


@pytest.mark.parametrize("way", WAYS)
def test_killed_before_some_operations_the_promise_is_kept(tmp_path: Path, way: str) -> None:
    operations = count(tmp_path / "count", way)
    first = 70 if way == "taken" else 1  # before that there is nothing to be seen
    sample = random.Random(f"deaths {way}").sample(range(first, operations + 1), SAMPLE)
    assert all_of(tmp_path, way, [(at,) for at in sample]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_before_every_operation_the_promise_is_kept(tmp_path: Path, way: str) -> None:
    operations = count(tmp_path / "count", way)
    print(f"{operations} operations")
    assert all_of(tmp_path, way, [(at,) for at in range(1, operations + 1)]) == {}


def pairs(operations: int, number: int) -> list[tuple[int, int]]:
    """Seeded pairs: the second death comes in the life after the first, which has less to do."""
    dice = random.Random("pairs of deaths")
    return [(dice.randint(8, operations), dice.randint(1, operations // 2)) for _ in range(number)]


def test_killed_twice_the_promise_is_kept(tmp_path: Path) -> None:
    assert all_of(tmp_path, "left", pairs(count(tmp_path / "count"), 4)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_twice_at_many_pairs_the_promise_is_kept(tmp_path: Path, way: str) -> None:
    points = pairs(count(tmp_path / "count", way), PAIRS)
    assert all_of(tmp_path, way, points[WAYS.index(way) :: len(WAYS)]) == {}


# ------------------------------------------------------------ tried again


def retried(root: Path, at: int) -> list[str] | None:
    """A pair that failed is asked for again, of a daemon that dies before its operation ``at``; what is broken."""
    matrix = Matrix(root)
    matrix.drop_pair()
    refusal = Path(f"{matrix.file}.refuse")
    refusal.touch()
    assert matrix.life() == 3 and len(matrix.site.tree("failed")) == 3
    refusal.unlink()
    matrix.file.unlink()
    answered, dead = matrix.asked_again(at)
    if not dead:
        return None
    again = matrix.recovered()
    if again and not answered:  # it died before it could say yes: all is as it was
        matrix.promise.due, matrix.promise.failed = set(), set(matrix.promise.inputs.values())
        again = matrix.promise.broken_at_end()
    shutil.rmtree(root)
    return again


@pytest.mark.slow
def test_killed_at_every_operation_of_a_retry_the_promise_is_kept(tmp_path: Path) -> None:
    number, found = every_operation(tmp_path, retried)
    print(f"{number} times killed (tried again)")
    assert found == {}
    assert number >= 30


@pytest.mark.parametrize("at", random.Random("retry").sample(range(1, 35), 3))
def test_killed_at_some_operations_of_a_retry_the_promise_is_kept(tmp_path: Path, at: int) -> None:
    assert retried(tmp_path / "site", at) == []


# ------------------------------------------------------------ without the journal


def forgotten(root: Path, at: int) -> list[str] | None:
    """A life that ends before its operation ``at``, and one without the journal; what is broken."""
    matrix = lay(root)
    if not matrix.killed(at):
        return None
    for file in matrix.site.state.glob("journal.sqlite*"):
        file.unlink()
    broken = matrix.recovered()
    shutil.rmtree(root)
    return broken


@pytest.mark.parametrize("at", random.Random("journal").sample(range(20, 110), 4))
def test_a_journal_that_is_lost_at_some_operations_is_rebuilt_from_the_folders(tmp_path: Path, at: int) -> None:
    assert forgotten(tmp_path / "site", at) == []


@pytest.mark.slow
def test_a_journal_that_is_lost_at_any_operation_is_rebuilt_from_the_folders(tmp_path: Path) -> None:
    number, found = every_operation(tmp_path, forgotten)
    print(f"{number} journals lost")
    assert found == {}
    assert number >= 90


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_journal_that_is_cut_short_is_refused_with_what_to_do_and_then_rebuilt(tmp_path: Path, share: float) -> None:
    matrix = lay(tmp_path)
    assert matrix.killed("commit delivered")
    journal = matrix.site.state / "journal.sqlite"
    subprocess.run(["python3", "-c", f"import sqlite3; sqlite3.connect('{journal}').execute('PRAGMA wal_checkpoint')"])
    for beside in matrix.site.state.glob("journal.sqlite-*"):
        beside.unlink()
    os.truncate(journal, int(journal.stat().st_size * share))
    status, said = matrix.life(), (tmp_path / "stderr").read_text()
    assert status == 5 and "it is rebuilt from the line's folders" in said and "Traceback" not in said, said
    journal.unlink()
    assert matrix.recovered() == []


# ------------------------------------------------------------ orders that are wrong


@pytest.mark.parametrize("name", ["publish_before_verify", "receipt_first", "move_before_record", "forget_interrupted"])
def test_a_wrong_order_is_caught(tmp_path: Path, name: str, mutated: Callable[[Path, str], list[str]]) -> None:
    assert mutated(tmp_path, name), f"the judge found nothing wrong with {name}"


#: where the matrix catches it; the first operation of that kind
CAUGHT_BEFORE = {
    "publish_before_verify": "",
    "receipt_first": "renameat2 line/outbox/.heygemd-DROP.1.mp4.part line/outbox/one.mp4",
    "move_before_record": "commit queued",
    "forget_interrupted": "create state/work/DROP/1/video.mp4",
}


@pytest.fixture
def mutated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], list[str]]:
    """One cell of the matrix with the order of operations changed in the daemon; what the judge finds."""

    def judged(root: Path, name: str) -> list[str]:
        monkeypatch.setenv("DEATHS_MUTATION", name)
        broken = lay(root / "undisturbed").recovered()
        if CAUGHT_BEFORE[name]:
            assert broken == [], "without a death the order makes no difference"
            broken = deaths(root / "killed", "left", CAUGHT_BEFORE[name]) or []
        return broken

    return judged
