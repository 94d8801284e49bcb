"""What the importer's child answers: the kind of a model and the files that were written of it."""

from __future__ import annotations

from typing import TypedDict


class StoredFile(TypedDict):
    """A file in the target folder, and what it is for."""

    name: str
    role: str


class Opened(TypedDict):
    """``kind``: ``wav2lip`` or ``faces``; ``size``: the side of a Wav2Lip's pictures in px, else 0."""

    kind: str
    size: int
    files: list[StoredFile]


class Imported(Opened):
    """With the hash of what was opened."""

    sha256: str
