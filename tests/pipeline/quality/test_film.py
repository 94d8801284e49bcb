"""A film made by heygemd from media of its own, measured as it is and spoiled in five ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest

from heygemd.contract.job import Quiet, Settings, Task
from heygemd.pipeline import lipsync, media, quality
from heygemd.pipeline.face import detect
from heygemd.pipeline.face import track as face_track
from tests.pipeline.films import ffmpeg, film_sound, swaying
from tests.pipeline.quality import sabotage
from tests.site import ROOT

SETTINGS = Settings(threads=1, preset="ultrafast", crf=20, encoder="libx264")
NASTY = '<img src=x onerror="alert(1)">&.mp4'


class Made(NamedTuple):
    film: Path
    work: Path
    told: dict[str, Any]
    known: quality.Known


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The portrait speaks the demo's sentence."""
    folder = tmp_path_factory.mktemp("judged")
    template, speech = swaying(folder, "-crf", "16", seconds=6, speech=6)
    work = folder / "work"
    work.mkdir()
    task = Task(speech, template, work, "speech.wav", NASTY, SETTINGS)
    told = lipsync(task, Quiet()).to_json()
    return Made(work / "film.mp4", work, told, known(template, told["output"]["frames"]))


def known(template: Path, frames: int) -> quality.Known:
    found = media.probe(template, template.name, SETTINGS, want="video")
    assert found.video is not None
    clip = media.open_clip(template, found.video, SETTINGS, template.name, found.start)
    clip.learn()
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, template.name, Quiet())
    order = media.output_order(clip.count, frames, "bounce")
    return quality.Known(track.transforms[order], track.usable[order], track, track, clip, order)


def measured(made: Made, film: Path) -> dict[str, Any]:
    told, evidence = quality.report(film, made.known, SETTINGS, Quiet())
    assert evidence is not None, told
    return told


def codes(told: dict[str, Any]) -> set[str]:
    return {reason["code"] for reason in told["reasons"]}


def test_an_honest_film_is_good_and_its_log_says_so(made: Made) -> None:
    told = made.told["quality"]
    assert told["grade"] == "good", told
    assert told["sync"]["confidence"] == "high" and abs(told["sync"]["offset_ms"]) <= 40
    schema = json.loads((ROOT / "heygemd/data/film-log.schema.json").read_text())
    jsonschema.validate(told, schema["properties"]["quality"])
    assert told["measured"]["frames"] == made.told["output"]["frames"]
    assert "report" in [stage["name"] for stage in made.told["stages"]]


def test_the_page_needs_nothing_from_outside_and_runs_nothing(made: Made) -> None:
    page = (made.work / "report.html").read_text(encoding="utf-8")
    assert NASTY not in page and "&lt;img src=x onerror=" in page
    bare = re.sub(r'"data:[^"]*"', '""', page).lower()
    assert "<script" not in bare and "http" not in bare and "url(" not in bare
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', page)) >= 20
    assert re.findall(r'<img src="(?!data:)', page) == []
    assert "<svg" in page and len(page) < 2_000_000


Spoil = Callable[[Path, Path, Made], Path]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "late": (lambda film, out, _: sabotage.late_sound(film, out, -0.2), "mouth_late"),
    "frozen": (lambda film, out, made: sabotage.frozen(film, out, made.known.transforms), "mouth_still"),
    "blurred": (lambda film, out, made: sabotage.blurred(film, out, made.known.transforms), "mouth_soft"),
}


@pytest.mark.parametrize("way", SPOILED)
def test_a_spoiled_film_is_graded_down_for_what_was_done_to_it(made: Made, tmp_path: Path, way: str) -> None:
    spoil, code = SPOILED[way]
    told = measured(made, spoil(made.film, tmp_path / "spoiled.mp4", made))
    assert told["grade"] != "good" and code in codes(told), told


@pytest.mark.parametrize("frames", [-3, 2])
def test_a_shift_of_frames_is_measured_as_such(made: Made, tmp_path: Path, frames: int) -> None:
    honest = made.told["quality"]["sync"]["offset_ms"]
    told = measured(made, sabotage.late_sound(made.film, tmp_path / "moved.mp4", frames / 25))
    assert told["sync"]["confidence"] == "high"
    assert abs(told["sync"]["offset_ms"] - honest + 40 * frames) <= 40


def test_a_film_with_the_sound_turned_round_follows_nothing(made: Made, tmp_path: Path) -> None:
    sound = film_sound(made.film)[::-1]
    raw = ("-f", "f32le", "-ar", "16000", "-ac", "1", "-i", "pipe:0")
    ffmpeg(*raw, tmp_path / "turned.wav", feed=np.ascontiguousarray(sound).tobytes())
    told = measured(made, sabotage.other_sound(made.film, tmp_path / "other.mp4", tmp_path / "turned.wav"))
    assert told["grade"] == "poor" and "does_not_follow" in codes(told), told


def test_what_cannot_be_measured_fails_nothing_and_is_told(made: Made, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(made.film.read_bytes()[:3000])
    told, evidence = quality.report(tmp_path / "film.mp4", made.known, SETTINGS, Quiet())
    assert told["grade"] is None and told["problem"] and evidence is None
