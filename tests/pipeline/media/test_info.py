"""What a media file is, handed on as JSON and read back with checks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from heygemd.contract.job import Settings
from heygemd.pipeline.media import probe
from heygemd.pipeline.media.info import Media, exact, from_exact
from heygemd.pipeline.media.json_fields import (
    exactly,
    fraction,
    json_object,
    member,
    members,
    number,
    or_none,
    texts,
    words,
)
from tests.site import make_film, make_wav


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Media:
    return probe(make_film(tmp_path_factory.mktemp("info") / "a.mp4", 1.0), "a.mp4", Settings(), want="video")


def test_a_file_is_read_back_from_json_equal(film: Media, tmp_path: Path) -> None:
    sound = probe(make_wav(tmp_path / "a.wav"), "a.wav", Settings(), want="audio")
    for media in (film, sound):
        assert from_exact(json.loads(json.dumps(exact(media)))) == media


@pytest.mark.parametrize(
    ("stream", "key", "value"),
    [("video", "width", "wide"), ("video", "fps", 25), ("video", "vfr", None), ("audio", "codec", 3)],
)
def test_a_field_of_another_type_is_refused(film: Media, stream: str, key: str, value: object) -> None:
    data: dict[str, Any] = json.loads(json.dumps(exact(film)))
    data[stream] = (data[stream] or {}) | {key: value}
    with pytest.raises((ValueError, KeyError)):
        from_exact(data)


def test_values_are_checked_or_take_a_default() -> None:
    data = json_object('{"a": {"b": 1}, "list": [{"c": 2}, 3], "names": ["x"], "none": null, "text": "t"}')
    assert member(data, "a") == {"b": 1} and member(data, "list") == {} and member(data, "absent") == {}
    assert members(data, "list") == [{"c": 2}] and members(data, "a") == []
    assert exactly(str, data, "text") == "t" and texts(data, "names") == ["x"]
    assert or_none(str, data, "none") is None and or_none(str, data, "text") == "t"
    for fails in (lambda: exactly(int, data, "text"), lambda: texts(data, "text"), lambda: json_object("[1]")):
        with pytest.raises(ValueError, match="due"):
            fails()


@pytest.mark.parametrize(("value", "read"), [("25.5", 25.5), (3, 3.0), ("N/A", 0.0), (None, 0.0), ([], 0.0)])
def test_a_number_that_is_none_is_nought(value: object, read: float) -> None:
    assert number(value) == read


def test_fractions_and_words() -> None:
    assert fraction("30000/1001") == Fraction(30000, 1001) and fraction("0/0") == fraction(None) == 0
    assert words("tv") == "tv" and words("unknown") is None and words("") is None
