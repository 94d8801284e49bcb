"""Things to say: words of many languages from Unicode's CLDR (through Babel), and random syllables where espeak
cannot read the script (pinyin for Mandarin, kana, hangul)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from heygemd.common.errors import SetupError
from heygemd.training.synthesis.espeak import CURE

Rng = np.random.Generator
_T = TypeVar("_T")

TRAINED = {
    "en-us": "en", "en-gb-x-rp": "en", "en-gb-scotland": "en", "fr": "fr", "de": "de", "es": "es", "es-419": "es",
    "ru": "ru", "ar": "ar", "ko": "", "ja": "", "cmn-latn-pinyin": "", "hi": "hi", "pt-br": "pt", "nl": "nl",
    "sv": "sv", "id": "id", "cs": "cs", "uk": "uk", "ro": "ro", "fi": "fi", "el": "el", "hu": "hu", "fa": "fa",
    "ca": "ca",
}  # fmt: skip
"""espeak voice -> CLDR language of its words; empty: generated syllables."""
HELD_OUT = {"it": "it", "tr": "tr", "pl": "pl", "sw": "sw"}
FAVOURED = ("en-us", "cmn-latn-pinyin", "cmn-latn-pinyin", "ja", "fr", "de", "es", "ru")
"""Drawn again on top of an equal share each."""

_COMMON = """
    the a of to and in that is was he for it with as his on be at by I this had not are but from or have an they
    which one you were all her she there would their we him been has when who will no more if out so said what
    up its about than into them can only other time new some could these two may first then do any like my now
    over such our man me even most made after also did many off before must well back through years much where
    your way down should because long each just state those people too mister little good world make very year
    still see work life get being both between under never day same another know while last might great old come
    since against go came right used take three big problem maybe happen paper brown public simple remember
    empty business important company number improve April babyember umbrella pump bob mama above five of wave
    move
"""
COMMON = tuple(_COMMON.split())

_KANA = [
    *"あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわんがぎぐげござじずぜぞ",
    *"だでどばびぶべぼぱぴぷぺぽ",
    *("きゃ", "しゃ", "ちゅ", "りょ", "きょ", "しょ", "じゃ", "ー", "っ"),
]
_SYLLABLE_STARTS = "b p m f d t n l g k h j q x zh ch sh r z c s y w"
_SYLLABLE_ENDS = "a o e ai ei ao ou an en ang eng ong i ia ie iao iu ian in iang ing u ua uo uai ui uan un uang"
_INITIALS = ("", *_SYLLABLE_STARTS.split())
_FINALS = tuple(_SYLLABLE_ENDS.split())
_HANGUL_ONSETS = (0, 2, 3, 5, 6, 7, 9, 11, 12, 14, 15, 16, 17, 18)
_HANGUL_VOWELS = (0, 1, 4, 5, 6, 8, 9, 13, 18, 20, 16, 17, 12)
_HANGUL_CODAS = (0, 0, 0, 0, 0, 0, 1, 4, 8, 16, 17, 21)


def sentence(voice: str, rng: Rng) -> str:
    """6 to 15 words for espeak's ``voice``, with commas, full stops and a few numbers."""
    count = int(rng.integers(6, 16))
    if voice == "ja":
        words = ["".join(_pick(_KANA, rng) for _ in range(rng.integers(2, 6))) for _ in range(count)]
    elif voice == "ko":
        words = ["".join(_hangul(rng) for _ in range(rng.integers(2, 5))) for _ in range(count)]
    elif voice.startswith("cmn"):
        words = [" ".join(_pinyin(rng) for _ in range(rng.integers(1, 4))) for _ in range(count)]
    else:
        pool = cldr_words((TRAINED | HELD_OUT)[voice])
        words = [_pick(pool, rng) for _ in range(count)]
        if rng.random() < 0.3:
            words.insert(3, str(rng.integers(1, 10_000)))
    return "".join(word + _separator(rng) for word in words)


def english(rng: Rng) -> str:
    """9 to 16 English words for flite."""
    pool = [word for word in cldr_words("en") if word.isascii()]
    words = [_pick(COMMON, rng) if rng.random() < 0.7 else _pick(pool, rng) for _ in range(rng.integers(9, 17))]
    if rng.random() < 0.4:
        words[len(words) // 2] += ","
    return " ".join(words)


@functools.cache
def cldr_words(language: str) -> tuple[str, ...]:
    """Words of a language's names of countries, languages, currencies, scripts, months, days and units; sorted."""
    try:
        from babel import Locale
    except ImportError as error:
        raise SetupError(f"The Python package Babel is not installed. {CURE}") from error
    locale = Locale.parse(language)
    names: set[str] = set()
    for table in (locale.territories, locale.languages, locale.currencies, locale.scripts):
        names.update(str(value) for value in table.values())
    for context in ("format", "stand-alone"):
        for table in (locale.months, locale.days):
            names.update(str(value) for value in table[context]["wide"].values())
    for table in getattr(locale, "unit_display_names", {}).values():
        names.update(str(value) for value in table.values())
    words = {word for name in names for word in name.replace("(", " ").replace(")", " ").split()}
    return tuple(sorted(word for word in words if word.isalpha() or (len(word) > 1 and not word.isascii())))


def _pick(items: Sequence[_T], rng: Rng) -> _T:
    return items[int(rng.integers(len(items)))]


def _separator(rng: Rng) -> str:
    draw = rng.random()
    return " " if draw < 0.84 else ", " if draw < 0.95 else ". "


def _hangul(rng: Rng) -> str:
    onset, vowel, coda = _pick(_HANGUL_ONSETS, rng), _pick(_HANGUL_VOWELS, rng), _pick(_HANGUL_CODAS, rng)
    return chr(0xAC00 + (onset * 21 + vowel) * 28 + coda)


def _pinyin(rng: Rng) -> str:
    while True:
        initial, final = _pick(_INITIALS, rng), _pick(_FINALS, rng)
        if _is_syllable(initial, final):
            return initial + final + str(rng.integers(1, 5))


def _is_syllable(initial: str, final: str) -> bool:
    """Roughly the syllables of Mandarin."""
    if initial in ("j", "q", "x"):
        return final[0] == "i" or final in ("u", "uan", "un")
    if initial in ("zh", "ch", "sh", "r", "z", "c", "s"):
        return final[0] != "i" or final == "i"
    if initial in ("g", "k", "h", ""):
        return final[0] not in ("iu" if initial == "" else "i")
    if initial in ("b", "p", "m", "f"):
        return final == "u" or final[0] not in ("ui" if initial == "f" else "u")
    if initial == "y":
        return final in ("a", "e", "ao", "ou", "an", "ang", "ong", "i", "in", "ing", "u", "uan", "un")
    if initial == "w":
        return final in ("a", "o", "ai", "ei", "an", "en", "ang", "eng", "u")
    return True
