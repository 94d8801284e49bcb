from __future__ import annotations

import cv2
import numpy as np
import pytest

from heygemd.pipeline.face import shots, track
from heygemd.pipeline.face.detect import Finder
from tests.pipeline.faces import PORTRAIT, SETTINGS, FakeClip, Picture, Silent, placed, portrait


def somebody_else() -> Picture:
    """Another face before another wall, at the same place: the portrait mirrored, made longer and lit otherwise."""
    source = cv2.flip(cv2.imread(str(PORTRAIT)), 1)
    source = cv2.convertScaleAbs(cv2.GaussianBlur(source, (0, 0), 1.5), alpha=0.7, beta=10)
    longer = np.array([[0.94, 0.12, 0.0], [0.0, 1.18, 0.0], [0.0, 0.0, 1.0]])
    mirrored = np.array([[1.0, 0.0, -62.0], [0.0, 1.0, -18.0], [0.0, 0.0, 1.0]])

    def picture(i: int) -> np.ndarray:
        where = (np.vstack([placed(i), [0, 0, 1]]) @ longer @ mirrored)[:2]
        return cv2.warpAffine(source, where, (480, 400), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    return picture


def film(*parts: tuple[Picture, int]) -> FakeClip:
    """Shots in turn, each so many frames long."""
    pictures = [picture for picture, count in parts for _ in range(count)]
    return FakeClip(lambda i: pictures[i](i), len(pictures))


ME, OTHER = portrait(), somebody_else()
CASES = {
    "in the middle": ([(ME, 40), (OTHER, 24), (ME, 36)], [(40, 63)]),
    "first and shorter": ([(OTHER, 30), (ME, 60)], [(0, 29)]),
    "last": ([(ME, 60), (OTHER, 30)], [(60, 89)]),
}


@pytest.mark.parametrize("case", CASES)
def test_shots_of_somebody_else_are_passed_through(case: str) -> None:
    parts, expected = CASES[case]
    found = track.track(film(*parts), Finder(), SETTINGS, "two.mp4", Silent())  # type: ignore[arg-type]
    assert found.ranges() == expected
    edges = {frame for first, last in expected for frame in (first, last + 1)}
    assert set(found.cuts) == edges - {0, len(found.usable)}
    assert found.support == pytest.approx(found.usable.mean(), abs=0.12)
    assert [code for code, _ in found.warnings] == ["shot_cuts", "face_lost"]


def test_a_shot_of_the_same_person_from_nearer_is_used() -> None:
    near = portrait(scale=1.9)
    found = track.track(film((ME, 40), (near, 24), (ME, 36)), Finder(), SETTINGS, "zoom.mp4", Silent())  # type: ignore[arg-type]
    assert found.cuts == (40, 64) and found.usable.all()


def test_a_shot_without_keyframes_is_judged_by_its_best_frames() -> None:
    quality = np.concatenate([np.full(50, 0.9), np.full(20, 0.4), np.full(30, 0.2), np.full(20, 0.8)])
    quality[60] = 0.7
    flags = shots.strange(quality, (50, 70, 100), [10, 30])
    assert flags[50:100].all() and not flags[:50].any() and not flags[100:].any()
    assert not shots.strange(quality, (50, 70, 100), [10, 55, 80]).any()
    assert not shots.strange(quality, (), [10]).any()


def test_cuts_frame_upon_frame_are_a_movement_and_not_told() -> None:
    assert shots.without_sweeps((40, 71, 72, 74, 75, 120, 121)) == (40, 120, 121)
    assert shots.without_sweeps(()) == ()
