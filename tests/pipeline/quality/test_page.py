"""The report page by itself: both languages, what it leaves out, and names that are markup or turn the text around."""

from __future__ import annotations

import re
from typing import Any

import pytest

from heygemd.pipeline.quality import page as report_page
from heygemd.pipeline.quality.page import ReportViews

NASTY = "<script>alert(1)</script>\"&'.mp4"
FIGURES: dict[str, Any] = {
    "grade": "fair",
    "reasons": [{"code": "mouth_late", "level": "fair", "values": {"ms": 240}}],
    "measured": {"frames": 50, "of": 100, "ranges": [[0, 24], [50, 74]]},
    "structure": {"frames": 100, "fps": "25/1", "picture_seconds": 4.0, "sound_seconds": None, "mark": True,
                  "label": False},
    "sync": {"offset_ms": 240, "confidence": "high", "r": 0.5, "chance_r": 0.1, "articulation": None,
             "closures": {"seen": 0.75, "heard": 8}},
    "picture": {"sharpness": 0.9, "held_percent": 1.0, "held": [[3, 5]], "passed_percent": 0.0},
}  # fmt: skip
VIEWS = ReportViews(
    seconds=4.0, pairs=[(0.5, "data:image/jpeg;base64,aa+/=", "data:x"), (1.0, "data:y", None)],
    strip=[(1.25, "data:z")], times=[0.1, 0.2, 0.9], seen=[0.0, 0.5, 1.0], heard=[1.0, 0.5, 0.0],
    loudness=[0.1, 0.5, 1.0], passed=[(1.0, 2.0)],
)  # fmt: skip


def page(figures: dict[str, Any], views: ReportViews = VIEWS, language: str = "en", video: str = "lesson.mp4") -> str:
    return report_page.page(figures, views, video, "voice.wav", "footage", language)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_everything_that_was_measured_is_shown(language: str) -> None:
    text = page(FIGURES, language=language)
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert len(headings) == 7
    if language == "zh":
        assert all(any("\u4e00" <= letter <= "\u9fff" for letter in heading) for heading in headings)
        assert 'lang="zh-CN"' in text
    assert text.count("<img ") == 4 and text.count("<path ") == 3 and text.count("<rect ") == 5
    assert re.findall(r"<td>(.*?)</td>", text)[:4] == ["240", "高" if language == "zh" else "high", "0.5", "75 %"]
    assert 'd="M24.0 4.0L48.0 75.0M216.0 146.0"' in text, "the curve is broken where time leaps"


def test_a_film_that_could_not_be_measured_says_why() -> None:
    text = page({"grade": None, "problem": "<b>No face", "reasons": []}, ReportViews())
    assert "&lt;b&gt;No face" in text and "<svg" not in text and "<table>" not in text


def test_an_empty_part_has_no_section() -> None:
    text = page({**FIGURES, "sync": None, "picture": {}, "reasons": []}, ReportViews(seconds=4.0))
    assert len(re.findall(r"<h2>", text)) == 2  # the timeline and the file


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_are_escaped_and_cannot_turn_the_text_around(language: str) -> None:
    text = page({**FIGURES, "grade": None, "problem": NASTY}, VIEWS, language, f"\u202e{NASTY}")
    assert "<script" not in text and text.count("&lt;script&gt;") == 3
    assert "\u202e" not in text and "\\u202e" in text
