from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from heygemd.pipeline.engines.footage import BANK_MAX, select, target
from heygemd.pipeline.engines.footage import heard as footage_heard
from heygemd.pipeline.engines.footage.analysis import lip_edges, mouth, mouth_flow
from heygemd.pipeline.face.crops import kept
from heygemd.pipeline.image.geometry import EYES, IO
from heygemd.pipeline.speech.lips import LipTrack
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
    codes = target.codes(curve, curve, wanted(gate, closure=closure), own, 25.0)
    assert codes[20:70].std(0) == pytest.approx(1, abs=0.4)
    assert np.abs(codes[83:87, 0] - own.closed).max() < 0.15
    assert np.abs(codes[210:] - own.rest).max() < 1e-6
    assert own.closed < own.rest[0] < np.median(bank[:, 0])


def test_the_choice_prefers_the_wanted_code_and_runs_of_neighbours() -> None:
    n = 120
    t = np.arange(n) / 8
    codes = np.stack([np.sin(t), np.cos(t)], 1)
    flat = np.zeros((n, 5), np.float32)
    views = select.FrameFeatures(codes, flat, np.zeros((n, 6), np.float32), np.zeros((n, 3), np.float16))
    chosen = select.choose(views, np.arange(n), np.zeros(40, int), codes[30:70], Silent())
    assert np.abs(codes[chosen] - codes[30:70]).max() < 0.2
    assert (np.diff(chosen) == 1).mean() > 0.9
    assert len(select.choose(views, np.arange(n), np.zeros(0, int), np.zeros((0, 2)), Silent())) == 0


