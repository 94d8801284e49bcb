"""Lives of a daemon that end before one of its file operations, for the matrix: one drop, three jobs, one of them bad.

A life is ``run --once`` with ``fakes/deaths`` on its path, which counts and kills; media and renderer are of bytes, so
that a life takes a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.scenarios.promise import Promise
from tests.site import DEATHS, ROOT, Site

sys.path.append(str(DEATHS))
from fake_renderer import film_of

INSTANTLY = """
[intake]
poll_seconds = 0.05
rescan_seconds = 0.1
settle_readings = 1
settle_seconds = 0
folder_seconds = 0
incomplete_seconds = 0
"""
SECONDS = 60.0  # for one life on a machine that is busy
VOICE, BAD = b"RIFF, a voice", b"bad: a film that cannot be made"
GOOD = {"one.mp4": b"the first film", "two.mp4": b"the second film"}


def sqlite_job(journal: Path) -> str:
    """The last job that is in the journal."""
    with contextlib.closing(sqlite3.connect(journal)) as db:
        return str(db.execute("SELECT MAX(id) FROM jobs").fetchone()[0])


class Matrix:
    """One site and its lives; the operations of the last one are in ``operations``."""

    def __init__(self, root: Path, *, nfs: bool = False, line: Path | None = None, state: Path | None = None) -> None:
        """``line``, ``state``: other places for them, under names that begin with ``disk``."""
        self.site = Site(root, intake=INSTANTLY)
        self.site.line, self.site.state = line or self.site.line, state or self.site.state
        (self.site.line / "inbox").mkdir(exist_ok=True)
        self.site.write_config()
        self.file = root / "operations"
        self.nfs = nfs
        self.promise = Promise(self.site, {film_of(data) for data in GOOD.values()}.__contains__)

    def drop_batch(self) -> None:
        """A manifest of three jobs, one of them bad: two films are due, the inputs end in failed/ with the reason."""
        videos = [*GOOD, "bad.mp4"]
        self.promise.put("voice.wav", VOICE)
        for name, data in [*GOOD.items(), ("bad.mp4", BAD)]:
            self.promise.put(name, data)
        self.promise.put("batch.toml", f'audio = "voice.wav"\nvideos = {videos}\n'.replace("'", '"').encode())
        self.promise.due, self.promise.batches = {"one", "two"}, {"batch"}
        self.promise.failed = set(self.promise.inputs.values())

    def drop_pair(self) -> None:
        """A pair, for which one film is due."""
        self.promise.put("one.wav", VOICE)
        self.promise.put("one.mp4", GOOD["one.mp4"])
        self.promise.due = {"one"}

    def life(self, **told: str) -> int:
        """One ``run --once``; ``told`` is for ``fakes/deaths``.  Its exit status, negative for a signal."""
        self.file.unlink(missing_ok=True)
        with (self.site.root / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                self.site.command("run", "--once"), env=self.environment(**told), start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
            try:
                return process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return -signal.SIGALRM

    def environment(self, **told: str) -> dict[str, str]:
        """What makes a process of heygemd one that is counted."""
        path = os.pathsep.join([str(DEATHS), str(ROOT)])
        more = {"DEATHS_NFS": "1"} if self.nfs else {}
        return self.site.env(PYTHONPATH=path, DEATHS_FILE=str(self.file), **more, **told)

    def asked_again(self, at: int) -> tuple[bool, bool]:
        """A daemon that is asked to try the last job again and dies before its operation ``at``.

        Whether it said yes, and whether it died.
        """
        job, answered = sqlite_job(self.site.state / "journal.sqlite"), False
        self.site.process = subprocess.Popen(
            self.site.command("run"), env=self.environment(DEATHS_AT=str(at)), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        process, ends = self.site.process, time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < ends and not self.site.tree("done"):
            if not answered:
                with contextlib.suppress(Exception):
                    answered = self.site.ask(cmd="retry", job=job)["ok"]
            time.sleep(0.02)
        dead = process.poll() == -signal.SIGKILL
        if not dead:
            self.site.stop()
        self.site.process = None
        return answered, dead

    @property
    def operations(self) -> list[str]:
        """What the last life came to, ``do …`` and ``look …``."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    @property
    def done(self) -> list[str]:
        """What it did."""
        return [line.removeprefix("do ") for line in self.operations if line.startswith("do ")]

    def killed(self, at: int | str, victim: str = "group", **told: str) -> bool:
        """A life that ends before its operation ``at`` (or the first of that sign); false where it ended before."""
        self.life(DEATHS_AT=str(at), DEATHS_VICTIM=victim, **told)
        return len(self.done) >= at if isinstance(at, int) else at in self.done

    def recovered(self) -> list[str]:
        """A life that nobody disturbs, and what is broken after it."""
        status = self.life()
        if status in (0, 3):
            return self.promise.broken_at_end()
        said = (self.site.root / "stderr").read_text()[-2000:]
        return [f"the next life ended with {status}: {said}", *self.promise.broken_now()]


def every_operation(root: Path, broken_at: Callable[[Path, int], list[str] | None]) -> tuple[int, dict[int, list[str]]]:
    """``broken_at(site, at)`` at the operations 1, 2, … until it says ``None``: a life ended before that one.

    How many there were, and what was broken, by the operation; empty where the promise was kept.
    """
    found, at = {}, 1
    while (broken := broken_at(root / str(at), at)) is not None:
        if broken:
            found[at] = broken
        at += 1
    return at - 1, found
