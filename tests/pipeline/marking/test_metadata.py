"""The mark that a machine made the film."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from heygemd.contract.job import CommandSettings, Quiet, Settings, Task
from heygemd.pipeline import lipsync, media
from heygemd.pipeline.marking import metadata
from heygemd.pipeline.media import mux
from heygemd.pipeline.quality import grade
from tests.pipeline.films import QUICK, numbered, tone

PRODUCER = '示例公司 "A&B"; x=1'


def tags(film: Path) -> dict[str, str]:
    """The metadata as ffprobe reads it, without any code of ours."""
    argv = ["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "json", str(film)]
    done = subprocess.run(argv, capture_output=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)["format"].get("tags", {})
    return found


def film(folder: Path, settings: Settings) -> Path:
    """A film with sound, put together as the pipeline does."""
    picture, sound = numbered(folder / "silent.mp4", 25), tone(folder / "tone.wav", 1.0)
    found = media.probe(sound, sound.name, settings, want="audio")
    assert found.audio is not None
    entries = metadata.made(settings, "0123456789abcdef" * 4, "footage")
    mux(picture, sound, found.audio, folder / "film.mp4", settings, 1.0, Fraction(25), entries)
    return folder / "film.mp4"


def test_the_metadata_holds_the_standards_seven_fields_and_nothing_of_the_inputs(tmp_path: Path) -> None:
    made = film(tmp_path, replace(QUICK, producer=PRODUCER))
    told = json.loads(tags(made)["AIGC"])
    assert list(told) == [
        "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2",
    ]  # fmt: skip
    assert told["Label"] == "1" and told["ContentProducer"] == PRODUCER and len(told["ProduceID"]) == 32
    assert all(isinstance(value, str) for value in told.values())
    assert "footage" in tags(made)["comment"]
    assert metadata.found(made, QUICK) == told


def test_no_mark_is_written_where_that_is_switched_off(tmp_path: Path) -> None:
    made = film(tmp_path, replace(QUICK, mark="off"))
    assert "AIGC" not in tags(made) and metadata.found(made, QUICK) is None


@pytest.mark.parametrize("setting", ["on", "off"])
def test_the_film_of_a_command_is_marked_too_its_streams_as_they_were(tmp_path: Path, setting: str) -> None:
    (tmp_path / "work").mkdir()
    copy = 'ffmpeg -v error -y -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac -metadata title=secret "$3"'
    argv = ("sh", "-c", copy, "sh", "{video}", "{audio}", "{output}")
    settings = replace(QUICK, engine="command", command=CommandSettings(argv), report="off", mark=setting)
    task = Task(
        tone(tmp_path / "a.wav", 1.0), numbered(tmp_path / "v.mp4", 25), tmp_path / "work", "a.wav", "v.mp4", settings
    )
    told = lipsync(task, Quiet()).to_json()
    made = tmp_path / "work/film.mp4"
    found = metadata.found(made, settings)
    assert (found is not None) == (setting == "on")
    assert told["output"]["mark"] == (json.dumps(found, ensure_ascii=False) if found else None)
    assert told["output"]["frames"] == 25
    assert ("title" in tags(made)) == (setting == "off")


@pytest.mark.parametrize(("found", "reasons"), [(None, ["not_marked"]), ({"Label": "1"}, [])])
def test_a_film_of_ours_without_its_mark_is_told(found: Any, reasons: list[str]) -> None:
    figures = {"structure": {"picture_seconds": 1.0, "sound_seconds": 1.0, "mark": found}, "picture": {}, "sync": {}}
    told = grade.of(figures, [], QUICK, 25.0, ours=True)
    assert [reason["code"] for reason in told["reasons"] if reason["code"] != "sync_unknown"] == reasons


@pytest.mark.parametrize("text", ["not json", "[1]", ""])
def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    made = film(tmp_path, replace(QUICK, mark="off"))
    metadata.stamp(made, tmp_path / "odd.mp4", {"AIGC": text}, QUICK)
    assert metadata.found(tmp_path / "odd.mp4", QUICK) is None
