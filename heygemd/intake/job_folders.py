"""Job folders in an inbox: one sound and the videos that shall speak it, taken as a whole once nothing stirs
in it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from heygemd.common import names
from heygemd.common.request import DropRequest, JobRequest, Move, Source
from heygemd.intake import manifest
from heygemd.intake.batches import Batches
from heygemd.intake.manifest import FolderOptions
from heygemd.intake.view import JOB_FILE, Clause, InboxFile, Listing, Waiting, some, target, urgency


@dataclass(slots=True)
class JobFolders:
    """What job folders make of an inbox.

    ``taken``: folders whose files are no pairs, whether their drop was made or waits.  ``lone_pairs``:
    folders with one sound and one video of the same name and nothing else to be made a film of; what they
    are shows only once they are quiet, for more videos may be on their way.
    """

    drops: list[DropRequest] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    lone_pairs: set[str] = field(default_factory=set)
    to_read: list[str] = field(default_factory=list)
    due: list[float] = field(default_factory=list)


def sort_folders(listing: Listing, batches: Batches) -> JobFolders:
    """Every folder of the listing that is a job folder or may become one."""
    found = JobFolders()
    for folder, items in listing.folders.items():
        if not listing.always_plain(folder):
            _Folder(listing, batches, folder, items, found).sort()
    return found


@dataclass(slots=True)
class _Folder:
    listing: Listing
    batches: Batches
    path: str
    items: list[InboxFile]
    found: JobFolders

    def sort(self) -> None:
        """Adds the folder's drop, or what it waits for, or nothing if it is a plain folder."""
        job_file = next((item for item in self.items if item.kind == "job"), None)
        if job_file is None and not self._looks_like_one():
            return
        self.found.taken.add(self.path)
        obstacle = self._obstacle()
        if obstacle is not None:
            self._wait(obstacle)
        elif job_file is None:
            self._take(FolderOptions())
        else:
            self._with_job_file(job_file)

    def _kind(self, kind: str) -> list[InboxFile]:
        return [item for item in self.items if item.kind == kind]

    def _looks_like_one(self) -> bool:
        """One sound, at least one video, no manifest, nothing in folders below and nothing owned by a
        manifest.
        """
        if self.path in self.listing.deep or self._kind("manifest"):
            return False
        if any(item.path in self.batches.reserved for item in self.items):
            return False
        sounds, visuals = self._kind("audio"), self._kind("visual")
        if len(sounds) != 1 or not visuals:
            return False
        if len(visuals) == 1 and visuals[0].key == sounds[0].key:
            self.found.lone_pairs.add(self.path)
            return False
        return True

    def _obstacle(self) -> str | None:
        """The reason why the folder cannot be taken now."""
        holder = self.batches.holder(self.path)
        owned = next((item for item in self.items if item.path in self.batches.reserved), None)
        others = self.listing.others.get(self.path)
        if holder is not None:
            return f"waits until {names.display(holder)} has been read"
        if owned is not None:
            owner = names.display(self.batches.reserved[owned.path])
            return f"waits: {names.display(owned.name)} in this folder belongs to the manifest {owner}"
        if self.path in self.listing.deep:
            return f"contains subfolders with files; a folder with {JOB_FILE} must not contain any: move them out"
        if others:
            shown = names.display(names.leaf(others[0]))
            return f"contains {shown}, which is not a regular file (a link, pipe or socket); remove it"
        if (moving := self.listing.arriving(self.items)) is not None:
            return Clause(f"waits until all its files have arrived: {moving}", "folder_arriving")
        if self.path not in self.listing.view.quiet_dirs:
            return Clause("waits until its content stops changing", "quiet")
        return None

    def _wait(self, reason: str, *, until_late: bool = False) -> None:
        view = self.listing.view
        since = view.since(self.path)
        if until_late:
            self.found.due.append(since + view.patience)
        self.found.waiting.append(Waiting(self.path, reason, since, view.now - since >= view.patience))

    def _with_job_file(self, job_file: InboxFile) -> None:
        view, name = self.listing.view, names.display(job_file.name)
        limit = view.rules.max_manifest_kib * 1024
        if job_file.path in view.unreadable:
            self._refuse(f"{name} {view.unreadable[job_file.path]}.")
        elif job_file.stamp.size > limit:
            self._refuse(f"{name} cannot be used: it is larger than {view.rules.max_manifest_kib} KiB.")
        elif job_file.path not in view.manifest_bytes:
            self.found.to_read.append(job_file.path)
        else:
            options = manifest.read_folder(view.manifest_bytes[job_file.path], max_bytes=limit)
            if options.faults:
                self._refuse(manifest.problem(job_file.name, options.faults))
            else:
                self._take(options)

    def _take(self, options: FolderOptions) -> None:
        visuals = self._kind("visual")
        sound, lacking = self._sound(options.audio)
        if sound is not None and not visuals:
            lacking = "has no video or picture"
        view = self.listing.view
        if sound is None or lacking is not None:
            if view.now - view.since(self.path) < view.patience:
                self._wait(f"{lacking}; it waits until this is fixed", until_late=True)
            else:
                self._refuse(f"The folder {names.display(names.leaf(self.path))} {lacking}.")
        elif (unconsented := self._lacks_consent(visuals, options)) is not None:
            self._wait(unconsented)
        elif len(visuals) > view.rules.max_jobs:
            self._refuse(f"The folder requests {len(visuals)} films; at most {view.rules.max_jobs} are allowed.")
        else:
            self.found.drops.append(self._drop(sound, visuals, options))

    def _lacks_consent(self, visuals: list[InboxFile], options: FolderOptions) -> str | None:
        if options.consent is None:
            return self.listing.lacks_consent(visuals)
        if self._consent(options.consent) is None:
            return f"waits for {names.display(options.consent)}, which {JOB_FILE} names as the consent"
        return None

    def _consent(self, wanted: str) -> InboxFile | None:
        """The file in this folder that is named as the consent for all of it."""
        same = [item for item in self.items if names.folded(item.name) == names.folded(wanted) and item.stamp.size]
        return same[0] if len(same) == 1 else None

    def _agreed(self, visual: InboxFile, options: FolderOptions) -> tuple[Source, ...]:
        named = self._consent(options.consent) if options.consent is not None else None
        found = [named] if named is not None else self.listing.consents(visual)
        return tuple(Source(target(item.path, names.parent(self.path))) for item in found)

    def _sound(self, wanted: str | None) -> tuple[InboxFile | None, str | None]:
        """The sound file for the videos, or the fault."""
        sounds = self._kind("audio")
        if wanted is not None:
            same = [item for item in sounds if item.name == wanted]
            same = same or [item for item in sounds if names.folded(item.name) == names.folded(wanted)]
            if len(same) == 1:
                return same[0], None
            return None, f"lacks the sound file {names.display(wanted)} that {JOB_FILE} names"
        if len(sounds) == 1:
            return sounds[0], None
        if not sounds:
            return None, "has no sound file"
        listed = some([item.name for item in sounds])
        return None, f"has {len(sounds)} sound files ({listed}): name one of them as 'audio' in {JOB_FILE}"

    def _refuse(self, problem: str) -> None:
        self.found.drops.append(self._request((), problem))

    def _drop(self, sound: InboxFile, visuals: list[InboxFile], options: FolderOptions) -> DropRequest:
        parent = names.parent(self.path)
        audio = Source(target(sound.path, parent))
        return self._request(
            tuple(
                self.listing.finished(
                    JobRequest(
                        name,
                        audio,
                        Source(target(item.path, parent)),
                        options.options,
                        consents=self._agreed(item, options),
                    ),
                    self.path,
                )
                for name, item in zip(film_names(visuals), visuals, strict=True)
            )
        )

    def _request(self, jobs: tuple[JobRequest, ...], problem: str | None = None) -> DropRequest:
        parent = names.parent(self.path)
        kept, priority = self.listing.place(self.path)
        there = target(self.path, parent)
        move = Move(self.path, there, {target(item.path, parent): item.stamp for item in self.items})
        name = names.safe_component(names.leaf(self.path))
        asked = urgency(jobs) if jobs else priority or "normal"
        return DropRequest("folder", name, kept, (move,), jobs, asked, problem)


def film_names(visuals: list[InboxFile]) -> list[str]:
    """Names for the films of one folder, after the videos.

    ``a.mp4`` and ``a.mov`` would make two films of one name: they are called ``a (mp4)`` and ``a (mov)``, so
    that neither passes for the other.
    """
    count = Counter(item.key for item in visuals)
    taken: set[str] = set()
    films = []
    for item in visuals:
        base = item.stem if count[item.key] == 1 else f"{item.stem} ({item.suffix[1:]})"
        name = names.free_name(names.film_name(base), taken)
        taken.add(names.folded(name))
        films.append(name)
    return films
