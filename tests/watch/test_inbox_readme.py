"""The README in each inbox."""

from __future__ import annotations

import re
from pathlib import Path

from heygemd.config.load import Config, LineConfig
from heygemd.share import operations
from heygemd.share.ignore import ignored
from heygemd.watch import inbox_readme
from tests.site import Site


def test_the_text_names_this_lines_folders_and_leaves_nothing_open() -> None:
    line = LineConfig("main", Path("/srv/line"), outbox=Path("/srv/films"))
    text = inbox_readme.text(Config(), line)
    assert text.startswith(b"\xef\xbb\xbf") and b"\r\n" in text and b"\n" not in text.replace(b"\r\n", b"")
    told = text.decode("utf-8-sig")
    assert "films/zhang" in told and "mp4" in told and "40 pixels" in told and "中文" in told
    assert not re.search(r"[{}]", told)


def test_intake_leaves_it_alone() -> None:
    assert ignored(inbox_readme.NAME)


def test_it_lies_in_the_inbox_and_is_never_put_over_what_is_there(site: Site) -> None:
    (site.inbox / "README.txt").write_text("our own words")
    assert site.once() == 0
    assert (site.inbox / "README.txt").read_text() == "our own words"
    (site.inbox / "README.txt").unlink()
    assert site.once() == 0
    assert "lesson.wav" in (site.inbox / "README.txt").read_text(encoding="utf-8-sig")
    assert sorted(p.name for p in site.inbox.iterdir()) == [".heygemd-line", "README.txt"]


def test_laying_it_down_twice_is_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "README.txt")
    assert [operations.lay_down(path, "YQ=="), operations.lay_down(path, "Yg==")] == ["moved", "taken"]
    assert Path(path).read_text() == "a" and [p.name for p in tmp_path.iterdir()] == ["README.txt"]


def test_what_holds_for_this_line_only_is_told_in_both_languages() -> None:
    plain = inbox_readme.text(Config(), LineConfig("main", Path("/srv/line"))).decode("utf-8-sig")
    assert "consent" not in plain and "PAUSE" not in plain
    line = LineConfig("main", Path("/srv/line"), require_consent=True, folder_control=True)
    told = inbox_readme.text(Config(), line).decode("utf-8-sig")
    assert told.count("anna.consent.pdf") == told.count("PAUSE") == 2 and not re.search(r"[{}]", told)