def test_the_bank_and_the_search_in_it_are_capped_however_long_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = kept(90_000, BANK_MAX)
    assert len(bank) <= BANK_MAX == 1500
    dice = np.random.default_rng(3)
    codes, looks = dice.standard_normal((90_000, 2)), dice.standard_normal((90_000, 6)).astype(np.float32)
    rings, poses = np.zeros((90_000, 3), np.float16), np.zeros((90_000, 5), np.float32)
    compared: list[tuple[int, int]] = []
    honest = select._Costs.between

    def counting(self: select._Costs, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        compared.append((len(before), len(after)))
        return honest(self, before, after)

    monkeypatch.setattr(select._Costs, "between", counting)
    views = select.FrameFeatures(codes, poses, looks, rings)
    select.choose(views, bank, np.zeros(30, int), dice.standard_normal((30, 2)), Silent())
    assert len(compared) == 29 and max(map(max, compared)) <= select.CANDIDATES + 2 * select._CARRIED


def test_the_offset_between_sound_and_picture_is_found() -> None:
    rng = np.random.default_rng(5)
    smooth = np.convolve(rng.normal(size=1000), np.hanning(9), "same")

    class Own:
        def at(self, times: np.ndarray) -> SimpleNamespace:
            value = np.interp(times, (np.arange(1000) + 0.5) / 50, smooth)
            return SimpleNamespace(opening=value, width=value)

    times = (np.arange(300) + 0.5) / 25 + 1
    shown = Own().at(times + 0.06).opening
    codes = np.stack([shown, shown], 1)
    lag, agreement = footage_heard.av_offset(Own(), times, codes, seconds=12.0)
    assert lag == pytest.approx(0.06, abs=0.011) and agreement > 0.95
    assert footage_heard.av_offset(Own(), times, rng.normal(size=codes.shape), seconds=12.0)[0] == pytest.approx(
        0, abs=0.041
    )


USUAL = footage_heard.USUAL["own"]


def heard(seconds: float, seed: int) -> LipTrack:
    """A voice whose spectrum says what its mouth does, and a network that hears half of it."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 50)
    mouth = gaussian_filter1d(rng.normal(size=(count, 2)), 3, axis=0) * 3
    ways = np.random.default_rng(0).normal(size=(2, 80))
    guess = mouth + 1.0 * gaussian_filter1d(rng.normal(size=(count, 2)), 3, axis=0) * 3
    zero = np.zeros(count, np.float32)
    return LipTrack(
        (0.4 + 0.15 * guess[:, 0]).astype(np.float32), (0.23 * guess[:, 1]).astype(np.float32), zero, zero, zero + 1,
        np.zeros((count, 15), np.float32), np.zeros((count, 128), np.float32),
        (mouth @ ways + 0.3 * rng.normal(size=(count, 80))).astype(np.float32), zero + 1,
    )  # fmt: skip


def shown_by(track: LipTrack, times: np.ndarray) -> np.ndarray:
    """What the mouth of ``heard`` really does."""
    ways = np.random.default_rng(0).normal(size=(2, 80))
    return np.asarray(track.at(times).spectrum @ np.linalg.pinv(ways))


def agreement_of(values: np.ndarray, truth: np.ndarray) -> float:
    """Of the opening, to which alone the person's own speech is added."""
    return float(np.corrcoef(values[:, 0], truth[:, 0])[0, 1])


def test_what_the_templates_own_speech_teaches_is_added_to_what_the_network_says() -> None:
    own, lip = heard(12, 1), heard(6, 2)
    own_times, times = (np.arange(300) + 0.5) / 25, (np.arange(150) + 0.5) / 25
    truth = shown_by(lip, times)
    alone = footage_heard.general(lip, times, USUAL)
    both = footage_heard.personal(lip, times, own, own_times, shown_by(own, own_times), USUAL)
    assert both.facts["sound_to_mouth"] == "network and person" and both.lag == 0
    assert agreement_of(both.values, truth) > agreement_of(alone.values, truth) + 0.1
    assert agreement_of(alone.values, truth) < 0.8
    np.testing.assert_array_equal(both.values[:, 1], alone.values[:, 1])


def test_a_template_dubbed_by_another_voice_teaches_nothing() -> None:
    own, other, lip = heard(12, 1), heard(12, 3), heard(6, 2)
    own_times, times = (np.arange(300) + 0.5) / 25, (np.arange(150) + 0.5) / 25
    curve = footage_heard.personal(lip, times, other, own_times, shown_by(own, own_times), USUAL)
    assert curve.facts["sound_to_mouth"] == "network"
    assert (curve.values == footage_heard.general(lip, times, USUAL).values).all()


def test_a_sound_unlike_any_that_was_learnt_from_is_left_to_the_network() -> None:
    own, lip = heard(12, 1), heard(6, 2)
    own_times, times = (np.arange(300) + 0.5) / 25, (np.arange(150) + 0.5) / 25
    strange = replace(lip, spectrum=lip.spectrum + 12.0)
    codes = shown_by(own, own_times)
    alone = footage_heard.general(lip, times, USUAL).values
    added = [
        footage_heard.personal(sound, times, own, own_times, codes, USUAL).values - alone for sound in (lip, strange)
    ]
    assert added[1][:, 0].std() < 0.2 * added[0][:, 0].std()


@pytest.mark.parametrize("shift", [-0.3, -0.14, 0.14, 0.3])
def test_a_template_whose_sound_is_early_or_late_gives_the_film_of_one_in_sync(shift: float) -> None:
    own, lip = heard(12, 1), heard(6, 2)
    own_times, times = (np.arange(300) + 0.5) / 25, (np.arange(150) + 0.5) / 25
    in_sync = footage_heard.personal(lip, times, own, own_times, shown_by(own, own_times), USUAL)
    shifted = footage_heard.personal(lip, times, own, own_times, shown_by(own, own_times + shift), USUAL)
    assert shifted.lag == pytest.approx(shift, abs=0.011)
    lags = np.arange(-10, 11)
    r = [np.corrcoef(in_sync.values[12:-12, 0], np.roll(shifted.values[:, 0], k)[12:-12])[0, 1] for k in lags]
    assert lags[int(np.argmax(r))] == 0 and max(r) > 0.9


def test_an_offset_that_the_agreement_does_not_bear_is_none() -> None:
    own = heard(12, 1)
    own_times = (np.arange(300) + 0.5) / 25
    strange = gaussian_filter1d(np.random.default_rng(5).normal(size=(300, 2)), 3, axis=0)
    assert footage_heard.av_offset(own, own_times, strange, seconds=12.0)[0] == 0.0


@pytest.mark.parametrize("frames", [0, 1, 3, 12])
def test_a_very_short_sound_opens_the_mouth_as_far_as_it_says_and_no_farther(frames: int) -> None:
    times = (np.arange(frames) + 0.5) / 25
    bank = np.random.default_rng(1).normal(size=(400, 2))
    own = target.range_of(bank, None)
    middle = []
    for opening in (0.05, 0.4, 0.8):
        lip = replace(heard(1, 1), opening=np.full(50, opening, np.float32))
        curve = footage_heard.general(lip, times, USUAL)
        codes = target.codes(curve.values, curve.usual, wanted(np.ones(frames)), own, 25.0)
        assert codes.shape == (frames, 2) and np.isfinite(codes).all()
        middle.append(float(np.median(codes[:, 0])) if frames else np.nan)
    if frames:
        assert middle[0] < -0.7 and abs(middle[1]) < 0.5 and middle[2] > 0.7


def test_the_mouth_is_found_where_it_is_and_its_teeth_are_seen() -> None:
    from heygemd.pipeline.face import detect
    from heygemd.pipeline.face import track as face_track

    track = face_track.track(FakeClip(portrait(), 12), detect.choose(SETTINGS), SETTINGS, "portrait.mp4", Silent())  # type: ignore[arg-type]
    found = mouth.locate(track.crops)
    true = np.array([223.5, 146.0])  # middle of the lips in the portrait, by an outside landmark model
    image = placed(6) @ np.r_[true, 1]
    canonical = np.linalg.solve(track.transforms[6][:, :2], image - track.transforms[6][:, 2])
    assert abs(found.x - canonical[0]) < 0.06 * IO and abs(found.y - canonical[1]) < 0.15 * IO
    none = np.zeros((12, mouth_flow.ROWS, mouth_flow.COLUMNS, 2), np.float32)
    lips = lip_edges.find(lip_edges.hub_face(track.crops.y, track.crops.u, track.crops.v, none), found)
    assert lips.teeth and 0.06 * IO < lips.gap < 0.22 * IO
    assert abs(lips.left_y - lips.right_y) < 5


def test_a_field_measures_a_shift_of_the_lower_lip() -> None:
    from heygemd.pipeline.face import detect
    from heygemd.pipeline.face import track as face_track

    track = face_track.track(FakeClip(portrait(), 1), detect.choose(SETTINGS), SETTINGS, "still.png", Silent())  # type: ignore[arg-type]
    still = track.crops.y[0]
    moved = still.copy()
    moved[144:210] = np.roll(still, 4, axis=0)[144:210]
    fields = mouth_flow.Fields(np.array([still, still]))
    read = mouth_flow.reader(mouth.Mouth(EYES[0], 138.0, 28.0, 1.0))
    lip, chin, _ = read(fields.of(moved))
    assert 2.5 < chin < 5.0 and lip > 1.0
    assert max(abs(v) for v in read(fields.of(still))) < 0.2


def painted_face(moustache: bool, gap: float) -> lip_edges.HubFace:
    """Skin with red lips around (96, 146), ``gap`` canonical px of dark between them; with or without a moustache,
    which has a darker line than the lips'."""
    y, x = np.mgrid[0:224, 0:192].astype(np.float32)
    lips = ((x - 96) / 28) ** 2 + ((y - 146) / 13) ** 2 < 1
    half = np.maximum(gap / 2, 1.0) * np.sqrt(np.clip(1 - ((x - 96) / (16 if gap else 26)) ** 2, 0, 1))
    luma = np.where(lips, 120.0, 160.0)
    luma = np.where(np.abs(y - 146) <= half, 25.0 if gap else 85.0, luma)
    red = np.where(lips & (np.abs(y - 146) > half), 155.0, 138.0)
    if moustache:
        hair = (np.abs(x - 96) < 36) & (y > 124) & (y < 133)
        luma, red = np.where(hair, 105.0, luma), np.where(hair, 132.0, red)
        luma = np.where(hair & (np.abs(y - 128) < 1.5), 60.0, luma)
    return lip_edges.HubFace(*(a.astype(np.float32) for a in (luma, np.full_like(red, 118.0), red)))


def test_the_line_between_the_lips_is_found_below_a_moustache() -> None:
    found = lip_edges.find(painted_face(moustache=True, gap=0.0), mouth.Mouth(96.0, 144.0, 24.0, 1.0))
    assert not found.teeth
    assert found.centre[1] == pytest.approx(146, abs=2.5)


def test_rounded_open_lips_are_cut_no_farther_than_the_dark_between_them() -> None:
    found = lip_edges.find(painted_face(moustache=False, gap=12.0), mouth.Mouth(96.0, 147.0, 24.0, 1.0))
    assert found.gap > 6
    assert 76 < found.left < 84 and 108 < found.right < 116
    assert found.centre[1] == pytest.approx(146, abs=3)
