"""Finds, reads and checks ``config.toml``; gives a frozen ``Config``.

The whole file is checked, every fault is named at once, unknown keys are faults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import tomli

from heygemd.common import fonts
from heygemd.common.errors import ConfigError, Fault
from heygemd.common.request import JobOptions
from heygemd.config import toml_schema
from heygemd.config.line import LINE_FOLDERS, LINE_KEYS, LINE_PLACES, OPTION_KEYS, LineConfig
from heygemd.config.tables import (
    CommandConfig,
    DaemonConfig,
    GuardConfig,
    IntakeConfig,
    LimitsConfig,
    MarkConfig,
    RenderConfig,
)
from heygemd.config.template import CONFIG_TEMPLATE, reference_rows, template
from heygemd.config.whole import TABLES, Config

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "CONFIG_TEMPLATE",
    "LINE_FOLDERS",
    "LINE_PLACES",
    "CommandConfig",
    "Config",
    "DaemonConfig",
    "GuardConfig",
    "IntakeConfig",
    "LimitsConfig",
    "LineConfig",
    "RenderConfig",
    "default_config",
    "find",
    "load",
    "parse",
    "reference_rows",
    "template",
]


SYSTEM_CONFIG = Path("/etc/heygemd/config.toml")


def default_config() -> Config:
    """The defaults without any line: enough for ``render`` and ``demo``, nothing to watch."""
    return Config()


def find(given: Path | None) -> Path | None:
    """The file to read: the one given, ``$HEYGEMD_CONFIG``, ``./config.toml``, ``/etc/heygemd/config.toml``.

    A file that was asked for is returned even if it does not exist (``load`` says so).
    """
    asked = given or (Path(os.environ["HEYGEMD_CONFIG"]) if os.environ.get("HEYGEMD_CONFIG") else None)
    if asked is not None:
        return asked
    return next((p for p in (Path("config.toml"), SYSTEM_CONFIG) if p.is_file()), None)


def load(path: Path, *, need_lines: bool = True) -> Config:
    """The checked configuration of the file at ``path``.

    Relative paths in it are taken from the file's own folder.  Without ``need_lines`` a file that has no
    ``[[line]]`` is accepted.  Raises ConfigError with every fault.
    """
    source = path.absolute()
    return parse(_read_toml(source), source, need_lines=need_lines)


def _read_toml(source: Path) -> Mapping[str, object]:
    try:
        with source.open("rb") as file:
            return tomli.load(file)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(str(source), [Fault("TOML", str(error))]) from error
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
        raise ConfigError(str(source), [Fault("file", what)]) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise ConfigError(str(source), [Fault("file", what)]) from error


def parse(data: Mapping[str, object], source: Path, *, need_lines: bool = True) -> Config:
    """As ``load``, for TOML already parsed; ``source`` gives the folder for relative paths."""
    faults: list[Fault] = []
    faults += [
        Fault("file", f"unknown table or key {name!r}" + toml_schema.guess(name, [*TABLES, "line"]))
        for name in data
        if name not in TABLES and name != "line"
    ]
    tables = {name: _table(name, data.get(name, {}), source.parent, faults) for name in TABLES}
    lines = _lines(data.get("line", []), source.parent, faults)
    config = toml_schema.build(Config, {**tables, "lines": lines, "source": source})
    if need_lines and not data.get("line"):
        faults.append(Fault("file", "has no [[line]]; at least one with name and root is required"))
    faults += _engine_faults(config) + _overlap_faults(config) + _label_faults(config.mark)
    if faults:
        raise ConfigError(str(source), faults)
    return config


def _table(name: str, raw: object, base: Path, faults: list[Fault]) -> DataclassInstance:
    cls = TABLES[name]
    if not isinstance(raw, dict):
        faults.append(Fault(name, f"must be a table: write [{name}]"))
        return cls()
    elsewhere = {k: f"[{other}]" for other, c in TABLES.items() if other != name for k in toml_schema.keys_of(c)}
    values = toml_schema.read_values(toml_schema.keys_of(cls), raw, f"[{name}]", base, faults, elsewhere=elsewhere)
    return toml_schema.build(cls, values)


def _lines(raw: object, base: Path, faults: list[Fault]) -> tuple[LineConfig, ...]:
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        faults.append(Fault("line", "must be written with two brackets: [[line]]"))
        return ()
    read = (_line(table, number, base, faults) for number, table in enumerate(raw, start=1))
    lines = tuple(line for line in read if line)
    names = [line.name.casefold() for line in lines]
    twice = "is also the name of another line (case is ignored)"
    faults += [Fault(f"line {n!r} name", twice) for n in dict.fromkeys(names) if names.count(n) > 1]
    return lines


def _line(table: Mapping[str, object], number: int, base: Path, faults: list[Fault]) -> LineConfig | None:
    """The line, or ``None`` if its name or root is invalid (this is then among the faults)."""
    where = f"line {table['name']!r}" if isinstance(table.get("name"), str) else f"line number {number}"
    elsewhere = {k: f"[{name}]" for name, c in TABLES.items() for k in toml_schema.keys_of(c)}
    plain = {k: v for k, v in table.items() if k != "folders"}
    values = toml_schema.read_values({**LINE_KEYS, **OPTION_KEYS}, plain, where, base, faults, elsewhere=elsewhere)
    folders = _folders(table.get("folders", {}), where, base, faults)
    options = toml_schema.build(JobOptions, {k: v for k, v in values.items() if k in OPTION_KEYS})
    own = {k: v for k, v in values.items() if k in LINE_KEYS}
    if not {"name", "root"} <= own.keys():
        return None
    return toml_schema.build(LineConfig, {**own, "options": options, "folders": folders})


def _folders(raw: object, where: str, base: Path, faults: list[Fault]) -> dict[str, JobOptions]:
    if not isinstance(raw, dict) or not all(isinstance(table, dict) for table in raw.values()):
        faults.append(Fault(f"{where} folders", "must be tables: write [line.folders.<subfolder>]"))
        return {}
    options = {}
    for folder, table in raw.items():
        place = f"{where} folders.{folder}"
        if problem := _folder_problem(folder):
            faults.append(Fault(place, problem))
        values = toml_schema.read_values(OPTION_KEYS, table, place, base, faults)
        options[folder] = toml_schema.build(JobOptions, values)
    return options


def _folder_problem(folder: str) -> str | None:
    parts = folder.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(ord(c) < 32 for c in folder):
        return "must be a subfolder of the inbox, such as zhang or zhang/lessons"
    if parts[0].casefold() in ("high", "low"):
        return "is reserved: the folders high/ and low/ set the priority"
    return None


def _engine_faults(config: Config) -> list[Fault]:
    """Faults of engines: used but not allowed on a line, or not configured."""
    faults = []
    wanted = {config.render.engine}
    for line in config.lines:
        wanted |= set(line.allowed_engines)
        asked = {"engine": line.options.engine or config.render.engine}
        asked |= {f"folders.{name} engine": o.engine for name, o in line.folders.items() if o.engine}
        faults += [
            Fault(
                f"line {line.name!r} {place}",
                f"{engine!r} is not among allowed_engines of this line; add it there",
            )
            for place, engine in asked.items()
            if engine not in line.allowed_engines
        ]
    if "command" in wanted and not config.command.argv:
        faults.append(Fault("[command] argv", "is required, because the engine 'command' is chosen or allowed"))
    if "duix" in wanted and config.duix.shared == Path():
        faults.append(Fault("[duix] shared", "is required, because the engine 'duix' is chosen or allowed"))
    return faults


def _label_faults(mark: MarkConfig) -> list[Fault]:
    """A label that its font cannot write."""
    font = fonts.OURS if mark.label_font == Path() else mark.label_font
    if mark.label == "off":
        return []
    try:
        lacking = fonts.missing(mark.label_text, font)
    except (OSError, ValueError) as error:
        return [Fault("[mark] label_font", f"{font} cannot be used: {getattr(error, 'strerror', None) or error}")]
    if not lacking:
        return []
    cure = "set label_font to a font that contains them" if font == fonts.OURS else "choose another font or text"
    return [Fault("[mark] label_text", f"has characters that the font {font.name} lacks: {' '.join(lacking)}; {cure}")]


def _overlap_faults(config: Config) -> list[Fault]:
    """Faults of overlapping folders, compared as written; links are not followed, no disk is accessed.

    A line whose whole root lies wrong gives one fault, not five.
    """
    faults: dict[tuple[str, Path], Fault] = {}
    taken: list[tuple[str, Path]] = []
    for line in config.lines:
        for name in LINE_PLACES:
            path = Path(getattr(line, name))
            for other, theirs in [*taken, *_daemons_own(config, path)]:
                if _nested(path, theirs):
                    fault = _overlap(f"line {line.name!r} {name}", path, other, theirs)
                    faults.setdefault((line.name, theirs), fault)
            taken.append((f"line {line.name!r} {name}", path))
    watched = [t for t in taken if t[0].endswith((" inbox", " processing"))]
    for line in config.lines:
        for path in line.library:
            clashes = [t for t in watched if _nested(path, t[1])]
            for other, theirs in clashes[:1]:
                faults[line.name, path] = _overlap(f"line {line.name!r} library", path, other, theirs)
    return list(faults.values())


def _daemons_own(config: Config, folder: Path) -> list[tuple[str, Path]]:
    """The daemon's paths that must not overlap ``folder``; a line may be inside state_dir, not the reverse."""
    own = config.daemon
    inside = [("state_dir", own.state_dir), ("socket", own.socket), ("log_file", own.log_file)]
    return [("[daemon] work_dir", own.work_dir)] + [
        (f"[daemon] {name}", path) for name, path in inside if path.is_relative_to(folder)
    ]


def _nested(one: Path, two: Path) -> bool:
    return one.is_relative_to(two) or two.is_relative_to(one)


def _overlap(where: str, path: Path, other: str, theirs: Path) -> Fault:
    relation = "is the same folder as" if path == theirs else "overlaps with"
    return Fault(where, f"{path} {relation} {other} ({theirs}); use separate folders")


def load_or_default(given: Path | None) -> Config:
    """The configuration for a command that needs no file, or no lines in it.  Raises ``ConfigError``."""
    path = find(given)
    return default_config() if path is None else load(path, need_lines=False)
