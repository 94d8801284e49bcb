"""The label that people see: where it lies, when it is shown, and that nothing else is touched."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.common.errors import SetupError
from heygemd.common.request import LABEL_POSITIONS
from heygemd.contract.job import CommandSettings, LabelSettings, Quiet, Settings, Task
from heygemd.pipeline import lipsync, media
from heygemd.pipeline.marking import label, metadata
from heygemd.pipeline.media.write import overlay
from heygemd.pipeline.quality import deliver
from tests.pipeline.films import QUICK, clip_of, numbered, raw_planes, swaying, tone

WIDTH, HEIGHT = SIZE = 480, 360
LOSSLESS = replace(QUICK, crf=0, segment_seconds=0.6)
LABELLED = replace(LOSSLESS, label=LabelSettings("start", seconds=0.84, text="人工智能生成 AI"))


def labelled(**changes: Any) -> Settings:
    return replace(LABELLED, label=replace(LABELLED.label, **changes))


SHOWN = 21  # frames in 0.84 s: all of the first segment, six of the second, none of the third


def planes(film: Path, size: tuple[int, int] = SIZE) -> np.ndarray:
    """All pixels, (frames, bytes)."""
    return np.array([picture.ravel() for picture in raw_planes(film, *size)])


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return swaying(tmp_path_factory.mktemp("material"), "-g", "10", seconds=2, speech=1.6, size=SIZE)


def made(material: tuple[Path, Path], work: Path, settings: Settings) -> tuple[Path, dict[str, object]]:
    work.mkdir()
    video, voice = material
    settings = replace(settings, cache_dir=str(video.parent / "cache"))  # analysed once for all films
    told = lipsync(Task(voice, video, work, "voice.wav", "template.mp4", settings), Quiet()).to_json()
    return work / "film.mp4", told["output"]["label"]


@pytest.fixture(scope="module")
def films(material: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same film without a label, and with one."""
    folder = tmp_path_factory.mktemp("films")
    plain, told = made(material, folder / "plain", LOSSLESS)
    assert told is None
    return plain, made(material, folder / "labelled", LABELLED)[0]


