from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from heygemd.common.errors import InputError
from heygemd.pipeline.face import crops, follow, track
from heygemd.pipeline.face.detect import Finder
from heygemd.pipeline.image.geometry import EYES as CANONICAL_EYES
from heygemd.pipeline.image.geometry import IO, compose, cropped, from_parameters, halved, invert, move, to_parameters
from tests.pipeline.faces import EYE_PX, EYES, SETTINGS, FakeClip, Silent, empty, placed, portrait


@pytest.fixture(scope="module")
def swaying() -> track.FaceTrack:
    return track.track(FakeClip(portrait(), 40), Finder(), SETTINGS, "lesson.mp4", Silent())


def test_the_eye_distance_and_place_agree_with_an_outside_landmark_model(swaying: track.FaceTrack) -> None:
    assert swaying.eye_px == pytest.approx(1.6 * EYE_PX, rel=0.06)
    middles = np.array([move(t, np.array([CANONICAL_EYES]))[0] for t in swaying.transforms])
    true = np.array([move(placed(i), EYES.mean(0)[None])[0] for i in range(40)])
    assert np.abs(middles - true).max() < 0.08 * swaying.eye_px


def test_the_track_follows_the_head_to_a_hundredth_of_the_eye_distance(swaying: track.FaceTrack) -> None:
    fixed = [compose(invert(placed(i)), t) for i, t in enumerate(swaying.transforms)]
    points = np.array([move(t, np.array([[96.0, 76.0], [96.0, 150.0]])) for t in fixed])
    assert points.std(0).max() < 0.01 * EYE_PX
    assert swaying.usable.all() and swaying.support == 1.0 and swaying.faces_seen == 1
    assert swaying.warnings == []


def test_every_other_anchor_of_a_well_seen_face_is_the_last_one_moved_on(
    swaying: track.FaceTrack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes half the work and gives the same path."""
    measured: list[int] = []
    anchor = follow.Tracker._anchor

    def counted(self: follow.Tracker, i: int, *rest: Any) -> Any:
        measured.append(i)
        return anchor(self, i, *rest)

    monkeypatch.setattr(follow.Tracker, "_anchor", counted)
    found = track.track(FakeClip(portrait(), 40), Finder(), SETTINGS, "lesson.mp4", Silent())
    assert np.array_equal(found.transforms, swaying.transforms)
    assert len(measured) <= 22, "of 40 frames; the first has none before it"
    monkeypatch.setattr(follow.Tracker, "_carried", lambda *_: None)
    every = track.track(FakeClip(portrait(), 40), Finder(), SETTINGS, "lesson.mp4", Silent())
    points = np.array([[64.0, 76.0], [128.0, 76.0], [96.0, 150.0]])
    both = zip(found.transforms, every.transforms, strict=True)
    apart = [np.abs(move(a, points) - move(b, points)).max() for a, b in both]
    assert max(apart) < 0.005 * found.eye_px


def test_a_still_of_one_frame_is_tracked() -> None:
    found = track.track(FakeClip(portrait(), 1), Finder(), SETTINGS, "still.png", Silent())
    assert found.transforms.shape == (1, 2, 3) and found.usable.all()
    assert found.crops.y.shape == (1, 224, 192) and found.crops.v.shape == (1, 112, 96)


def test_a_video_without_a_face_is_refused() -> None:
    with pytest.raises(InputError, match=r"bars\.mp4: no face was found") as caught:
        track.track(FakeClip(empty, 12), Finder(), SETTINGS, "bars.mp4", Silent())
    assert caught.value.reason == "no_face"


def test_a_small_face_is_refused_with_the_measured_number() -> None:
    with pytest.raises(InputError, match=r"small\.mp4: the face is too small: 3\d px") as caught:
        track.track(FakeClip(portrait(scale=0.75), 12), Finder(), SETTINGS, "small.mp4", Silent())
    assert caught.value.reason == "face_too_small"


def test_frames_in_which_the_face_is_gone_are_not_usable() -> None:
    film, nobody = portrait(), cv2.GaussianBlur(portrait()(0)[:, ::-1], (0, 0), 40)

    def picture(i: int) -> np.ndarray:
        return nobody if 30 <= i < 50 else film(i)

    found = track.track(FakeClip(picture, 80), Finder(), SETTINGS, "leaves.mp4", Silent())
    (first, last), *more = found.ranges()
    assert not more and abs(first - 30) <= 2 and abs(last - 49) <= 2
    assert "face_lost" in [code for code, _ in found.warnings]


def test_a_second_face_is_counted_and_the_chosen_one_taken() -> None:
    film = portrait(scale=1.1)

    def picture(i: int) -> np.ndarray:
        one = film(i)
        return np.hstack([one[:, 120:360], one[:, 120:360]])

    clip = FakeClip(picture, 12)
    for which, side in (("left", 0), ("right", 1)):
        found = track.track(clip, Finder(), replace(SETTINGS, face=which), "two.mp4", Silent())
        x = move(found.transforms[5], np.array([CANONICAL_EYES]))[0, 0]
        assert (x > 240) == bool(side)
        assert found.faces_seen == 2
        assert [code for code, _ in found.warnings] == ["second_face"]


def test_a_shot_cut_is_seen() -> None:
    film = portrait()

    def picture(i: int) -> np.ndarray:
        return film(i) if i < 20 else 255 - film(i)

    found = track.track(FakeClip(picture, 30), Finder(), SETTINGS, "cut.mp4", Silent())
    assert found.cuts == (20,)
    assert not found.usable[22:].any() and found.usable[:18].all()


def test_long_clips_keep_runs_of_neighbours() -> None:
    kept = crops.kept(10_000, 3000)
    assert len(kept) <= 3000 and kept[0] == 0 and kept[-1] == 9999
    assert (np.diff(kept) == 1).mean() > 0.9
    assert crops.kept(7, 3000).tolist() == list(range(7))
    for count, most in ((1500, 1500), (3000, 3000), (4000, 2000), (15_000, 1500)):
        keeper = crops.CropKeeper(count)
        assert most - crops.RUN <= sum(keeper.keeps(i) for i in range(count)) <= most


def test_runs_name_first_and_last() -> None:
    assert follow.runs(np.array([True, False, True, True])) == [(0, 0), (2, 3)]
    assert follow.runs(np.zeros(3, bool)) == []


def test_transforms_invert_compose_and_halve() -> None:
    t = from_parameters(np.array([200.0, 150.0, 0.3, 0.1]))
    assert np.allclose(compose(t, invert(t)), np.eye(2, 3))
    assert np.allclose(to_parameters(t), [200, 150, 0.3, 0.1])
    point = np.array([[40.0, 60.0]])
    assert np.allclose(move(halved(t), (point - 0.5) / 2) * 2 + 0.5, move(t, point))


def test_large_faces_are_averaged_down_without_a_shift() -> None:
    y, x = np.mgrid[0:800, 0:800]
    plane = (x * 0.2 + y * 0.1).astype(np.uint8)
    t = np.array([[3.3, 0, 51.0], [0, 3.3, 72.0]])
    out = cropped(plane, t, (192, 200)).astype(float)
    rows, columns = np.mgrid[5:190:20, 5:190:20]
    wanted = (3.3 * columns + 51) * 0.2 + (3.3 * rows + 72) * 0.1
    assert np.abs(out[5:190:20, 5:190:20] + 0.5 - wanted).max() < 1.2
    assert IO == 64
