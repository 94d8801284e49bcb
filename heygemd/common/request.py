"""What a person asked for, as data: drops, jobs and their options, as ``request.json`` keeps them; no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Literal, NotRequired, TypedDict

AUDIO_SUFFIXES = frozenset({".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".ts", ".gif"})
STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MANIFEST_SUFFIXES = frozenset({".toml", ".json", ".csv"})

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
ENGINES = ("footage", "wav2lip", "duix", "command")
"""The engines of this version; the table of their needs (``guard/needs.py``) has a row for each."""
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
EXTENDS = ("bounce", "loop", "hold")
FACES = ("largest", "left", "right", "center")
LABEL_POSITIONS = ("top-left", "top", "top-right", "bottom-left", "bottom", "bottom-right")
LABEL_LETTERS = 40
"""The longest label that is drawn."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of one job; ``None`` means: use the folder's, the line's or the configuration's."""

    engine: str | None = None
    priority: Priority | None = None
    crf: int | None = None
    preset: str | None = None
    extend: str | None = None
    face: str | None = None

    def with_defaults(self, base: JobOptions) -> JobOptions:
        """These options, with ``base`` for those that are ``None``."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return JobOptions(**{k: getattr(base, k) if v is None else v for k, v in mine.items()})


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file's stamp in a listing; equal stamps mean that no change was seen.

    ``ctime_ns`` is the file server's own: a copy that has the final size and the original's time from its first moment
    on changes nothing else while it goes on.
    """

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """One input of a job.

    ``path`` is relative to the drop's own folder in ``processing/`` or, when ``library`` is true, the absolute path
    of a file in a configured library folder, which is only ever read.
    """

    path: str
    library: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """One inbox entry that belongs to a drop and is moved with it (a file, or a job folder as a whole).

    ``source`` is relative to the inbox, ``target`` to the drop's folder in ``processing/``.  ``stamps`` are those of
    the settled files, by path relative to the drop's folder, to be compared again at the claim.
    """

    source: str
    target: str
    stamps: Mapping[str, Stamp] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One film to be made.  ``problem`` is set where it cannot be, as a sentence for a person, and ``problem_code``
    names it in ``wording``.  ``consents``: files in which the person shown agrees; they are filed with the job."""

    name: str
    audio: Source | None
    video: Source | None
    options: JobOptions = field(default_factory=JobOptions)
    problem: str | None = None
    consents: tuple[Source, ...] = ()
    problem_code: str = "request"


class SourceRecord(TypedDict):
    """A ``Source`` as JSON."""

    path: str
    library: bool


class MoveRecord(TypedDict):
    """A ``Move`` as JSON; each stamp has the fields of ``Stamp``."""

    source: str
    target: str
    stamps: dict[str, dict[str, int]]


class OptionsRecord(TypedDict, total=False):
    """``JobOptions`` as JSON."""

    engine: str | None
    priority: Priority | None
    crf: int | None
    preset: str | None
    extend: str | None
    face: str | None


class JobRecord(TypedDict):
    """A ``JobRequest`` as JSON; older journals lack the last two keys."""

    name: str
    audio: SourceRecord | None
    video: SourceRecord | None
    options: OptionsRecord
    problem: str | None
    consents: NotRequired[list[SourceRecord]]
    problem_code: NotRequired[str]


class DropRecord(TypedDict):
    """A ``DropRequest`` as JSON: what ``request.json`` and the journal hold."""

    kind: Literal["pair", "folder", "manifest"]
    name: str
    folder: str
    moves: list[MoveRecord]
    jobs: list[JobRecord]
    priority: Priority
    problem: str | None


@dataclass(frozen=True, slots=True)
class DropRequest:
    """Files that belong together: claimed, filed and retried as one drop.

    ``folder`` is the plain subfolder that is kept in the outbox (``""`` at the top).  ``problem`` is set where the
    whole drop cannot be done (an unreadable manifest, say): it then goes straight to ``failed/``.
    """

    kind: Literal["pair", "folder", "manifest"]
    name: str
    folder: str
    moves: tuple[Move, ...]
    jobs: tuple[JobRequest, ...]
    priority: Priority = "normal"
    problem: str | None = None

    def to_json(self) -> dict[str, object]:
        """A plain dict; ``from_json`` reads it back equal."""
        return asdict(self)

    @staticmethod
    def from_json(data: DropRecord) -> DropRequest:
        """The inverse of ``to_json``.  Raises KeyError or TypeError for anything else."""
        moves = tuple(
            Move(m["source"], m["target"], {k: Stamp(**s) for k, s in m["stamps"].items()}) for m in data["moves"]
        )
        jobs = tuple(
            JobRequest(
                j["name"],
                Source(**j["audio"]) if j["audio"] else None,
                Source(**j["video"]) if j["video"] else None,
                JobOptions(**j["options"]),
                j["problem"],
                tuple(Source(**consent) for consent in j.get("consents", ())),
                j.get("problem_code", "request"),
            )
            for j in data["jobs"]
        )
        return DropRequest(data["kind"], data["name"], data["folder"], moves, jobs, data["priority"], data["problem"])