def test_only_the_labels_rectangle_of_the_first_frames_changes(films: tuple[Path, Path]) -> None:
    plain, with_label = (planes(film) for film in films)
    words = label.made(LABELLED, SIZE, Fraction(1), Fraction(25), 40, full_range=False)
    assert words is not None and words.frames == SHOWN
    differs = (plain != with_label).any(axis=1)
    assert differs.nonzero()[0].tolist() == list(range(SHOWN))
    x0, y0, x1, y1 = words.box
    luma = (plain != with_label)[:, : WIDTH * HEIGHT].reshape(-1, HEIGHT, WIDTH)[:SHOWN]
    chroma = (plain != with_label)[:, WIDTH * HEIGHT :].reshape(-1, 2, HEIGHT // 2, WIDTH // 2)[:SHOWN]
    for found, (left, top, right, bottom) in ((luma, words.box), (chroma, [v // 2 for v in words.box])):
        inside = found[..., top:bottom, left:right]
        assert inside.any() and found.sum() == inside.sum()
    letters = with_label[0, : WIDTH * HEIGHT].reshape(HEIGHT, WIDTH)[y0:y1, x0:x1]
    assert letters.max() == 235 and letters.min() >= 16, "white of the narrow range"


def test_both_ways_of_making_a_segment_show_the_same(
    films: tuple[Path, Path], material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "possible", lambda _: False)
    whole, told = made(material, tmp_path / "whole", LABELLED)
    assert (planes(whole) == planes(films[1])).all()
    assert told == {
        "text": "人工智能生成 AI", "position": "top-left", "box": told["box"], "frames": SHOWN, "seconds": 0.84,
        "letters_px": told["letters_px"],
    }  # fmt: skip
    assert told["letters_px"] >= 0.05 * HEIGHT


def test_a_report_sees_the_label_and_misses_one_that_is_not_there(
    films: tuple[Path, Path], material: tuple[Path, Path], tmp_path: Path
) -> None:
    plain, with_label = films
    bare = tmp_path / "bare.mp4"
    metadata.stamp(plain, bare, {label.TAG: metadata.tags(with_label, QUICK)[label.TAG]}, QUICK)
    told = [deliver.any_film(film, *material, QUICK, Quiet()) for film in (plain, with_label, bare)]
    assert [t["structure"]["label"] for t in told] == [None, True, False]
    codes = [[reason["code"] for reason in t["reasons"]] for t in told]
    assert "label_missing" in codes[2] and "label_missing" not in codes[0] + codes[1]
    assert told[1]["picture"]["outside_db"] == pytest.approx(told[0]["picture"]["outside_db"], abs=0.2)


@pytest.mark.parametrize("size", [(64, 48), (720, 1280), (321, 241)])
@pytest.mark.parametrize("position", LABEL_POSITIONS)
def test_letters_are_high_enough_and_the_label_lies_inside(size: tuple[int, int], position: str) -> None:
    settings = labelled(position=position)
    words = label.made(settings, size, Fraction(1), Fraction(25), 100, full_range=False)
    assert words is not None and words.letters_px >= 0.05 * min(size)
    x0, y0, x1, y1 = words.box
    assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1] and not (x0 | y0 | x1 | y1) & 1
    assert (y0 + y1 < size[1]) == position.startswith("top") or y1 - y0 > size[1] / 2
    assert len(words.planes) == (x1 - x0) * (y1 - y0) * 5 // 2


def test_a_long_text_is_broken_into_lines_that_fit() -> None:
    text = "本视频由人工智能生成合成，仅供教学使用 AI generated"
    settings = labelled(text=text)
    words = label.made(settings, (480, 480), Fraction(1), Fraction(25), 100, full_range=False)
    assert words is not None and words.size[0] <= 480 * 0.95
    assert words.size[1] > 3 * words.letters_px, "more than one line"


def test_pixels_that_are_wider_than_high_make_narrower_letters() -> None:
    square, wide = (
        label.made(LABELLED, (720, 576), sar, Fraction(25), 1, full_range=False) for sar in (Fraction(1), Fraction(2))
    )
    assert square is not None and wide is not None
    assert wide.size[1] == square.size[1] and wide.size[0] < 0.62 * square.size[0]


def test_whites_of_a_full_range_film_are_full() -> None:
    words = label.made(LABELLED, (640, 480), Fraction(1), Fraction(25), 1, full_range=True)
    assert words is not None and words.planes[: words.size[0] * words.size[1]][-1] == 0
    assert max(words.planes[: words.size[0] * words.size[1]]) == 255


@pytest.mark.parametrize("words", [("-color_range", "pc"), ("-vf", "setsar=16/11"), ("-metadata:s:v", "rotate=90")])
def test_a_whole_picture_writer_lays_it_over_any_film(words: tuple[str, ...], tmp_path: Path) -> None:
    film = numbered(tmp_path / "v.mp4", 8, "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast", *words)
    clip = clip_of(film)
    frames = list(clip.walk(range(8)))
    of_it = label.of(labelled(seconds=0.12), clip, 8)
    assert of_it is not None and of_it.frames == 3
    laid = of_it.laid(tmp_path, r"lt(n\,3)")
    with media.FilmWriter(tmp_path / "out.mp4", clip, LOSSLESS, laid) as writer:
        for frame in frames:
            writer.write(frame)
    out = planes(tmp_path / "out.mp4", (clip.width, clip.height))
    same = [(picture == frame.data).all() for picture, frame in zip(out, frames, strict=True)]
    assert same == [False] * 3 + [True] * 5
    x0, y0, x1, y1 = of_it.box
    first = out[0][: clip.width * clip.height].reshape(clip.height, clip.width)
    assert label.shows(of_it, [first[y0:y1, x0:x1]])
    assert not label.shows(of_it, [frames[0].y[y0:y1, x0:x1]])


def test_the_film_of_a_command_is_labelled_too(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    copy = 'ffmpeg -v error -y -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac "$3"'
    argv = ("sh", "-c", copy, "sh", "{video}", "{audio}", "{output}")
    settings = replace(labelled(seconds=0.4), engine="command", command=CommandSettings(argv))
    video = numbered(tmp_path / "v.mp4", 25, "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast")
    task = Task(tone(tmp_path / "a.wav", 1.0), video, tmp_path / "work", "a.wav", "v.mp4", settings)
    told = lipsync(task, Quiet()).to_json()["output"]
    film = tmp_path / "work/film.mp4"
    assert told["label"]["frames"] == 10 and told["label"]["encoded_again"] and told["frames"] == 25
    before, after = (planes(path, (128, 96)) for path in (video, film))
    assert (before != after).any(axis=1).nonzero()[0].tolist() == list(range(10))
    assert json.loads(metadata.tags(film, QUICK)[label.TAG])["frames"] == 10
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["film.mp4", "label.yuva"]


@pytest.mark.parametrize(
    "tag", ["", "[]", '{"text": "x"}', '{"text": "x", "position": "top", "percent": 1e9, "frames": 3}',
            '{"text": "x", "position": "nowhere", "percent": 5, "frames": 3}',
            '{"text": "龘", "position": "top", "percent": 5, "frames": 3}']
)  # fmt: skip
def test_a_tag_that_cannot_be_true_names_no_label(tag: str) -> None:
    assert label.claimed({label.TAG: tag}, QUICK, (640, 480), Fraction(1), 10) is None


def test_letters_that_the_font_lacks_are_named() -> None:
    with pytest.raises(SetupError, match="lacks 龘"):
        label.made(labelled(text="AI 龘"), (640, 480), Fraction(1), Fraction(25), 1, full_range=False)
