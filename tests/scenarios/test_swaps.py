"""A folder of the line is swapped for a link to one outside, before any of the daemon's file operations.

Nothing out there may be read, moved, written or removed, whatever was under way; and nothing of the line is lost, half
or twice: what was asked for is delivered, or failed with a sentence, or still where somebody can find it.  After a
while the link is taken away, the folder put back where it still can be, and a second life ends what the first left.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.lives import GOOD, SECONDS, VOICE, Matrix
from tests.site import Site

FOLDERS = (
    "inbox", "inbox/zhang", "inbox/zhang/course", "processing", "processing/*", "processing/*/course", "outbox",
    "outbox/zhang", "outbox/zhang/course", "done", "done/zhang", "failed/zhang",
)  # fmt: skip
Cell = tuple[str, str]  # a line of fakes/deaths, and the folder that is swapped before it
BACK = ("outbox", "done", "failed")  # where nobody can take an input away: all ends as if nothing had been
SAMPLE = 5  # cells in the default suite
LATER = 40  # operations after which the link is taken away
_TOUCHED = (
    0x1 | 0x2 | 0x4 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200
)  # inotify(7): read, changed, opened, moved, made, removed


class Secret:
    """A folder outside with everything in it that could be taken for the line's, and who sees what is done to it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "secret"
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        names = ("one.wav", "one.mp4", "voice.wav", "two.mp4", "request.json", ".heygemd-line", ".heygemd-owner")
        for place in (".", "zhang", "course", "zhang/course"):
            folder = self.folder / place
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / name).write_bytes(b"secret")
            assert self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _TOUCHED) >= 0
        self.touched()  # by its making

    def touched(self) -> list[str]:
        """What was done to it."""
        found, data = [], b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._fd, 1 << 16)
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            name = data[16 : 16 + size].rstrip(b"\0")
            found.append(f"secret {os.fsdecode(name)}: event {mask:#x}")
            data = data[16 + size :]
        return found

    def close(self) -> None:
        os.close(self._fd)


def lay(root: Path) -> Matrix:
    """A pair in a subfolder, and a job folder below it with two films, one of them bad."""
    matrix = Matrix(root)
    promise = matrix.promise
    for name, data in {"one.wav": VOICE, "one.mp4": GOOD["one.mp4"]}.items():
        promise.put(f"zhang/{name}", data)
    course = {"voice.wav": VOICE + b" of the course", "two.mp4": GOOD["two.mp4"], "bad.mp4": b"bad: no film"}
    for name, data in course.items():
        promise.put(f"zhang/course/{name}", data)
    promise.due, promise.batches = {"zhang/one", "zhang/course/two"}, {"zhang/course/course"}
    promise.failed = {f"zhang/course/{name}" for name in course}
    promise.aside = root / "aside"
    return matrix


def test_what_is_disturbed_ends_well_undisturbed(tmp_path: Path) -> None:
    matrix = lay(tmp_path)
    assert matrix.recovered() == []


