"""Which characters a font has."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from heygemd.common import fonts
from heygemd.common.messages import codes, say


@pytest.mark.parametrize("language", ["en", "zh"])
def test_our_font_writes_the_labels_that_we_make(language: str) -> None:
    assert "label" in codes() and fonts.missing(say(language, "label"), fonts.OURS) == ""


def test_what_a_font_lacks_is_named_once_and_in_order() -> None:
    assert fonts.missing("鑫 AI 龘鑫é", fonts.OURS) == "鑫龘"


def test_its_licence_travels_beside_it_and_its_reserved_name_is_not_used() -> None:
    licence = (fonts.OURS.parent / "LICENSE-label-font.txt").read_text()
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence and "Reserved Font Name 'Source'" in licence
    assert b"Source" not in fonts.OURS.read_bytes()


def font(tmp_path: Path, *tables: tuple[int, int, bytes]) -> Path:
    """An OpenType file with nothing but a table of characters: (platform, encoding, subtable) each."""
    head, body = struct.pack(">HH", 0, len(tables)), b""
    for platform, encoding, table in tables:
        head += struct.pack(">HHI", platform, encoding, 4 + 8 * len(tables) + len(body))
        body += table
    cmap = head + body
    directory = struct.pack(">4sHHHH", b"\0\1\0\0", 1, 0, 0, 0) + struct.pack(">4sIII", b"cmap", 0, 28, len(cmap))
    path = tmp_path / "some.ttf"
    path.write_bytes(directory + cmap)
    return path


def test_the_table_of_characters_beyond_the_basic_plane_counts(tmp_path: Path) -> None:
    groups = struct.pack(">HHIII", 12, 0, 0, 0, 1) + struct.pack(">III", 0x1F600, 0x1F602, 7)
    assert fonts.missing("\U0001f600\U0001f602\U0001f603A", font(tmp_path, (3, 10, groups))) == "\U0001f603A"


def test_characters_that_are_spelt_but_have_no_glyph_are_missing(tmp_path: Path) -> None:
    # A to C: two segments, the first by its own array of glyphs, whose second is none
    arrays = struct.pack(">2H", 0x43, 0xFFFF) + b"\0\0" + struct.pack(">2H", 0x41, 0xFFFF)
    arrays += struct.pack(">2H", 0, 1) + struct.pack(">2H", 4, 0) + struct.pack(">3H", 5, 0, 6)
    table = struct.pack(">7H", 4, 0, 0, 4, 0, 0, 0) + arrays
    assert fonts.missing("ABC", font(tmp_path, (3, 1, table))) == "B"


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"no font at all", "not an OpenType font"), (b"OTTO\0\1", "damaged"), (b"OTTO" + b"\0" * 60, "damaged")],
)
def test_what_is_no_font_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x.ttf"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        fonts.missing("A", path)
