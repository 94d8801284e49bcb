"""Utterances with their targets: what to make, and the making, on several processes.

The result is a pure function of the seed and the list of items; the number of workers does not matter.  espeak
carries state from one sentence to the next (the phase of its pitch flutter), so each group of GROUP items is made
in a fresh process, one after the other.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from heygemd.common.errors import SetupError
from heygemd.pipeline.speech import mel
from heygemd.training import augment, phonemes
from heygemd.training.phonemes import PAUSE, Phone, Targets
from heygemd.training.synthesis import espeak, flite, sounds, text, voices

Floats = NDArray[np.float32]
Rng = np.random.Generator
GROUP = 10
_ATTEMPTS = 12


class Utterance(NamedTuple):
    """What to make: ``kind`` is a key of MAKERS, ``number`` makes it another one."""

    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance.  mels: one or more recordings of it as raw log-mel (T, 80) float16, with the average spectrum
    (80,) and active frames of each; samples: the clean sound and recordings: the disturbed ones, both (n,) at 16 kHz,
    kept where ``build`` is told so."""

    item: Utterance
    targets: Targets
    mels: tuple[NDArray[np.float16], ...]
    averages: tuple[tuple[Floats, int], ...]
    samples: Floats | None = None
    recordings: tuple[Floats, ...] = ()


def without_sound(example: Example) -> Example:
    """What ``build`` keeps of an example: the clean sound of held-out ones alone."""
    held_out = example.item.kind.startswith("held_")
    return replace(example, samples=example.samples if held_out else None, recordings=())


def training_items(scale: float = 1.0) -> list[Utterance]:
    """The shipped mix: about 3.6 h of speech, 0.5 h of other sounds, two recordings of each."""
    counts = {"espeak": 1500, "flite": 480, "vowels": 120, "negative": 330}
    return _items(counts, scale)


def held_out_items(scale: float = 1.0) -> list[Utterance]:
    """Voices, languages and a flite voice that no training item uses."""
    return _items({"held_voice": 50, "held_language": 50, "held_flite": 40}, scale)


def build(
    items: Sequence[Utterance],
    seed: int,
    workers: int,
    tell: Callable[[str], None],
    reduced: Callable[[Example], Example] = without_sound,
) -> list[Example]:
    """Make all items, in order; each is ``reduced`` where it was made.  SetupError where a synthesizer is missing."""
    found: list[Example] = []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _data_folder(seed) as folder:
        with context.Pool(1) as pool:
            pool.apply(_check_languages, (folder,))
        with context.Pool(max(1, workers), maxtasksperchild=1) as pool:
            groups = [(items[start : start + GROUP], seed, folder, reduced) for start in range(0, len(items), GROUP)]
            for examples in pool.imap(_make, groups):
                found += examples
                if len(found) % (10 * GROUP) == 0 or len(found) == len(items):
                    tell(f"{len(found)} of {len(items)} utterances, {hours(found):.2f} h")
    return found


def hours(examples: Sequence[Example]) -> float:
    """Hours of sound, each recording counted."""
    return sum(len(mel) for example in examples for mel in example.mels) / 360_000


def check_tools() -> None:
    """SetupError where libespeak-ng, flite or Babel is missing."""
    espeak.find_library()
    flite.find()
    text.cldr_words("en")


@contextmanager
def _data_folder(seed: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="heygemd-voices-") as name:
        folder = Path(name)
        espeak.make_data(folder, (*voices.STOCK, *voices.HELD_OUT), voices.random_voices(seed))
        yield folder


def _check_languages(folder: Path) -> None:
    speaker = espeak.Espeak(folder)
    missing = [name for name in (*text.TRAINED, *text.HELD_OUT) if not speaker.has(name)]
    if missing:
        raise SetupError(f"espeak-ng cannot speak {', '.join(missing)}: another version than 1.51?")


def _make(group: tuple[Sequence[Utterance], int, Path, Callable[[Example], Example]]) -> list[Example]:
    items, seed, folder, reduced = group
    voice = espeak.Espeak(folder)
    return [reduced(make(item, seed, voice)) for item in items]


def make(item: Utterance, seed: int, voice: espeak.Espeak) -> Example:
    """One example.  Sentences that cannot be used (they switch language, or are too short) are drawn again."""
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, list(MAKERS).index(item.kind), item.number, attempt])
        made = MAKERS[item.kind](item, rng, voice)
        if made is not None:
            return made
    raise SetupError(f"{item.kind} {item.number}: no usable speech in {_ATTEMPTS} attempts.")


def _espeak(item: Utterance, rng: Rng, voice: espeak.Espeak) -> Example | None:
    languages = (*text.TRAINED, *text.FAVOURED)
    names = [f"r{place}" for place in range(voices.RANDOM)] if rng.random() < 0.6 else list(voices.STOCK)
    spoken = _say(languages[rng.integers(len(languages))], names[rng.integers(len(names))], rng, voice)
    return _training_example(item, *spoken, rng) if spoken else None


def _held_voice(item: Utterance, rng: Rng, voice: espeak.Espeak) -> Example | None:
    languages = tuple(text.TRAINED)
    return _held_example(item, languages[rng.integers(len(languages))], rng, voice)


def _held_language(item: Utterance, rng: Rng, voice: espeak.Espeak) -> Example | None:
    languages = tuple(text.HELD_OUT)
    return _held_example(item, languages[item.number % len(languages)], rng, voice)


def _held_example(item: Utterance, language: str, rng: Rng, voice: espeak.Espeak) -> Example | None:
    spoken = _say(language, voices.HELD_OUT[rng.integers(len(voices.HELD_OUT))], rng, voice, stretch=False)
    return _clean_example(item, *spoken) if spoken else None


