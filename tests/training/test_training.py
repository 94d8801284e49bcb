from __future__ import annotations

import ctypes.util
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from heygemd import training
from heygemd.common.errors import SetupError
from heygemd.pipeline.speech import lips
from heygemd.pipeline.speech import mel as speech_mel
from heygemd.training import augment, dataset, phonemes, recipe, score
from heygemd.training.dataset import Example, Utterance
from heygemd.training.network import LipsNet, trained
from heygemd.training.synthesis import espeak, flite, sounds, text, voices

HAS_ESPEAK = ctypes.util.find_library("espeak-ng") is not None
HAS_BABEL = importlib.util.find_spec("babel") is not None
needs_espeak = pytest.mark.skipif(not HAS_ESPEAK, reason="libespeak-ng is not installed (apt install libespeak-ng1)")
needs_babel = pytest.mark.skipif(not HAS_BABEL, reason="Babel is not installed (pip install babel)")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed (apt install flite)")


def held_vowel_examples(count: int) -> list[Example]:
    examples = []
    for number in range(count):
        rng = np.random.default_rng(number)
        sound, phones = sounds.held_vowels(3 * speech_mel.SAMPLE_RATE, rng)
        mel = speech_mel.log_mel(sound)
        targets = phonemes.targets(phones, 3.0)
        mels, averages = (mel.astype(np.float16),), (speech_mel.average(mel),)
        examples.append(Example(Utterance("vowels", number), targets, mels, averages, sound))
    return examples


def test_a_few_steps_lower_the_loss_and_repeat_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "BATCH", 2)
    monkeypatch.setattr(recipe, "CROP", 40)
    monkeypatch.setattr(recipe, "WARM_UP", 2)
    examples, losses = held_vowel_examples(3), []
    first = recipe.train(examples, 10, 1, lambda _step, loss, _net: losses.append(loss))
    again = recipe.train(examples, 10, 1, lambda *_: None)
    assert losses[-1] < 0.9 * losses[0]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert abs(float(first.usual.mean())) < 1e-5
    assert float(first.usual.abs().max()) > 0.5


def test_the_network_in_films_says_what_torch_trained(tmp_path: Path) -> None:
    torch.manual_seed(4)
    net = LipsNet()
    net.usual += 0.5
    net(torch.randn(8, 400, 80))  # the normalisations have seen something
    net.eval()
    training.save(net, tmp_path / "w.safetensors")
    films = lips.load(tmp_path / "w.safetensors")
    for frames in (1, 2, 7, 300):
        features = torch.randn(1, 2 * frames, 80)
        embedding = films.embed(features[0].numpy())
        with torch.inference_mode():
            np.testing.assert_allclose(embedding, net.embed(features)[0].T.numpy(), atol=1e-5)
            np.testing.assert_allclose(films.scores(embedding), net(features)[0].numpy(), atol=1e-5)
    assert np.array_equal(films.usual, net.usual.numpy())


def test_the_shipped_weights_give_torchs_answer() -> None:
    from safetensors.torch import load_file

    net = LipsNet().eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == 404_500
    net.load_state_dict(load_file(lips.WEIGHTS), strict=False)
    features = torch.from_numpy(np.random.default_rng(3).uniform(*speech_mel.CLIP, (600, 80)).astype(np.float32))
    with torch.inference_mode():
        np.testing.assert_allclose(trained(net).embed(features.numpy()), net.embed(features[None])[0].T, atol=1e-5)


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [recipe.learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] < 0.02 * recipe.RATE
    assert max(rates) > 0.95 * recipe.RATE
    assert rates[-1] < 0.03 * recipe.RATE


def test_crops_shorter_than_wanted_end_in_silence_without_weight() -> None:
    examples = held_vowel_examples(1)
    usual = recipe.usual_spectrum(examples)
    features, values, visemes, weights = recipe.draw([(examples[0], 0)], usual, np.random.default_rng(1))
    assert features.shape == (recipe.BATCH, 2 * recipe.CROP, 80)
    assert weights.sum(1).unique().tolist() == [150]
    assert (features[:, 300:] == speech_mel.CLIP[0]).all()
    assert not values[:, 150:].any()
    assert not visemes[:, 150:].any()


def test_a_perfect_net_scores_one(monkeypatch: pytest.MonkeyPatch) -> None:
    example = held_vowel_examples(1)[0]
    example.targets.values[40:44, 2] = 1
    v = example.targets.values

    def perfect(*_: object) -> lips.LipTrack:
        rest = lips._resting(len(v))
        others = rest.visemes, rest.embedding, rest.spectrum, rest.gate
        return lips.LipTrack(v[:, 0], v[:, 1], v[:, 2], v[:, 3], v[:, 4], *others)

    monkeypatch.setattr(lips, "speak", perfect)
    found = score.compare([example], lips.load())
    assert (found.opening_r, found.width_r, found.closures) == (1, 1, 1)
    assert (found.closure_recall, found.closure_precision, found.voice_right) == (1, 1, 1)


