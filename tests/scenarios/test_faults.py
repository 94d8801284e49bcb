"""Refused by the disk at each of its operations: when the fault has ended, everything is done, once.

The operations are those that an undisturbed life was seen to do (``fakes/deaths``), looks at the line among them.  Each
fails once, or until the fault is over, or is said to have failed though it was done, as NFS does.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scenarios.lives import SECONDS, Matrix

ERRORS = ("ENOSPC", "EIO", "EACCES", "ESTALE", "EROFS")
SAMPLE = 12  # cells in the default suite
Cell = tuple[str, str, str]  # error, how, sign
#: who may not read an input is told so by the job's failure, and so is who may not read a manifest
UNREADABLE = re.compile(r"(open|stat) line/(processing/DROP/\w+\.(wav|mp4)|inbox/batch.toml)")


def lay(root: Path) -> Matrix:
    matrix = Matrix(root)
    matrix.drop_batch()
    return matrix


def cells(root: Path) -> list[Cell]:
    """Every operation with every error, and once for each way in which an error may last."""
    matrix = lay(root)
    assert matrix.recovered() == []
    found: list[Cell] = []
    for number, line in enumerate(dict.fromkeys(matrix.operations)):
        kind, _, sign = line.partition(" ")
        found += [(error, "once", sign) for error in ERRORS]
        found.append((ERRORS[number % len(ERRORS)], "lasting", sign))
        if kind == "do" and not sign.startswith("commit"):
            found.append(("EIO", "after", sign))
    return [cell for cell in found if not (cell[0] == "EACCES" and UNREADABLE.fullmatch(cell[2]))]


def disturbed(root: Path, cell: Cell) -> list[str]:
    """A life with that fault, and another where the first could not end its work; what is broken."""
    error, how, sign = cell
    matrix = lay(root)
    process = subprocess.Popen(
        matrix.site.command("run", "--once"), start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=(matrix.site.root / "stderr").open("wb"), env=matrix.environment(DEATHS_FAULT=f"{error}:{how}:{sign}"),
    )  # fmt: skip
    ends = time.monotonic() + SECONDS
    healed = Path(f"{matrix.file}.healed")
    while process.poll() is None and time.monotonic() < ends:
        if sum(line.endswith(sign) for line in matrix.operations) >= 3:
            healed.touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return [f"the life did not end: {matrix.operations[-3:]}"]
    healed.touch()
    broken = matrix.promise.broken_at_end()
    if broken:
        broken = [*matrix.promise.broken_now(), *matrix.recovered()]
    shutil.rmtree(root)
    return broken


def all_of(root: Path, chosen: list[Cell]) -> dict[Cell, list[str]]:
    found = {}
    for number, cell in enumerate(chosen):
        if broken := disturbed(root / str(number), cell):
            found[cell] = broken
    print(f"{len(chosen)} faults")
    return found


@pytest.mark.parametrize("half", range(2))
def test_after_some_faults_the_promise_is_kept(tmp_path: Path, half: int) -> None:
    chosen = random.Random("faults").sample(cells(tmp_path / "count"), SAMPLE)
    assert all_of(tmp_path, chosen[half::2]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_after_every_fault_the_promise_is_kept(tmp_path: Path, part: int) -> None:
    assert all_of(tmp_path, cells(tmp_path / "count")[part::8]) == {}
