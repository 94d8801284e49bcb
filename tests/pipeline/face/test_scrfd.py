"""Faces found by an imported SCRFD model through insightface, and what is told where that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from heygemd.common.errors import SetupError
from heygemd.contract.job import Settings
from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore
from heygemd.pipeline.face import detect, track
from heygemd.pipeline.image.geometry import IO, move
from tests.pipeline.faces import EYE_PX, EYES, SETTINGS, FakeClip, Silent, placed, portrait
from tests.site import ROOT

DETECTOR = ROOT.parent / "shared" / "models" / "scrfd_2.5g_kps.onnx"
real = pytest.mark.skipif(not DETECTOR.is_file(), reason="the detector in ../shared/models is not here")


def asking(**more: Any) -> Settings:
    return replace(SETTINGS, **more)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    import_model(ModelStore(folder), DETECTOR, accept=True, name="scrfd")
    return folder


@real
def test_the_model_finds_the_eyes_where_they_are(store: Path) -> None:
    finder = detect.choose(asking(finder="auto", models_dir=str(store)))
    (warning,) = finder.warnings
    assert finder.name.startswith("insightface: scrfd")
    assert warning[0] == "model_terms" and "non-commercial" in warning[1]
    luma = cv2.cvtColor(portrait()(0), cv2.COLOR_BGR2GRAY)
    (box,) = finder.boxes(luma)
    assert box.eyes is not None
    true = move(placed(0), EYES)
    assert np.abs(np.array(box.eyes).reshape(2, 2) - true).max() < 0.06 * EYE_PX * 1.6


@real
def test_the_track_is_the_same_kind_of_track_and_names_its_finder(store: Path) -> None:
    clip, settings = FakeClip(portrait(), 25), asking(finder="insightface", models_dir=str(store))
    found = track.track(clip, detect.choose(settings), settings, "v.mp4", Silent())
    other = track.track(clip, detect.choose(asking()), asking(), "v.mp4", Silent())
    assert found.finder.startswith("insightface: scrfd") and other.finder == "haar"
    assert found.usable.all() and found.support == 1
    true = EYE_PX * 1.6
    assert found.eye_px == pytest.approx(true, rel=0.06)
    eyes = move(found.transforms[12], np.array([[96 - IO / 2, 76.0], [96 + IO / 2, 76.0]]))
    assert np.abs(eyes - move(placed(12), EYES)).max() < 0.08 * true


def test_without_a_model_the_built_in_finder_is_used_and_one_that_is_asked_for_is_told(tmp_path: Path) -> None:
    finder = detect.choose(asking(finder="auto", models_dir=str(tmp_path)))
    assert (finder.name, finder.warnings) == ("haar", [])
    with pytest.raises(SetupError, match="no face model is imported"):
        detect.choose(asking(finder="insightface", models_dir=str(tmp_path)))
