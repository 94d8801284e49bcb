"""espeak-ng through its own library: sound together with the exact sample of each phoneme.

The command line's ``--pho`` works with mbrola voices only, so the library is called directly (ctypes).  It reads a
private copy of espeak's data, because our random voice files must lie inside it, and because of a trap: the
library knows at most 350 voice files, and above that languages vanish without a word.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heygemd.common.errors import SetupError

RATE = 22_050
MOST_VOICE_FILES = 350
CURE = (
    "heygemd train-lips needs espeak-ng, flite and Babel: install them with "
    "'apt install libespeak-ng1 espeak-ng-data flite' and 'pip install babel'."
)
_DATA = (
    Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data"),
    Path("/usr/lib/aarch64-linux-gnu/espeak-ng-data"),
    Path("/usr/share/espeak-ng-data"),
    Path("/usr/local/share/espeak-ng-data"),
)
Spoken = tuple[NDArray[np.int16], list[tuple[int, str]]]
"""Sound at RATE, and (sample, IPA) of each phoneme."""
_SYNCHRONOUS = 2
_PHONEMES_IPA = 1 | 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_PHONEME_EVENT = 7
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "gap": 7}


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def find_library() -> str:
    """The library's name for the loader.  SetupError where it is not installed."""
    name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
    try:
        ctypes.CDLL(name)
    except OSError as error:
        message = f"The speech synthesizer's library libespeak-ng is not here. {CURE}"
        raise SetupError(message, detail=str(error)) from error
    return name


def make_data(folder: Path, stock: Iterable[str], made: Mapping[str, str]) -> Path:
    """A private espeak-ng-data under ``folder``: languages and ``stock`` variants of the system, plus ``made`` ones.

    made: file name -> text of a voice variant.  mbrola voices are left out.  Returns ``folder``.
    """
    source = next((path for path in _DATA if (path / "phontab").exists()), None)
    if source is None:
        raise SetupError(f"espeak-ng's data folder is not here (looked in {', '.join(map(str, _DATA))}). {CURE}")
    data = folder / "espeak-ng-data"
    if data.exists():
        shutil.rmtree(data)
    variants = data / "voices" / "!v"
    variants.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name != "voices":
            (data / entry.name).symlink_to(entry)
    for name in stock:
        if not (source / "voices" / "!v" / name).exists():
            raise SetupError(f"espeak-ng's voice variant {name!r} is not in {source}: another version than 1.51?")
        shutil.copyfile(source / "voices" / "!v" / name, variants / name)
    for name, text in made.items():
        (variants / name).write_text(text)
    files = sum(1 for path in (source / "lang").rglob("*") if path.is_file()) + len(list(variants.iterdir()))
    if files >= MOST_VOICE_FILES:
        raise SetupError(f"{files} voice files are more than espeak-ng can hold ({MOST_VOICE_FILES}).")
    return folder


class Espeak:
    """One synthesizer; the library is global, so one in a process."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: holds espeak-ng-data (see ``make_data``); None takes the system's."""
        self._library = ctypes.CDLL(find_library())
        self._libc = ctypes.CDLL(None)
        self._sound: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._receive)
        path = str(folder).encode() if folder else None
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 200, path, _PHONEMES_IPA | _DONT_EXIT)
        if rate != RATE:
            raise SetupError(f"espeak-ng did not start (it answered {rate} where {RATE} Hz was expected). {CURE}")
        self._library.espeak_SetSynthCallback(self._callback)

    def has(self, voice: str) -> bool:
        """Whether the language (or language+variant) can be loaded."""
        return int(self._library.espeak_SetVoiceByName(voice.encode())) == 0

    def say(self, text: str, voice: str, *, seed: int = 0, **parameters: int) -> Spoken:
        """Synthesize: int16 sound at 22.05 kHz and its phoneme events (sample, IPA).

        parameters: rate (words a minute), pitch, range (0-99), gap (10 ms).  seed: of the breath noise.
        """
        if not self.has(voice):
            raise SetupError(f"espeak-ng has no voice {voice!r}: too many voice files, or another version than 1.51.")
        for name, value in {"volume": 100, **parameters}.items():
            self._library.espeak_SetParameter(_PARAMETERS[name], value, 0)
        self._sound, self._events = [], []
        self._libc.srand(seed & 0x7FFFFFFF)
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        sound = np.concatenate(self._sound) if self._sound else np.zeros(0, np.int16)
        return sound, self._events

    def _receive(self, wave: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if wave and count > 0:
            self._sound.append(np.ctypeslib.as_array(wave, (count,)).copy())
        place = 0
        while events[place].type != 0:
            if events[place].type == _PHONEME_EVENT:
                raw = ctypes.string_at(ctypes.addressof(events[place]) + _Event.id.offset, 8)
                self._events.append((events[place].sample, raw.split(b"\0")[0].decode("utf-8", "ignore")))
            place += 1
        return 0
