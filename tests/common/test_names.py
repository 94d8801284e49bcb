from __future__ import annotations

import os
import unicodedata

import pytest

from heygemd.common import names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LESSON", "lesson"),
        (unicodedata.normalize("NFC", "Prüfung é"), unicodedata.normalize("NFD", "PRÜFUNG É")),
        ("课程 一", "课程 一"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ],
)
def test_names_that_differ_only_in_case_or_unicode_form_are_the_same(one: str, other: str) -> None:
    assert names.folded(one) == names.folded(other)


@pytest.mark.parametrize(("one", "other"), [("lesson", "lesson "), ("lesson1", "lesson-1"), ("a", "á")])
def test_names_that_differ_in_anything_else_are_not_the_same(one: str, other: str) -> None:
    assert names.folded(one) != names.folded(other)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Lesson.MP4", ("Lesson", ".mp4")),
        ("a.b.c.Wav", ("a.b.c", ".wav")),
        ("README", ("README", "")),
        (".hidden", (".hidden", "")),
        ("dot.", ("dot.", "")),
        ("", ("", "")),
    ],
)
def test_a_name_is_split_into_stem_and_lower_case_suffix(name: str, parts: tuple[str, str]) -> None:
    assert names.split(name) == parts


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("lesson", "lesson"),
        ("课程😀 一", "课程😀 一"),
        ("a\nb\tc", "a_b_c"),
        ("a/b", "a_b"),
        ('<a>: "b"|?*\\c', "_a__ _b_____c"),
        (os.fsdecode(b"caf\xe9"), "caf_"),
        ("end. . ", "end"),
        ("..", "unnamed"),
        ("   ", "unnamed"),
        (".hidden", "hidden"),
        ("CON", "_CON"),
        ("nul.x", "_nul.x"),
        ("com1", "_com1"),
        ("console", "console"),
        ("evil\u202egpj", "evil_gpj"),
        (unicodedata.normalize("NFD", "é"), "é"),
    ],
)
def test_any_name_becomes_one_that_every_share_can_hold(name: str, safe: str) -> None:
    assert names.safe_component(name) == safe


def test_a_long_name_is_cut_between_characters() -> None:
    safe = names.safe_component("课" * 85)
    assert safe == "课" * 60
    assert len(names.safe_component("x" * 255, 100)) == 100
    assert len(names.safe_component("nul." + "x" * 255, 100).encode()) == 100
    family = "👨\u200d👩\u200d👧"
    assert names.clipped("a" * 95 + family, 103) == "a" * 95 + "👨"[:1]


def test_a_film_name_leaves_room_for_what_is_added_to_it() -> None:
    assert len(names.film_name("é" * 127).encode()) == names.FILM_BYTES


@pytest.mark.parametrize("name", ["lesson 1", "课程😀", "a.b", "it's (2)", "x" * 200])
def test_a_good_output_name_has_no_fault(name: str) -> None:
    assert names.name_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "a/b", "a\\b", "..", "../x", "C:x", "what?", ".hidden", " x", "x ", "x.", "aux", "LPT1.txt",
        "a\0b", "a\nb", "a\u2028b", "课" * 67,
    ],
)  # fmt: skip
def test_an_output_name_that_would_not_arrive_as_typed_is_refused(name: str) -> None:
    assert names.name_fault(name)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a.mp4", "a.mp4"),
        ("./sub//a.mp4", "sub/a.mp4"),
        ("sub\\deep\\a.mp4", "sub/deep/a.mp4"),
        (" a b.mp4 ", "a b.mp4"),
        ("课程/一.mp4", "课程/一.mp4"),
        ("~/a.mp4", "~/a.mp4"),
        ("...mp4", "...mp4"),
    ],
)
def test_a_path_that_goes_down_is_taken(text: str, clean: str) -> None:
    assert names.inside(text) == (clean, None)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "/", "/etc/passwd", "\\\\server\\share\\a.mp4", "C:\\a.mp4", "c:a.mp4",
        "../../etc/passwd", "a/../b.mp4", "..\\a.mp4", "a/.. /b", "a\0.mp4", "a\n.mp4", "\ud800.mp4",
        "x" * 300, "a/" * 3000 + "b",
    ],
)  # fmt: skip
def test_a_path_that_is_not_plainly_inside_is_refused(text: str) -> None:
    clean, fault = names.inside(text)
    assert clean == ""
    assert fault


def test_a_taken_name_gets_the_next_number() -> None:
    assert names.free_name("a", set()) == "a"
    assert names.free_name("A", {"a"}) == "A (2)"
    assert names.free_name("a", {"a", "a (2)", "a (3)"}) == "a (4)"
    assert names.free_name("a", lambda name: name in ("a", "a (2)")) == "a (3)"


def test_a_long_taken_name_stays_within_the_limit() -> None:
    base = "课" * 66
    name = names.free_name(base, {base})
    assert name.endswith(" (2)")
    assert len(name.encode()) <= names.FILM_BYTES


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("课程 一.mp4", "课程 一.mp4"),
        (os.fsdecode(b"caf\xe9.mp4"), "caf\\xe9.mp4"),
        ("a\nb", "a\\x0ab"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("👨\u200d👩", "👨\u200d👩"),
    ],
)
def test_a_name_is_shown_on_one_printable_line(name: str, shown: str) -> None:
    assert names.display(name) == shown
