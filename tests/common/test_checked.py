"""Checked readers of foreign JSON: the value where it has the expected type, else the default."""

from __future__ import annotations

import pytest

from heygemd.common import checked

ROW = {
    "text": "a", "whole": 3, "fraction": 2.5, "true": True, "null": None,
    "row": {"x": 1}, "rows": [{"x": 1}, 7, {"x": 2}], "texts": ["a", 1, "b"],
}  # fmt: skip


def test_values_of_the_expected_type_are_given() -> None:
    assert checked.text(ROW, "text") == "a"
    assert (checked.whole(ROW, "whole"), checked.whole(ROW, "fraction"), checked.number(ROW, "fraction")) == (3, 2, 2.5)
    assert checked.row(ROW, "row") == {"x": 1}
    assert checked.rows(ROW, "rows") == [{"x": 1}, {"x": 2}], "entries that are no objects are left out"
    assert checked.texts(ROW, "texts") == ["a", "b"]


@pytest.mark.parametrize("key", ["null", "missing", "rows", "true"])
def test_anything_else_gives_the_default(key: str) -> None:
    assert checked.text(ROW, key, "none") == "none"
    assert (checked.whole(ROW, key, 9), checked.number(ROW, key, 0.5), checked.whole_or_none(ROW, key)) == (
        9,
        0.5,
        None,
    )
    assert checked.row(ROW, key) == {}
    if key != "rows":
        assert (checked.rows(ROW, key), checked.texts(ROW, key)) == ([], [])
