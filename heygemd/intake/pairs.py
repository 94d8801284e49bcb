"""Loose files of an inbox, paired by name: one sound, one template."""

from __future__ import annotations

from collections.abc import Mapping

from heygemd.common import names
from heygemd.common.request import DropRequest, JobRequest, Move, Source
from heygemd.intake.batches import Batches
from heygemd.intake.job_folders import JobFolders
from heygemd.intake.view import JOB_FILE, Clause, InboxFile, Listing, Waiting, some, target, urgency


class Pairs:
    """Files in plain folders: pairs, and those that lack a partner or have too many."""

    def __init__(self, listing: Listing, batches: Batches, folders: JobFolders) -> None:
        self._listing, self._batches, self._folders = listing, batches, folders
        self._view = listing.view
        self.drops: list[DropRequest] = []
        self.waiting: list[Waiting] = []
        self.due: list[float] = []

    def sort(self) -> None:
        """Fills ``drops``, ``waiting`` and ``due``."""
        for paths in self._listing.others.values():
            for path in paths:
                reason = "is not a regular file (a link, pipe, socket or device); heygemd ignores it"
                self._wait(path, Clause(reason, "no_file"))
        for folder, items in self._listing.folders.items():
            if folder in self._folders.taken:
                continue
            groups: dict[str, list[InboxFile]] = {}
            for item in items:
                if item.path in self._batches.reserved:
                    continue
                if item.kind in ("audio", "visual"):
                    groups.setdefault(item.key, []).append(item)
                else:
                    self._stray(item)
            self._sort_folder(folder, groups)

    def _sort_folder(self, folder: str, groups: Mapping[str, list[InboxFile]]) -> None:
        holder = self._batches.holder(folder)
        quiet = folder not in self._folders.lone_pairs or folder in self._view.quiet_dirs
        for group in groups.values():
            kinds = sorted(item.kind for item in group)
            if len(group) == 1:
                self._lone(group[0])
            elif kinds != ["audio", "visual"]:
                same = some([item.name for item in group])
                reason = (
                    f"{same} have the same name, so it is unclear which belong together: keep one sound file and one "
                    "video or picture, and rename the others"
                )
                self._wait(group[0].path, Clause(reason, "same_name", files=same))
            elif (moving := self._listing.arriving(group)) is not None:
                self._wait(group[0].path, moving)
            elif (lacking := self._lacks_consent(group)) is not None:
                self._wait(group[0].path, lacking)
            elif holder is not None:
                shown = names.display(holder)
                self._wait(group[0].path, Clause(f"waits until {shown} has been read", "manifest", file=shown))
            elif not quiet:
                self._wait(group[0].path, Clause("waits until nothing more arrives in its folder", "quiet"))
            else:
                self.drops.append(self._pair(*sorted(group, key=lambda item: item.kind)))

    def _lacks_consent(self, group: list[InboxFile]) -> str | None:
        """Why a pair must wait for the consent of whom it shows."""
        template = next(item for item in group if item.kind == "visual")
        lacking = self._listing.lacks_consent([template])
        return lacking or self._listing.arriving(self._listing.consents(template))

    def _pair(self, audio: InboxFile, video: InboxFile) -> DropRequest:
        folder, _ = self._listing.place(video.folder)
        name = names.film_name(video.stem)
        consents = self._listing.consents(video)
        there = {item.path: target(item.path, item.folder) for item in (audio, video, *consents)}
        agreed = tuple(Source(there[item.path]) for item in consents)
        job = JobRequest(name, Source(there[audio.path]), Source(there[video.path]), consents=agreed)
        job = self._listing.finished(job, video.folder)
        files = (audio, video, *consents)
        moves = tuple(Move(item.path, there[item.path], {there[item.path]: item.stamp}) for item in files)
        return DropRequest("pair", names.safe_component(video.stem), folder, moves, (job,), urgency([job]))

    def _lone(self, item: InboxFile) -> None:
        if (moving := self._listing.arriving([item])) is not None:
            self._wait(item.path, moving)
            return
        wanted = "a video or picture" if item.kind == "audio" else "a sound file"
        like, code = f"{names.display(item.stem)}.*", "picture" if item.kind == "audio" else "sound"
        since = self._view.since(item.path)
        if self._view.now - since < self._view.patience:
            self.due.append(since + self._view.patience)
            self._wait(item.path, Clause(f"waits for its partner: {wanted} named {like}", code, like=like))
        else:
            waited = f"has had no partner for {self._view.patience_words}"
            reason = f"{waited}: add {wanted} named {like}, or remove this file"
            self._wait(item.path, Clause(reason, f"no_{code}", like=like))

    def _stray(self, item: InboxFile) -> None:
        if item.kind == "consent":
            self._lone_consent(item)
        if item.kind == "unknown":
            self._wait(item.path, Clause("is not a supported kind of file", "kind"))
        elif item.kind == "job":
            where = "a folder with one sound file and its videos"
            self._wait(item.path, f"{JOB_FILE} belongs in a job folder ({where}), not here")

    def _lone_consent(self, item: InboxFile) -> None:
        if not item.stamp.size:
            self._wait(
                item.path,
                Clause("is empty and therefore not a consent; replace it with the complete file", "consent_empty"),
            )
        elif not any(other.key == item.key and other.kind == "visual" for other in self._listing.folders[item.folder]):
            like = f"{names.display(item.stem)}.*"
            reason = f"is a consent file without its video or picture {like}"
            self._wait(item.path, Clause(reason, "consent_alone", like=like))

    def _wait(self, path: str, reason: str) -> None:
        since = self._view.since(path)
        self.waiting.append(Waiting(path, reason, since, self._view.now - since >= self._view.patience))
