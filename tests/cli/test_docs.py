"""``heygemd docs``: the pages, plain for a pipe and in a pager for a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from heygemd.cli import main
from heygemd.common import exits
from tests.site import ROOT

PAGES = {
    "architecture", "changelog", "configuration", "contributing", "dropping", "dropping.zh", "engines", "operate",
    "performance", "reliability", "report",
}  # fmt: skip


@pytest.mark.parametrize("words", [["docs"], ["docs", "--list"], ["docs", "operate", "--list"]])
def test_the_pages_are_listed_with_their_subjects(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed.keys() == PAGES
    assert all(len(subject) > 15 and "#" not in subject for subject in listed.values())


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_goes_to_a_pipe_as_it_is(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["docs", page]) == 0
    assert capsys.readouterr().out == (ROOT / "heygemd" / "data" / "docs" / f"{page}.md").read_text("utf-8")


@pytest.mark.parametrize(("typed", "meant"), [("operat", "'operate'"), ("engine", "'engines'"), ("xyzzy", "")])
def test_an_unknown_page_is_wrong_use(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["docs", typed]) == exits.MISUSE
    said = capsys.readouterr()
    hint = f"; did you mean {meant}?" if meant else "."
    assert said.err.startswith(f"heygemd: There is no page '{typed}'{hint} The pages are architecture, ")
    assert said.out == ""


def test_a_path_is_no_page() -> None:
    assert main.main(["docs", "../README.zh"]) == exits.MISUSE


def on_a_terminal(page: str, **environment: str) -> str:
    """What appears on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "heygemd", "docs", page], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environment},
    ):  # fmt: skip
        os.close(theirs)
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the last writer has closed it
                break
            if not more:
                break
            shown += more
    os.close(ours)
    return shown.decode()


def test_a_terminal_gets_it_through_the_pager_that_the_user_chose(tmp_path: Path) -> None:
    shown = on_a_terminal("report", PAGER=f"tee {tmp_path}/paged | head -c 7")
    assert len(shown.encode().replace(b"\r\n", b"\n")) == 7
    paged = (tmp_path / "paged").read_text()
    assert "\x1b[" in paged and "how films are measured" in paged and "**" not in paged


@pytest.mark.parametrize("pager", ["", "cat"])
def test_without_a_pager_it_is_printed(pager: str) -> None:
    shown = on_a_terminal("report", PAGER=pager)
    assert "\x1b[" in shown and "how films are measured" in shown


def test_a_pager_that_ends_early_is_no_fault() -> None:
    assert "Traceback" not in on_a_terminal("reliability", PAGER="true")


def test_the_reference_of_settings_needs_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEYGEMD_CONFIG", raising=False)
    assert main.main(["check", "--reference"]) == 0
    assert capsys.readouterr().out == (ROOT / "heygemd" / "data" / "docs" / "configuration.md").read_text("utf-8")