def test_closures_count_within_thirty_milliseconds() -> None:
    true, heard = np.zeros(50, bool), np.zeros(50, bool)
    true[10:13] = True
    assert score.runs(true) == [(10, 13)]
    for place, hit in ((7, 0), (8, 1), (13, 1), (14, 1), (15, 0)):
        heard[:] = False
        heard[place] = True
        assert score._overlaps(true, heard) == hit, place


def test_sounds_without_speech_have_finite_samples() -> None:
    for kind in range(8):
        sound = sounds.negative(kind, 20_000, np.random.default_rng(kind))
        assert sound.shape == (20_000,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_disturbed_voice_is_neither_moved_nor_cut() -> None:
    quiet, click = np.zeros(12_000, np.float32), sounds._vowel("a", 4000, 140, 1.0, np.random.default_rng(0))
    sound = np.concatenate([quiet, click, quiet])
    for seed in range(8):
        heard = augment.disturb(sound, np.random.default_rng(seed))
        assert heard.shape == sound.shape
        assert np.isfinite(heard).all()
    back = augment._codec(np.tile(sound, 2), np.random.default_rng(3))
    lag = np.argmax(np.correlate(back[8000:20_000], np.tile(sound, 2)[8200:19_800])) - 200
    assert abs(lag) < 16


@needs_babel
def test_sentences_are_drawn_in_every_language() -> None:
    for voice in (*text.TRAINED, *text.HELD_OUT):
        drawn = [text.sentence(voice, np.random.default_rng(seed)) for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert len(drawn[0]) > 10
    assert text.english(np.random.default_rng(1)).isascii()
    assert not set(text.TRAINED) & set(text.HELD_OUT)
    assert not set(voices.STOCK) & set(voices.HELD_OUT)
    assert voices.FLITE_HELD_OUT not in voices.FLITE


@needs_espeak
@needs_babel
def test_espeak_speaks_with_our_voices_and_says_when_each_phoneme_comes(tmp_path: Path) -> None:
    made = voices.random_voices(1)
    folder = espeak.make_data(tmp_path, (*voices.STOCK, *voices.HELD_OUT), made)
    speaker = espeak.Espeak(folder)
    missing = [voice for voice in (*text.TRAINED, *text.HELD_OUT) if not speaker.has(voice)]
    assert not missing
    sound, events = speaker.say("Maybe my paper.", "en-us+r3", rate=150, pitch=40)
    phones = phonemes.timeline(events, sound, espeak.RATE)
    assert phones is not None
    seconds = len(sound) / espeak.RATE
    closed = phonemes.targets(phones, seconds).values[:, 2] > 0.5
    assert len(score.runs(closed)) == 5
    assert 0.05 < closed.mean() < 0.5
    with pytest.raises(SetupError, match="no voice"):
        speaker.say("a", "xx-none")

    example = dataset.make(Utterance("espeak", 5), 1, speaker)
    assert len(example.mels) == 2
    assert abs(len(example.mels[0]) / 2 - len(example.targets.values)) <= 1
    track = lips.speak(dataset.make(Utterance("held_voice", 1), 1, speaker).samples)
    assert np.median(track.voice) > 0.5


@needs_espeak
@needs_babel
@needs_flite
def test_data_do_not_depend_on_the_number_of_workers() -> None:
    kinds = (("espeak", 1), ("espeak", 2), ("flite", 1), ("negative", 2), ("vowels", 1))
    items = [Utterance(kind, number) for kind, number in kinds]
    one, two = dataset.build(items, 3, 1, print), dataset.build(items, 3, 2, print)
    assert [example.item for example in one] == items
    for first, second in zip(one, two, strict=True):
        assert np.array_equal(first.mels[1], second.mels[1]), first.item
        assert np.array_equal(first.targets.values, second.targets.values), first.item


@needs_espeak
def test_too_many_voice_files_are_refused(tmp_path: Path) -> None:
    made = {f"v{number}": "language variant\n" for number in range(250)}
    with pytest.raises(SetupError, match="350"):
        espeak.make_data(tmp_path, (), made)


@needs_flite
def test_flite_speaks_and_says_when_each_phoneme_ends() -> None:
    sound, rate, phones = flite.say("Maybe my paper.", voices.FLITE_HELD_OUT)
    assert rate == 16_000
    assert abs(phones[-1].end - len(sound) / rate) < 0.02
    assert sum(phone.symbol in "mbp" for phone in phones) == 5


def test_missing_synthesizers_are_named_with_their_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(SetupError, match="apt install libespeak-ng1 espeak-ng-data flite"):
        flite.find()
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: "libnone-such.so.9")
    with pytest.raises(SetupError, match="pip install babel"):
        espeak.find_library()


def test_the_command_line_needs_a_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        training.main([])
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SetupError, match="Choose another --out"):
        training.main(["--out", str(tmp_path / "file" / "lips.safetensors")])
