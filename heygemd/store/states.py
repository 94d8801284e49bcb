"""The states of a drop and of a job, and the journal's rows as objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypedDict

from heygemd.common.request import DropRequest, JobRequest
from heygemd.contract.film_facts import FilmFacts


class DropState(StrEnum):
    """How far a drop has come."""

    CLAIMING = "claiming"  #: its inputs are being moved into processing/
    HELD = "held"  #: its inputs are in processing/, its jobs wait, run or have ended
    FILING = "filing"  #: its folder is about to move to done/ or failed/, under the journalled name
    ENDED = "ended"  #: its folder is in done/ or failed/
    RETURNING = "returning"  #: asked for again: its folder is about to move back from failed/ to processing/


class JobState(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"  #: waits for its turn
    RUNNING = "running"  #: the worker renders it; found at a start, it was interrupted
    RENDERED = "rendered"  #: its verified film is in the work folder
    PUBLISHING = "publishing"  #: its name in the outbox is chosen, its parts are being written there
    REVEALING = "revealing"  #: its parts are whole and durable; a part that is gone has been delivered
    DELIVERED = "delivered"  #: film and log are, or have been, in the outbox
    FAILED = "failed"  #: it cannot be done; the reason says why
    CANCELLED = "cancelled"  #: somebody asked for it


ENDED = frozenset({JobState.DELIVERED, JobState.FAILED, JobState.CANCELLED})


class StagedInput(TypedDict):
    """One staged input: its local copy, the name that people gave it, the copy's hash and size in bytes."""

    path: str
    name: str
    sha256: str
    size: int


class StagedConsent(TypedDict):
    """One consent file, whose copy is not kept."""

    name: str
    library: bool
    sha256: str
    size: int


class StagedInputs(TypedDict):
    """The inputs of a job as they were staged."""

    audio: StagedInput
    video: StagedInput
    consents: list[StagedConsent]


class JobInputs(StagedInputs, total=False):
    """With the renderer's settings, as ``Settings.flat`` names them."""

    settings: dict[str, object]


class FileIdentity(TypedDict):
    """One file's hash and size in bytes."""

    sha256: str
    bytes: int


class FilmRecord(FilmFacts, total=False):
    """What the journal keeps of a finished film: the renderer's reply, and what has become of it since.

    A job that was recalled from its log has ``held`` and ``has_page`` only.
    """

    rendered: str  # when
    held: bool  # whether the film goes to review/
    has_page: bool  # whether a report's page is delivered with it
    film_file: FileIdentity


@dataclass(frozen=True, slots=True)
class Drop:
    """One row of ``drops``.  ``home`` is the name chosen for it below done/ or failed/ (``verdict`` says which)."""

    id: str
    line: str
    state: DropState
    request: DropRequest
    submitter: str | None
    created: str
    ended: str | None
    home: str | None
    verdict: str | None
    batch: str | None
    batch_ready: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One row of ``jobs`` with the request it stems from."""

    id: str
    drop_id: str
    number: int
    state: JobState
    request: JobRequest
    attempts: int
    created: str
    started: str | None
    ended: str | None
    reason: str | None
    reason_code: str | None
    result: FilmRecord | None
    base: str | None
    inputs: JobInputs | None
    deferred_since: str | None
    deferred_reason: str | None
    deferrals: int

    @property
    def waits(self) -> bool:
        """Whether its last deferral still goes on: it has not been started since."""
        if self.state is not JobState.QUEUED or self.deferred_since is None:
            return False
        return self.started is None or _time(self.started) < _time(self.deferred_since)


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)


def now() -> str:
    """The local time with its offset, to the millisecond, ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
