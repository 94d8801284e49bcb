"""The page for people who see nothing but the share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from heygemd.contract.status import read_status
from heygemd.status import page as status_page
from heygemd.status import page_data
from tests.daemon.test_service import drop
from tests.site import Site

AT = "2026-03-04T10:11:12.345+08:00"
HOSTILE = "<script>alert(1)</script>\"&'.mp4"


def job(number: int, state: str, name: str = "lesson", **more: Any) -> dict[str, Any]:
    return {
        "id": f"d-{number}", "drop": "d", "line": "main", "name": name, "folder": "", "state": state,
        "priority": "normal", "engine": None, "attempts": 1, "created": AT, "started": AT, "ended": AT,
        "reason": None, "reason_code": None,
        "film": name, "deferred_since": None, "deferred_reason": None, "grade": None, "held": False, "has_page": True,
    } | more  # fmt: skip


def status(**more: Any) -> dict[str, Any]:
    line = {"name": "main", "root": "/l", "inbox": "/l/inbox", "watch": "inotify", "state": "ok", "problem": None}
    empty: dict[str, Any] = {"running": [], "queue": [], "waiting": [], "recent": []}
    return {"state": "running", "lines": [line], **empty, **more}


def page(told: dict[str, Any], language: str = "en") -> str:
    return status_page.to_html(page_data.data(read_status(told), "main"), AT, language, "failed").decode()


SITUATIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("nothing to do", {}, ["Idle: drop a sound file", "inbox"]),
    (
        "a film is being made",
        {"running": [job(1, "running", stage="render", frame=410, of=1000, fps=31.24, eta=95)]},
        ["lesson", "41 %", "31.2 frames per second", "about 1:35 left", "width:41%"],
    ),
    ("the queue waits for its turn", {"queue": [job(2, "queued")]}, ["Queue", "waits for its turn"]),
    (
        "memory is held by somebody",
        {"queue": [job(3, "queued", deferred_reason="GPU 0 has 1200 of 4000 MiB free", deferred_since=AT,
                       holders=["vllm (pid 77)"])]},
        ["1200 of 4000 MiB", "vllm (pid 77)", "since 03-04 10:11"],
    ),
    (
        "a file has no partner, or is still being copied",
        {"waiting": [{"line": "main", "path": "a.wav", "reason": "its video is missing", "since": AT}]},
        ["a.wav", "its video is missing", "not started"],
    ),
    (
        "a film was delivered",
        {"recent": [job(4, "delivered", folder="zhang", grade="fair")]},
        ['href="./zhang/lesson.mp4"', 'href="./zhang/lesson.report.html"', ">fair<"],
    ),
    (
        "a poor film is held",
        {"recent": [job(5, "delivered", grade="poor", held=True)]},
        ["poor; held in review", ">poor<"],
    ),
    (
        "a job failed",
        {"recent": [job(6, "failed", reason="a.mp4: no face was found.", reason_code="no_face")]},
        ["no face was found", "reason.txt"],
    ),
    ("the service is paused", {"state": "paused"}, ["Paused by the administrator"]),
    ("another line is busy", {"running": [job(7, "running", line="other", stage="face")]}, ["film of another line"]),
    (
        "the share has no room",
        {"lines": [{"name": "main", "problem": "No space left: 3 MiB are free"}]},
        ["No space left"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [s[1:] for s in SITUATIONS], ids=[s[0] for s in SITUATIONS])
def test_a_person_can_tell_why_things_are_as_they_are(changes: dict[str, Any], expected: list[str]) -> None:
    text = page(status(**changes))
    assert [words for words in expected if words not in text] == []


@pytest.mark.parametrize(("changes", "_"), [s[1:] for s in SITUATIONS], ids=[s[0] for s in SITUATIONS])
def test_the_chinese_page_has_chinese_headings_throughout(changes: dict[str, Any], _: list[str]) -> None:
    text = page(status(**changes), "zh")
    headings = re.findall(r"<h[12]>(.*?)</h[12]>", text)
    assert headings and all(any("\u4e00" <= letter <= "\u9fff" for letter in heading) for heading in headings)


def test_names_are_escaped_wherever_they_stand() -> None:
    everywhere = status(
        running=[job(1, "running", HOSTILE, stage="render")],
        queue=[job(2, "queued", HOSTILE, deferred_reason=HOSTILE, deferred_since=AT, holders=[HOSTILE])],
        waiting=[{"line": "main", "path": HOSTILE, "reason": HOSTILE, "since": AT}],
        recent=[job(3, "delivered", HOSTILE), job(4, "failed", HOSTILE, reason=HOSTILE), job(5, "delivered", "\udcff")],
    )
    for language in ("en", "zh"):
        text = page(everywhere, language)
        assert "<script" not in text and "javascript:" not in text
        assert len(re.findall("&lt;script&gt;", text)) >= 7
        assert all(link.startswith("./") for link in re.findall(r'href="([^"]*)"', text))


def test_no_name_can_turn_the_text_around_or_steer_what_shows_it() -> None:
    turned = "gnp\u202e.4pm\x1b[2J\udcff"
    everywhere = status(
        running=[job(1, "running", turned, stage="render")],
        queue=[job(2, "queued", turned, deferred_reason=turned, deferred_since=AT, holders=[turned])],
        waiting=[{"line": "main", "path": turned, "reason": turned, "since": AT}],
        recent=[job(3, "delivered", turned), job(4, "failed", turned, reason=turned)],
        lines=[{"name": "main", "problem": turned}],
    )
    for language in ("en", "zh"):
        text = page(everywhere, language)
        assert "\u202e" not in text and "\x1b" not in text and text.count("\\u202e") >= 8


def test_a_name_that_looks_like_an_address_stays_a_file_here() -> None:
    text = page(status(recent=[job(1, "delivered", "javascript:alert(1)//")]))
    assert 'href="./javascript%3Aalert%281%29//.mp4"' in text


def test_the_page_reads_itself_again_without_a_script() -> None:
    text = page(status())
    assert 'http-equiv="refresh"' in text and "<script" not in text and "src=" not in text


def test_people_of_one_line_do_not_see_the_names_of_another() -> None:
    secret = job(1, "running", "secret", line="other", stage="render")
    told = status(running=[secret], queue=[secret | {"state": "queued"}], recent=[secret | {"state": "failed"}])
    assert "secret" not in page(told)
    assert "secret" not in page_data.to_json(page_data.data(read_status(told), "main"), AT).decode()


def test_the_daemon_lays_both_files_into_the_outbox_and_takes_them_for_nothing_else(site: Site, media: Path) -> None:
    site.status_page = "on"
    site.write_config()
    drop(media, site)
    site.start()
    site.until(lambda: "lesson.mp4" in site.tree("outbox"), "the film is delivered")
    site.until(lambda: "STATUS.html" in site.tree("outbox"), "there is a page", timeout=20)
    site.until(lambda: "lesson.mp4" in (site.outbox / "STATUS.html").read_text(), "the page shows it", timeout=20)
    site.until(lambda: json.loads((site.outbox / "status.json").read_text())["delivered"], "so do the data", timeout=20)
    told = json.loads((site.outbox / "status.json").read_text())
    assert told["delivered"][0]["film"] == "lesson.mp4" and told["line"] == "main"
    site.stop()
    assert site.tree("outbox") == ["STATUS.html", "lesson.json", "lesson.mp4", "status.json"]
    assert json.loads((site.outbox / "status.json").read_text())["state"] == "stopped"


def test_what_is_waited_for_is_chinese_on_the_chinese_page() -> None:
    numbers = {"need": 4000, "gpu": "L4", "free": 1200, "total": 24000, "taken": 0}
    queued = job(
        3, "queued", deferred_reason="The job needs …", deferred_since=AT, holders=["vllm (pid 77)"],
        deferred_kind="gpu_memory", deferred_values=numbers,
    )  # fmt: skip
    alone = {"line": "main", "path": "a.wav", "reason": "waits …", "since": AT}
    alone |= {"code": "picture", "values": {"like": "a.*"}}
    told = page(status(queue=[queued], waiting=[alone]), "zh")
    assert "任务需要 4000 MiB 显存；L4 共 24000 MiB，目前空闲 1200 MiB。" in told and "vllm (pid 77)" in told
    assert "等待配对文件：名为 a.* 的视频或图片。" in told and "…" not in told
    assert "The job needs …" in page(status(queue=[queued], waiting=[alone]))


def test_a_line_on_which_everything_waits_is_not_said_to_be_at_work() -> None:
    waiting = job(3, "queued", deferred_reason="8000 MiB are needed; held by vllm (pid 77).", deferred_since=AT,
                  holders=["vllm (pid 77)"])  # fmt: skip
    told = page(status(queue=[waiting]))
    assert "start by themselves" in told and "Running." not in told
    assert told.count("vllm (pid 77)") == 1, "who is named in the reason is not named again"
    assert "Running." in page(status(queue=[waiting, job(4, "queued")]))


def test_why_a_film_is_not_good_is_said_where_it_is_named() -> None:
    poor = job(4, "delivered", grade="poor", held=True, grade_reason={"code": "mouth_late", "values": {"ms": 240}})
    assert "240 ms later" in page(status(recent=[poor])) and "240 毫秒" in page(status(recent=[poor]), "zh")


def test_files_that_wait_in_the_inbox_are_not_nothing() -> None:
    lone = {"line": "main", "path": "a.wav", "reason": "its video is missing", "since": AT}
    told = page(status(waiting=[lone]))
    assert "the reasons are below" in told and "drop a sound" not in told
