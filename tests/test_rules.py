"""Rules of the house that a machine can hold."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest

from heygemd.cli import main
from heygemd.common import messages
from heygemd.config import template
from tests import conftest
from tests.imports import (
    MAY_IMPORT,
    MODULES,
    PACKAGE,
    all_rooms,
    allowed,
    circle,
    file_graph,
    imports,
    is_below,
    own_imports,
    room_graph,
    rooms,
)
from tests.site import ROOT

DOCS = PACKAGE / "data" / "docs"

HEAVY = {"torch", "cv2", "insightface", "onnxruntime", "onnx", "numpy", "scipy", "safetensors"}
MOST_MODULES, MOST_LINES = 12, 400
JARGON = re.compile(r"\b(so many|so much|anew|what lies|is laid|where it is another)\b", re.I)


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] not in ("pipeline", "training")])
def test_only_the_pipeline_and_the_training_import_anything_heavy(name: str) -> None:
    assert not {target.split(".")[0] for target, _ in imports(MODULES[name])} & HEAVY


@pytest.mark.parametrize("room", rooms())
def test_every_room_states_its_rule_and_what_it_may_import(room: str) -> None:
    doc = ast.get_docstring(ast.parse(MODULES[room].read_text())) or ""
    assert doc.partition("\n")[0].endswith(".")
    may = allowed(room)
    assert may is not None, f"heygemd/{room}/__init__.py has no line 'May import: ….'"
    assert may <= set(rooms()), "a room that does not exist"


@pytest.mark.parametrize("room", all_rooms())
def test_a_room_imports_what_it_may_and_nothing_else(room: str) -> None:
    """A room inside a room may leave the line away; if it has one, the line holds."""
    may = allowed(room)
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {target or 'heygemd'}"
        for name, path in MODULES.items()
        if may is not None and is_below(name, room)
        for target, line in own_imports(path)
        if target and not any(is_below(target, free) for free in (room, *may))
    ]
    assert not faults


def test_every_name_in_such_a_line_exists() -> None:
    unknown = {room: (allowed(room) or set()) - set(MODULES) for room in all_rooms()}
    assert not {room: names for room, names in unknown.items() if names}


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] not in ("pipeline", "training")])
def test_nothing_but_the_training_imports_the_pipeline(name: str) -> None:
    assert not [line for target, line in own_imports(MODULES[name]) if is_below(target, "pipeline")]


@pytest.mark.parametrize("below", ["", *all_rooms()])
def test_rooms_make_no_circle(below: str) -> None:
    assert circle(room_graph(below)) == []


def test_files_make_no_circle() -> None:
    assert circle(file_graph()) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []


def test_a_line_over_two_lines_is_read_whole() -> None:
    line = MAY_IMPORT.search("Rule.\n\nMay import: common, pipeline.face,\npipeline.media.write.\n\nMore. Text.")
    assert line and line[1] == "common, pipeline.face,\npipeline.media.write"


@pytest.mark.parametrize("folder", ["", *all_rooms()])
def test_a_folder_is_seen_at_a_glance(folder: str) -> None:
    here = list(PACKAGE.joinpath(*folder.split(".") if folder else ()).glob("*.py"))
    assert len(here) <= MOST_MODULES
    assert folder or {path.name for path in here} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("name", MODULES)
def test_a_file_is_read_at_one_sitting(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= MOST_LINES


def test_the_shares_process_loads_no_watchdog() -> None:
    code = "import sys, heygemd.share.__main__; print('watchdog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr


def test_importing_the_daemon_loads_nothing_heavy() -> None:
    loaded = "heygemd.daemon.service, heygemd.share.__main__"
    code = f"import sys, {loaded}; print([m for m in {sorted(HEAVY)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_page_of_settings_is_the_generated_one() -> None:
    """Every setting with its default and meaning; write it again by ``heygemd check --reference``."""
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert page == template.reference()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{key}` | {'required' if default == '—' else f'`{default}`'} | {doc} |"
        for _, key, default, doc in template.reference_rows()
    ]
    assert rows == expected
    tables = [line for line in page.splitlines() if line.startswith("## ")]
    assert tables == list(dict.fromkeys(f"## `{table}`" for table, *_ in template.reference_rows()))


def test_the_page_of_commands_names_every_command() -> None:
    text = (DOCS / "operate.md").read_text("utf-8")
    assert {"run", "render", "demo", "status", "bench", "docs", "train-lips"} <= set(commands())
    for command in commands():
        assert re.search(rf"^\|.*(`heygemd {command}\b|`{command}\b).*\|$", text, re.M), command


def commands(*words: str) -> list[str]:
    """The commands that a help text lists."""
    return re.findall(r"^    ([a-z][a-z-]+)(?: {2,}|$)", helped(*words), re.M)


@cache
def helped(*words: str) -> str:
    """What ``heygemd WORDS --help`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main([*words, "--help"]) == 0
    return out.getvalue()


def pages() -> dict[str, str]:
    """The READMEs and the pages that a person wrote."""
    written = [ROOT / "README.md", *(path for path in DOCS.glob("*.md") if path.stem != "configuration")]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in written}


def texts_of_the_program() -> dict[str, str]:
    """Help texts, the configuration with its page, and messages, in English."""
    words = [(), *((name,) for name in commands()), *(("models", name) for name in commands("models"))]
    texts = {" ".join(("heygemd", *path, "--help")): helped(*path) for path in words}
    texts |= {f"message {code}": english for code, (english, _) in messages.codes().items()}
    files = (ROOT / "config.toml", DOCS / "configuration.md")
    return texts | {path.name: path.read_text("utf-8") for path in files}


@pytest.mark.parametrize("texts", [pages, texts_of_the_program])
def test_what_people_read_is_plain_english(texts: Callable[[], dict[str, str]]) -> None:
    jargon = {where: JARGON.findall(" ".join(text.split())) for where, text in texts().items()}
    assert not {where: words for where, words in jargon.items() if words}


def test_the_quick_loop_names_files_that_exist() -> None:
    named = (*conftest.LONG_FOLDERS, *conftest.LONG_FILES, *conftest.QUICK_FILES)
    assert not [name for name in named if not (ROOT / "tests" / name).exists()]


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, or git is not installed")
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    agreed = {"heygemd", "systemd", "config.toml", "tests", "pyproject.toml", "README.md", "LICENSE"}
    assert not {name for name in top - agreed if not name.startswith(".")}


def test_the_film_logs_schema_is_itself_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "heygemd" / "data" / "film-log.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
