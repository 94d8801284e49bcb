"""The READMEs and the pages of ``heygemd docs``: short, complete, in step with each other and with the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.site import ROOT

DATA = ROOT / "heygemd" / "data"
ENGLISH, CHINESE = ROOT / "README.md", DATA / "README.zh.md"
PAGES = sorted((DATA / "docs").glob("*.md"))
PAIRS = [(ENGLISH, CHINESE), (DATA / "docs" / "dropping.md", DATA / "docs" / "dropping.zh.md")]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
PATH = re.compile(r"`(?:\S+ )*((?:tests|heygemd|systemd)/[\w./-]+)[^`]*`")

each_pair = pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=["README", "dropping"])
each_text = pytest.mark.parametrize("path", [ENGLISH, CHINESE, *PAGES], ids=lambda path: path.name)


def blocks(path: Path) -> list[tuple[str, list[str]]]:
    """The code blocks in order, without comments, which are translated."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    return [(kind, [re.sub(r"\s+#\s.*$", "", line) for line in code.splitlines()]) for kind, code in fenced]


def prose(path: Path) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("path", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_a_readme_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.encode()) <= 8_000
    assert len(text.splitlines()) <= 130
    assert max(map(len, text.splitlines())) <= 200
    assert "| `[" not in text  # settings are in docs/configuration.md


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_readme_has_one_command_to_paste(name: str) -> None:
    marked = re.findall(rf"<!-- {name}-command -->\n```sh\n([^\n]+)\n```\n", ENGLISH.read_text("utf-8"))
    assert len(marked) == 1 and marked[0].endswith({"demo": "heygemd demo", "test": "pytest -n 2"}[name])


@each_pair
def test_the_chinese_text_has_the_same_commands_and_settings(english: Path, chinese: Path) -> None:
    one, other = blocks(english), blocks(chinese)
    assert one and one == other


def test_there_are_examples() -> None:
    assert sum(len(blocks(path)) for path in (ENGLISH, *PAGES)) >= 15


@each_pair
def test_it_has_the_same_sections_in_the_same_order(english: Path, chinese: Path) -> None:
    one, other = (re.findall(r"^(#+) ", prose(path), re.M) for path in (english, chinese))
    assert len(one) > 5 and one == other


@each_pair
def test_its_tables_name_the_same_files_and_engines(english: Path, chinese: Path) -> None:
    """The code in the first cell of each row, in order."""
    one, other = (
        [re.findall(r"`[^`]+`", cell) for cell in re.findall(r"^\| (.*?) \|", path.read_text("utf-8"), re.M)]
        for path in (english, chinese)
    )
    assert len(one) > 8 and one == other


@each_pair
def test_each_names_the_other(english: Path, chinese: Path) -> None:
    for one, other in ((english, chinese), (chinese, english)):
        links = [(one.parent / link).resolve() for link in LINK.findall(one.read_text("utf-8")) if "://" not in link]
        assert other in links


@each_text
def test_what_is_linked_exists_and_pictures_are_small(path: Path) -> None:
    text = path.read_text("utf-8")
    for link in (link for link in LINK.findall(text) if not link.startswith("http")):
        target = path.parent / link
        assert target.exists(), link
        if target.suffix == ".webp":
            assert target.stat().st_size < 100_000
            assert target.read_bytes()[8:12] == b"WEBP"


@each_text
def test_a_file_that_is_named_exists(path: Path) -> None:
    for name in PATH.findall(path.read_text("utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_readme_leads_to_every_page(path: Path) -> None:
    assert f"(heygemd/data/docs/{path.name})" in ENGLISH.read_text("utf-8")


def test_a_page_never_leads_out_of_the_package() -> None:
    """In an installation there is only ``heygemd/``."""
    for path in PAGES:
        for link in LINK.findall(path.read_text("utf-8")):
            assert "://" in link or (path.parent / link).resolve().is_relative_to(DATA), (path.name, link)


def test_the_wheel_would_have_every_page() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["heygemd"]
    assert {"data/*", "data/docs/*"} <= set(listed)


@each_text
def test_sentences_are_short(path: Path) -> None:
    """At most 25 words, code and lists aside; a table's cell is no sentence."""
    text = re.sub(r"^(\||#|<!--|!\[).*$", "", prose(path), flags=re.M)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "CODE", text))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", text)
    sentences = [s for p in paragraphs for s in re.split(r"(?<=[.:;?!])\s", " ".join(p.split()))]
    long = [s for s in sentences if len(s.split()) > 25]
    assert not long


def test_the_picture_of_the_architecture_has_every_room_and_fits_a_terminal() -> None:
    picture = next(code for kind, code in blocks(DATA / "docs" / "architecture.md") if not kind)
    assert max(map(len, picture)) <= 76
    rooms = {path.parent.name for path in (ROOT / "heygemd").glob("*/__init__.py")} | {"data"}
    assert set(re.findall(r"\b([a-z]+)/", "\n".join(picture))) == rooms


def test_the_table_of_the_architecture_has_every_room() -> None:
    text = (DATA / "docs" / "architecture.md").read_text("utf-8")
    rooms = {path.parent.name for path in (ROOT / "heygemd").glob("*/__init__.py")} | {"data"}
    assert set(re.findall(r"^\| `([a-z]+)/` \|", text, re.M)) == rooms
