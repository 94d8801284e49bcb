"""One look at an inbox, sorted: which file is of which kind, in which folder, and which defaults hold there.

What ``intake`` and ``batches`` plan from.  Pure: the view is all they know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from heygemd.common.names import display, folded, nfc, parent, split
from heygemd.common.request import (
    AUDIO_SUFFIXES,
    MANIFEST_SUFFIXES,
    PRIORITIES,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    JobOptions,
    JobRequest,
    Priority,
    Stamp,
)
from heygemd.share.entry import InboxEntry
from heygemd.share.ignore import ignored

JOB_FILE = "job.toml"
_PRIORITY_FOLDERS: Mapping[str, Priority] = {"high": "high", "low": "low"}
#: Names that belong to the daemon at the top of a drop's folder.
_OWN = frozenset({"request.json", "reason.txt"})

Kind = Literal["audio", "visual", "manifest", "job", "consent", "unknown"]
_KINDS: dict[str, Kind] = {}
_KINDS.update(dict.fromkeys(AUDIO_SUFFIXES, "audio"))
_KINDS.update(dict.fromkeys(VIDEO_SUFFIXES | STILL_SUFFIXES, "visual"))
_KINDS.update(dict.fromkeys(MANIFEST_SUFFIXES, "manifest"))


class LineRules(Protocol):
    """The part of ``config.LineConfig`` that intake uses."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> JobOptions: ...
    @property
    def folders(self) -> Mapping[str, JobOptions]: ...
    @property
    def allowed_engines(self) -> tuple[str, ...]: ...
    @property
    def require_consent(self) -> bool: ...


class IntakeRules(Protocol):
    """The part of ``config.IntakeConfig`` that intake uses."""

    @property
    def partner_minutes(self) -> float: ...
    @property
    def incomplete_seconds(self) -> float: ...
    @property
    def max_jobs(self) -> int: ...
    @property
    def max_manifest_kib(self) -> int: ...


def _nothing(_: str) -> str | None:
    return None


def _none(_: str) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class InboxView:
    """One look at one inbox; ``Settler.observe`` gives most of it.

    ``now`` and ``first_seen`` are on the same monotonic clock.  ``manifest_bytes``: the content of files
    that the last plan asked for (``InboxPlan.manifests_to_read``); the same ``bytes`` object each time saves
    parsing it anew.  ``unreadable``: why one of them cannot be read, as a clause.  ``library_has``: the
    absolute path of a file in a library folder by its path relative to that folder, or ``None``;
    ``library_consents``: the consent files beside a library file, by its absolute path.
    """

    now: float
    entries: Sequence[InboxEntry]
    settled: frozenset[str]
    quiet_dirs: frozenset[str]
    first_seen: Mapping[str, float]
    line: LineRules
    rules: IntakeRules
    incomplete: Mapping[str, str] = field(default_factory=dict)
    manifest_bytes: Mapping[str, bytes] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    library_has: Callable[[str], str | None] = _nothing
    library_consents: Callable[[str], tuple[str, ...]] = _none

    def since(self, path: str) -> float:
        """When ``path`` was first seen."""
        return self.first_seen.get(path, self.now)

    @property
    def patience(self) -> float:
        """Seconds that something missing is waited for."""
        return self.rules.partner_minutes * 60

    @property
    def patience_words(self) -> str:
        """The same for a person."""
        minutes = self.rules.partner_minutes
        if minutes < 1:
            return f"{self.patience:g} seconds"
        return "1 minute" if minutes == 1 else f"{minutes:g} minutes"


