from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from heygemd.pipeline.engines.footage import Footage, FootagePlan
from heygemd.pipeline.engines.footage.drawing.plan import shares
from heygemd.pipeline.face import detect
from heygemd.pipeline.face import track as face_track
from heygemd.pipeline.media import Frame
from tests.pipeline.faces import EYES, SETTINGS, FakeClip, Silent, placed, portrait


class Lip:
    """A LipTrack by formula: 50 Hz tracks, linearly sampled."""

    def __init__(self, **tracks: np.ndarray) -> None:
        self.tracks = tracks
        self.__dict__.update(tracks)

    def at(self, times: np.ndarray) -> Lip:
        grid = (np.arange(len(self.tracks["voice"])) + 0.5) / 50
        return Lip(**{k: np.interp(times, grid, v) for k, v in self.tracks.items()})


def speech(seconds: float, until: float | None = None) -> Lip:
    """Syllables until ``until`` seconds, then digital silence."""
    t = (np.arange(round(seconds * 50)) + 0.5) / 50
    voice = (t < (seconds if until is None else until)).astype(float)
    opening = voice * (0.45 + 0.45 * np.sin(2 * np.pi * 3 * t))
    return Lip(opening=opening, width=0.5 * voice * np.sin(t), closure=0 * t, labiodental=0 * t, voice=voice)


def plan_of(clip: FakeClip, track: face_track.FaceTrack, lip: Any, order: np.ndarray) -> FootagePlan:
    return Footage().plan(clip, track, lip, np.zeros(0), order, SETTINGS, None, Silent())  # type: ignore[arg-type]


def drawn(plan: FootagePlan, k: int, frame: Frame) -> Frame:
    plan.draw(k, frame)
    return frame


def outside(plan: FootagePlan, k: int, frame: Frame) -> np.ndarray:
    """True for luma px that frame ``k`` may not change."""
    flags = np.ones(frame.y.shape, bool)
    region = plan.region(k)
    if region:
        x0, y0, x1, y1 = region
        assert all(v % 2 == 0 for v in region)
        flags[y0:y1, x0:x1] = False
    return flags


SCENES = ("smiling", "talking")


@pytest.fixture(scope="module", params=SCENES)
def scene(request: pytest.FixtureRequest) -> SimpleNamespace:
    """A template that never speaks and one that does, with a plan for speech followed by silence."""
    talks = request.param == "talking"
    clip = FakeClip(portrait(speaking=8.0 if talks else 0.0), 90 if talks else 30)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "template.mp4", Silent())  # type: ignore[arg-type]
    order = np.concatenate([np.arange(clip.count), np.arange(clip.count)[-2:0:-1]])[:60]
    lip = speech(60 / 25, until=1.4)
    plan = plan_of(clip, track, lip, order)
    return SimpleNamespace(clip=clip, track=track, order=order, lip=lip, plan=plan, talks=talks)


def test_the_renderer_is_chosen_and_the_reason_named(scene: SimpleNamespace) -> None:
    facts = scene.plan.facts
    assert facts["renderer"] == ("two-layer" if scene.talks else "warp")
    assert ("the template speaks" if scene.talks else "does not speak") in facts["reasons"][0]
    assert facts["eye_px"] == pytest.approx(70, abs=4) and facts["mouth_confidence"] > 0.5
    if scene.talks:
        assert facts["bank_frames"] == 90 and facts["asked_chosen_r"] > 0.7
        assert {"jumps_per_minute", "holds_per_minute", "sound_to_mouth"} <= set(facts)
    else:
        assert facts["teeth_at_rest"] is True


def test_planes_outside_the_region_keep_every_bit_and_speech_moves_the_mouth(scene: SimpleNamespace) -> None:
    changed = 0
    for k in range(0, 34, 3):
        before = scene.clip.frame(scene.order[k])
        after = drawn(scene.plan, k, before.copy())
        free = outside(scene.plan, k, before)
        assert (after.y[free] == before.y[free]).all()
        half = free[::2, ::2]
        assert (after.u[half] == before.u[half]).all() and (after.v[half] == before.v[half]).all()
        changed += int((np.abs(after.y.astype(int) - before.y) > 25).sum() > 40)
    assert changed >= 6


