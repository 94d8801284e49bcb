"""The engine on real footage: what it shows is measured again from its own output, by its own measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heygemd.contract.job import Settings
from heygemd.pipeline import media
from heygemd.pipeline.engines.footage import Footage
from heygemd.pipeline.engines.footage.analysis import mouth, mouth_flow
from heygemd.pipeline.face import detect
from heygemd.pipeline.face import track as face_track
from heygemd.pipeline.image.geometry import HEIGHT, WIDTH, cropped
from tests.pipeline.engines.footage.test_engine import speech
from tests.pipeline.faces import Silent
from tests.site import ROOT

CLIPS = ROOT.parent / "shared" / "clips"
pytestmark = [
    pytest.mark.clips,
    pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not in ../shared/clips"),
]


def _clip(name: str) -> Any:
    settings = Settings(threads=1)
    found = media.probe(CLIPS / name, name, settings, want="video")
    assert found.video is not None
    return media.open_clip(CLIPS / name, found.video, settings, name)


def _shown(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Opening asked by the sound (voice on all through), opening measured in the output, facts."""
    clip = _clip(name)
    track = face_track.track(clip, detect.choose(Settings(threads=1)), Settings(threads=1), name, Silent())
    order = np.arange(70)
    lip = speech(70 / float(clip.fps))
    engine = Footage()
    plan = engine.plan(clip, track, lip, np.zeros(0, np.float32), order, Settings(threads=1), None, Silent())
    fields = mouth_flow.Fields(track.crops.y[mouth_flow.some(np.arange(len(track.crops.y)))])
    read = mouth_flow.reader(mouth.locate(track.crops))
    values = []
    for k, frame in enumerate(clip.walk(order.tolist())):
        plan.draw(k, frame)
        values.append(read(fields.of(cropped(frame.y, track.transforms[k], (WIDTH, HEIGHT)))))
    lips, chin, _ = np.array(values).T
    asked = lip.at((order + 0.5) / float(clip.fps)).tracks["opening"]
    return asked, (lips - lips.mean()) / lips.std() + (chin - chin.mean()) / chin.std(), plan.facts


@pytest.mark.parametrize(("name", "renderer"), [("vr_4.mp4", "two-layer"), ("mt_sun.mp4", "warp")])
def test_the_output_opens_as_asked(name: str, renderer: str) -> None:
    asked, shown, facts = _shown(name)
    assert facts["renderer"] == renderer
    assert np.corrcoef(asked, shown)[0, 1] > 0.7


@pytest.mark.parametrize("name", ["vr_1.mp4", "vr_4.mp4", "st_katie.mp4", "ls_2.mp4"])
def test_nobody_who_only_talks_is_said_to_cover_the_mouth(name: str) -> None:
    settings = Settings(threads=1)
    assert face_track.track(_clip(name), detect.choose(settings), settings, name, Silent()).covered == ()
