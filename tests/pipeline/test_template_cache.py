"""The second film of a template does not pay for its analysis again, and is the same."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.contract.job import Quiet, Task
from heygemd.contract.template_cache import purge
from heygemd.pipeline import lipsync, template_cache
from heygemd.pipeline.engines.footage.analysis.mouth_flow import Fields
from heygemd.pipeline.face import detect
from heygemd.pipeline.image.compose import Area
from heygemd.pipeline.image.patches import Patches
from heygemd.pipeline.media import Clip, Frame
from heygemd.pipeline.template_cache import Memory, TemplateCache
from tests.pipeline.films import QUICK, ffmpeg, raw_planes, swaying


class Ear(Quiet):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        self.events.append(name)


def store(folder: Path, most: int = 1 << 20, days: float = 1) -> TemplateCache:
    made = TemplateCache(folder / "cache", most, days * 86_400)
    made.prepare()
    return made


def entries(made: TemplateCache) -> list[str]:
    return sorted(path.name for path in made.folder.iterdir())


def test_what_is_kept_comes_back_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    made = store(tmp_path)
    memory = Memory(made, Ear(), ("template",)).about("face", 3)
    assert memory.recall("a") is None
    memory.keep(a=np.arange(5), b=np.array("text"))
    again = Memory(made, Ear(), ("template", "face", "3")).recall("a", "b")
    assert again is not None and again["a"].tolist() == [0, 1, 2, 3, 4] and str(again["b"]) == "text"
    assert memory.about("other").recall("a") is None
    (name,) = entries(made)
    assert (made.folder / name).stat().st_mode & 0o777 == 0o600
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert purge(made.folder) == 1 and entries(made) == []
    assert purge(tmp_path / "nowhere") == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "pickle", "empty"])
def test_a_damaged_entry_is_dropped_and_told(damage: str, tmp_path: Path) -> None:
    made, ear = store(tmp_path), Ear()
    memory = Memory(made, ear, ("x",))
    memory.keep(a=np.arange(1000))
    path = made.path(("x",))
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    if damage == "pickle":
        np.savez(path, a=np.array([{}], object))
    else:
        path.write_bytes({"cut": data[:3000], "flip": data, "empty": b""}[damage])
    assert memory.recall("a") is None
    assert ear.events == ["template_cache_damaged"] and not path.exists()


def test_the_longest_unused_goes_first_and_the_old_goes_in_any_case(tmp_path: Path) -> None:
    made = store(tmp_path, most=20_000)
    memories = [Memory(made, Ear(), (str(k),)) for k in range(4)]
    for k, memory in enumerate(memories[:3]):
        memory.keep(a=np.zeros(700))
        os.utime(made.path((str(k),)), (time.time() - 100 + k,) * 2)
    assert memories[0].recall("a") is not None
    memories[3].keep(a=np.zeros(700))
    assert [m.recall("a") is not None for m in memories] == [True, False, True, True]
    os.utime(made.path(("2",)), (time.time() - 90_000,) * 2)
    (made.folder / "part-dead").write_bytes(b"")
    os.utime(made.folder / "part-dead", (0, 0))
    made.prune()
    assert len(entries(made)) == 2 and memories[2].recall("a") is None
    memories[2].keep(a=np.zeros(5000))
    assert memories[2].recall("a") is None, "larger than the whole bound"


def test_a_folder_that_cannot_be_used_is_told_and_the_film_is_made_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    ear = Ear()
    assert (
        template_cache.of(tmp_path / "file", replace(QUICK, cache_dir=str(tmp_path / "file")), ear)
        == template_cache.NOTHING
    )
    assert ear.events == ["template_cache_unusable"]
    assert template_cache.of(tmp_path / "file", QUICK, ear) == template_cache.NOTHING


def test_the_second_film_of_a_template_is_the_first_without_its_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, voice = swaying(tmp_path, seconds=1.2, speech=1.2, size=(480, 360))
    work_done: list[str] = []
    for owner, name in ((detect.Finder, "people"), (Clip, "_first_pass"), (Clip, "frames"), (Fields, "of")):
        honest = getattr(owner, name)
        monkeypatch.setattr(owner, name, _counted(honest, name, work_done))
    told, pictures = [], []
    for name in ("first", "second", "other"):
        work = tmp_path / name
        work.mkdir()
        settings = replace(QUICK, cache_dir=str(tmp_path / "cache"), face="left" if name == "other" else "largest")
        work_done.clear()
        result = lipsync(Task(voice, film, work, "voice.wav", "template.mp4", settings), Quiet()).to_json()
        told.append((result["engine"]["template_analysis"], set(work_done)))
        pictures.append([planes.tobytes() for planes in raw_planes(work / "film.mp4", 480, 360)])
    everything = {"people", "_first_pass", "frames", "of"}
    assert told == [("made", everything), ("cached", set()), ("made", everything - {"_first_pass"})]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 30


def _counted(honest: Any, name: str, into: list[str]) -> Any:
    def call(*args: Any, **more: Any) -> Any:
        into.append(name)
        return honest(*args, **more)

    return call


def test_a_long_template_is_kept_for_each_length_that_is_looked_at(tmp_path: Path) -> None:
    film = tmp_path / "v.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=128x96:r=25:d=2", film)
    memory = Memory(store(tmp_path), Ear(), ("content",))

    def counted(limit: int) -> tuple[int, bool]:
        clip = _clip(film, limit)
        known = [clip._first_pass]
        clip._first_pass = lambda: known.append(1) or known[0]()  # type: ignore[method-assign, assignment, func-returns-value]
        clip.recall(memory)
        clip.learn()
        return clip.count, len(known) == 1

    assert counted(100) == (50, False)
    assert counted(80) == (50, True), "the same under every limit that it does not reach"
    assert counted(30) == (30, False)
    assert counted(30) == (30, True)


def _clip(path: Path, limit: int) -> Any:
    from heygemd.pipeline.media import open_clip, probe

    media = probe(path, path.name, QUICK, want="video")
    assert media.video is not None
    return open_clip(path, media.video, QUICK, path.name, media.start, limit)


def test_pixels_are_kept_beside_arrays_and_come_back_through_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = [Frame(rng.integers(0, 256, 64 * 48 * 3 // 2, np.uint8), 64, 48) for _ in range(3)]
    patches, memory = Patches(), Memory(store(tmp_path), Ear(), ("mouths",))
    wide, small = Area(8, 4, 56, 44), Area(16, 10, 40, 30)
    for i, frame in enumerate(frames):
        patches.add(i * 10, wide, frame)
    assert patches.covers(10, small) and not patches.covers(10, Area(6, 4, 20, 20)) and not patches.covers(11, small)
    patches.keep(memory, [(10, small), (20, wide)])
    again = Patches.recalled(memory)
    assert again is not None and 0 not in again
    for i, area in ((10, small), (20, wide)):
        for plane, kept in zip(area.of(frames[i // 10]), again.part(i, area), strict=True):
            assert (plane == kept).all()
    entry = next(tmp_path.glob("cache/*.npz"))
    damaged = bytearray(entry.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    entry.write_bytes(damaged)
    assert Patches.recalled(memory) is None and not entry.exists(), "a damaged entry is dropped"


def test_what_is_kept_behind_is_there_at_the_end_and_told_of_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, ear, writers = store(tmp_path), Ear(), set()
    memory, write = Memory(made, ear, ("template",)), TemplateCache.write

    def heard(*what: Any) -> None:
        writers.add(threading.current_thread().name)
        write(*what)

    monkeypatch.setattr(TemplateCache, "write", heard)
    with memory.behind():
        memory.about("face").keep(a=np.arange(5))
        memory.about("mouth").keep(b=np.arange(3))
    assert memory.about("face").recall("a") is not None and memory.about("mouth").recall("b") is not None
    assert writers == {"keep_0"} and ear.events == []
    with pytest.raises(ZeroDivisionError), memory.behind():
        memory.about("late").keep(c=np.arange(4))
        raise ZeroDivisionError
    assert memory.about("late").recall("c") is not None
    made.folder.rename(tmp_path / "elsewhere")
    with memory.behind():
        memory.keep(a=np.arange(5))
    assert ear.events == ["template_cache_not_written"]
    memory.keep(a=np.arange(5))  # at once, as before
    assert len(ear.events) == 2
