"""The two READMEs: the same commands, pictures and files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.site import ROOT

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "heygemd" / "data" / "README.zh.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def blocks(path: Path) -> list[tuple[str, list[str]]]:
    """The code blocks in order, without comments, which are translated."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    return [(kind, [re.sub(r"\s+#\s.*$", "", line) for line in code.splitlines()]) for kind, code in found]


def test_the_chinese_readme_has_the_same_commands_and_settings() -> None:
    english, chinese = blocks(ENGLISH), blocks(CHINESE)
    assert len(english) >= 10
    for one, other in zip(english, chinese, strict=True):
        assert one == other


def test_it_has_the_same_sections_in_the_same_order() -> None:
    levels = [re.findall(r"^(#+) ", path.read_text("utf-8"), re.M) for path in (ENGLISH, CHINESE)]
    assert [level for level in levels[0] if level != "#"] == [level for level in levels[1] if level != "#"]


def test_its_tables_name_the_same_commands_and_engines() -> None:
    """The first cells that are code, in order; the table of settings is left to the English one."""
    named = [
        [row for row in re.findall(r"^\| (`.*?) \|", path.read_text("utf-8"), re.M) if not row.startswith("`[")]
        for path in (ENGLISH, CHINESE)
    ]
    assert len(named[0]) > 15
    plain = [[re.findall(r"`[^`]+`", cell) for cell in cells] for cells in named]
    assert plain[0] == plain[1]


def test_its_figures_are_the_same() -> None:
    """The benchmark's numbers, row by row."""
    rows = [re.findall(r"^\| [^`|]+ \| (\d+\.\d.*)$", path.read_text("utf-8"), re.M) for path in (ENGLISH, CHINESE)]
    assert rows[0] and rows[0] == rows[1]


@pytest.mark.parametrize("path", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_what_is_linked_is_there_and_pictures_are_small(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text("utf-8")) if not link.startswith("http")]
    assert len(links) > 5
    for link in links:
        target = path.parent / link
        assert target.exists(), link
        if target.suffix == ".webp":
            assert target.stat().st_size < 100_000
            assert target.read_bytes()[8:12] == b"WEBP"


def test_each_names_the_other() -> None:
    assert "(heygemd/data/README.zh.md)" in ENGLISH.read_text("utf-8")
    assert "(../../README.md)" in CHINESE.read_text("utf-8")
