"""``heygemd models list | import | verify | remove``: the imported models, on the command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from heygemd.common.errors import HeygemdError
from heygemd.common.exits import FAILED, OK
from heygemd.common.names import display
from heygemd.config import load
from heygemd.models.importing import import_model
from heygemd.models.store import KINDS, Model, ModelStore


class Refusal(TypedDict):
    """A file that was not imported, and why; ``code`` is that of the error."""

    path: str
    code: str
    message: str


def command(args: argparse.Namespace) -> int:
    """Import, list, check and remove models."""
    store = ModelStore(load.load_or_default(args.config).daemon.models_dir)
    if args.word == "import":
        done = importing(store, args.paths, args.name, accept=args.accept_licence, as_json=args.json)
    elif args.word == "verify":
        done = verifying(store, as_json=args.json)
    elif args.word == "remove":
        done = removing(store, args.name, as_json=args.json)
    else:
        done = listing(store, as_json=args.json)
    return OK if done else FAILED


def listing(store: ModelStore, *, as_json: bool) -> bool:
    """Every imported model with its terms."""
    models = store.all()
    if as_json:
        print(json.dumps({"ok": True, "folder": str(store.folder), "models": [m.to_json() for m in models]}))
        return True
    for model in models:
        _print_model(model)
    if not models:
        print(f"No models are imported in {store.folder}. The engine footage needs none.")
    return True


def importing(store: ModelStore, paths: Sequence[Path], name: str, *, accept: bool, as_json: bool) -> bool:
    """Import each; one that is refused does not keep the others out."""
    done: list[Model] = []
    refused: list[Refusal] = []
    for path in paths:
        try:
            done.append(import_model(store, path, accept=accept, name=name if len(paths) == 1 else ""))
        except HeygemdError as error:
            refused.append({"path": display(str(path)), "code": error.code, "message": error.message})
            if len(paths) == 1:
                raise
    if as_json:
        print(json.dumps({"ok": not refused, "imported": [m.to_json() for m in done], "refused": refused}))
        return not refused
    for model in done:
        _print_model(model)
    for fault in refused:
        print(f"refused: {fault['message']}")
    return not refused


def verifying(store: ModelStore, *, as_json: bool) -> bool:
    """Compare each stored file with its checksum at import."""
    faults_of = {model.name: store.faults(model) for model in store.all()}
    if as_json:
        print(json.dumps({"ok": not any(faults_of.values()), "models": faults_of}))
    else:
        for name, faults in faults_of.items():
            print(f"{name}: {' '.join(faults) or 'unchanged since import'}")
        if not faults_of:
            print("No models are imported.")
    return not any(faults_of.values())


def removing(store: ModelStore, name: str, *, as_json: bool) -> bool:
    """Delete one."""
    model = store.remove(name)
    print(json.dumps({"ok": True, "removed": model.name}) if as_json else f"{model.name} was removed.")
    return True


def _print_model(model: Model) -> None:
    size = sum(f.bytes for f in model.files) >> 20
    what = KINDS.get(model.kind, model.kind) + (f", {model.size} px" if model.size else "")
    print(f"{model.name}  for {what}, {size} MiB, from {model.source}")
    print(f"    origin: {model.origin or 'unknown (SHA-256 not in any list)'}")
    print(f"    terms: {model.terms}")