class Clause(str):
    """A reason in English that knows itself in other languages too: ``waits:<code>`` of ``wording``, with values."""

    code: str
    values: dict[str, str]

    def __new__(cls, text: str, code: str, **values: str) -> Clause:
        """``text`` is what ``code`` and ``values`` say."""
        made = super().__new__(cls, text)
        made.code, made.values = code, values
        return made


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that stays where it is: what, why, since when (on the view's clock).

    ``overdue``: for so long that a person should hear of it.
    """

    path: str
    reason: str
    since: float
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class InboxFile:
    """One regular file; ``key`` is equal for files of the same name but for their kind."""

    path: str
    folder: str
    name: str
    stem: str
    suffix: str
    kind: Kind
    key: str
    stamp: Stamp


class Listing:
    """The view's entries by path and by folder, without ignored ones."""

    def __init__(self, view: InboxView) -> None:
        self.view = view
        self.items: dict[str, InboxFile] = {}
        self.folders: dict[str, list[InboxFile]] = {}
        self.others: dict[str, list[str]] = {}  # folder -> paths of links, pipes, sockets
        self.deep: set[str] = set()  # folders with anything in a folder below
        self._consents: dict[tuple[str, str], list[InboxFile]] = {}  # by folder and key of the template
        self._folded: dict[str, list[str]] | None = None
        self._defaults = {folded(nfc(name.strip("/"))): o for name, o in view.line.folders.items()}
        for entry in view.entries:
            if not entry.is_dir:
                self._add(entry)
        for folder in [*self.folders, *self.others]:
            while folder := parent(folder):
                self.deep.add(folder)

    def _add(self, entry: InboxEntry) -> None:
        folder, _, name = entry.path.rpartition("/")
        if ignored(name):
            return
        if entry.other:
            self.others.setdefault(folder, []).append(entry.path)
            return
        stem, suffix = split(name)
        kind = _KINDS.get(suffix, "unknown")
        if kind == "manifest" and name.lower() == JOB_FILE:
            kind = "job"
        if self.view.line.require_consent and (whose := consent_of(name)) is not None:
            stem, kind = whose, "consent"
        item = InboxFile(entry.path, folder, name, stem, suffix, kind, folded(stem), entry.stamp)
        if kind == "consent" and entry.stamp.size:  # an empty file says nothing
            self._consents.setdefault((folder, item.key), []).append(item)
        self.items[item.path] = item
        self.folders.setdefault(folder, []).append(item)

    def consents(self, template: InboxFile) -> list[InboxFile]:
        """Names of the consent files next to a template."""
        return sorted(self._consents.get((template.folder, template.key), []), key=lambda item: item.name)

    def lacks_consent(self, templates: Sequence[InboxFile]) -> str | None:
        """A clause if the line requires consent and it is missing."""
        if not self.view.line.require_consent:
            return None
        lacking = [item for item in templates if not self.consents(item)]
        return wants_consent([item.name for item in lacking]) if lacking else None

    def twins(self, path: str) -> list[str]:
        """Paths that are the same to a person as ``path``."""
        if path in self.items:
            return [path]
        if self._folded is None:
            self._folded = {}
            for other in self.items:
                self._folded.setdefault(folded(other), []).append(other)
        return self._folded.get(folded(path), [])

    def is_other(self, path: str) -> bool:
        """Whether ``path`` is there but no regular file."""
        return path in self.others.get(parent(path), ())

    def place(self, folder: str) -> tuple[str, Priority | None]:
        """The folder as it is kept in the outbox, and the priority that it stands for."""
        top, _, rest = folder.partition("/")
        priority = _PRIORITY_FOLDERS.get(top.lower())
        return (rest, priority) if priority else (folder, None)

    def always_plain(self, folder: str) -> bool:
        """Whether files in ``folder`` are never one job folder: the top, ``high``, ``low``, configured
        folders.
        """
        kept, _ = self.place(folder)
        return kept == "" or folded(kept) in self._defaults

    def defaults(self, folder: str) -> JobOptions:
        """Options for what lies in ``folder``: its priority, else its configuration, else the line's."""
        kept, priority = self.place(folder)
        below = JobOptions()
        while kept:
            if (options := self._defaults.get(folded(kept))) is not None:
                below = options
                break
            kept = parent(kept)
        return JobOptions(priority=priority).with_defaults(below).with_defaults(self.view.line.options)

    def finished(self, job: JobRequest, folder: str) -> JobRequest:
        """``job`` with every default filled in, and its problem if its engine is not allowed here."""
        options = job.options.with_defaults(self.defaults(folder)).with_defaults(JobOptions(priority="normal"))
        line = self.view.line
        problem, code = job.problem, job.problem_code
        if problem is None and options.engine is not None and options.engine not in line.allowed_engines:
            problem = (
                f"The engine '{options.engine}' is not allowed on the line {line.name}; "
                f"allowed: {', '.join(line.allowed_engines) or 'none'}."
            )
            code = "engine_not_allowed"
        return replace(job, options=options, problem=problem, problem_code=code)

    def arriving(self, items: Sequence[InboxFile]) -> str | None:
        """Why these files are not all at rest, or ``None`` if they are."""
        moving = [item for item in items if item.path not in self.view.settled]
        if not moving:
            return None
        unfinished = next((item for item in moving if item.path in self.view.incomplete), None)
        if unfinished is not None:
            seconds = f"{self.view.rules.incomplete_seconds:g} seconds"
            why = self.view.incomplete[unfinished.path]
            sentence = (
                f"{display(unfinished.name)} looks unfinished: {why}; it is taken anyway after {seconds} without a "
                "change"
            )
            return Clause(sentence, "unfinished", file=display(unfinished.name), why=why)
        files = some([item.name for item in moving])
        return Clause(f"{files} {be(moving)} still arriving", "arriving", files=files)


_CONSENT = re.compile(r"(.+)\.consent(\.[^.]+)?", re.IGNORECASE | re.DOTALL)


def consent_of(name: str) -> str | None:
    """The template's name, without its ending, where ``name`` is that of a consent file: ``<name>.consent.*``."""
    match = _CONSENT.fullmatch(name)
    return match.group(1) if match else None


def wants_consent(templates: Sequence[str]) -> str:
    """The clause that asks for the missing consent files."""
    files = some([f"{split(name)[0]}.consent.pdf" for name in templates])
    who = "the consent of the person shown" if len(templates) == 1 else "the consents of the people shown"
    sentence = f"waits for {who} in {some(templates)}: add it as a file such as {files} in the same folder"
    return Clause(sentence, "consent", templates=some(templates), files=files)


def some(names: Sequence[str], at_most: int = 5) -> str:
    """Names in a sentence: ``a, b and c``, or the first few ``and 7 more``."""
    shown = [display(name) for name in names[:at_most]]
    if len(names) > at_most:
        return ", ".join(shown) + f" and {len(names) - at_most} more"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def be(items: Sequence[object], past: bool = False) -> str:
    """``is`` or ``are`` (``was`` or ``were``), by number."""
    if past:
        return "was" if len(items) == 1 else "were"
    return "is" if len(items) == 1 else "are"


def target(path: str, folder: str) -> str:
    """Where a file from below ``folder`` lies in its drop's folder; never on a name that the daemon uses
    there.
    """
    inner = path[len(folder) + 1 :] if folder else path
    return f"input-{inner}" if inner.partition("/")[0].casefold() in _OWN else inner


def urgency(jobs: Sequence[JobRequest]) -> Priority:
    """The highest priority among jobs."""
    asked = {job.options.priority for job in jobs}
    return next((p for p in PRIORITIES if p in asked), "normal")
