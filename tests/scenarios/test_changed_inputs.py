"""Somebody writes an input again between its settling and its claim: no film is made of what is half written.

The batch settles; when its manifest is about to be moved, half of a new film is in the place of an old one, and the
other half comes when everything has gone back into the inbox.  The daemon is killed before each operation of that.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from tests.scenarios.lives import GOOD, Matrix, every_operation

SETTLES = """
[intake]
poll_seconds = 0.05
rescan_seconds = 0.1
settle_readings = 3
settle_seconds = 0.3
folder_seconds = 0
incomplete_seconds = 0
"""
NAME = "one.mp4"
AT = ("do renameat2 line/inbox/batch.toml line/processing/DROP/batch.toml", "do rmdir line/processing/DROP")
REPLACED = ";".join(f"{at}:{NAME}" for at in AT)


def lay(root: Path) -> Matrix:
    """The batch with an old film in it; its new one is due."""
    matrix = Matrix(root)
    matrix.site.intake = SETTLES
    matrix.site.write_config()
    matrix.drop_batch()
    (matrix.site.inbox / NAME).write_bytes(b"an old film")
    new = GOOD[NAME]
    for number, data in (("1", new[: len(new) // 2]), ("2", new)):
        (root / "next" / number).mkdir(parents=True)
        (root / "next" / number / NAME).write_bytes(data)
    assert matrix.promise.inputs[hashlib.sha256(new).hexdigest()] == NAME
    return matrix


def life(matrix: Matrix, **told: str) -> list[str]:
    """A life in which it happens, and what is broken after it: the new film is nowhere until it is whole."""
    status = matrix.life(DEATHS_REPLACE=REPLACED, **told)
    written = not (matrix.site.root / "next" / "2" / NAME).exists()
    broken = [what for what in matrix.promise.broken_now() if written or not what.startswith(f"input {NAME}: 0")]
    if status in (0, 3):
        broken += matrix.promise.broken_at_end()
    elif status != -9:
        broken.append(f"the life ended with {status}: {(matrix.site.root / 'stderr').read_text()[-1500:]}")
    return broken


def killed(root: Path, at: int) -> list[str] | None:
    """Killed before its operation ``at``, and started again; ``None`` where the life ended before."""
    matrix = lay(root)
    broken = life(matrix, DEATHS_AT=str(at))
    if len(matrix.done) < at:
        return None
    broken += life(matrix)
    shutil.rmtree(root)
    return broken


def test_an_input_that_is_written_again_is_claimed_when_it_has_settled_again(tmp_path: Path) -> None:
    matrix = lay(tmp_path)
    assert life(matrix) == []
    assert [event["changed"] for event in matrix.site.events() if event["event"] == "drop_given_back"] == [NAME]
    assert not list((tmp_path / "next").rglob("*.mp4"))


@pytest.mark.parametrize("at", random.Random("changed inputs").sample(range(22, 38), 4))
def test_killed_before_some_operations_no_half_film_is_made(tmp_path: Path, at: int) -> None:
    assert killed(tmp_path / "site", at) == []


@pytest.mark.slow
def test_killed_before_every_operation_no_half_film_is_made(tmp_path: Path) -> None:
    number, found = every_operation(tmp_path, killed)
    print(f"{number} times killed (changed inputs)")
    assert found == {}
    assert number > 100


def test_who_takes_what_has_changed_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEATHS_MUTATION", "take_blindly")
    assert any("film one is not whole" in what for what in life(lay(tmp_path)))
