"""The parts of measuring, each on what is known beforehand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from heygemd.contract.job import Settings
from heygemd.pipeline import media
from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.image.geometry import similarity
from heygemd.pipeline.media import Frame
from heygemd.pipeline.quality import grade, picture, sync
from heygemd.pipeline.quality.deliver import offered
from heygemd.pipeline.quality.mouths import openings
from heygemd.pipeline.quality.windows import Crop, Window, open_film, read, windows
from heygemd.pipeline.speech.lips import LipTrack
from tests.pipeline.films import number_of, numbered

PLACE = Mouth(96.0, 148.0, 26.0, 1.0)
SETTINGS = Settings(threads=1)


def voice(seconds: float, seed: int = 1) -> LipTrack:
    """Somebody who speaks all the time, in syllables of random length."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 50)
    knots = np.cumsum(rng.uniform(4, 11, count))
    opening = np.interp(np.arange(count), knots, rng.uniform(0, 1, count)).astype(np.float32)
    tracks = {name: np.zeros(count, np.float32) for name in LipTrack.__slots__}
    return LipTrack(**tracks | {"opening": opening, "voice": np.ones(count, np.float32)})


def seen(lip: LipTrack, late: float, noise: float = 0.5, fps: float = 25.0) -> tuple[Any, Any]:
    """(times, curve) of a mouth that follows ``late`` seconds later, with measuring noise."""
    times = (np.arange(int(len(lip) / 50 * fps)) + 0.5) / fps
    clean = lip.at(times - late).opening
    return times, clean + noise * clean.std() * np.random.default_rng(5).standard_normal(len(times))


# ---------------------------------------------------------------- windows


def test_a_short_film_is_looked_at_wholly_and_a_long_one_in_stretches_that_begin_at_keys() -> None:
    assert windows(200, [0, 100], 750) == [Window(0, 200)]
    found = windows(7500, range(0, 7500, 250), 750)
    assert len(found) == 5 and sum(w.stop - w.first for w in found) == 750
    assert all(w.first % 250 == 0 for w in found)
    assert found[0].first == 0 and found[-1].stop > 7250
    assert all(a.stop <= b.first for a, b in pairwise(found))


def test_stretches_of_a_film_with_few_keys_do_not_overlap_and_lie_inside() -> None:
    for keys in ([0], [0, 900], [0, 10, 20]):
        found = windows(1000, keys, 100)
        assert all(0 <= w.first < w.stop <= 1000 for w in found)
        assert all(a.stop <= b.first for a, b in pairwise(found))


@pytest.mark.parametrize("first", [0, 24, 37])
def test_a_window_gives_the_pictures_with_their_own_numbers(tmp_path: Path, first: int) -> None:
    words = ("-c:v", "libx264", "-preset", "veryfast", "-g", "12", "-bf", "2")
    path = numbered(tmp_path / "film.mp4", 60, *words)
    film = open_film(path, media.probe(path, path.name, SETTINGS, want="video"), SETTINGS)
    assert film.frames == 60 and film.keys[0] == 0 and 5 <= len(film.keys) <= 6
    found = list(read(film, Window(first, first + 10), Crop(0, 8, 128, 64), SETTINGS))
    assert [k for k, _ in found] == list(range(first, first + 10))
    assert [number_of(frame.y) for _, frame in found] == list(range(first, first + 10))
    assert found[0][1].y.shape == (64, 128)


# ---------------------------------------------------------------- mouth against sound


@pytest.mark.parametrize("late", [-0.2, -0.04, 0.0, 0.08, 0.24])
def test_a_mouth_that_follows_is_found_with_its_lag(late: float) -> None:
    lip = voice(10)
    times, curve = seen(lip, late)
    found = sync.follow(curve, times, lip)
    assert found is not None and found.confidence == "high"
    assert found.offset == pytest.approx(late, abs=0.02)


def test_a_mouth_that_follows_another_voice_is_not_believed() -> None:
    sure = 0
    for seed in range(20):
        times, curve = seen(voice(10, seed + 100), 0.0)
        found = sync.follow(curve, times, voice(10, seed))
        assert found is not None
        sure += found.confidence == "high"
    assert sure <= 1


def test_too_little_speech_is_not_compared() -> None:
    lip = voice(1.5)
    times, curve = seen(lip, 0.0)
    assert sync.follow(curve, times, lip) is None


