"""``heygemd purge``: removes what was learned of faces, and on request the inputs and films of some drops.

Runs beside the daemon or without it.  It lists what it would remove, and removes it only with ``--yes``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

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


class PurgeRow(TypedDict):
    """A drop as ``--json`` lists it."""

    drop: str
    line: str
    name: str
    folder: str | None
    films: list[str]
    busy: bool


class PurgeReport(TypedDict):
    """What ``--json`` prints; ``forgotten``: entries of the cache, where ``--yes`` was given."""

    ok: bool
    removed: bool
    drops: list[PurgeRow]
    stayed: list[str]
    forgotten: NotRequired[int]


@dataclass(frozen=True, slots=True)
class PurgeDrop:
    """One drop to purge, with its remaining files."""

    drop: Drop
    folder: str | None
    films: tuple[housekeeping.DeliveredFilm, ...]
    busy: bool

    def to_json(self) -> PurgeRow:
        """The row that is printed, as JSON or for people."""
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
        what = f"{count} cache {'entry' if count == 1 else 'entries'} deleted."
        print(json.dumps({"ok": True, "forgotten": count}) if args.json else what)
        return OK
    drops = find(config, args.drop)
    stayed = remove(config, drops) if args.yes else []
    rows = [drop.to_json() for drop in drops]
    report: PurgeReport = {"ok": not stayed, "removed": args.yes, "drops": rows, "stayed": stayed}
    if args.yes:
        report["forgotten"] = faces(config)
    print_report(report, as_json=args.json)
    return OK if not stayed else FAILED


def faces(config: Config) -> int:
    """Delete the template cache; return the number of entries.  Raises ``SetupError``."""
    folder = config.daemon.state_dir / "cache"
    try:
        return purge_cache(folder)
    except OSError as error:
        raise SetupError(
            f"The cache {folder} could not be emptied: {error.strerror or error}. Run this command as its owner."
        ) from error


def find(config: Config, name: str) -> list[PurgeDrop]:
    """The drops that are called ``name``, have that id, or took an input of that name (with or without its ending).

    Raises InputError where there is none, SetupError where there is no journal.
    """
    path = config.daemon.state_dir / "journal.sqlite"
    if not path.exists():
        raise SetupError(f"There is no journal at {path}: no job was filed yet.")
    journal = Journal.read_only(path)
    lines = {line.name: line for line in config.lines}
    try:
        journalled = [d for d in journal.drops(*DropState) if d.line in lines and _is_meant(d, name)]
        drops = [_with_files(journal, lines[drop.line], drop) for drop in journalled]
    finally:
        journal.close()
    if not drops:
        raise InputError(
            f"No drop has the name {display(name)}, and none contains a file of that name.", reason="missing"
        )
    return drops


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


def _with_files(journal: Journal, line: LineConfig, drop: Drop) -> PurgeDrop:
    folder = housekeeping.folder_of(line, drop)
    films = (housekeeping.DeliveredFilm.of(line, drop, job) for job in journal.jobs_of(drop.id))
    there = tuple(film for film in films if film is not None and Path(f"{film.base}.mp4").exists())
    busy = drop.state is not DropState.ENDED
    return PurgeDrop(drop, folder if folder and Path(folder).is_dir() else None, there, busy)


def remove(config: Config, drops: Iterable[PurgeDrop]) -> list[str]:
    """Delete inputs and films of ended drops; return a sentence for each kept file.  Raises ``SetupError``."""
    nofollow.trust(folder for line in config.lines for folder in line.trusted)
    stayed = []
    try:
        for one in drops:
            if one.busy:
                stayed.append(f"{one.drop.id} has not ended; cancel it first (heygemd cancel).")
                continue
            if one.folder:
                done = operations.remove_filed(one.folder, housekeeping.inputs_of(one.drop), housekeeping.OURS)
                stayed += [
                    f"{display(one.folder)}/{display(name)} was changed after it was filed." for name in done.left
                ]
            for film in one.films:
                if operations.remove_film(film.base, film.size, film.job) == "changed":
                    stayed.append(f"{display(film.base)}.mp4 or its log was changed after delivery.")
    except OSError as error:
        where = display(str(error.filename or ""))
        raise SetupError(
            f"{where} could not be deleted: {error.strerror or error}. Run this command as its owner."
        ) from error
    return stayed


def print_report(report: PurgeReport, *, as_json: bool) -> None:
    """Print what would be removed, or was."""
    if as_json:
        print(json.dumps(report))
        return
    for drop in report["drops"]:
        print(f"{drop['drop']}  {drop['line']}  {drop['name']}{'  (has not ended)' if drop['busy'] else ''}")
        for what in [*([drop["folder"]] if drop["folder"] else []), *drop["films"]]:
            print(f"  {what}")
        if not drop["folder"] and not drop["films"]:
            print("  all its files are already gone")
    for sentence in report["stayed"]:
        print(f"kept: {sentence}")
    if report["removed"]:
        print(f"Deleted, together with all cached face data ({report.get('forgotten', 0)} entries).")
    else:
        print("Nothing was deleted. --yes deletes these inputs, the films with their logs, and all cached face data.")