def swapped(root: Path, at: str, folder: str) -> list[str] | None:
    """A life before whose first line ``at`` that folder is swapped; what is broken.  ``None`` where there was none."""
    matrix = lay(root)
    secret = Secret(root)
    mark, said = Path(f"{matrix.file}.swapped"), root / "stderr"
    with said.open("wb") as stderr:
        process = subprocess.Popen(
            matrix.site.command("run", "--once"), start_new_session=True, stdout=subprocess.DEVNULL, stderr=stderr,
            env=matrix.environment(DEATHS_SWAP=f"{at}:{folder}"),
        )  # fmt: skip
    ends = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < ends and lines_since(matrix, at) < LATER:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    broken = secret.touched()
    if mark.exists():
        put_back(root, Path(mark.read_text()))
    try:
        status = process.wait(max(1.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    if status not in (0, 3) or b"Traceback" in said.read_bytes():
        broken.append(f"the life ended with {status}: {said.read_text()[-1500:]}")
    broken += [*matrix.promise.broken_now(), *secret.touched()]
    status = matrix.life()
    if status not in (0, 3):
        broken.append(f"the next life ended with {status}: {said.read_text()[-1500:]}")
    ended = matrix.promise.broken_at_end if folder.startswith(BACK) else matrix.promise.broken_now
    broken += [*ended(), *unexplained(matrix), *secret.touched()]
    secret.close()
    if not mark.exists():
        return None
    shutil.rmtree(root)
    return broken


def lines_since(matrix: Matrix, at: str) -> int:
    lines = matrix.operations
    return len(lines) - lines.index(at) if at in lines else 0


def put_back(root: Path, place: Path) -> None:
    """Unless the daemon has moved the link itself, as it moves any name that lies in an inbox."""
    if place.is_symlink():
        place.unlink()
        if (root / "aside").exists():
            try:
                (root / "aside").rename(place)
            except OSError as error:  # the daemon has just made it anew: what was in it is put there
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                for entry in (root / "aside").iterdir():
                    entry.rename(place / entry.name)


def unexplained(matrix: Matrix) -> Iterator[str]:
    failed = matrix.site.failed
    for folder in {path.parent for path in failed.rglob("*.mp4")}:
        reasons = [place / "reason.txt" for place in (folder, folder.parent)]
        if not any(reason.is_file() and len(reason.read_text()) > 20 for reason in reasons):
            yield f"no reason in {folder}"


def all_of(root: Path, cells: Iterable[Cell]) -> dict[Cell, list[str]]:
    found, count = {}, 0
    for number, (at, folder) in enumerate(cells):
        broken = swapped(root / str(number), at, folder)
        count += broken is not None
        if broken:
            found[at, folder] = broken
    print(f"{count} times swapped")
    assert count
    return found


def lines(root: Path) -> list[str]:
    """What an undisturbed life comes to on the line, each once; the state folder is no business of other people's."""
    matrix = lay(root)
    assert matrix.recovered() == []
    return [line for line in dict.fromkeys(matrix.operations) if " line/" in line]


def test_swapped_before_some_operations_nothing_outside_is_touched(tmp_path: Path) -> None:
    dice, there = random.Random("swaps"), lines(tmp_path / "count")
    cells = [(dice.choice(there[len(there) // 4 :]), folder) for folder in dice.sample(FOLDERS, SAMPLE)]
    assert all_of(tmp_path, cells) == {}


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_swapped_before_every_operation_nothing_outside_is_touched(tmp_path: Path, folder: str) -> None:
    assert all_of(tmp_path, [(at, folder) for at in lines(tmp_path / "count")]) == {}


@pytest.mark.parametrize(
    ("at", "folder"),
    [
        ("look open line/processing/DROP/course", "processing/*/course"),
        ("do mkdir line/outbox/zhang", "outbox/zhang"),
        ("look open line/inbox/zhang/course", "inbox/zhang"),
    ],
)
def test_who_follows_links_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, folder: str) -> None:
    monkeypatch.setenv("DEATHS_MUTATION", "follow_links")
    assert any("secret" in what for what in swapped(tmp_path / "site", at, folder) or [])


def test_a_link_that_stays_is_named_and_holds_up_nobody_else(site: Site, media: Path) -> None:
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    site.start()
    site.until(lambda: site.status()["lines"][0]["state"] == "ok", "the line is open")
    for name in ("outbox", "done"):
        (site.line / name / "zhang").symlink_to(elsewhere)
    (site.inbox / "zhang").mkdir()
    for place in ("zhang/one", "two"):
        shutil.copy(media / "voice.wav", site.inbox / f"{place}.wav")
        shutil.copy(media / "film.mp4", site.inbox / f"{place}.mp4")
    site.until(lambda: (site.done / "two").exists(), "the other is done")
    site.until(lambda: site.status()["lines"][0]["problem"], "it is said")
    told = site.status()["lines"][0]
    assert told["state"] == "ok"
    assert "zhang is a symbolic link" in told["problem"] and str(site.outbox / "zhang") in told["problem"]
    (site.outbox / "zhang").unlink()
    site.until(lambda: (site.done / "one").exists(), "it is delivered, and filed where that can be")
    assert (site.outbox / "zhang" / "one.mp4").exists() and not os.listdir(elsewhere)
    assert site.status()["lines"][0]["problem"] is None
    (site.outbox).rename(site.root / "films")
    (site.line / "outbox").symlink_to(site.root / "films")
    site.until(lambda: site.status()["lines"][0]["state"] == "unavailable", "a folder of the line itself")
    assert "outbox is a symbolic link" in site.status()["lines"][0]["problem"]
    assert site.stop() == 0
