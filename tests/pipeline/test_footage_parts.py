from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from heygemd.pipeline.engines.footage import flow, lines, mouth, select, target, voice
from heygemd.pipeline.geometry import EYES, IO
from tests.pipeline.faces import SETTINGS, FakeClip, Silent, placed, portrait


def wanted(gate: np.ndarray, **tracks: np.ndarray) -> target.Wanted:
    zero = np.zeros(len(gate))
    return target.Wanted(**{n: tracks.get(n, zero) for n in ("opening", "width", "closure", "labiodental")}, gate=gate)


def test_the_gate_shuts_within_120_ms_and_fills_short_pauses() -> None:
    voiced = np.zeros(200)
    voiced[50:100], voiced[103:140] = 0.9, 0.9
    gate = target.gate(voiced)
    assert (gate[50:140] == 1).all()
    assert (gate[146:] == 0).all() and (gate[:46] == 0).all()
    assert 0 < gate[142] < 1


def test_weak_voice_does_not_open_the_gate_and_does_not_shut_it() -> None:
    assert (target.gate(np.full(50, 0.45)) == 0).all()
    assert target.gate(np.r_[np.full(20, 0.8), np.full(30, 0.42)])[40] == 1


def test_closures_close_the_warped_mouth_and_silence_leaves_it_at_rest() -> None:
    gate = np.array([1.0, 1.0, 1.0, 0.0])
    want = wanted(gate, opening=np.array([0.8, 0.8, 0.2, 0.9]), closure=np.array([0.0, 0.9, 0.0, 0.0]))
    gaps = target.gaps(want, rest=5.0, most=13.0)
    assert gaps[0] > 9 and gaps[1] == 0 and 0 < gaps[2] < 5 and gaps[3] == 5.0


def test_codes_take_the_templates_own_range_and_closures_its_closed_mouth() -> None:
    rng = np.random.default_rng(1)
    bank = rng.normal(size=(400, 2))
    own = target.range_of(bank, None)
    gate = np.r_[np.ones(200), np.zeros(100)]
    closure = np.zeros(300)
    closure[80:90] = 1
    curve = rng.random((300, 2)) * 50
    codes = target.codes(curve, wanted(gate, closure=closure), own, 25.0)
    assert codes[20:70, 0].std() == pytest.approx(1, abs=0.4)
    assert np.abs(codes[83:87, 0] - own.closed).max() < 0.15
    assert np.abs(codes[210:] - own.rest).max() < 1e-6
    assert own.closed < own.rest[0] < np.median(bank[:, 0])


def test_the_choice_prefers_the_wanted_code_and_runs_of_neighbours() -> None:
    n = 120
    t = np.arange(n) / 8
    codes = np.stack([np.sin(t), np.cos(t)], 1)
    flat = np.zeros((n, 5), np.float32)
    views = select.Views(codes, flat, np.zeros((n, 6), np.float32), np.zeros((n, 3), np.float16))
    chosen = select.choose(views, np.arange(n), np.zeros(40, int), codes[30:70], Silent())
    assert np.abs(codes[chosen] - codes[30:70]).max() < 0.2
    assert (np.diff(chosen) == 1).mean() > 0.9
    assert len(select.choose(views, np.arange(n), np.zeros(0, int), np.zeros((0, 2)), Silent())) == 0


def test_the_offset_between_sound_and_picture_is_found() -> None:
    rng = np.random.default_rng(5)
    smooth = np.convolve(rng.normal(size=1000), np.hanning(9), "same")

    class Own:
        def at(self, times: np.ndarray) -> SimpleNamespace:
            value = np.interp(times, (np.arange(1000) + 0.5) / 50, smooth)
            return SimpleNamespace(opening=value, width=value)

    times = (np.arange(300) + 0.5) / 25 + 1
    shown = Own().at(times + 0.06).opening
    lag, agreement = voice.av_offset(Own(), times, np.stack([shown, shown], 1))
    assert lag == pytest.approx(0.06, abs=0.011) and agreement > 0.95


def test_the_mouth_is_found_where_it_is_and_its_teeth_are_seen() -> None:
    from heygemd.pipeline import face

    track = face.track(FakeClip(portrait(), 12), SETTINGS, "portrait.mp4", Silent())  # type: ignore[arg-type]
    found = mouth.locate(track.crops)
    true = np.array([223.5, 146.0])  # middle of the lips in the portrait, by an outside landmark model
    image = placed(6) @ np.r_[true, 1]
    canonical = np.linalg.solve(track.transforms[6][:, :2], image - track.transforms[6][:, 2])
    assert abs(found.x - canonical[0]) < 0.06 * IO and abs(found.y - canonical[1]) < 0.15 * IO
    none = np.zeros((12, flow.ROWS, flow.COLUMNS, 2), np.float32)
    lips = lines.find(lines.hub_face(track.crops.y, track.crops.u, track.crops.v, none), found)
    assert lips.teeth and 0.06 * IO < lips.gap < 0.22 * IO
    assert abs(lips.left_y - lips.right_y) < 5


def test_a_field_measures_a_shift_of_the_lower_lip() -> None:
    from heygemd.pipeline import face

    track = face.track(FakeClip(portrait(), 1), SETTINGS, "still.png", Silent())  # type: ignore[arg-type]
    still = track.crops.y[0]
    moved = still.copy()
    moved[144:210] = np.roll(still, 4, axis=0)[144:210]
    fields = flow.Fields(np.array([still, still]))
    read = flow.reader(mouth.Mouth(EYES[0], 138.0, 28.0, 1.0))
    lip, chin, _ = read(fields.of(moved))
    assert 2.5 < chin < 5.0 and lip > 1.0
    assert max(abs(v) for v in read(fields.of(still))) < 0.2
