"""A line's folders opened, listed and read, on real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heygemd.share import queries


def line_folders(root: Path) -> dict[str, str]:
    return {name: str(root / name) for name in ("inbox", "processing", "outbox", "done", "failed")}


def test_a_new_line_gets_its_folders_and_a_marker_that_is_found_again(tmp_path: Path) -> None:
    folders = line_folders(tmp_path)
    first = queries.open_line(folders, None)
    assert all(Path(folder).is_dir() for folder in folders.values())
    assert queries.open_line(folders, first.marker) == first


def test_an_inbox_without_the_marker_that_we_knew_is_not_the_inbox(tmp_path: Path) -> None:
    folders = line_folders(tmp_path)
    known = queries.open_line(folders, None).marker
    (tmp_path / "inbox" / queries.MARKER).unlink()
    with pytest.raises(FileNotFoundError, match="is the share mounted"):
        queries.open_line(folders, known)


def test_a_marker_that_was_left_empty_is_made_anew(tmp_path: Path) -> None:
    """By a death, or the power, between its making and what was to be written into it."""
    folders = line_folders(tmp_path)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / queries.MARKER).touch()
    first = queries.open_line(folders, None)
    assert first.marker and queries.open_line(folders, first.marker) == first


def test_a_scan_lists_files_and_folders_but_no_litter_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "zhang").mkdir()
    (tmp_path / "zhang" / "课.mp4").write_bytes(b"abc")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe.wav")
    rows = {row[0]: row[1:] for row in queries.scan(str(tmp_path))}
    assert sorted(rows) == ["link.mp4", "pipe.wav", "zhang", "zhang/课.mp4"]
    assert rows["zhang/课.mp4"][0] is False and rows["zhang/课.mp4"][1] == 3 and rows["zhang/课.mp4"][4] is False
    assert rows["link.mp4"][4] is True and rows["pipe.wav"][4] is True and rows["zhang"][0] is True


def test_a_manifest_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="larger than 99 bytes"):
        queries.read(str(tmp_path / "m.json"), 99)