def test_closed_lips_are_counted_where_the_sound_closes_them() -> None:
    lip = voice(10)
    lip.closure[50:480:40] = 0.9
    times = (np.arange(250) + 0.5) / 25
    lips = np.ones(250, np.float32) + 0.01 * np.random.default_rng(1).standard_normal(250).astype(np.float32)
    for peak in range(50, 480, 40):
        lips[np.abs(times - (peak + 0.5) / 50) < 0.05] = 0.0
    told = sync.closures(lips, times, lip, 0.0)
    assert told["heard"] == 11 and told["seen"] == 1.0
    moved = sync.closures(np.roll(lips, 5), times, lip, 0.0)
    assert moved["seen"] < told["seen"] - 0.2 and abs(moved["seen"] - moved["by_chance"]) < 0.25


def test_a_sound_is_known_again_when_it_was_encoded_and_moved_and_another_is_not() -> None:
    rng = np.random.default_rng(2)
    loud = np.repeat(rng.uniform(0.01, 1, 60), 1600)[: 5 * 16000]
    sound = (loud * rng.standard_normal(len(loud)) * 0.2).astype(np.float32)
    moved = np.concatenate([np.zeros(3200, np.float32), sound[:-3200]])
    assert sync.same_sound(moved, sound) == {"r": pytest.approx(1.0, abs=0.05), "offset_ms": 200}
    assert sync.same_sound(np.roll(sound, 37000)[::-1], sound)["r"] < grade.SAME_SOUND


# ---------------------------------------------------------------- the picture


def face(lower: float, seed: int = 0) -> Any:
    """A canonical picture with an upper lip that stays and a lower lip and chin that are ``lower`` px down."""
    picture_ = np.full((224, 192), 150, np.float32)
    y, x = np.mgrid[0:224, 0:192].astype(np.float32)
    inside = np.abs(x - 96) < 30
    picture_ -= 60 * np.exp(-(((y - 142) / 3) ** 2)) * inside
    for down, depth in ((152.0, 60), (182.0, 40)):
        picture_ -= depth * np.exp(-(((y - down - lower) / 4) ** 2)) * inside
    grain = np.random.default_rng(seed).normal(0, 1.5, picture_.shape)
    texture = 6 * np.sin(x / 3) * np.sin((y - lower * (y > 146)) / 3)
    return np.clip(picture_ + grain + texture, 0, 255).astype(np.uint8)


def test_the_opening_is_the_way_that_lower_lip_and_chin_have_gone() -> None:
    ways = 5 * (1 - np.cos(np.arange(40) / 3))
    found = openings(np.array([face(w, k) for k, w in enumerate(ways)]), PLACE)
    assert np.corrcoef(found.curve, ways)[0, 1] > 0.95
    assert np.corrcoef(found.lips, ways)[0, 1] > 0.9