def test_applying_again_and_in_another_order_gives_the_same_bytes(scene: SimpleNamespace) -> None:
    again = plan_of(scene.clip, scene.track, scene.lip, scene.order)
    for k in (20, 3, 20):
        one, other = (drawn(p, k, scene.clip.frame(scene.order[k])) for p in (scene.plan, again))
        assert (one.data == other.data).all()


def test_a_plan_that_was_written_and_read_draws_the_same_bytes(scene: SimpleNamespace, tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, **scene.plan.pack(tmp_path))
    file.seek(0)
    with np.load(file, allow_pickle=False) as entry:
        read = Footage().unpack(dict(entry), tmp_path)
    assert read.facts == scene.plan.facts and read.passed_through == scene.plan.passed_through
    for k in range(0, 60, 4):
        assert (read.region(k), read.at_hand(k)) == (scene.plan.region(k), scene.plan.at_hand(k))
        one, other = (drawn(p, k, scene.clip.frame(scene.order[k])) for p in (scene.plan, read))
        assert (one.data == other.data).all()
        if read.pixels(k) is not None:
            assert all((a == b).all() for a, b in zip(read.pixels(k)[1], scene.plan.pixels(k)[1], strict=True))


def test_a_template_that_never_speaks_is_left_alone_in_silence() -> None:
    clip = FakeClip(portrait(), 20)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "template.mp4", Silent())  # type: ignore[arg-type]
    plan = plan_of(clip, track, speech(2.0, until=1.0), np.arange(50) % 20)
    assert all(plan.region(k) is None for k in range(29, 50)), "at rest 120 ms after the voice has ended"
    frame = clip.frame(9)
    assert (drawn(plan, 29, frame.copy()).data == frame.data).all()
    assert plan.region(10) is not None


def test_a_speaking_template_holds_its_mouth_still_in_silence() -> None:
    clip = FakeClip(portrait(speaking=8.0, sway=0.0), 90)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "template.mp4", Silent())  # type: ignore[arg-type]
    plan = plan_of(clip, track, speech(3.0, until=1.0), np.arange(75))
    x0, y0, x1, _ = plan.region(40)  # type: ignore[misc]
    lips = np.s_[y0 + 20 : y0 + 70, x0 + 40 : x1 - 40]
    own, ours = ([f.y[lips].astype(float) for f in frames] for frames in _both(clip, plan, range(30, 70, 3)))
    assert np.std(ours, 0).mean() < 0.5 * np.std(own, 0).mean()


def _both(clip: FakeClip, plan: FootagePlan, frames: range) -> tuple[list[Frame], list[Frame]]:
    own = [clip.frame(k) for k in frames]
    return own, [drawn(plan, k, f.copy()) for k, f in zip(frames, own, strict=True)]


def test_frames_without_the_face_pass_through_and_are_listed() -> None:
    film = portrait()

    def picture(i: int) -> np.ndarray:
        return np.full((400, 480, 3), 90, np.uint8) if 30 <= i < 50 else film(i)

    clip = FakeClip(picture, 80)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "leaves.mp4", Silent())  # type: ignore[arg-type]
    plan = plan_of(clip, track, speech(3.2), np.arange(80))
    ((first, last),) = plan.passed_through
    assert abs(first - 30) <= 2 and abs(last - 49) <= 2
    frame = clip.frame(40)
    assert plan.region(40) is None and (drawn(plan, 40, frame.copy()).data == frame.data).all()


def test_the_mouth_fades_in_and_out_beside_frames_that_are_left_as_they_are(scene: SimpleNamespace) -> None:
    usable = scene.track.usable.copy()
    usable[18:22] = False
    faded = plan_of(scene.clip, replace(scene.track, usable=usable), speech(60 / 25), np.arange(30))
    plain = plan_of(scene.clip, scene.track, speech(60 / 25), np.arange(30))
    assert faded.passed_through == [(18, 21)]

    def share(k: int) -> float:
        frame = scene.clip.frame(k)
        off = [np.abs(drawn(p, k, frame.copy()).y.astype(int) - frame.y).sum() for p in (faded, plain)]
        return float(off[0] / off[1])

    near, far = [share(17), share(22)], [share(9), share(28)]
    assert max(near) < 0.5 < min(far), (near, far)
    assert shares(usable)[13:20].tolist() == [1, 0.8, 0.6, 0.4, 0.2, 0, 0]


