"""The corpus of broken media through a real daemon: each file is delivered or failed with a sentence, nothing is lost.

``test_corpus.py`` looks at what is made of each file; here it is the daemon that must not stumble: it claims, stages,
renders, verifies, publishes and files them by the hundred, and goes on as one process.  The engine is a command that
encodes a few small pictures, so that it is the daemon's work that takes the time.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.pipeline.corpus import Spoiled, absurd, mutated, reaching
from tests.pipeline.films import bursts
from tests.pipeline.messy import scene
from tests.pipeline.test_corpus import COUNT, SEED
from tests.site import Site

BATCH = 40
PER_FILE = 20.0  # seconds of patience
DAEMON_MIB = 256
ARGV = [
    "ffmpeg", "-v", "error", "-y", "-nostdin", "-threads", "1", "-stream_loop", "-1", "-i", "{video}", "-i", "{audio}",
    "-map", "0:v:0", "-map", "1:a:0", "-t", "20", "-shortest", "-c:v", "libx264", "-preset", "ultrafast", "-vf",
    "scale=96:72,format=yuv420p", "-c:a", "aac", "{output}",
]  # fmt: skip
OURS = ("request.json", "reason.txt")


class Sorter:
    """A daemon that is given files in batches, each beside an honest partner, and where they ended."""

    def __init__(self, root: Path) -> None:
        self.site = Site(root, argv=ARGV)
        config = self.site.config.read_text().replace("[command]\n", "[command]\nseconds = 60\n")
        self.site.config.write_text(config)
        self.honest = {True: scene(root / "good.mp4", count=25), False: bursts(root / "good.wav", rate=16000)}
        self.dropped: Counter[tuple[str, str]] = Counter()  # names and SHA-256
        self.names: list[str] = []
        self.site.start()
        assert self.site.process is not None
        self.pid = self.site.process.pid

    def sort(self, files: Sequence[Spoiled]) -> None:
        """Drop them all at once, and wait until each has ended."""
        for file in files:
            name = f"{len(self.names):03}"
            self.names.append(name)
            partner = self.honest[file.sound]
            self._drop(f"{name}{partner.suffix}", partner.read_bytes())
            self._drop(f"{name}.{file.suffix}", file.data)
        ends = time.monotonic() + 60 + PER_FILE * len(files)
        while not self._at_rest():
            assert time.monotonic() < ends, (self.site.status(), self.site.tree("inbox"), self.site.tree("processing"))
            assert self.site.process is not None and self.site.process.poll() is None, "the daemon ended"
            time.sleep(0.2)

    def _drop(self, name: str, data: bytes) -> None:
        (self.site.inbox / name).write_bytes(data)
        self.dropped[name, hashlib.sha256(data).hexdigest()] += 1

    def _at_rest(self) -> bool:
        status = self.site.status()
        busy = not status["ok"] or status["queue"] or status["running"]
        return not busy and not self.site.tree("inbox") and not self.site.tree("processing")

    def broken(self) -> list[str]:
        """What is not as it must be, of all that was dropped so far."""
        return [*self._lost(), *self._unexplained(), *self._films(), *self._stumbled()]

    def _lost(self) -> Iterator[str]:
        found: Counter[tuple[str, str]] = Counter()
        for path in [*self.site.done.rglob("*"), *self.site.failed.rglob("*")]:
            if path.is_file() and path.name not in OURS:
                found[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] += 1
        yield from (f"{name} is lost" for name, _ in self.dropped - found)
        yield from (f"{name} was not dropped like that" for name, _ in found - self.dropped)

    def _unexplained(self) -> Iterator[str]:
        for name in self.names:
            where = [verdict for verdict in ("done", "failed") if (self.site.line / verdict / name).is_dir()]
            if len(where) != 1:
                yield f"{name} is in {where}"
            elif where == ["failed"]:
                reason = (self.site.failed / name / "reason.txt").read_text()
                if not 20 < len(reason) < 2000 or "Traceback" in reason or str(self.site.state) in reason:
                    yield f"{name}: {reason!r} is no sentence"

    def _films(self) -> Iterator[str]:
        due = {name for name in self.names if (self.site.done / name).is_dir()}
        for suffix in ("mp4", "json"):
            found = {path.stem for path in self.site.outbox.glob(f"*.{suffix}")}
            if found != due:
                yield f"delivered as {suffix}, or not: {sorted(found ^ due)}"
        for path in self.site.outbox.glob("*.json"):
            film = json.loads(path.read_text())["film"]
            if film["sha256"] != hashlib.sha256(path.with_suffix(".mp4").read_bytes()).hexdigest():
                yield f"{path.name} speaks of another film"

    def _stumbled(self) -> Iterator[str]:
        """The daemon is the process that was started, has not grown, and its renderer has not died."""
        if self.site.status().get("pid", self.pid) != self.pid:
            yield "the daemon is another one"
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        if peak is None or int(peak[1]) >> 10 > DAEMON_MIB:
            yield f"the daemon has grown to {peak and int(peak[1]) >> 10} MiB"
        events = Counter(event["event"] for event in self.site.events())
        yield from (f"{events[what]} times {what}" for what in ("worker_died", "line_unavailable") if events[what])
        if events["daemon_started"] > 1:
            yield "the daemon was started again"
        if "Traceback" in (self.site.root / "stderr").read_text() + (self.site.state / "heygemd.log").read_text():
            yield "there is a traceback"

    @property
    def ended(self) -> Counter[str]:
        """How many were delivered and how many failed for which reason."""
        reasons = (event.get("state", event["event"]) for event in self.site.events())
        return Counter(str(reason) for reason in reasons if reason in ("film_delivered", "failed"))


@contextlib.contextmanager
def sorter(root: Path) -> Iterator[Sorter]:
    found = Sorter(root)
    try:
        yield found
        assert found.site.stop() == 0
    finally:
        found.site.kill()


def batches(files: Iterable[Spoiled]) -> Iterator[list[Spoiled]]:
    rest = iter(files)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


def test_some_broken_files_are_all_sorted_by_one_daemon(tmp_path: Path) -> None:
    files = list(itertools.islice(mutated(SEED, COUNT, tmp_path / "honest"), 5, COUNT, COUNT // 6))
    with sorter(tmp_path / "site") as daemon:
        daemon.sort(files)
        assert daemon.broken() == []


@pytest.mark.slow
def test_the_whole_corpus_is_sorted_by_one_daemon(tmp_path: Path) -> None:
    outside = scene(tmp_path / "outside.mp4", count=25)
    (tmp_path / "absurd").mkdir()
    files = itertools.chain(
        mutated(SEED, COUNT, tmp_path / "honest"), absurd(tmp_path / "absurd"), reaching(outside, 9, tmp_path)
    )
    with sorter(tmp_path / "site") as daemon:
        for batch in batches(files):
            daemon.sort(batch)
            assert daemon.broken() == []
        print(f"{len(daemon.names)} files: {dict(daemon.ended)}")
        assert daemon.ended["film_delivered"] > len(daemon.names) // 10
        assert daemon.ended["failed"] > len(daemon.names) // 10