def _flite(item: Utterance, rng: Rng, _voice: espeak.Espeak) -> Example | None:
    sound, rate, phones = flite.say(text.english(rng), voices.FLITE[item.number % len(voices.FLITE)])
    return _training_example(item, *_stretch(sound, rate, phones, rng.uniform(0.8, 1.25)), rng)


def _held_flite(item: Utterance, rng: Rng, _voice: espeak.Espeak) -> Example | None:
    sound, rate, phones = flite.say(text.english(rng), voices.FLITE_HELD_OUT)
    return _clean_example(item, *_stretch(sound, rate, phones, 1.0))


def _vowels(item: Utterance, rng: Rng, _voice: espeak.Espeak) -> Example | None:
    sound, phones = sounds.held_vowels(int(rng.uniform(4, 9) * mel.SAMPLE_RATE), rng)
    return _training_example(item, sound, phones, rng)


def _negative(item: Utterance, rng: Rng, _voice: espeak.Espeak) -> Example | None:
    kind, count = item.number % 8, int(rng.uniform(4, 8) * mel.SAMPLE_RATE)
    recordings = tuple(sounds.negative(kind, count, rng) for _ in range(2))
    mels, averages = _features(recordings, (1.0, 1.0))
    rest = phonemes.rest(count * phonemes.RATE // mel.SAMPLE_RATE)
    return Example(item, rest, mels, averages, recordings[0], recordings)


Maker = Callable[[Utterance, Rng, espeak.Espeak], Example | None]
MAKERS: dict[str, Maker] = {
    "espeak": _espeak,
    "flite": _flite,
    "vowels": _vowels,
    "negative": _negative,
    "held_voice": _held_voice,
    "held_language": _held_language,
    "held_flite": _held_flite,
}


def _say(
    language: str, variant: str, rng: Rng, voice: espeak.Espeak, stretch: bool = True
) -> tuple[Floats, list[Phone]] | None:
    """One sentence of espeak with pauses of up to 0.8 s before and after; at most 11 s."""
    spoken, events = voice.say(
        text.sentence(language, rng),
        f"{language}+{variant}",
        seed=int(rng.integers(2**31)),
        rate=int(rng.integers(110, 271)),
        pitch=int(rng.integers(20, 86)),
        range=int(rng.integers(20, 96)),
        gap=int(rng.choice((0, 0, 0, 1, 3))),
    )
    spoken = spoken[: espeak.RATE * 11]
    phones = phonemes.timeline([event for event in events if event[0] < len(spoken) - 200], spoken, espeak.RATE)
    if phones is None or len(spoken) < espeak.RATE * 2 or float(spoken.std()) < 3:
        return None
    factor = rng.uniform(0.87, 1.15) if stretch else 1.0
    sound, phones = _stretch(spoken.astype(np.float32) / np.float32(32768), espeak.RATE, phones, factor)
    before, after = rng.uniform(0, 0.8, 2)
    silence = [np.zeros(int(seconds * mel.SAMPLE_RATE), np.float32) for seconds in (before, after)]
    shifted = [Phone(a + before, b + before, symbol) for a, b, symbol in phones]
    ends = shifted[-1].end
    sound = np.concatenate([silence[0], sound, silence[1]])
    return sound, [
        Phone(0, before, PAUSE),
        *shifted,
        Phone(ends, max(ends, len(sound) / mel.SAMPLE_RATE), PAUSE),
    ]


def _stretch(sound: Floats, rate: int, phones: list[Phone], factor: float) -> tuple[Floats, list[Phone]]:
    """To 16 kHz, played ``1 / factor`` times as fast: pitch, formants and time together."""
    up, down = 320, round(rate * factor / 50)
    kept = down * 50 / rate
    slow = resample_poly(sound, up, down).astype(np.float32)
    return slow, [Phone(a / kept, b / kept, symbol) for a, b, symbol in phones]


def _training_example(item: Utterance, sound: Floats, phones: list[Phone], rng: Rng) -> Example:
    recordings = tuple(augment.disturb(sound, rng) for _ in range(2))
    warps = tuple(float(value) for value in rng.choice(np.arange(0.86, 1.19, 0.02), 2))
    mels, averages = _features(recordings, warps)
    meant = phonemes.targets(phones, len(sound) / mel.SAMPLE_RATE)
    return Example(item, meant, mels, averages, _levelled(sound), recordings)


def _clean_example(item: Utterance, sound: Floats, phones: list[Phone]) -> Example:
    sound = _levelled(sound)
    mels, averages = _features((sound,), (1.0,))
    return Example(item, phonemes.targets(phones, len(sound) / mel.SAMPLE_RATE), mels, averages, sound)


def _levelled(sound: Floats) -> Floats:
    """With a level of -26 dBFS."""
    result: Floats = (sound * (0.05 / (np.sqrt(np.mean(sound**2)) + 1e-9))).astype(np.float32)
    return result


def _features(
    recordings: Sequence[Floats], warps: Sequence[float]
) -> tuple[tuple[NDArray[np.float16], ...], tuple[tuple[Floats, int], ...]]:
    mels = [mel.log_mel(sound, warp) for sound, warp in zip(recordings, warps, strict=True)]
    return tuple(one.astype(np.float16) for one in mels), tuple(mel.average(one) for one in mels)


def _items(counts: dict[str, int], scale: float) -> list[Utterance]:
    return [Utterance(kind, number) for kind, count in counts.items() for number in range(max(1, round(count * scale)))]
