"""``import_model``: a model file is opened in a throwaway child, and only its tensors are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from heygemd.common.errors import EngineError, InputError, SetupError
from heygemd.common.names import display
from heygemd.common.spawn import environment, python
from heygemd.contract.model_import import ImportAnswer, ImportedModel
from heygemd.models import terms
from heygemd.models.store import RECORD, File, Model, ModelStore, digest, good_name

IMPORT_SECONDS = 900.0
"""A checkpoint of 436 MB takes about ten."""


def import_model(store: ModelStore, path: Path, *, accept: bool, name: str = "") -> Model:
    """Import the model at ``path``, a file or a folder, and return it.

    ``accept``: the operator accepts terms that forbid commercial use or are unknown.  Raises InputError where the
    file is no model that heygemd can use, SetupError where the terms are not accepted or something is missing.
    """
    if not path.exists():
        raise InputError(f"{display(str(path))} does not exist.", reason="missing")
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=store.folder))
    except OSError as error:
        raise SetupError(f"{store.folder} cannot be written: {error.strerror or error}.") from error
    try:
        opened = _open_in_child(path, part)
        model = _model(store, path, part, opened, name)
        _check_terms(model, path, accept)
        (part / RECORD).write_text(json.dumps(model.to_json(), indent=2) + "\n")
        _make_readable(part)
        _keep(store, part, model)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return model


def _open_in_child(path: Path, part: Path) -> ImportedModel:
    """What the child made of it; its files are in ``part``."""
    request = json.dumps({"path": str(path.absolute()), "name": display(path.name), "target": str(part)})
    env = {k: v for k, v in environment().items() if not k.lower().endswith("_proxy")} | {"CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            python("heygemd.pipeline.importing"),
            input=request, capture_output=True, text=True, errors="replace", timeout=IMPORT_SECONDS, env=env,
            start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{display(path.name)} was not read within {IMPORT_SECONDS:.0f} s.", reason="bad_model"
        ) from None
    try:
        answer: ImportAnswer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise EngineError(
            f"{display(path.name)} was not imported: the process that opened it ended with {how}.",
            detail=done.stderr[-2000:],
        ) from None
    if "refused" in answer:
        raise InputError(answer["refused"], reason="bad_model")
    if "missing" in answer:
        raise SetupError(answer["missing"])
    return answer


def _model(store: ModelStore, path: Path, part: Path, opened: ImportedModel, name: str) -> Model:
    files = tuple(File(entry["name"], *digest(part / entry["name"]), entry["role"]) for entry in opened["files"])
    sha256 = opened["sha256"]
    for other in store.all():
        if other.sha256 == sha256 and other.kind == opened["kind"]:
            raise InputError(f"{display(path.name)} is already imported as {other.name}.", reason="imported_already")
    licence, origin = terms.terms(opened["kind"], sha256)
    name = good_name(name or path.stem)
    if (store.folder / name).exists():
        name = good_name(f"{name[:55]}-{sha256[:8]}")
    return Model(
        name=name,
        kind=opened["kind"],
        size=opened["size"],
        files=files,
        source=display(path.name),
        sha256=sha256,
        origin=origin,
        licence=licence.name,
        terms=licence.terms,
        commercial=licence.commercial,
        imported=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def _check_terms(model: Model, path: Path, accept: bool) -> None:
    if model.commercial is not True and not accept:
        raise SetupError(
            f"{display(path.name)} was not imported: its terms must be accepted first. {model.terms} Add "
            "--accept-licence if these terms allow your use."
        )


def _make_readable(part: Path) -> None:
    """Give the daemon's user read permission."""
    part.chmod(0o755)
    for path in part.iterdir():
        path.chmod(0o644)


def _keep(store: ModelStore, part: Path, model: Model) -> None:
    try:
        part.rename(store.folder / model.name)
    except OSError as error:
        raise SetupError(f"{store.folder / model.name} cannot be written: {error.strerror or error}.") from error
