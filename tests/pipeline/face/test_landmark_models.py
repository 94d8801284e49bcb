"""What a pack tells beside the place of a face: landmarks for the mouth, codes for who it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from heygemd.contract.job import Settings
from heygemd.models.store import ModelStore
from heygemd.pipeline.engines import footage
from heygemd.pipeline.engines.footage import Footage, measure
from heygemd.pipeline.engines.footage.analysis import landmarks
from heygemd.pipeline.face import detect, landmark_models, shots
from heygemd.pipeline.face import track as face_track
from heygemd.pipeline.face.detect import Box, Finder, Person
from heygemd.pipeline.image.geometry import EYES, IO, move
from heygemd.pipeline.quality import _identity
from heygemd.pipeline.quality.look import Known
from heygemd.pipeline.quality.picture import FramePair
from heygemd.pipeline.speech import lips
from tests.pipeline import packs
from tests.pipeline.faces import EYES as PORTRAIT_EYES
from tests.pipeline.faces import SETTINGS, FakeClip, Silent, placed, portrait

FIVE = np.array([[-0.5, 0], [0.5, 0], [0, 0.6], [-0.4, 1.08], [0.4, 1.08]])  # io, from between the eyes
COUNT = 25


def marks() -> np.ndarray:
    """106 canonical points: a mouth of 40 x 12 px at its usual place, the others anywhere."""
    points = np.random.default_rng(0).uniform(40, 150, (106, 2))
    x, y = EYES[0], EYES[1] + 1.1 * IO
    points[52:72] = (x, y)
    points[52], points[61] = (x - 20, y), (x + 20, y)
    points[63:66, 1], points[57:60, 1] = y - 6, y + 6
    return points


def in_the_models_picture(points: np.ndarray) -> np.ndarray:
    left, top, right, low = landmark_models._FACE
    scale = 192 / (1.5 * max(right - left, low - top))
    return (points - [(left + right) / 2, (top + low) / 2]) * scale + 96


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    eyes = move(placed(0), PORTRAIT_EYES)
    io = float(np.hypot(*(eyes[1] - eyes[0])))
    folder = tmp_path_factory.mktemp("pack")
    return packs.imported(folder, eyes.mean(0) + FIVE * io, 480, 400, in_the_models_picture(marks()))


@pytest.fixture
def asked(store: Path) -> Settings:
    return replace(SETTINGS, finder="insightface", models_dir=str(store))


def test_a_pack_is_imported_with_all_that_is_of_use(store: Path) -> None:
    model = ModelStore(store).one("faces")
    assert model is not None and {f.role for f in model.files} == {"detector", "landmarks106", "identity"}


def test_the_detector_gives_the_five_points_that_the_model_saw(asked: Settings) -> None:
    finder = detect.choose(asked)
    assert finder.name.startswith("insightface: pack ")
    luma = cv2.cvtColor(portrait()(0), cv2.COLOR_BGR2GRAY)
    (box,) = finder.boxes(luma)
    assert box.points is not None
    assert np.abs(box.points[:2] - move(placed(0), PORTRAIT_EYES)).max() < 2.5


def test_landmarks_come_in_canonical_px(asked: Settings) -> None:
    model = detect.choose(asked).pack.landmarks
    assert model is not None
    grey, white = (np.full((224, 192), value, np.uint8) for value in (127, 255))
    still = np.delete(np.arange(106), [57, 58, 59])
    assert np.abs(model.of(grey) - marks())[still].max() < 0.01
    opened = model.of(white) - model.of(grey)
    assert opened[58, 1] > 5 and np.abs(opened[still]).max() < 1e-3


def test_the_mouth_is_where_the_landmarks_are() -> None:
    points = np.stack([marks() + np.array([0, shift]) for shift in (-1, 0, 1, 30)])
    found = landmarks.place(points, np.array([True, True, True, False]))
    assert (found.x, found.half_width) == pytest.approx((EYES[0], 20))
    assert found.y == pytest.approx(EYES[1] + 1.1 * IO)
    wide, high = points.copy(), points.copy()
    wide[:, 61, 0] += 8
    high[:, 57:60, 1] += 9
    assert landmarks.reads(wide)[:, 1] == pytest.approx(landmarks.reads(points)[:, 1] + 8)
    assert landmarks.reads(high)[0, 0] > landmarks.reads(points)[0, 0] + 5


def test_footage_takes_its_mouth_code_from_landmarks(asked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def measured(*args: Any) -> Any:
        shapes, known = measure(*args)
        reads.append(shapes.reads[:, 0])
        return shapes, known

    monkeypatch.setattr(footage, "measure", measured)

    def blinking(i: int) -> np.ndarray:
        return cv2.convertScaleAbs(portrait()(i), alpha=1.0, beta=20.0 * (i % 2))

    clip = FakeClip(blinking, COUNT)
    track = face_track.track(clip, detect.choose(asked), asked, "v.mp4", Silent())
    points = landmarks.seen(track)
    assert points is not None and points.shape == (COUNT, 106, 2)
    args = (
        lips.speak(np.zeros(16000, np.float32)),
        np.zeros(16000, np.float32),
        np.arange(COUNT),
        asked,
        None,
        Silent(),
    )
    plan = Footage().plan(clip, track, *args)
    assert plan.facts["mouth_code"] == "landmarks" and plan.facts["mouth_confidence"] == 1.0
    (read,) = reads
    assert read[1::2].min() > read[0::2].max()
    assert Footage().plan(clip, replace(track, pack=face_track.NO_PACK), *args).facts["mouth_code"] == "flow"


def person(pictures: dict[int, np.ndarray], finder: Finder) -> Person:
    boxes = {}
    for i, luma in pictures.items():
        (boxes[i],) = finder.boxes(luma)
    return Person(boxes, len(boxes))


def scene(light: float, wall: int) -> np.ndarray:
    """The portrait before a wall of its own."""
    luma = cv2.convertScaleAbs(cv2.cvtColor(portrait(sway=0)(0), cv2.COLOR_BGR2GRAY), alpha=light, beta=0)
    noise = np.random.default_rng(wall).integers(0, 255, (10, 12), np.uint8)
    frame = cv2.resize(noise, (480, 400), interpolation=cv2.INTER_NEAREST)
    frame[60:330, 130:350] = luma[60:330, 130:350]
    return frame


@pytest.mark.parametrize(("lights", "by_code", "by_geometry"), [((1.3, 1.04), 5, 3), ((0.97, 0.88), 3, 5)])
def test_who_is_seen_in_a_shot_is_told_by_the_code(
    asked: Settings, lights: tuple[float, float], by_code: int, by_geometry: int
) -> None:
    finder = detect.choose(asked)
    pictures = {i: scene(lights[i // 3], i // 3) for i in range(5)}
    who = person(pictures, finder)
    assert sorted(shots.of_one(who, pictures, finder).boxes) == list(range(by_code))
    assert sorted(shots.of_one(who, pictures, Finder()).boxes) == list(range(by_geometry))


def test_without_a_model_nobody_is_told_apart() -> None:
    finder, box = detect.choose(SETTINGS), Box(10, 10, 10)
    assert finder.codes(Person({0: box}, 1), {0: np.zeros((20, 20), np.uint8)}) is None
    assert finder.pack == landmark_models.Pack()


def test_the_report_says_whether_the_film_still_shows_the_same_face(asked: Settings) -> None:
    clip = FakeClip(portrait(), 3)
    track = face_track.track(clip, detect.choose(asked), asked, "v.mp4", Silent())
    frame, dark = clip.frame(0), clip.frame(0)
    dark.y[:] = dark.y // 4
    free = np.ones((400, 480), bool)
    known = Known(track.transforms, track.usable, track)

    def told(film: Any) -> Any:
        return _identity([FramePair(film, frame, track.transforms[0], free)], known)["identity"]

    assert told(clip.frame(0)) == pytest.approx(1.0)
    assert told(dark) == pytest.approx(-1.0)
    assert _identity([], known) == {"identity": None}
    without = replace(known, track=replace(track, pack=face_track.NO_PACK))
    assert _identity([FramePair(frame, frame, track.transforms[0], free)], without) == {"identity": None}
