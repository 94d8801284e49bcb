"""The catalogue of messages."""

from __future__ import annotations

import string

import pytest

from heygemd import wording
from heygemd.pipeline.quality import grade


def asked(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", sorted(wording.codes()))
def test_both_languages_ask_for_the_same_values(code: str) -> None:
    english, chinese = wording.codes()[code]
    assert asked(english) == asked(chinese) or not english  # a reason in English is the error's own sentence
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


def test_every_reason_that_the_grade_gives_has_words() -> None:
    import inspect
    import re

    given = set(re.findall(r'_reason\(\s*"(\w+)"', inspect.getsource(grade))) | {"mouth_late", "mouth_early"}
    assert len(given) > 10 and given | {"does_not_follow", "sync_unsure"} <= wording.codes().keys()


def test_a_reason_is_told_with_its_values_and_what_to_do() -> None:
    told = wording.told([{"code": "mouth_late", "level": "fair", "values": {"ms": 120}}], "zh")
    assert "120" in told[0]["message"] and told[0]["advice"]
