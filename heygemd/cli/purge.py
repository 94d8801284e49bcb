"""``heygemd purge``: forget faces, and on request the footage of a drop or of whoever is in a file of some name.

Runs beside the daemon or without it.  It lists what it would remove, and removes it only when told to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heygemd.common.errors import InputError, SetupError
from heygemd.common.exits import FAILED, OK
from heygemd.common.names import display, folded, leaf, split
from heygemd.config import load
from heygemd.config.load import Config, LineConfig
from heygemd.contract.template_cache import purge as purge_cache
from heygemd.daemon import housekeeping
from heygemd.share import nofollow, operations
from heygemd.store.drops import DropState, Journal
from heygemd.store.states import Drop


@dataclass(frozen=True, slots=True)
class Found:
    """One drop that a purge is about, with what of it is still there."""

    drop: Drop
    folder: str | None
    films: tuple[housekeeping.Film, ...]
    busy: bool

    def to_json(self) -> dict[str, Any]:
        """For ``--json``, and what is told to people."""
        return {
            "drop": self.drop.id, "line": self.drop.line, "name": display(self.drop.request.name),
            "folder": display(self.folder) if self.folder else None,
            "films": [display(f"{film.base}.mp4") for film in self.films], "busy": self.busy,
        }  # fmt: skip


def command(args: argparse.Namespace) -> int:
    """Forget faces, or footage too."""
    config = load.load_or_default(args.config)
    if args.drop is None:
        count = faces(config)
        what = f"{count} {'entry' if count == 1 else 'entries'} forgotten."
        print(json.dumps({"ok": True, "forgotten": count}) if args.json else what)
        return OK
    found = find(config, args.drop)
    stayed = remove(config, found) if args.yes else []
    told = {"ok": not stayed, "removed": args.yes, "drops": [one.to_json() for one in found], "stayed": stayed}
    if args.yes:
        told["forgotten"] = faces(config)
    tell(told, as_json=args.json)
    return OK if not stayed else FAILED


def faces(config: Config) -> int:
    """Forget what was learned of templates; how many entries there were.  Raises SetupError."""
    folder = config.daemon.state_dir / "cache"
    try:
        return purge_cache(folder)
    except OSError as error:
        raise SetupError(f"{folder} could not be emptied: {error.strerror or error}. Run this as its owner.") from error


def find(config: Config, name: str) -> list[Found]:
    """The drops that are called ``name``, have that id, or took an input of that name (with or without its ending).

    Raises InputError where there is none, SetupError where there is no journal.
    """
    path = config.daemon.state_dir / "journal.sqlite"
    if not path.exists():
        raise SetupError(f"There is no journal at {path}: nothing has been filed yet.")
    journal = Journal.read_only(path)
    lines = {line.name: line for line in config.lines}
    try:
        drops = [d for d in journal.drops(*DropState) if d.line in lines and _is_meant(d, name)]
        found = [_found(journal, lines[drop.line], drop) for drop in drops]
    finally:
        journal.close()
    if not found:
        raise InputError(f"No drop is called {display(name)}, and none took a file of that name.", reason="missing")
    return found


def _is_meant(drop: Drop, name: str) -> bool:
    if name == drop.id or name.rpartition("-")[0] == drop.id:
        return True
    return folded(name) in set(_names_of(drop))


def _names_of(drop: Drop) -> Iterable[str]:
    sources = [s.path for job in drop.request.jobs for s in (job.audio, job.video, *job.consents) if s is not None]
    paths = [*sources, *(path for move in drop.request.moves for path in move.stamps)]
    for path in [drop.request.name, *(leaf(path) for path in paths)]:
        yield folded(path)
        yield folded(split(path)[0])


def _found(journal: Journal, line: LineConfig, drop: Drop) -> Found:
    folder = housekeeping.folder_of(line, drop)
    films = (housekeeping.Film.of(line, drop, job) for job in journal.jobs_of(drop.id))
    there = tuple(film for film in films if film is not None and Path(f"{film.base}.mp4").exists())
    busy = drop.state is not DropState.ENDED
    return Found(drop, folder if folder and Path(folder).is_dir() else None, there, busy)


def remove(config: Config, found: Iterable[Found]) -> list[str]:
    """Remove inputs and films of drops that have ended; sentences about what stayed.  Raises SetupError."""
    nofollow.trust(folder for line in config.lines for folder in line.trusted)
    stayed = []
    try:
        for one in found:
            if one.busy:
                stayed.append(f"{one.drop.id} has not ended; cancel it first.")
                continue
            if one.folder:
                told = operations.remove_filed(one.folder, housekeeping.inputs_of(one.drop), housekeeping.OURS)
                stayed += [f"{display(one.folder)}/{display(name)} is not as it was filed." for name in told.left]
            for film in one.films:
                if operations.remove_film(film.base, film.size, film.job) == "changed":
                    stayed.append(f"{display(film.base)}.mp4 or its log is not as it was delivered.")
    except OSError as error:
        where = display(str(error.filename or ""))
        raise SetupError(f"{where} could not be removed: {error.strerror or error}. Run this as its owner.") from error
    return stayed


def tell(told: Mapping[str, Any], *, as_json: bool) -> None:
    """What was found, or removed, on stdout."""
    if as_json:
        print(json.dumps(told))
        return
    for drop in told["drops"]:
        print(f"{drop['drop']}  {drop['line']}  {drop['name']}{'  (has not ended)' if drop['busy'] else ''}")
        for what in [*([drop["folder"]] if drop["folder"] else []), *drop["films"]]:
            print(f"  {what}")
        if not drop["folder"] and not drop["films"]:
            print("  nothing of it is there any more")
    for sentence in told["stayed"]:
        print(f"stays: {sentence}")
    if told["removed"]:
        print(f"Removed, and all that was learned of templates forgotten ({told['forgotten']}).")
    else:
        print("Nothing was removed; --yes removes these inputs, films with their logs, and what was learned of faces.")
