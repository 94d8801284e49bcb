"""The paper: five steps in order, told as they happen, and a film that is what it should be.

Face, lips and engine are stand-ins here; their own tests are beside this one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest

from heygemd.common.errors import EngineError, InputError
from heygemd.contract.job import Quiet, Task
from heygemd.pipeline import lipsync
from heygemd.pipeline.media import Clip, Frame, decode_audio, probe
from tests.pipeline.films import QUICK, bursts, ffmpeg, film_sound, number_of, numbered, onsets, raw_planes, tone
from tests.pipeline.standins import Unchanged, put_in_place

WARNED = [("weak", "Grey is not a mouth.")]


class Ear(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.frames: list[int] = []

    def progress(self, stage: str, frame: int, of: int) -> None:
        if stage not in self.stages:
            self.stages.append(stage)
        if stage == "render":
            self.frames.append(frame)


class Painter(Unchanged):
    """An engine that paints a grey mouth wherever the sound is loud."""

    name = "painter"

    def plan(self, clip: Clip, track: Any, lip: Any, samples: Any, order: Any, *rest: Any) -> Any:
        self.seen = SimpleNamespace(order=order, samples=samples, own_voice=rest[1])
        hop = len(samples) / len(order)
        loud = [bool(np.abs(samples[int(k * hop) : int((k + 1) * hop)]).max() > 0.3) for k in range(len(order))]
        quiet = [k for k, heard in enumerate(loud) if not heard]
        return self.planned(
            draw=lambda k, frame: self.paint(frame) if loud[k] else None,
            facts={"renderer": "grey", "reasons": ["it is a test"]}, warnings=WARNED,
            passed_through=[(quiet[0], quiet[-1])], region=lambda _: (0, 0, 16, 16), at_hand=lambda _: False,
        )  # fmt: skip

    def paint(self, frame: Frame) -> None:
        frame.y[40:60, 10:118] = 128


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> Painter:
    """The stand-ins put in their places."""
    engine = Painter()
    put_in_place(monkeypatch, engine, warnings=WARNED)
    return engine


def job(tmp_path: Path, video: Path, audio: Path, **changes: Any) -> Task:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return Task(audio, video, work, "lesson.wav", "lesson.mp4", replace(QUICK, **changes))


def test_a_short_template_bounces_under_a_longer_sound(painter: Painter, tmp_path: Path) -> None:
    template = numbered(tmp_path / "v.mp4", 20, "-c:v", "libx264", "-g", "250", "-bf", "2")
    task, ear = job(tmp_path, template, bursts(tmp_path / "a.wav"), crf=0), Ear()
    told = lipsync(task, ear).to_json()
    shown = list(raw_planes(task.work / "film.mp4", 128, 96))
    source = list(raw_planes(template, 128, 96))
    order = [min(k % 38, 38 - k % 38) for k in range(62)]
    assert painter.seen.order.tolist() == order
    mouth = np.zeros(len(source[0]), bool)
    mouth[: 128 * 96].reshape(96, 128)[40:60, 10:118] = True
    painted = []
    for k, planes in enumerate(shown):
        assert np.array_equal(planes[~mouth], source[order[k]][~mouth])
        painted.append(bool((planes[mouth] == 128).all()))
        if not painted[-1]:
            assert number_of(planes[: 128 * 96].reshape(96, 128)) == order[k]
    loud = np.flatnonzero(painted) / 25
    assert onsets(film_sound(task.work / "film.mp4")) == pytest.approx([loud[0], loud[loud > 1][0]], abs=0.041)
    assert told["output"]["frames"] == len(shown) == 62
    assert ear.stages == ["probe", "audio", "face", "lips", "plan", "render", "verify"]
    assert ear.frames[-1] == 62


def test_hearing_a_long_sound_is_told_of_while_it_goes_on(
    painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, int, int]] = []

    class Told(Ear):
        def progress(self, stage: str, frame: int, of: int) -> None:
            super().progress(stage, frame, of)
            heard.append((stage, frame, of))

    def slow(_samples: Any, progress: Any) -> None:
        progress(10, 100)
        deadline = time.monotonic() + 20
        while ("lips", 10, 100) not in heard and time.monotonic() < deadline:
            time.sleep(0.05)

    monkeypatch.setattr("heygemd.pipeline.speech.ears.speak", slow)
    lipsync(job(tmp_path, numbered(tmp_path / "v.mp4", 20), bursts(tmp_path / "a.wav")), Told())
    assert ("lips", 10, 100) in heard and heard[-1][0] == "verify"
    assert isinstance(painter.seen.order, np.ndarray)


def test_the_result_says_how_the_film_was_made(painter: Painter, tmp_path: Path) -> None:
    task = job(tmp_path, numbered(tmp_path / "v.mkv", 30, "-c:v", "mpeg4"), bursts(tmp_path / "a.mp3"))
    told = lipsync(task, Quiet()).to_json()
    assert told["engine"] == {"name": "painter", "renderer": "grey", "reasons": ["it is a test"]}
    assert told["face_finder"] == "nobody"
    assert told["verified"] is True
    assert told["passed_through"] == [[0, 61]]
    assert [w["code"] for w in told["warnings"]] == ["lossy_audio", "not_h264", "weak"]
    assert told["output"]["sound"] == "copied mp3"
    assert told["output"]["encode"] == {"encoder": "libx264", "crf": 18, "preset": "ultrafast"}
    assert told["output"]["fps"] == "25/1"
    assert told["inputs"]["video"]["clip"]["frames"] == 30
    assert {"heygemd", "ffmpeg", "python", "numpy"} <= told["versions"].keys()
    assert sorted(path.name for path in task.work.iterdir()) == ["film.mp4"]
    jsonschema.validate(told["stages"], {"type": "array", "items": {"required": ["name", "seconds", "frames"]}})


def test_a_still_speaks_as_long_as_the_sound(painter: Painter, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=129x97", "-frames:v", "1", tmp_path / "p.png")
    told = lipsync(job(tmp_path, tmp_path / "p.png", bursts(tmp_path / "a.wav")), Quiet()).to_json()
    assert (told["output"]["frames"], told["output"]["fps"]) == (62, "25/1")
    assert (told["output"]["width"], told["output"]["height"]) == (130, 98)
    assert [w["code"] for w in told["warnings"]] == ["padded", "converted", "weak"]
    assert painter.seen.own_voice is None


def test_a_long_template_ends_with_the_sound(painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heygemd.pipeline.media.read.frame_order.FOOTAGE_SECONDS", 2.0)
    task = job(tmp_path, numbered(tmp_path / "v.mp4", 200), tone(tmp_path / "a.wav", 1.3))
    told = lipsync(task, Quiet()).to_json()
    assert told["output"]["frames"] == 32
    assert told["inputs"]["video"]["clip"]["frames"] == 50
    assert painter.seen.order.tolist() == list(range(32))


@pytest.mark.parametrize("rate", ["24000/1001", "60", "10"])
def test_the_template_s_rate_is_the_film_s(rate: str, painter: Painter, tmp_path: Path) -> None:
    task = job(tmp_path, numbered(tmp_path / "v.mp4", 20, fps=rate), bursts(tmp_path / "a.mp3", seconds=2.37))
    output = lipsync(task, Quiet()).to_json()["output"]
    top, bottom = map(int, output["fps"].split("/"))
    assert output["fps"] == (rate if "/" in rate else f"{rate}/1")
    assert abs(output["frames"] - 2.37 * top / bottom) <= 1
    assert painter.seen.order.max() == 19


def test_the_template_s_own_sound_reaches_the_engine(painter: Painter, tmp_path: Path) -> None:
    numbered(tmp_path / "v.mp4", 60)
    bursts(tmp_path / "own.wav")
    words = ("-map", "0:v", "-map", "1:a", "-c:v", "copy")
    ffmpeg("-i", tmp_path / "v.mp4", "-i", tmp_path / "own.wav", *words, tmp_path / "talking.mp4")
    lipsync(job(tmp_path, tmp_path / "talking.mp4", tone(tmp_path / "a.wav", 1.0)), Quiet())
    assert onsets(painter.seen.own_voice) == pytest.approx([0.5, 2.0], abs=0.005)
    assert len(painter.seen.samples) == 16000


@pytest.mark.usefixtures("painter")
def test_no_film_is_left_where_it_is_not_what_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that swallows three frames and ends well."""
    task = job(tmp_path, numbered(tmp_path / "v.mp4", 30), tone(tmp_path / "a.wav", 1.0))
    honest = Clip.walk
    monkeypatch.setattr(Clip, "walk", lambda self, order: honest(self, list(order)[:-3]))
    with pytest.raises(EngineError, match="has 22 frames instead of 25"):
        lipsync(task, Quiet())
    assert not (task.work / "film.mp4").exists()