def textured(seed: int, sigma: float) -> Frame:
    """A 400 x 460 picture of grain of about ``sigma`` px."""
    grain = np.random.default_rng(seed).normal(0, 60 * max(sigma, 0.5), (460, 400))
    data = np.full(400 * 460 * 3 // 2, 128, np.uint8)
    frame = Frame(data, 400, 460)
    frame.y[:] = np.clip(128 + cv2.GaussianBlur(grain, (0, 0), sigma), 0, 255)
    return frame


def test_a_blurred_mouth_is_soft_and_a_film_that_is_soft_all_over_is_not_blamed_for_it() -> None:
    transform = similarity(2.0, 0.0)
    free = np.zeros((460, 400), bool)
    template = textured(1, 1.5)
    same, soft, soft_mouth = template.copy(), template.copy(), template.copy()
    soft.y[:] = cv2.GaussianBlur(template.y, (0, 0), 1.0)
    soft_mouth.y[230:400, 90:300] = cv2.GaussianBlur(template.y, (0, 0), 3.0)[230:400, 90:300]
    sharpness = [
        picture.compare([picture.FramePair(film, template, transform, free)], PLACE)["sharpness"]
        for film in (same, soft, soft_mouth)
    ]
    assert sharpness[0] == pytest.approx(1.0)
    assert sharpness[1] is not None and sharpness[1] > 0.9
    assert sharpness[2] is not None and sharpness[2] < 0.6


def test_a_change_where_none_is_due_is_measured_in_decibels() -> None:
    template, film = textured(1, 1.5), textured(1, 1.5)
    film.y[:100] = np.clip(film.y[:100].astype(int) + 25, 0, 255)
    free = np.zeros((460, 400), bool)
    free[:200] = True
    told = picture.compare([picture.FramePair(film, template, similarity(2.0, 0.0), free)], PLACE)
    assert told["outside_db"] == pytest.approx(10 * np.log10(255**2 / (25**2 / 2)), abs=0.6)


def test_held_pictures_are_those_that_stand_still_among_moving_ones() -> None:
    rng = np.random.default_rng(1)
    whole, mouth = rng.uniform(1.5, 2.5, 200), rng.uniform(4, 8, 200)
    whole[9::10] = mouth[9::10] = 0.02
    found = picture.held(whole, mouth, strict=True)
    assert found[9::10].all() and found.sum() == 20
    assert not picture.held(np.full(200, 0.1), np.full(200, 0.1), strict=True).any()


# ---------------------------------------------------------------- the grade


def figures(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "sync": {"offset_ms": 10, "confidence": "high", "r": 0.8, "speech_seconds": 8.0, "speech_sd_io": 0.04,
                 "articulation": 0.9},
        "picture": {"sharpness": 0.95, "seam": 1.0, "outside_db": 42.0, "held_percent": 0.0, "passed_percent": 0.0},
        "structure": {"picture_seconds": 10.0, "sound_seconds": 10.0},
    }  # fmt: skip
    for name, value in changes.items():
        table = next(t for t in ("sync", "picture", "structure") if name in told[t])
        told[table] = told[table] | {name: value}
    return told


def graded(*, ours: bool = True, **changes: Any) -> tuple[str, list[str]]:
    found = grade.of(figures(**changes), [(100, 149)], SETTINGS, 25.0, ours=ours)
    return found["grade"], [reason["code"] for reason in found["reasons"]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("good", [])),
        ({"offset_ms": 120}, ("fair", ["mouth_late"])),
        ({"offset_ms": -180}, ("poor", ["mouth_early"])),
        ({"offset_ms": -180, "confidence": "low"}, ("fair", ["mouth_early"])),
        ({"confidence": "none", "r": 0.1}, ("poor", ["does_not_follow"])),
        ({"speech_sd_io": 0.004, "articulation": 0.1}, ("poor", ["mouth_still"])),
        ({"articulation": 0.4}, ("fair", ["mouth_moves_little"])),
        ({"sharpness": 0.7}, ("fair", ["mouth_soft"])),
        ({"sharpness": 0.55}, ("poor", ["mouth_soft"])),
        ({"held_percent": 10.0}, ("poor", ["pictures_held"])),
        ({"passed_percent": 20.0}, ("fair", ["passed_through"])),
        ({"seam": 1.9, "sharpness": 0.5}, ("poor", ["mouth_soft", "seam"])),
        ({"sound_seconds": None}, ("poor", ["no_sound"])),
        ({"sharpness": None, "seam": None, "outside_db": None}, ("good", [])),
    ],
)
def test_the_grade_is_that_of_the_worst_figure(changes: dict[str, Any], expected: tuple[str, list[str]]) -> None:
    assert graded(**changes) == expected


def test_a_foreign_film_of_few_seconds_is_not_accused_of_following_nothing() -> None:
    assert graded(ours=False, confidence="none", r=0.1) == ("fair", ["sync_unsure"])
    assert graded(ours=False, confidence="none", r=0.1, speech_seconds=30.0) == ("poor", ["does_not_follow"])


def test_the_offset_that_would_put_the_mouth_in_time_is_offered_where_it_is_sure() -> None:
    sure = {"sync": {"offset_ms": 80, "confidence": "high"}}
    assert offered(sure, 20.0)["sync"]["av_offset_ms"] == -60
    for other in ({"offset_ms": 80, "confidence": "low"}, {"offset_ms": None, "confidence": "high"}, {}):
        assert "av_offset_ms" not in offered({"sync": other}, 20.0)["sync"]
    assert offered({"grade": None, "problem": "x"}, 0.0) == {"grade": None, "problem": "x"}
