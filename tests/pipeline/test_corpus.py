"""Hostile and broken media: each file is delivered or refused with a sentence; nothing hangs, dies or reaches out."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import HeygemdError
from heygemd.contract.job import Quiet, Settings, Task
from heygemd.pipeline import lipsync
from tests.pipeline.corpus import Spoiled, absurd, mutated, reaching
from tests.pipeline.films import QUICK, bursts
from tests.pipeline.messy import scene
from tests.pipeline.test_messy import unchanged as unchanged
from tests.site import ROOT

SEED, COUNT = 7, 360
_IN_OPEN = 0x20  # inotify(7)


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, Path]:
    """The honest partners of hostile files: (sound, film)."""
    return bursts(tmp_path / "good.wav"), scene(tmp_path / "good.mp4", count=25)


def tried(file: Spoiled, good: tuple[Path, Path], folder: Path) -> str:
    """The file as one input of a job with an honest partner: ``"delivered"``, or the reason of the refusal."""
    folder.mkdir()
    path = folder / f"in.{file.suffix}"
    path.write_bytes(file.data)
    sound, film = (path, good[1]) if file.sound else (good[0], path)
    (folder / "work").mkdir()
    names = ("their file", "their file") if file.sound else ("a.wav", "their file")
    task = Task(sound, film, folder / "work", *names, replace(QUICK, media_seconds=60))
    try:
        lipsync(task, Quiet())
    except HeygemdError as error:
        assert error.message.strip() and len(error.message) < 400, file.how
        assert "Traceback" not in error.message and str(folder) not in error.message, (file.how, error.message)
        return getattr(error, "reason", error.code)
    return "delivered"


def all_end_well(files: Iterable[Spoiled], good: tuple[Path, Path], folder: Path) -> Counter[str]:
    ended: Counter[str] = Counter()
    for file in files:
        try:
            ended[tried(file, good, folder / f"{file.number}-{file.how[:20]}")] += 1
        except Exception as error:
            raise AssertionError(f"number {file.number} of seed {SEED} ({file.how}): {error!r}") from error
    return ended


@pytest.mark.usefixtures("unchanged")
def test_a_few_broken_files_are_delivered_or_refused_with_a_sentence(good: tuple[Path, Path], tmp_path: Path) -> None:
    some = itertools.islice(mutated(SEED, COUNT, tmp_path / "honest"), 0, COUNT, COUNT // 9)
    (tmp_path / "jobs").mkdir()
    ended = all_end_well(some, good, tmp_path / "jobs")
    assert ended.total() >= 9


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
def test_every_broken_file_is_delivered_or_refused_with_a_sentence(good: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    ended = all_end_well(mutated(SEED, COUNT, tmp_path / "honest"), good, tmp_path / "jobs")
    assert ended.total() == COUNT
    assert ended["delivered"] > COUNT // 10 and len(ended) > 4, ended


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
def test_absurd_files_are_delivered_or_refused_with_a_sentence(good: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    ended = all_end_well(absurd(tmp_path), good, tmp_path / "jobs")
    assert ended.total() > 20 and ended["delivered"] > 5, ended


# ------------------------------------------------------------ nothing is reached


class Watch:
    """Sees each opening of a file (inotify) and each call at a port of localhost."""

    def __init__(self, canary: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._fd, os.fsencode(canary), _IN_OPEN) >= 0
        self._sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        stream, datagram = self._sockets
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        self.port = stream.getsockname()[1]
        datagram.bind(("127.0.0.1", self.port))
        for one in self._sockets:
            one.setblocking(False)

    def seen(self) -> list[str]:
        """What has happened since the last look."""
        found = []
        with contextlib.suppress(BlockingIOError):
            found += ["opened"] * (len(os.read(self._fd, 4096)) // struct.calcsize("iIII"))
        try:
            self._sockets[0].accept()
            found.append("called")
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        os.close(self._fd)
        for one in self._sockets:
            one.close()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[tuple[Path, Watch]]:
    """A film outside, and who looks at it."""
    (tmp_path / "outside").mkdir()
    path = scene(tmp_path / "outside" / "secret.mp4", count=25)
    watch = Watch(path)
    yield path, watch
    watch.close()


def asked(requests: list[dict[str, Any]], seconds: float) -> tuple[list[dict[str, Any]], int]:
    """The final answers of one child to all requests, and its peak memory in MiB with that of its children."""
    argv = [sys.executable, "-c", _CHILD]
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
    )
    assert child.stdin and child.stdout
    answers, began = [], time.monotonic()
    try:
        for request in requests:
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            while (answer := json.loads(child.stdout.readline()))["type"] not in ("done", "failed"):
                pass
            answers.append(answer)
            assert time.monotonic() - began < seconds, request
        child.stdin.write(json.dumps({"id": "p", "task": "peak"}) + "\n")
        child.stdin.flush()
        peak = json.loads(child.stdout.readline())["result"]["ram_mib"]
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    return answers, peak


_CHILD = """
from heygemd.pipeline import __main__ as m
answer = m.answer

def or_peak(line, tell):
    if line["task"] == "peak":
        tell.send(m.DoneMessage(m._peak()))
    else:
        answer(line, tell)

m.answer = or_peak
m.main()
"""


def looked_at(files: Iterable[Spoiled], folder: Path) -> list[dict[str, Any]]:
    """Requests to look at each file, as the daemon makes them."""
    requests = []
    settings = Settings(media_seconds=60).to_json()
    for file in files:
        path = folder / f"{'s' if file.sound else 'v'}{file.number}.{file.suffix}"
        path.write_bytes(file.data)
        kind = "audio" if file.sound else "video"
        requests.append(
            {"id": file.how, "task": "probe", "path": str(path), "name": "it", "kind": kind, "settings": settings}
        )
    return requests


def test_files_that_name_others_open_nothing_and_call_nobody(canary: tuple[Path, Watch], tmp_path: Path) -> None:
    path, watch = canary
    assert path.read_bytes() and watch.seen() == ["opened"]
    files = list(reaching(path, watch.port, tmp_path))
    answers, peak = asked(looked_at(files, tmp_path), 300)
    assert watch.seen() == []
    assert peak < 1024
    wrong = [(a["id"], a) for a in answers if a["type"] != "failed" and "data reference" not in a["id"]]
    assert not wrong
    assert all(answer["error"]["code"] == "input" for answer in answers if answer["type"] == "failed")


@pytest.mark.slow
def test_one_child_looks_at_the_whole_corpus_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files = [*mutated(SEED, COUNT, tmp_path / "honest"), *absurd(tmp_path)]
    answers, peak = asked(looked_at(files, tmp_path / "in"), 1800)
    assert len(answers) == len(files)
    assert peak < 2048
    codes = Counter(a["error"]["code"] if a["type"] == "failed" else "done" for a in answers)
    assert set(codes) <= {"done", "input"}, [a for a in answers if a.get("error", {}).get("code", "input") != "input"]
