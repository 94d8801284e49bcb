"""The inputs of a claimed job, copied to the local work folder."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Mapping

from heygemd.common import log
from heygemd.common.errors import HeygemdError, InputError, StorageError
from heygemd.common.names import display
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES, Source
from heygemd.share.answers import StagedFile
from heygemd.share.client import ShareClient, ShareError
from heygemd.store.journal import Journal
from heygemd.store.places import Places
from heygemd.store.states import Drop, Job, StagedConsent, StagedInput, StagedInputs

_KNOWN_SUFFIXES = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES


class Staging:
    """Copies the inputs of jobs."""

    def __init__(
        self, places: Places, journal: Journal, shares: Mapping[str, ShareClient], pause: Callable[[], float]
    ) -> None:
        """``pause``: seconds between two tries to copy a file that still changes."""
        self._places, self._journal, self._shares, self._pause = places, journal, shares, pause
        self._log = log.get()

    async def stage(self, job: Job) -> StagedInputs:
        """Copy the job's inputs to its work folder.  Raises ``InputError`` where an input cannot be read."""
        drop = self._journal.drop(job.drop_id)
        audio = await self._input(drop, job, "audio", job.request.audio)
        video = await self._input(drop, job, "video", job.request.video)
        consents = [await self._consent(drop, job, source) for source in job.request.consents]
        return {"audio": audio, "video": video, "consents": consents}

    def input_bytes(self, job: Job) -> tuple[int, int]:
        """The sizes of the job's sound and picture as they were claimed; 0 for an unknown size.

        Of a library file it is the size now; libraries are local or mounted for good.
        """
        drop = self._journal.drop(job.drop_id)
        sizes = {path: stamp.size for move in drop.request.moves for path, stamp in move.stamps.items()}
        return _bytes_of(job.request.audio, sizes), _bytes_of(job.request.video, sizes)

    async def _input(self, drop: Drop, job: Job, role: str, source: Source | None) -> StagedInput:
        assert source is not None  # a job without its inputs has failed at the claim
        suffix = os.path.splitext(source.path)[1].lower()
        local = str(self._places.scratch(job) / f"{role}{suffix if suffix in _KNOWN_SUFFIXES else ''}")
        copy = await self._steady(drop, source, local)
        name = display(os.path.basename(source.path))
        return {"path": local, "name": name, "sha256": copy.sha256, "size": copy.size}

    async def _consent(self, drop: Drop, job: Job, source: Source) -> StagedConsent:
        local = self._places.scratch(job) / "consent"
        copy = await self._steady(drop, source, str(local))
        local.unlink()
        name = display(os.path.basename(source.path))
        return {"name": name, "library": source.library, "sha256": copy.sha256, "size": copy.size}

    async def _steady(self, drop: Drop, source: Source, local: str) -> StagedFile:
        """A copy that did not change while it was read."""
        path = source.path if source.library else os.path.join(self._places.held(drop), source.path)
        while True:
            try:
                copy = await self._shares[drop.line].stage(path, local)
            except ShareError as error:
                raise _staging_error(error, source, path) from error
            if copy.steady:
                return copy
            self._log.warning("input_still_changing", drop=drop.id, file=display(source.path))
            await asyncio.sleep(self._pause())


def _bytes_of(source: Source | None, sizes: Mapping[str, int]) -> int:
    if source is None:
        return 0
    if source.library:
        with contextlib.suppress(OSError):
            return os.stat(source.path).st_size
    return sizes.get(source.path, 0)


def _staging_error(error: ShareError, source: Source, path: str) -> HeygemdError:
    name = display(os.path.basename(source.path))
    reasons: Mapping[int, tuple[str, str]] = {
        errno.EACCES: (
            "unreadable",
            f"{name} cannot be read: permission denied. Give heygemd's user read permission, then drop it again.",
        ),
        errno.EPERM: (
            "unreadable",
            f"{name} cannot be read: permission denied. Give heygemd's user read permission, then drop it again.",
        ),
        errno.ENOENT: ("missing", f"{name} no longer exists; drop it again."),
        errno.ELOOP: ("not_regular", f"{name} is a symbolic link or is reached through one; copy the file itself."),
        errno.EINVAL: ("not_regular", f"{name} is not a regular file; copy the file itself."),
    }
    if error.errno in reasons and error.path == path:  # else it is our own copy that could not be made
        reason, message = reasons[error.errno]
        return InputError(message, reason=reason)
    return StorageError(f"{name} could not be copied to the work folder: {error}")
