"""Intake is pure: it names things of the share, and touches no file, process or clock."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import heygemd.intake

FILES = sorted(Path(heygemd.intake.__file__).parent.glob("*.py"))
NAMES = {"heygemd.share.entry", "heygemd.share.ignore", "heygemd.share.completeness"}
IMPURE = {"asyncio", "datetime", "os", "pathlib", "random", "shutil", "socket", "subprocess", "tempfile", "time"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "heygemd.share.completeness":
                assert [alias.name for alias in node.names] == ["CHECKED_SUFFIXES"]
            if node.module == "heygemd.share":
                found |= {f"heygemd.share.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_intake_imports_names_of_the_share_only_and_nothing_impure(file: Path) -> None:
    assert {name for name in imports(file) if name.startswith("heygemd.share")} <= NAMES
    assert not {name.partition(".")[0] for name in imports(file)} & IMPURE
