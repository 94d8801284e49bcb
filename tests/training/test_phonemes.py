from __future__ import annotations

import numpy as np

from heygemd.pipeline.speech import lips
from heygemd.training import phonemes
from heygemd.training.phonemes import PAUSE, Phone, targets
from heygemd.training.synthesis import flite


def spoken(*symbols: str, each: float = 0.12) -> list[Phone]:
    inner = [Phone(0.5 + k * each, 0.5 + (k + 1) * each, symbol) for k, symbol in enumerate(symbols)]
    return [Phone(0, 0.5, PAUSE), *inner, Phone(inner[-1].end, inner[-1].end + 0.5, PAUSE)]


def during(symbols: str, place: int, column: int) -> float:
    phones = spoken(*symbols)
    values = targets(phones, phones[-1].end).values
    middle = (phones[place + 1].start + phones[place + 1].end) / 2
    return float(values[int(middle * 50), column])


def test_training_and_inference_agree_on_visemes_and_rate() -> None:
    assert phonemes.VISEMES == lips.VISEMES
    assert phonemes.RATE == lips.RATE


def test_p_b_and_m_close_the_lips() -> None:
    for symbol in "pbm":
        assert during(f"a{symbol}a", 1, 2) > 0.9
        assert during(f"a{symbol}a", 1, 0) < 0.1
    for symbol in "tdnksl":
        assert during(f"a{symbol}a", 1, 2) < 0.01
        assert during(f"a{symbol}a", 1, 0) > 0.3


def test_a_opens_and_u_rounds() -> None:
    assert during("tat", 1, 0) > 0.85
    assert during("tut", 1, 0) < 0.35
    assert during("tut", 1, 1) < -0.6
    assert during("sis", 1, 1) > 0.3


def test_f_and_v_touch_the_teeth_without_closing() -> None:
    for symbol in "fv":
        assert during(f"a{symbol}a", 1, 3) > 0.9
        assert during(f"a{symbol}a", 1, 2) < 0.01


def test_the_mouth_comes_to_rest_in_a_long_pause() -> None:
    phones = [Phone(0, 0.3, "a"), Phone(0.3, 5.3, PAUSE), Phone(5.3, 5.6, "a")]
    values = targets(phones, 5.6).values
    assert values[5, 4] > 0.9
    assert values[140, [0, 2, 3, 4]].max() < 0.02
    assert 0.3 < values[25, 0] < 0.4, "between words the lips stay parted"


def test_targets_have_a_frame_every_twenty_milliseconds() -> None:
    values, visemes = targets([Phone(0, 1.01, "a")], 1.01)
    assert values.shape == (50, 5)
    assert visemes.shape == (50,)
    assert set(visemes.tolist()) == {phonemes.VISEMES.index("aa")}


def test_ipa_is_read_to_base_symbols() -> None:
    assert phonemes.symbols("tʃ") == ["tʃ"]
    assert phonemes.symbols("aɪ") == ["a", "ɪ"]
    assert phonemes.symbols("ˈuː") == ["u"]
    assert phonemes.symbols("ɔ̃") == ["ɔ"]
    assert phonemes.symbols("tʰ") == ["t"]
    assert phonemes.symbols("th") == ["t"]
    assert phonemes.symbols("") == []
    assert phonemes.symbols("(en)") is None


def test_the_closure_of_a_stop_is_the_silence_before_its_burst() -> None:
    rate = 22_050
    sound = (np.sin(np.arange(rate) * 0.1) * 8000).astype(np.int16)
    sound[int(0.40 * rate) : int(0.48 * rate)] = 0
    phones = phonemes.timeline([(0, "a"), (int(0.48 * rate), "p"), (int(0.55 * rate), "a")], sound, rate)
    assert phones is not None
    assert [phone.symbol for phone in phones] == ["a", "p", "h", "a"]
    assert abs(phones[1].start - 0.40) < 0.01
    assert abs(phones[1].end - 0.492) < 0.01
    assert abs(phones[0].end - phones[1].start) < 0.002


def test_a_switch_of_language_makes_an_utterance_unusable() -> None:
    sound = np.zeros(22_050, np.int16)
    assert phonemes.timeline([(0, "a"), (5000, "(en)"), (9000, "a")], sound, 22_050) is None


def test_flite_durations_become_phones() -> None:
    phones = flite.phones("pau:0.10 p:0.20 aw:0.40 b:0.48 pau:0.60", 0.7)
    assert [phone.symbol for phone in phones] == ["_", "p", "h", "a", "ʊ", "b", "_", "_"]
    assert phones[3].end == phones[4].start
    assert abs(phones[1].end - 0.17) < 1e-9
    assert phones[-1].end == 0.7
