"""The package's import graph, read from its source: modules, rooms, and what each room says that it may import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.site import ROOT

PACKAGE = ROOT / "heygemd"
FILES = sorted(PACKAGE.rglob("*.py"))
MAY_IMPORT = re.compile(r"^May import: (.*?)\.[ ]*$", re.M | re.S)  # may go over several lines

Graph = Mapping[str, set[str]]


def module(path: Path) -> str:
    """``heygemd/store/drops.py`` -> ``store.drops``; a room's ``__init__`` -> ``store``; the package's own -> ````."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module(path): path for path in FILES}


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """Every import with its line, wherever it stands in the file; one of a module of ours names the module."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if _ours(whole) in MODULES else node.module), node.lineno


def _ours(name: str) -> str | None:
    return name.removeprefix("heygemd").removeprefix(".") if name.split(".")[0] == "heygemd" else None


@cache
def own_imports(path: Path) -> tuple[tuple[str, int], ...]:
    """The modules of the package that a file imports, by their names below ``heygemd``, with the line."""
    named = ((_ours(name), line) for name, line in imports(path))
    return tuple((ours, line) for ours, line in named if ours is not None)


def is_below(name: str, room: str) -> bool:
    """Whether a module is a room or stands in it."""
    return name == room or name.startswith(f"{room}.")


def allowed(room: str) -> set[str] | None:
    """The names in a room's line ``May import: …``, dotted below ``heygemd``; ``None`` if it has no such line."""
    doc = ast.get_docstring(ast.parse(MODULES[room].read_text(encoding="utf-8"))) or ""
    line = MAY_IMPORT.search(doc)
    return None if line is None else set(re.findall(r"[\w.]+", line[1])) - {"nothing"}


def rooms(below: str = "") -> list[str]:
    """The packages directly below a package."""
    folder = PACKAGE.joinpath(*below.split(".")) if below else PACKAGE
    return sorted(module(path) for path in folder.glob("*/__init__.py"))


def all_rooms() -> list[str]:
    """Every package below ``heygemd``, at any depth."""
    return [name for name, path in MODULES.items() if name and path.name == "__init__.py"]


def file_graph() -> Graph:
    """File -> files that it imports.  The package that a file stands in is loaded with it anyway, so it is no arrow."""
    return {
        name: {target for target, _ in own_imports(path) if target in MODULES and not is_below(name, target or name)}
        for name, path in MODULES.items()
    }


def room_graph(below: str) -> Graph:
    """Room -> rooms that it imports, of the rooms directly below a package."""
    here = rooms(below)
    graph: dict[str, set[str]] = {room: set() for room in here}
    for name, path in MODULES.items():
        for target, _ in own_imports(path):
            one, other = _room(name, here), _room(target, here)
            if one and other and one != other:
                graph[one].add(other)
    return graph


def _room(name: str, among: Iterable[str]) -> str | None:
    return next((room for room in among if is_below(name, room)), None)


def circle(graph: Graph) -> list[str]:
    """One circle of a graph, or nothing."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        return next((c for target in sorted(graph.get(name, ())) if (c := visit(target, [*way, name]))), [])

    return next((c for name in sorted(graph) if (c := visit(name, []))), [])
