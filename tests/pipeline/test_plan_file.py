"""A film's plan: written once, read by whoever goes on, never taken for another job's."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heygemd.pipeline
from heygemd.common.errors import EngineError
from heygemd.contract.job import LabelSettings, Probed, Quiet, Task
from heygemd.pipeline import engines, lipsync, look, plan_ahead, plan_file, render
from heygemd.pipeline.engines.footage.drawing.plan_arrays import KNOWN
from heygemd.pipeline.media.info import exact, from_exact
from heygemd.pipeline.media.read.spill import FrameSpill
from heygemd.pipeline.result import Stages
from tests.pipeline.films import QUICK, ffmpeg, raw_planes, swaying


class Ear(Quiet):
    """Keeps stages and the names of events."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def progress(self, stage: str, frame: int, of: int) -> None:
        if stage not in self.heard:
            self.heard.append(stage)

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        self.heard.append(name)


class Killed(BaseException):
    """As a death of the process, in the middle of everything."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return swaying(tmp_path_factory.mktemp("inputs"), "-g", "15", seconds=1.2, speech=1.2, size=(480, 360))


def task_in(folder: Path, inputs: tuple[Path, Path], **changes: Any) -> Task:
    """A job with copies of its own, looked at."""
    folder.mkdir(exist_ok=True)
    film, voice = (Path(shutil.copy(path, folder / f"staged-{path.name}")) for path in inputs)
    settings = replace(QUICK, segment_seconds=0.6, cache_dir=str(folder.parent / "cache"), **changes)
    found = look(voice, "voice.wav", film, "template.mp4", settings)
    probed = Probed(*map(exact, found), (480, 360))
    return Task(voice, film, folder, "voice.wav", "template.mp4", settings, probed)


def pictures(task: Task) -> list[bytes]:
    return [planes.tobytes() for planes in raw_planes(task.work / "film.mp4", 480, 360)]


def test_a_job_that_goes_on_reads_its_plan_and_keeps_its_segments(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, painted = task_in(tmp_path / "work", inputs), []
    honest = render._Painter.paint

    def dying(self: render._Painter) -> None:
        if painted:
            raise Killed
        painted.append(self)
        honest(self)

    monkeypatch.setattr(render._Painter, "paint", dying)
    with pytest.raises(Killed):
        lipsync(task, Quiet())
    monkeypatch.undo()
    _is_recalled_only_where_it_is_this_jobs_and_whole(task, tmp_path)
    ear = Ear()
    lipsync(task, ear)
    assert "plan_recalled" in ear.heard and "segments_kept" in ear.heard and "face" not in ear.heard
    assert not list(task.work.glob("plan*")) and not list(task.work.glob("segment*"))


def _is_recalled_only_where_it_is_this_jobs_and_whole(task: Task, folder: Path) -> None:
    def found(job: Task) -> tuple[bool, list[str]]:
        ear = Ear()
        video = from_exact(task.probed.video)
        return plan_file.recalled(job, video, engines.load("footage"), Stages(ear)) is not None, ear.heard

    def copied(name: str) -> Task:
        return replace(task, work=Path(shutil.copytree(task.work, folder / name, copy_function=shutil.copy2)))

    anew = copied("staged anew")
    anew = replace(anew, audio=anew.work / task.audio.name)
    os.utime(anew.audio, (1, 1))
    assert found(anew)[0], "it is read and has not changed"
    ffmpeg("-i", task.audio, "-af", "volume=0.5", anew.audio)
    assert found(anew) == (False, []), "another voice"
    assert found(replace(task, settings=replace(task.settings, extend="loop"))) == (False, [])
    assert found(replace(task, settings=replace(task.settings, crf=3, report="on", label=LabelSettings("start"))))[0]
    for name, at in ((plan_file.PLAN, 2000), (KNOWN, 0)):
        damaged = copied(f"damaged {name}")
        with (damaged.work / name).open("r+b") as file:
            file.seek(at)
            file.write(b"\0\1\2\3") if at else file.truncate(0)
        whole, heard = found(damaged)
        assert not whole and heard[-1] == "plan_damaged"


def test_a_plan_is_made_ahead_of_a_template_that_is_known_and_of_no_other(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_in(tmp_path / "one", inputs)
    assert not plan_ahead(task, Quiet()) and not list(task.work.glob("plan*")), "nobody has looked at it yet"
    assert not plan_ahead(replace(task, settings=replace(task.settings, engine="command")), Quiet())
    lipsync(task, Quiet())
    first, following = pictures(task), task_in(tmp_path / "two", inputs, report="on", crf=17)
    assert plan_ahead(following, Quiet()) and (following.work / plan_file.RECEIPT).is_file()
    assert plan_ahead(following, Quiet()), "it is there"

    def nobody(*_: Any) -> None:
        raise AssertionError("steps 1 to 4 were made already")

    monkeypatch.setattr(heygemd.pipeline, "_planned", nobody)
    told = lipsync(replace(following, settings=replace(following.settings, crf=18)), Quiet()).to_json()
    assert pictures(following) == first, "what matters later does not make a plan another's"
    assert [stage["name"] for stage in told["stages"]] == ["probe", "plan", "render", "verify", "report"]
    assert told["quality"]["grade"], "it can be measured without the pictures that were not kept"


def test_a_plan_that_cannot_be_written_costs_no_film(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_file, "_written", full)
    task, ear = task_in(tmp_path / "work", inputs), Ear()
    lipsync(task, ear)
    assert "plan_not_written" in ear.heard and (task.work / "film.mp4").is_file()


def test_pictures_spilled_come_back_whole_though_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    from heygemd.pipeline.media import Frame

    spill = FrameSpill(8, 4)
    frames = [Frame(np.full(48, value, np.uint8), 8, 4) for value in (3, 5)]
    spill.put(0, frames[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 7)  # a disk with room for seven bytes
        spill.put(1, frames[1])
    frames[1].data[:] = 0
    assert [int(spill.get(n).data[0]) for n in (1, 0, 1)] == [5, 3, 5]
    spill.clear()
    spill.put(9, frames[0])
    assert spill.get(9).data.tolist() == [3] * 48
    os.ftruncate(spill._file.fileno(), 0)
    with pytest.raises(EngineError, match="cannot be read again"):
        spill.get(9)
