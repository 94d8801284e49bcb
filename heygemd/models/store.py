"""The store of imported model files: kept in a form that cannot run code, checked by SHA-256.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

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


class FileRecord(TypedDict):
    """A ``File`` as ``model.json`` has it."""

    name: str
    sha256: str
    bytes: int
    role: str


class ModelFacts(TypedDict):
    """What a film's log has of a model."""

    name: str
    sha256: str
    origin: str | None
    licence: str
    terms: str
    commercial: bool | None


class ModelRecord(ModelFacts):
    """A ``Model`` as ``model.json`` has it."""

    kind: str
    size: int
    files: list[FileRecord]
    source: str
    imported: str


@dataclass(frozen=True, slots=True)
class Model:
    """An imported model.  ``commercial`` is ``None`` if unknown; ``sha256`` is that of the source file."""

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

    def to_json(self) -> dict[str, object]:
        """A plain dict; ``from_json`` reads it back equal."""
        return asdict(self)

    @staticmethod
    def from_json(data: ModelRecord) -> Model:
        """The inverse of ``to_json``.  Raises TypeError or KeyError for anything else."""
        return Model(
            name=data["name"], kind=data["kind"], size=data["size"], files=tuple(File(**f) for f in data["files"]),
            source=data["source"], sha256=data["sha256"], origin=data["origin"], licence=data["licence"],
            terms=data["terms"], commercial=data["commercial"], imported=data["imported"],
        )  # fmt: skip

    def facts(self) -> ModelFacts:
        """For the film's log: which model, and under which terms."""
        return {
            "name": self.name, "sha256": self.sha256, "origin": self.origin, "licence": self.licence,
            "terms": self.terms, "commercial": self.commercial,
        }  # fmt: skip


class ModelStore:
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
        """The path of a stored file."""
        return self.folder / model.name / file.name

    def faults(self, model: Model) -> list[str]:
        """Faults of the stored files, one sentence each; reads all files."""
        faults = []
        for file in model.files:
            path = self.path(model, file)
            try:
                sha256, size = digest(path)
            except OSError as error:
                faults.append(f"{path} cannot be read: {error.strerror or error}.")
                continue
            if (sha256, size) != (file.sha256, file.bytes):
                faults.append(f"{path} was changed after the import: its SHA-256 differs.")
        return faults

    def trusted(self, model: Model) -> dict[str, Path]:
        """The paths of its files, by role, after their hashes were checked.  Raises SetupError where one differs."""
        if faults := self.faults(model):
            raise SetupError(f"{faults[0]} Import {model.name} again (heygemd models remove, then import).")
        return {file.role: self.path(model, file) for file in model.files}

    def remove(self, name: str) -> Model:
        """Delete a model.  Raises ``SetupError`` if no model has that name."""
        named = [m for m in self.all() if m.name == name]
        if not named:
            there = ", ".join(m.name for m in self.all()) or "none"
            raise SetupError(f"No imported model has the name {name!r}; imported: {there}.")
        shutil.rmtree(self.folder / name)
        return named[0]


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
