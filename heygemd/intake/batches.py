"""Batch manifests in an inbox: which files are theirs, what they still wait for, the drops that they become.

A manifest owns the inbox files that it names from the moment it can be read, so that no pair takes them away.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from heygemd.common import names
from heygemd.common.errors import Fault
from heygemd.common.request import DropRequest, JobRequest, Move, Source
from heygemd.intake import manifest
from heygemd.intake.manifest import Manifest, ManifestJob
from heygemd.intake.view import Clause, InboxFile, Listing, Waiting, be, some, target, urgency, wants_consent

#: Parsed manifests that are kept, as a waiting one is planned again at each look.
_KEPT = 64


@dataclass(slots=True)
class Batches:
    """What manifests make of an inbox.

    ``reserved``: inbox files by the manifest that owns them.  ``holding``: folders of manifests that have
    not been read yet, with the manifest: nothing from there or below may be taken, for it may be theirs.
    ``due``: when the wait for a missing file ends.
    """

    drops: list[DropRequest] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    reserved: dict[str, str] = field(default_factory=dict)
    to_read: list[str] = field(default_factory=list)
    holding: dict[str, str] = field(default_factory=dict)
    looked_up: set[str] = field(default_factory=set)
    due: list[float] = field(default_factory=list)

    def holder(self, folder: str) -> str | None:
        """The unread manifest that keeps ``folder`` from being taken."""
        while True:
            if (found := self.holding.get(folder)) is not None:
                return found
            if not folder:
                return None
            folder = names.parent(folder)


def sort_batches(listing: Listing) -> Batches:
    """Every manifest of the listing; an earlier one comes first where two name the same file."""
    found = Batches()
    view = listing.view
    folders_with_job = {
        folder
        for folder, items in listing.folders.items()
        if not listing.always_plain(folder) and any(item.kind == "job" for item in items)
    }
    manifests = [
        item
        for folder, items in listing.folders.items()
        if folder not in folders_with_job  # in a job folder it is just a file that goes along
        for item in items
        if item.kind == "manifest"
    ]
    for item in sorted(manifests, key=lambda item: (view.since(item.path), item.path)):
        _sort_one(listing, item, found)
    return found


def _sort_one(listing: Listing, item: InboxFile, found: Batches) -> None:
    view, path = listing.view, item.path
    if path not in view.settled:
        # Bounded, so that a file which some program rewrites for ever does not stop the inbox.
        if view.now - view.since(path) < view.rules.incomplete_seconds:
            found.holding[item.folder] = path
        reason = listing.arriving([item]) or ""
        found.waiting.append(Waiting(path, reason, view.since(path)))
        return
    limit = view.rules.max_manifest_kib * 1024
    if path in view.unreadable:
        found.drops.append(_refused(listing, item, f"{names.display(item.name)} {view.unreadable[path]}."))
    elif item.stamp.size > limit:
        faults = (Fault("the file", f"is larger than {view.rules.max_manifest_kib} KiB"),)
        found.drops.append(_refused(listing, item, manifest.problem(item.name, faults)))
    elif path not in view.manifest_bytes:
        found.to_read.append(path)
        found.holding[item.folder] = path
    else:
        parsed = _parse(view.manifest_bytes[path], item.suffix, view.rules.max_jobs, limit)
        if parsed.faults:
            found.drops.append(_refused(listing, item, manifest.problem(item.name, parsed.faults)))
        else:
            _Batch(listing, item, parsed, found).settle()


@lru_cache(maxsize=_KEPT)
def _parse(data: bytes, suffix: str, max_jobs: int, limit: int) -> Manifest:
    return manifest.read(data, suffix, max_jobs=max_jobs, max_bytes=limit)


def _refused(listing: Listing, item: InboxFile, problem: str) -> DropRequest:
    """The drop of a manifest that cannot be used: only the manifest itself is moved."""
    folder, priority = listing.place(item.folder)
    name = names.safe_component(item.stem)
    return DropRequest("manifest", name, folder, (_move(item),), (), priority or "normal", problem)


def _move(item: InboxFile, base: str | None = None) -> Move:
    there = target(item.path, item.folder if base is None else base)
    return Move(item.path, there, {there: item.stamp})


@dataclass(slots=True)
class _Batch:
    """One readable manifest and the files that it names."""

    listing: Listing
    item: InboxFile
    parsed: Manifest
    found: Batches
    named: dict[str, InboxFile] = field(default_factory=dict)  # inbox files, each once, by their path
    sources: dict[str, Source] = field(default_factory=dict)  # as named -> where it is
    missing: dict[str, str] = field(default_factory=dict)  # as named -> why it cannot be used
    beside: dict[str, tuple[Source, ...]] = field(default_factory=dict)  # consents by the template as named

    def settle(self) -> None:
        """Adds the manifest's drop, or what it waits for."""
        for job in self.parsed.jobs:
            self._find(job.audio)
            self._find(job.video)
            self._find_consents(job)
        taken = {path: self.found.reserved[path] for path in self.named if path in self.found.reserved}
        for path in self.named:
            self.found.reserved.setdefault(path, self.item.path)
        view, since = self.listing.view, self.listing.view.since(self.item.path)
        late = view.now - since >= view.patience
        reason = self._obstacle(taken, late)
        if reason is not None:
            self.found.waiting.append(Waiting(self.item.path, reason, since, late))
            if not late:
                self.found.due.append(since + view.patience)
            return
        self.found.drops.append(self._drop())

    def _obstacle(self, taken: dict[str, str], late: bool) -> str | None:
        """Why the drop cannot be made yet."""
        if taken:
            path, other = next(iter(taken.items()))
            first = names.display(other)
            return f"waits: {names.display(path)} is also named by {first}, which arrived first"
        if self.missing and not late:
            words = [f"{path} ({why})" if why else path for path, why in self.missing.items()]
            files = some(words)
            return Clause(
                f"waits for files that it names and that have not arrived: {files}", "manifest_files", files=files
            )
        lacking = [job.video for job in self.parsed.jobs if self._lacks_consent(job)]
        if lacking and not late:
            return wants_consent([names.leaf(path) for path in dict.fromkeys(lacking)])
        return self.listing.arriving(list(self.named.values()))

    def _find(self, path: str) -> None:
        if path in self.sources or path in self.missing:
            return
        full = names.join(self.item.folder, path)
        twins = self.listing.twins(full)
        if len(twins) == 1 and self._says_nothing(twins[0]):
            self.missing[path] = "it is empty and therefore not a consent"
        elif len(twins) == 1:
            item = self.listing.items[twins[0]]
            self.named[item.path] = item
            self.sources[path] = Source(target(item.path, self.item.folder))
        elif twins:
            self.missing[path] = "two files have this name and differ only in case or Unicode form"
        elif self.listing.is_other(full):
            self.missing[path] = "it is a link or another special file, which heygemd does not read"
        elif (there := self._library(path)) is not None:
            self.sources[path] = Source(there, library=True)
        else:
            self.missing[path] = ""

    def _says_nothing(self, path: str) -> bool:
        item = self.listing.items[path]
        return item.kind == "consent" and not item.stamp.size

    def _find_consents(self, job: ManifestJob) -> None:
        """The consent that the job names, or those beside its template."""
        if job.consent is not None:
            self._find(job.consent)
        elif self.listing.view.line.require_consent and job.video in self.sources and job.video not in self.beside:
            template = self.sources[job.video]
            if template.library:
                paths = self.listing.view.library_consents(template.path)
                self.beside[job.video] = tuple(Source(path, library=True) for path in paths)
                return
            path = self.listing.twins(names.join(self.item.folder, job.video))[0]
            found = self.listing.consents(self.listing.items[path])
            self.named.update({item.path: item for item in found})
            self.beside[job.video] = tuple(Source(target(item.path, self.item.folder)) for item in found)

    def _consents(self, job: ManifestJob) -> tuple[Source, ...]:
        if job.consent is not None:
            return (self.sources[job.consent],) if job.consent in self.sources else ()
        return self.beside.get(job.video, ())

    def _lacks_consent(self, job: ManifestJob) -> bool:
        """Whether nothing but its consent is missing."""
        asked = self.listing.view.line.require_consent and job.consent is None
        return asked and job.video in self.sources and not self._consents(job)

    def _library(self, path: str) -> str | None:
        for form in dict.fromkeys((path, names.nfc(path), unicodedata.normalize("NFD", path))):
            if names.inside(form)[1]:  # decomposed, a name may be longer than a file system takes
                continue
            self.found.looked_up.add(form)
            if (there := self.listing.view.library_has(form)) is not None:
                return there
        return None

    def _request(self, job: ManifestJob) -> JobRequest:
        wanted = [path for path in (job.audio, job.video, job.consent) if path is not None]
        problem, code = self._problem([path for path in wanted if path in self.missing]), "request"
        if problem is None and self._lacks_consent(job):
            clause = wants_consent([names.leaf(job.video)]).removeprefix("waits for ")
            problem, code = f"This line requires {clause}.", "no_consent"
        sound, template = self.sources.get(job.audio), self.sources.get(job.video)
        return JobRequest(job.name, sound, template, job.options, problem, self._consents(job), code)

    def _drop(self) -> DropRequest:
        jobs = tuple(self.listing.finished(self._request(job), self.item.folder) for job in self.parsed.jobs)
        moves = (_move(self.item), *(_move(item, self.item.folder) for item in self.named.values()))
        folder, _ = self.listing.place(self.item.folder)
        return DropRequest("manifest", names.safe_component(self.item.stem), folder, moves, jobs, urgency(jobs))

    def _problem(self, missing: Sequence[str]) -> str | None:
        if not missing:
            return None
        if why := next((self.missing[path] for path in missing if self.missing[path]), ""):
            return f"{some(missing)} cannot be used: {why}."
        return f"{some(missing)} {be(missing, past=True)} not dropped within {self.listing.view.patience_words}."
