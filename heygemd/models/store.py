"""The operator's model files: imported once, kept in a form that cannot run code, checked by SHA-256.

    models_dir/
      <name>/
        model.json           what it is, where it came from, under which terms
        weights.safetensors  or *.onnx

Nothing here opens a model file itself: that happens in a throwaway child (``heygemd.pipeline.importing``) at import,
and in the renderer.  Nothing here, nor anywhere else in heygemd, fetches anything.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heygemd.common.errors import SetupError

KINDS = {"wav2lip": "the engine wav2lip", "faces": "face detection with insightface"}
RECORD = "model.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class File:
    """One stored file."""

    name: str
    sha256: str
    bytes: int
    role: str


@dataclass(frozen=True, slots=True)
class Model:
    """An imported model.  ``commercial`` is ``None`` where nobody knows; ``sha256`` is that of the source file."""

    name: str
    kind: str
    size: int
    files: tuple[File, ...]
    source: str
    sha256: str
    origin: str | None
    licence: str
    terms: str
    commercial: bool | None
    imported: str

    def to_json(self) -> dict[str, Any]:
        """A plain dict; ``from_json`` reads it back equal."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Model:
        """The inverse of ``to_json``.  Raises TypeError or KeyError for anything else."""
        return Model(**{**data, "files": tuple(File(**f) for f in data["files"])})

    def facts(self) -> dict[str, Any]:
        """For the film's log: which model, and under which terms."""
        keys = ("name", "sha256", "origin", "licence", "terms", "commercial")
        return {key: getattr(self, key) for key in keys}


class Store:
    """The folder with all imported models."""

    def __init__(self, folder: Path) -> None:
        """The folder need not exist yet."""
        self.folder = folder

    def all(self) -> list[Model]:
        """Every model whose record can be read, by name."""
        records = sorted(self.folder.glob(f"[!.]*/{RECORD}"))
        return [model for record in records if (model := _read(record)) is not None]

    def one(self, kind: str, name: str = "") -> Model | None:
        """The model of that kind called ``name``, or, without a name, the one imported last; ``None``: there is none.

        Raises SetupError where a name is given and no model of that kind has it.
        """
        models = [m for m in self.all() if m.kind == kind]
        if not name:
            return max(models, key=lambda m: m.imported, default=None)
        for model in models:
            if model.name == name:
                return model
        there = ", ".join(m.name for m in models) or "none"
        raise SetupError(f"No imported model for {KINDS[kind]} has the name {name!r}; imported: {there}.")

    def path(self, model: Model, file: File) -> Path:
        """Where a stored file lies."""
        return self.folder / model.name / file.name

    def faults(self, model: Model) -> list[str]:
        """What is wrong with the stored files, a sentence each; reads them all."""
        found = []
        for file in model.files:
            path = self.path(model, file)
            try:
                sha256, size = digest(path)
            except OSError as error:
                found.append(f"{path} cannot be read: {error.strerror or error}.")
                continue
            if (sha256, size) != (file.sha256, file.bytes):
                found.append(f"{path} was changed after the import: its SHA-256 differs.")
        return found

    def trusted(self, model: Model) -> dict[str, Path]:
        """Where its files lie, by role, after their hashes were checked.  Raises SetupError where one differs."""
        if faults := self.faults(model):
            raise SetupError(f"{faults[0]} Import {model.name} again (heygemd models remove, then import).")
        return {file.role: self.path(model, file) for file in model.files}

    def remove(self, name: str) -> Model:
        """Delete a model.  Raises SetupError where there is none of that name."""
        found = [m for m in self.all() if m.name == name]
        if not found:
            there = ", ".join(m.name for m in self.all()) or "none"
            raise SetupError(f"No imported model has the name {name!r}; imported: {there}.")
        shutil.rmtree(self.folder / name)
        return found[0]


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def good_name(text: str) -> str:
    """A model's name from a file's: letters, digits, dots, dashes, at most 64; ``model`` where nothing is left."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64]
    return name if _NAME.fullmatch(name) else "model"


def _read(record: Path) -> Model | None:
    try:
        model = Model.from_json(json.loads(record.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return model if model.name == record.parent.name else None