@pytest.mark.usefixtures("painter")
def test_the_user_s_fault_carries_the_user_s_file_name(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(InputError, match=r"lesson\.mp4 is empty"):
        lipsync(job(tmp_path, tmp_path / "x", tone(tmp_path / "a.wav", 1.0)), Quiet())
    with pytest.raises(InputError, match=r"lesson\.wav contains no sound"):
        video = numbered(tmp_path / "v.mp4", 5)
        lipsync(job(tmp_path, video, video), Quiet())


def test_a_job_that_fails_does_not_wait_for_what_was_to_be_made_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding an hour of sound takes half a minute, and nobody would want it."""
    made: list[str] = []

    def nowhere(*_: Any) -> None:
        raise InputError("v.mp4: no face was found", reason="no_face")

    monkeypatch.setattr("heygemd.pipeline._heard", lambda *_: time.sleep(0.3))
    monkeypatch.setattr("heygemd.pipeline.media.own_sound", lambda *_: made.append("own"))
    monkeypatch.setattr("heygemd.pipeline.media.encode_sound", lambda *_: made.append("encoded"))
    monkeypatch.setattr("heygemd.pipeline.face.track.track", nowhere)
    task = Task(tone(tmp_path / "a.wav", 1), numbered(tmp_path / "v.mp4", 25), tmp_path, "a.wav", "v.mp4", QUICK)
    with pytest.raises(InputError, match="no face"):
        lipsync(task, Quiet())
    assert made == []


@pytest.mark.usefixtures("painter")
def test_an_unfinished_film_of_an_earlier_attempt_does_no_harm(tmp_path: Path) -> None:
    task = job(tmp_path, numbered(tmp_path / "v.mp4", 30), tone(tmp_path / "a.wav", 1.0))
    for name in ("silent.mp4", "whole.mp4", "film.mp4"):
        (task.work / name).write_bytes(b"half a film")
    lipsync(task, Quiet())
    assert probe(task.work / "film.mp4", "film", QUICK, want="video").video is not None
    assert len(decode_audio(task.work / "film.mp4")) >= 16000
