"""Rules of the house that a machine can hold."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heygemd.config import template
from tests.site import ROOT

HEAVY = {"torch", "cv2", "insightface", "onnxruntime", "onnx", "numpy", "scipy", "safetensors"}
LIGHT = sorted(
    p for p in (ROOT / "heygemd").rglob("*.py") if p.parts[len(ROOT.parts) + 1] not in ("pipeline", "training")
)


def imported(path: Path) -> set[str]:
    """The top-level names of everything that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_pipeline_and_the_training_import_anything_heavy(path: Path) -> None:
    assert not imported(path) & HEAVY


def test_importing_the_daemon_loads_nothing_heavy() -> None:
    loaded = "heygemd.daemon.service, heygemd.share.__main__"
    code = f"import sys, {loaded}; print([m for m in {sorted(HEAVY)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_readme_names_every_setting_with_its_default_and_meaning() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `[")]
    expected = [
        f"| `{table}` | `{key}` | {'required' if default == '—' else f'`{default}`'} | {doc} |"
        for table, key, default, doc in template.reference_rows()
    ]
    assert rows == expected


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    shown = subprocess.run([sys.executable, "-m", "heygemd", "--help"], capture_output=True, text=True, cwd=ROOT).stdout
    commands = [line.split()[0] for line in shown.splitlines() if re.match(r"    [a-z][a-z-]+( {2,}|$)", line)]
    assert {"run", "render", "demo", "status", "bench", "train-lips"} <= set(commands)
    for command in commands:
        assert f"heygemd {command}" in text or f"`{command}" in text, command


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
