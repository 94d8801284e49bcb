"""What the importer's child answers about one model file."""

from __future__ import annotations

from typing import TypedDict


class StoredFile(TypedDict):
    """A file that the child has written into the target folder, and what it is for."""

    name: str
    role: str


class OpenedModel(TypedDict):
    """``kind``: ``wav2lip`` or ``faces``; ``size``: the side of a Wav2Lip's pictures in px, else 0."""

    kind: str
    size: int
    files: list[StoredFile]


class ImportedModel(OpenedModel):
    """With the SHA-256 of the file that was opened."""

    sha256: str


class ImportAnswer(ImportedModel, total=False):
    """``refused`` or ``missing`` instead, as a sentence, where nothing was written."""

    refused: str
    missing: str
