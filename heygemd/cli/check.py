"""``heygemd check``: the configuration with every fault, or what is in force."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heygemd.common.errors import HeygemdError, Misuse
from heygemd.common.exits import OK
from heygemd.common.names import display
from heygemd.config import load, template
from heygemd.config.load import LINE_FOLDERS, Config
from heygemd.config.toml_schema import as_toml
from heygemd.config.whole import TABLES
from heygemd.contract import control
from heygemd.status.text import Row


def command(args: argparse.Namespace) -> int:
    """The configuration that is in force."""
    if args.template:
        print(template.template(), end="")
        return OK
    if args.reference:
        print(template.reference(), end="")
        return OK
    path = load.find(args.config)
    if path is None:
        raise Misuse("No configuration was found: give --config, or write ./config.toml.")
    show(load.load(path), as_json=args.json)
    return OK


def show(config: Config, *, as_json: bool) -> None:
    """Print the configuration in force, and what a person should know about it."""
    found = notes(config)
    if as_json:
        facts = json.loads(json.dumps(asdict(config), default=str))
        print(json.dumps({"ok": True, "source": str(config.source), "config": facts, "notes": found}))
        return
    print("\n".join(_in_force(config)))
    for note in found:
        print(f"note: {note}")
    print(f"ok: {config.source}")


def _in_force(config: Config) -> Iterable[str]:
    for name in TABLES:
        yield f"[{name}]"
        yield from _settings(asdict(getattr(config, name)))
        yield ""
    for line in config.lines:
        yield "[[line]]"
        values = asdict(line)
        options, folders = values.pop("options"), values.pop("folders")
        yield from _settings(values | _given(options))
        for folder, its in folders.items():
            yield f"[line.folders.{json.dumps(folder, ensure_ascii=False)}]"
            yield from _settings(_given(its))
        yield ""


def _settings(values: Row) -> Iterable[str]:
    return (f"{name} = {display(as_toml(value))}" for name, value in values.items())


def _given(options: Row) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def notes(config: Config) -> list[str]:
    """What is not wrong in the file but may be on this machine, as sentences."""
    found = [f"socket: {e.message}" for e in _socket_problem(config.daemon.socket)]
    for line in config.lines:
        missing = [name for name in LINE_FOLDERS if not Path(getattr(line, name)).is_dir()]
        if missing:
            verb = "does" if len(missing) == 1 else "do"
            found.append(f"line {line.name}: {', '.join(missing)} {verb} not exist; the daemon makes what is missing")
        elif len({Path(getattr(line, n)).stat().st_dev for n in ("inbox", "processing", "done", "failed")}) > 1:
            found.append(
                f"line {line.name}: processing, done and failed must lie on the inbox's file system, "
                "because files are moved there, not copied"
            )
        found += [f"line {line.name}: library {folder} is not there" for folder in line.library if not folder.is_dir()]
    return found + _same_places(config) + _writable_by_all(config.source)


def _socket_problem(path: Path) -> list[HeygemdError]:
    try:
        control.check_length(path)
    except HeygemdError as error:
        return [error]
    return []


def _same_places(config: Config) -> list[str]:
    """Folders that differ as written and are the same through a link or mount, which the file cannot show."""
    seen: dict[tuple[int, int], str] = {}
    found = []
    for line in config.lines:
        for name in LINE_FOLDERS:
            folder = Path(getattr(line, name))
            if not folder.is_dir():
                continue
            stat = folder.stat()
            here = f"line {line.name}: {name}"
            other = seen.setdefault((stat.st_dev, stat.st_ino), here)
            if other != here:
                found.append(f"{here} ({folder}) is the same folder as that of {other}")
    return found


def _writable_by_all(source: Path) -> list[str]:
    if source.is_file() and source.stat().st_mode & 0o002:
        return [f"{source} may be written by everybody; it names programs to run: chmod o-w it"]
    return []