@pytest.mark.parametrize("colour", ["black", "skin"])
def test_a_covered_mouth_is_left_as_it_is_and_named(colour: str) -> None:
    film = portrait(speaking=8.0)
    skin = film(0)[180:200, 195:205].reshape(-1, 3).mean(0)

    def picture(i: int) -> np.ndarray:
        out = film(i)
        if 60 <= i < 110:
            late = (1 - min(1.0, (i - 59) / 4, (110 - i) / 4)) * 70
            middle = (240 + 12 * np.sin(i / 5), 255 + 6 * np.cos(i / 7) + late)
            shape = cv2.ellipse(np.zeros(out.shape[:2]), (middle, (90, 68), 0), 1, -1)
            soft = cv2.GaussianBlur(shape, (0, 0), 2)[..., None]
            out = (out * (1 - soft) + soft * (skin if colour == "skin" else 25.0)).astype(np.uint8)
        return out

    clip = FakeClip(picture, 180)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "hand.mp4", Silent())  # type: ignore[arg-type]
    plan = plan_of(clip, track, speech(180 / 25), np.arange(180))
    ((first, last),) = plan.passed_through
    assert abs(first - 60) <= 5 and abs(last - 109) <= 5
    assert plan.facts["mouth_covered"] == [[first, last]] and [code for code, _ in track.warnings] == ["mouth_covered"]
    frame = clip.frame(80)
    assert plan.region(80) is None and (drawn(plan, 80, frame.copy()).data == frame.data).all()


def turned(picture: np.ndarray, i: int, degrees: float) -> np.ndarray:
    """Frame ``i`` of ``portrait`` with the head, as if painted on a cylinder, turned to the side."""
    if not degrees:
        return picture
    where = placed(i)
    middle = where[:, :2] @ EYES.mean(0) + where[:, 2]
    eye_px = float(np.hypot(*(where[:, :2] @ (EYES[1] - EYES[0]))))
    y, x = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    radius = 1.15 * eye_px
    from_front = np.arcsin(np.clip((x - middle[0]) / radius, -1, 1)) - np.radians(degrees)
    source = np.where(from_front > -np.pi / 2, np.sin(from_front), from_front)
    head = (np.abs(x - middle[0]) < radius) & (np.abs(y - middle[1] - 0.4 * eye_px) < 2.3 * radius)
    column = np.where(head, middle[0] + source * radius, x).astype(np.float32)
    return cv2.remap(picture, column, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def test_a_head_that_turns_to_profile_and_back_is_left_as_it_is_there() -> None:
    film = portrait(speaking=8.0)
    yaw = 75 * np.clip(np.minimum(np.arange(130) - 45, 95 - np.arange(130)) / 10, 0, 1)
    clip = FakeClip(lambda i: turned(film(i), i, float(yaw[i])), 130)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "turns.mp4", Silent())  # type: ignore[arg-type]
    plan = plan_of(clip, track, speech(130 / 25), np.arange(130))
    ((first, last),) = plan.passed_through
    aside = np.flatnonzero(yaw > 45)
    assert abs(first - aside[0]) <= 5 and abs(last - aside[-1]) <= 5
    frame = clip.frame(70)
    assert (drawn(plan, 70, frame.copy()).data == frame.data).all()


def test_a_still_speaks() -> None:
    clip = FakeClip(portrait(), 1)
    track = face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "still.jpg", Silent())  # type: ignore[arg-type]
    plan = plan_of(clip, track, speech(1.0), np.zeros(25, int))
    assert plan.facts["renderer"] == "warp"
    pictures = [drawn(plan, k, clip.frame(0)).y.astype(int) for k in range(25)]
    assert max(np.abs(p - pictures[0]).max() for p in pictures) > 60
