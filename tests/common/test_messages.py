"""The catalogue of messages."""

from __future__ import annotations

import string

import pytest

from heygemd.common import messages
from heygemd.pipeline.quality import grade
from tests.site import ROOT


def asked(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", sorted(messages.codes()))
def test_both_languages_ask_for_the_same_values(code: str) -> None:
    english, chinese = messages.codes()[code]
    assert asked(english) == asked(chinese) or not english  # a reason in English is the error's own sentence
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


def test_every_reason_that_the_grade_gives_has_words() -> None:
    import inspect
    import re

    given = set(re.findall(r'_reason\(\s*"(\w+)"', inspect.getsource(grade))) | {"mouth_late", "mouth_early"}
    assert len(given) > 10 and given | {"does_not_follow", "sync_unsure"} <= messages.codes().keys()


def test_a_reason_is_told_with_its_values_and_what_to_do() -> None:
    told = messages.explain([{"code": "mouth_late", "level": "fair", "values": {"ms": 120}}], "zh")
    assert "120" in told[0]["message"] and told[0]["advice"]


def test_every_reason_for_waiting_that_names_its_code_has_words() -> None:
    import ast

    named = set()
    for file in sorted((ROOT / "heygemd" / "intake").glob("*.py")):
        tree = ast.parse(file.read_text())
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Clause")
        named |= {c.args[1].value for c in calls if isinstance(c.args[1], ast.Constant)}
    assert len(named) > 10 and {f"waits:{code}" for code in named} <= messages.codes().keys()


def test_a_reason_for_waiting_is_told_in_english_where_its_numbers_are_not_known() -> None:
    values = {"hours": "08:00-18:00"}
    assert messages.waits("zh", "quiet_hours", values, "english") == "静默时段 08:00-18:00 内不开始新的任务。"
    assert messages.waits("zh", "quiet_hours", {}, "english") == messages.waits("en", "quiet_hours", values, "english")
    assert messages.waits("zh", None, None, "english") == messages.waits("zh", "unheard_of", {}, "english") == "english"
