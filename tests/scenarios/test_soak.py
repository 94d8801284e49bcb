"""A soak: one line, a real daemon, and everything that may happen to it, in an order that a seed gives.

Drops of all kinds, good and bad; daemon, file child and renderer killed; pause, cancel, retry; GPU memory that others
take and give back; films that are fetched at once.  In the end all is in its place, and the daemon has grown no larger.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.stub import GIB, Driver, compiled
from tests.scenarios.lives import DEATHS, INSTANTLY, film_of
from tests.scenarios.promise import Promise
from tests.site import ROOT, Site

TEN = 10 * GIB
ACTIONS = 45  # in the default suite
LONG = 600  # marked slow
TAIL = 12  # drops without any disturbance, over which the daemon must not grow
GROWN_MIB = 8


class Soak:
    """What is done to the line, and what is due for it."""

    def __init__(self, root: Path, library: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.driver = Driver(library, root / "machine.ini")
        locks, self.tmp = root / "locks", root / "tmp"
        locks.mkdir()
        self.tmp.mkdir()
        extra = f'[guard]\nhold_readings = 2\nlock_dir = "{locks}"\n'
        self.site = Site(root / "site", intake=INSTANTLY, extra=extra)
        config = self.site.config.read_text().replace("[command]\n", "[command]\ngpu_need_mib = 4000\n")
        self.site.config.write_text(config)
        self.site.environment = {
            **self.driver.environment, "PYTHONPATH": f"{DEATHS}{os.pathsep}{ROOT}", "DEATHS_UNCOUNTED": "1",
            "DEATHS_FILE": str(root / "operations"), "TMPDIR": str(self.tmp),
        }  # fmt: skip
        self.films: set[bytes] = set()
        self.promise = Promise(self.site, self.films.__contains__, batches=None)
        self.number = 0
        self.kinds = ("bad", *["good"] * 7)
        self.roomy()

    # ------------------------------------------------------------ what people do

    def drop(self) -> None:
        """A pair, a job folder or a manifest; one video in eight is bad."""
        self.number += 1
        kind, name = self.dice.choice(("pair", "pair", "folder", "manifest")), f"n{self.number}"
        home = self.dice.choice(("", "", "zhang/", "high/"))
        kept = "" if home == "high/" else home
        videos = [self.video() for _ in range(1 if kind == "pair" else self.dice.randint(2, 3))]
        inside, films = f"{home}{name}/" if kind == "folder" else home, []
        self.begun: list[tuple[str, bytes]] = [(f"{inside}{name}.wav", f"voice {self.number}".encode())]
        for index, data in enumerate(videos):
            stem = name if kind == "pair" else f"{name}-{index}"
            self.begun.append((f"{inside}{stem}.mp4", data))
            films.append(f"{kept}{name}/{stem}" if kind == "folder" else f"{kept}{stem}")
        if kind == "manifest":
            asked = {"audio": f"{name}.wav", "videos": [Path(path).name for path, _ in self.begun[1:]]}
            self.begun.append((f"{inside}{name}.json", json.dumps(asked).encode()))
        if kind == "folder":
            self.begun.append((f"{inside}job.toml", f"# {self.number}\n".encode()))
        for path, data in reversed(self.begun):  # what holds the others back comes first
            self.promise.put(path, data)
        good = [not data.startswith(b"bad") for data in videos]
        self.promise.due |= {film for film, fine in zip(films, good, strict=True) if fine}
        if not all(good):
            self.promise.failed |= {path for path, _ in self.begun}

    def video(self) -> bytes:
        data = f"{self.dice.choice(self.kinds)} {self.dice.random()}".encode()
        self.films.add(film_of(data))
        return data

    def take(self) -> None:
        self.promise.take()

    def pause(self) -> None:
        self.ask(cmd="pause")

    def resume(self) -> None:
        self.ask(cmd="resume")

    def cancel(self) -> None:
        status = self.site.status()
        jobs = [job["id"] for job in [*status.get("queue", []), *status.get("running", [])]]
        if jobs:
            self.ask(cmd="cancel", job=self.dice.choice(jobs))

    def retry(self) -> None:
        jobs = self.unfinished()
        if jobs:
            self.ask(cmd="retry", job=self.dice.choice(jobs))

    def ask(self, **request: Any) -> dict[str, Any] | None:
        with contextlib.suppress(Exception):  # nobody there: that is an answer too
            return self.site.ask(**request)
        return None

    def unfinished(self) -> list[str]:
        """Jobs that ended badly and need not have."""
        with contextlib.suppress(Exception):
            jobs = self.site.ask(cmd="jobs", states=["failed", "cancelled"], limit=10_000)["jobs"]
            return [job["id"] for job in jobs if "no film" not in (job["reason"] or "")]
        return []

    # ------------------------------------------------------------ what befalls the machine

    def kill(self) -> None:
        """The power button, more or less; judged before the next start."""
        self.site.kill()
        assert self.promise.broken_now() == []
        self.site.start()

    def restart(self) -> None:
        assert self.site.stop() == 0
        assert self.promise.broken_now() == []
        self.site.start()

    def kill_renderer(self) -> None:
        self.kill_child("heygemd.pipeline")

    def kill_file_child(self) -> None:
        self.kill_child("heygemd.share")

    def kill_child(self, module: str) -> None:
        for pid in self.children():
            with contextlib.suppress(OSError):
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def children(self) -> list[int]:
        assert self.site.process is not None
        pid = self.site.process.pid
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for thread in threads for child in thread.read_text().split()]

    def crowded(self) -> None:
        self.driver.write(gpu0_total=TEN, gpu0_used=8 * GIB)

    def roomy(self) -> None:
        self.driver.write(gpu0_total=TEN, gpu0_used=GIB)

    # ------------------------------------------------------------ the whole

    DEEDS = (
        "drop", "drop", "drop", "drop", "take", "pause", "resume", "resume", "cancel", "retry", "kill", "kill",
        "restart", "kill_renderer", "kill_file_child", "crowded", "roomy", "roomy",
    )  # fmt: skip

    def disturb(self, actions: int, seconds: float) -> None:
        """That many deeds, or as many as there is time for."""
        self.site.start()
        ends = time.monotonic() + seconds
        while actions > 0 if not seconds else time.monotonic() < ends:
            actions -= 1
            getattr(self, self.dice.choice(self.DEEDS))()
            time.sleep(self.dice.random() * 0.3)  # so that deeds fall into the middle of something
            if self.number % 40 == 39:
                self.finish()  # a backlog of hours is another test's

    def finish(self) -> None:
        """Nobody disturbs any more: all is done, what was cancelled or killed too often is asked for again."""
        self.roomy()
        ends, answers = time.monotonic() + 240, {}
        while not (self.at_rest() and not self.unfinished()):
            told = [self.site.status(), answers, self.site.tree("inbox"), self.site.tree("processing")]
            assert time.monotonic() < ends, json.dumps(told, indent=1, ensure_ascii=False)
            self.resume()
            for job in self.unfinished():
                answers[job] = self.ask(cmd="retry", job=job)
            time.sleep(0.2)

    def at_rest(self) -> bool:
        status = self.site.status()
        if not status["ok"] or status["queue"] or status["running"]:
            return False
        return not self.site.tree("inbox") and not self.site.tree("processing")

    def size(self, before: dict[str, int] | None = None) -> dict[str, int]:
        """See ``measured``.  What is larger than ``before`` is looked at again: the end of a connection may not have
        come to the daemon yet; what it has lost, it never lets go of."""
        ends = time.monotonic() + 10
        while (found := self.measured()) and before and time.monotonic() < ends:
            if all(found[key] <= before[key] for key in found if key != "mib"):
                break
            time.sleep(0.1)
        return found

    def measured(self) -> dict[str, int]:
        """Of the daemon: resident MiB, descriptors, threads, children; files in its temporary and state folders."""
        assert self.site.process is not None
        proc = Path(f"/proc/{self.site.process.pid}")
        rss = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return {
            "mib": int(rss.split()[1]) >> 10, "descriptors": len(list((proc / "fd").iterdir())),
            "threads": len(list((proc / "task").iterdir())), "children": len(self.children()),
            "temporary": len(list(self.tmp.rglob("*"))), "state": len(list(self.site.state.rglob("*"))),
        }  # fmt: skip


@pytest.fixture
def soak(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Soak]:
    seed = request.config.getoption("--seed")
    soak = Soak(tmp_path, compiled(tmp_path), seed)
    yield soak
    soak.site.kill()


def run(soak: Soak, actions: int, seconds: float = 0) -> None:
    soak.disturb(actions, seconds)
    soak.finish()
    soak.kinds = ("good",)  # a renderer is ended after a bad one
    sizes = []
    for number in range(TAIL):
        soak.drop()
        soak.finish()
        if number in (TAIL // 2, TAIL - 1):  # what is loaded at first use has been
            sizes.append(soak.size(*sizes))
    grown = {key: sizes[1][key] - sizes[0][key] for key in sizes[0]}
    print(f"{soak.number} drops, {len(soak.promise.due)} films; {sizes[1]}, grown by {grown}")
    assert soak.site.stop() == 0
    assert soak.promise.broken_at_end() == []
    assert grown["mib"] <= GROWN_MIB and all(grown[key] <= 0 for key in grown if key != "mib"), grown
    assert list(soak.tmp.iterdir()) == []


def test_a_short_soak_leaves_all_in_its_place(soak: Soak) -> None:
    run(soak, ACTIONS)


@pytest.mark.slow
def test_a_long_soak_leaves_all_in_its_place_and_the_daemon_no_larger(
    soak: Soak, request: pytest.FixtureRequest
) -> None:
    hours = request.config.getoption("--hours")
    run(soak, LONG, hours * 3600)
