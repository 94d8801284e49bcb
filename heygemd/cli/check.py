"""``heygemd check``: prints every fault of the configuration, or the configuration in force."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from heygemd.common.errors import HeygemdError, Misuse
from heygemd.common.exits import OK
from heygemd.common.names import display
from heygemd.config import load, template
from heygemd.config.load import LINE_FOLDERS, Config
from heygemd.config.toml_schema import as_toml
from heygemd.config.whole import TABLES
from heygemd.contract import control


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
        raise Misuse("No configuration was found. Give --config, or write ./config.toml.")
    show(load.load(path), as_json=args.json)
    return OK


def show(config: Config, *, as_json: bool) -> None:
    """Print the configuration in force, and notes about this machine."""
    config_notes = notes(config)
    if as_json:
        facts = json.loads(json.dumps(asdict(config), default=str))
        print(json.dumps({"ok": True, "source": str(config.source), "config": facts, "notes": config_notes}))
        return
    print("\n".join(_in_force(config)))
    for note in config_notes:
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


def _settings(values: Mapping[str, object]) -> Iterable[str]:
    return (f"{name} = {display(as_toml(value))}" for name, value in values.items())


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def notes(config: Config) -> list[str]:
    """What is right in the file but may be wrong on this machine, as texts."""
    texts = [f"socket: {e.message}" for e in _socket_problem(config.daemon.socket)]
    for line in config.lines:
        missing = [name for name in LINE_FOLDERS if not Path(getattr(line, name)).is_dir()]
        if missing:
            verb = "does" if len(missing) == 1 else "do"
            texts.append(f"line {line.name}: {', '.join(missing)} {verb} not exist; the daemon makes missing folders")
        elif len({Path(getattr(line, n)).stat().st_dev for n in ("inbox", "processing", "done", "failed")}) > 1:
            texts.append(
                f"line {line.name}: processing, done and failed must be on the inbox's file system, because files are "
                "moved, not copied"
            )
        texts += [
            f"line {line.name}: library {folder} does not exist" for folder in line.library if not folder.is_dir()
        ]
    return texts + _same_places(config) + _writable_by_all(config.source)


def _socket_problem(path: Path) -> list[HeygemdError]:
    try:
        control.check_length(path)
    except HeygemdError as error:
        return [error]
    return []


def _same_places(config: Config) -> list[str]:
    """Folders that differ as written and are the same through a link or mount, which the file cannot show."""
    first_use: dict[tuple[int, int], str] = {}
    texts = []
    for line in config.lines:
        for name in LINE_FOLDERS:
            folder = Path(getattr(line, name))
            if not folder.is_dir():
                continue
            stat = folder.stat()
            here = f"line {line.name}: {name}"
            other = first_use.setdefault((stat.st_dev, stat.st_ino), here)
            if other != here:
                texts.append(f"{here} ({folder}) is the same folder as {other}")
    return texts


def _writable_by_all(source: Path) -> list[str]:
    if source.is_file() and source.stat().st_mode & 0o002:
        return [f"{source} is writable by everybody and names programs to run; run: chmod o-w {source}"]
    return []
