"""The keys and values of a manifest, with a checker that collects every fault.

The keys and values are closed sets; a path only leads down; a quoted text is short and printable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from heygemd.common import names
from heygemd.common.errors import Fault
from heygemd.common.request import (
    AUDIO_SUFFIXES,
    ENGINES,
    EXTENDS,
    FACES,
    PRESETS,
    PRIORITIES,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    JobOptions,
)
from heygemd.config.toml_schema import guess
from heygemd.share.ignore import ignored

OPTION_KEYS = ("engine", "priority", "crf", "preset", "extend", "face")
#: Keys of one job: of an entry in ``jobs`` and the columns of a CSV file.
JOB_KEYS = ("audio", "video", "output", "consent", *OPTION_KEYS)
#: Keys of a manifest as a whole; the options are defaults for its jobs.
MANIFEST_KEYS = ("audio", "videos", "jobs", "consent", *OPTION_KEYS)
#: Keys of a ``job.toml``.
FOLDER_KEYS = ("audio", "consent", *OPTION_KEYS)

_Choice = TypeVar("_Choice", bound=str)
CRF_MAX = 51  # of H.264 at 8 bits
#: Faults that are listed; a manifest with more is refused at that.
MAX_FAULTS = 50

_KINDS = {
    "audio": (AUDIO_SUFFIXES, "a sound file"),
    "video": (VIDEO_SUFFIXES | STILL_SUFFIXES, "a video or picture"),
}
_MEDIA = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES


class Hopeless(Exception):
    """The file cannot be read further; the text gives the reason."""


class Faulty(Exception):
    """The faults are ``MAX_FAULTS``: the check ends here."""


class ManifestCheck:
    """Collects faults; each method returns the checked value, or ``None`` after a fault."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, where: str, what: str) -> None:
        """Raises ``Faulty`` once there are enough."""
        self.faults.append(Fault(where or "the file", what))
        if len(self.faults) >= MAX_FAULTS:
            raise Faulty

    def all(self) -> tuple[Fault, ...]:
        """Every fault, or the first of very many."""
        more = (Fault("the file", "has more faults, which are not listed"),)
        return tuple(self.faults) + (more if len(self.faults) >= MAX_FAULTS else ())

    def keys(self, where: str, table: Mapping[str, object], allowed: Sequence[str]) -> None:
        """No other keys than these."""
        for key in table:
            if key not in allowed:
                hint = guess(key, allowed) if len(key) < 40 else ""
                self.fault(where, f"unknown key '{clip(key)}'{hint}")

    def all_different(self, where: str, texts: Iterable[str]) -> None:
        """No text twice."""
        for text, count in Counter(texts).items():
            if count > 1:
                self.fault(where, f"'{clip(text)}' is given {count} times")

    def options(self, where: str, table: Mapping[str, object]) -> JobOptions:
        """The option keys of a table."""
        return JobOptions(
            engine=self._choice(where, table, "engine", ENGINES),
            priority=self._choice(where, table, "priority", PRIORITIES),
            crf=self._crf(where, table["crf"]) if "crf" in table else None,
            preset=self._choice(where, table, "preset", PRESETS),
            extend=self._choice(where, table, "extend", EXTENDS),
            face=self._choice(where, table, "face", FACES),
        )

    def _crf(self, where: str, raw: object) -> int | None:
        if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= CRF_MAX:
            return raw
        self.fault(at(where, "crf"), f"must be a whole number from 0 to {CRF_MAX}, not {quoted(raw)}")
        return None

    def _choice(self, where: str, table: Mapping[str, object], key: str, choices: Sequence[_Choice]) -> _Choice | None:
        if key not in table:
            return None
        raw = table[key]
        for choice in choices:
            if raw == choice:
                return choice
        hint = guess(raw, choices) if isinstance(raw, str) and len(raw) < 40 else ""
        self.fault(at(where, key), f"must be one of {', '.join(choices)}, not {quoted(raw)}{hint}")
        return None

    def path(self, where: str, table: Mapping[str, object], key: str) -> str | None:
        """The path under ``key`` (``audio``, ``video``, or ``consent``, which may be of any kind), clean."""
        place = at(where, key)
        if key not in table:
            self.fault(where, f"'{key}' is missing")
            return None
        raw = table[key]
        if not isinstance(raw, str):
            self.fault(place, f"must be the name of a file, not {quoted(raw)}")
            return None
        clean, fault = names.inside(raw)
        suffixes, kind = _KINDS.get(key, (None, ""))
        if fault is None and any(ignored(part) for part in clean.split("/")):
            fault = "is a file name that heygemd ignores"
        if fault is None and suffixes is not None and names.split(names.leaf(clean))[1] not in suffixes:
            fault = f"is not {kind} ({' '.join(sorted(suffixes))})"
        if fault is not None:
            self.fault(place, f"'{clip(raw)}' {fault}")
            return None
        return clean

    def output(self, where: str, table: Mapping[str, object]) -> str | None:
        """The name of the film that is asked for, without ``.mp4``; ``None`` if none is."""
        if "output" not in table:
            return None
        raw = table["output"]
        if not isinstance(raw, str):
            self.fault(at(where, "output"), f"must be a name, not {quoted(raw)}")
            return None
        stem, suffix = names.split(raw)
        name = names.nfc(stem if suffix == ".mp4" else raw)
        fault = names.name_fault(name)
        if fault is None and names.split(name)[1] in _MEDIA:
            fault = "must end in .mp4 or have no ending; films are always .mp4"
        if fault is not None:
            self.fault(at(where, "output"), f"'{clip(raw)}' {fault}")
        return name


def at(where: str, key: str) -> str:
    return f"{where}, {key}" if where else key


def clip(text: str, limit: int = 120) -> str:
    return names.display(text if len(text) <= limit else text[:limit] + "…")


def quoted(raw: object) -> str:
    """A value as a fault quotes it; ``null`` for nothing, and TOML's dates by what they are."""
    if raw is None:
        return "null"
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, str):
        return f"'{clip(raw, 60)}'"
    if isinstance(raw, list):
        return "a list" if raw else "an empty list"
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, int):
        return str(raw) if abs(raw) < 10**12 else "a huge number"
    return str(raw) if isinstance(raw, float) else "a date"
