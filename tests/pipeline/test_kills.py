"""Kill -9 of the renderer at random moments of a long job: the same film every time, less than a segment made twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from heygemd.contract.job import Settings, Task
from tests.pipeline.faces import portrait
from tests.pipeline.media.test_segments import frames_md5
from tests.site import ROOT, ffmpeg

FPS = 25
SEED = 7


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, with one key frame."""
    return swaying(tmp_path_factory.mktemp("template") / "film.mp4", 2)


def swaying(path: Path, seconds: int) -> Path:
    """A swaying portrait, 480 x 400."""
    raw = b"".join(np.ascontiguousarray(portrait()(i)).tobytes() for i in range(seconds * FPS))
    argv = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "480x400", "-r", str(FPS)]
    argv += ["-i", "pipe:0", "-c:v", "libx264", "-g", "250", "-crf", "10", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(argv, input=raw, check=True, timeout=60)
    return path


@dataclass
class Life:
    """What one child did: the render frames that it told of, and how it ended."""

    frames: list[int] = field(default_factory=list)
    finished: bool = False
    error: str = ""

    def made_from(self) -> int:
        """The first frame that it made, counted from 1."""
        return self.frames[0] if self.frames else 0


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after ``stage`` has told of ``frame``."""

    stage: str
    frame: int
    later: float


def live(task: Task, moment: Moment | None = None) -> Life:
    """One life of the child, which ends by itself or by SIGKILL to it and all that it has started."""
    child = subprocess.Popen(
        [sys.executable, "-m", "heygemd.pipeline"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps({"id": "1", "task": "render", "job": task.to_json()}).encode() + b"\n")
    child.stdin.flush()
    life, timer = Life(), None
    for line in child.stdout:
        message = json.loads(line)
        if message["type"] in ("done", "failed"):
            life.finished, life.error = message["type"] == "done", json.dumps(message.get("error", ""))
            child.stdin.close()
        if message["type"] != "progress":
            continue
        if message["stage"] == "render" and message["frame"] > 0:
            life.frames.append(message["frame"])
        if timer is None and moment and message["stage"] == moment.stage and message["frame"] >= moment.frame:
            timer = threading.Timer(moment.later, os.killpg, (child.pid, signal.SIGKILL))
            timer.start()
    if timer is not None:
        timer.join()
    child.wait(timeout=60)
    return life


def killed_at(task: Task, moments: list[Moment], segment: int) -> list[int]:
    """The job, killed at each of these moments in turn; how many frames each death cost."""
    costs: list[int] = []
    before = Life()
    for moment in [*moments, None]:
        life = live(task, moment)
        assert not life.error.strip('"'), life.error
        if before.frames and life.frames:
            costs.append(before.frames[-1] - life.made_from() + 1)
        if life.frames:
            before = life
        if life.finished:
            break
    assert life.finished
    assert all(cost <= segment for cost in costs), costs
    return costs


def moments(seed: int, count: int, frames: int) -> list[Moment]:
    """Random ones in the order in which the job comes to them: one while the face is looked for, one while the film
    is checked, the others while it is rendered."""
    dice = random.Random(seed)
    renders = sorted(dice.randrange(1, frames) for _ in range(count - 2))
    middle = [Moment("render", frame, dice.uniform(0, 0.3)) for frame in renders]
    first, last = Moment("face", 1, dice.uniform(0, 0.3)), Moment("verify", 0, dice.uniform(0, 0.2))
    return [first, *middle, last]


def same_film(
    folder: Path, template: Path, seconds: int, segment_seconds: int, deaths: list[Moment], threads: int = 1
) -> None:
    voice = folder / "voice.wav"
    speech = ROOT / "heygemd" / "data" / "demo_speech.flac"
    ffmpeg("-stream_loop", -1, "-i", speech, "-t", seconds, "-ar", 16000, "-ac", 1, voice)
    settings = Settings(segment_seconds=segment_seconds, preset="ultrafast", threads=threads, encoder="libx264")
    films = {}
    for name in ("undisturbed", "killed"):
        work = folder / name
        work.mkdir()
        task = Task(voice, template, work, "voice.wav", "film.mp4", settings)
        if name == "killed":
            costs = killed_at(replace(task), deaths, segment_seconds * FPS)
            print(f"{len(deaths)} deaths, frames made twice: {costs} (a segment has {segment_seconds * FPS})")
        else:
            assert live(task).finished
        films[name] = frames_md5(work / "film.mp4")
        assert not list(work.glob("segment-*")) and not list(work.glob("silent*"))
        shutil.rmtree(work)
    assert films["killed"] == films["undisturbed"] and len(films["killed"]) == seconds * FPS


def test_a_job_killed_twice_makes_the_same_film(tmp_path: Path, template: Path) -> None:
    deaths = moments(SEED, 4, 4 * FPS)[1:3]
    same_film(tmp_path, template, 4, 1, deaths)


def test_a_job_that_makes_two_segments_at_a_time_is_killed_and_makes_the_same_film(tmp_path: Path) -> None:
    """A death loses what two were at, which are half as long each; what one of them had finished is kept."""
    deaths = [Moment("render", frame, 0.0) for frame in (40, 90)]
    same_film(tmp_path, swaying(tmp_path / "long.mp4", 6), 6, 2, deaths, threads=2)


@pytest.mark.slow
def test_a_job_of_two_minutes_killed_at_ten_random_moments_makes_the_same_film(tmp_path: Path, template: Path) -> None:
    same_film(tmp_path, template, 120, 5, moments(SEED, 10, 120 * FPS))
