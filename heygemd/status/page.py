"""``STATUS.html`` and ``status.json`` for the people who see a line's folders and nothing else.  Pure.

What a line's people may know: their own line's jobs in full, of other lines only that one of their films is being made.
The page has no script and fetches nothing; it reads itself again every few seconds.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from heygemd.common.messages import say, waits, why
from heygemd.common.names import display

PAGE, DATA = "STATUS.html", "status.json"
REFRESH_SECONDS = 10
_MOST = 30  # rows of a kind

Row = Mapping[str, Any]

STYLE = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC","Microsoft YaHei",sans-serif;
 margin:0;background:#f4f5f7;color:#1c2430}
main{max-width:980px;margin:0 auto;padding:20px}
section{background:#fff;border:1px solid #dfe3e8;border-radius:8px;padding:12px 18px;margin:14px 0}
h1{font-size:20px;margin:0}h2{font-size:15px;margin:0 0 8px;color:#5a6473}
p{margin:4px 0;overflow-wrap:anywhere}.small{color:#5a6473;font-size:13px}.bad{color:#b03025}
table{border-collapse:collapse;width:100%}td{padding:5px 10px 5px 0;vertical-align:top;border-top:1px solid #eef0f3}
td{overflow-wrap:anywhere}td.when{white-space:nowrap;color:#5a6473;width:1%}
.bar{height:10px;background:#e7eaee;border-radius:5px;overflow:hidden;margin:6px 0}
.bar div{height:100%;background:#2563c9}
.grade{padding:1px 9px;border-radius:10px;color:#fff;font-size:12px;white-space:nowrap}
.good{background:#1a7f4b}.fair{background:#b7791f}.poor{background:#c0392b}
"""


def data(status: Row, line: str) -> dict[str, Any]:
    """What ``status.json`` holds: the status as this line's people may see it, without times that only tick."""
    own = [job for job in status.get("running", []) if job["line"] == line]
    row: Row = next((r for r in status.get("lines", []) if r["name"] == line), {})
    recent = [job for job in status.get("recent", []) if job["line"] == line]
    return {
        "schema": "heygemd/status/1",
        "line": line,
        "state": status.get("state"),
        "problem": row.get("problem"),
        "paused": bool(row.get("paused")),
        "orders": [dict(order) for order in row.get("orders") or []],
        "running": [_running(job) for job in own],
        "elsewhere": bool(status.get("running")) and not own,
        "queue": [_queued(job) for job in status.get("queue", []) if job["line"] == line],
        "waiting": [
            {key: w.get(key) for key in ("path", "reason", "since", "code", "values")}
            for w in status.get("waiting", [])
            if w["line"] == line
        ],
        "delivered": [_delivered(job) for job in recent if job["state"] == "delivered"],
        "failed": [_failed(job) for job in recent if job["state"] != "delivered"],
    }


def _running(job: Row) -> dict[str, Any]:
    of, frame = int(job.get("of") or 0), int(job.get("frame") or 0)
    return {
        "job": job["id"], "name": _name(job), "stage": job.get("stage"), "percent": 100 * frame // of if of else None,
        "fps": job.get("fps"), "eta": job.get("eta"), "started": job.get("started"),
    }  # fmt: skip


def _queued(job: Row) -> dict[str, Any]:
    return {
        "job": job["id"], "name": _name(job), "priority": job.get("priority"), "waits_for": job.get("deferred_reason"),
        "since": job.get("deferred_since"), "holders": job.get("holders") or [],
        "code": job.get("deferred_kind"), "values": job.get("deferred_values"),
    }  # fmt: skip


def _delivered(job: Row) -> dict[str, Any]:
    base = display(job.get("film") or "")
    folder = display(job.get("folder") or "")
    return {
        "job": job["id"], "name": _name(job), "at": job.get("ended"), "grade": job.get("grade"),
        "grade_reason": job.get("grade_reason"),
        "held": bool(job.get("held")), "folder": folder, "film": f"{base}.mp4",
        "report": f"{base}.report.html" if job.get("has_page") else None,
    }  # fmt: skip


def _failed(job: Row) -> dict[str, Any]:
    return {
        "job": job["id"], "name": _name(job), "at": job.get("ended"), "reason": display(job.get("reason") or ""),
        "code": job.get("reason_code"),
    }  # fmt: skip


def _name(job: Row) -> str:
    folder = display(job.get("folder") or "")
    return f"{folder}/{display(job['name'])}" if folder else display(job["name"])


def to_json(told: Row, at: str) -> bytes:
    """``status.json``; ``at`` is when it was written, ISO 8601."""
    return (json.dumps({**told, "at": at}, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def to_html(told: Row, at: str, language: str, failed: str) -> bytes:
    """``STATUS.html``; ``failed`` is the folder's name in which the inputs of failed jobs lie."""

    def word(name: str, **values: Any) -> str:
        return html.escape(say(language, f"page:{name}", values))

    parts = [f"<h1>{word('title', line=told['line'])}</h1>", _state(told, at, word)]
    parts += [_section(word("running"), [_running_row(job, language, word) for job in told["running"]], plain=True)]
    if told["elsewhere"]:
        parts.append(f"<section><p>{word('elsewhere')}</p></section>")
    parts += [
        _section(word("queue"), [_queue_row(n, job, language, word) for n, job in enumerate(told["queue"], 1)]),
        _section(word("waiting"), [_waiting_row(w, language, word) for w in told["waiting"]]),
        _section(word("orders"), [_order_row(order, language) for order in told["orders"]]),
        _section(word("delivered"), [_delivered_row(job, language, word) for job in told["delivered"]]),
        _section(
            word("failed"), [_failed_row(job, language) for job in told["failed"]], word("failed_hint", folder=failed)
        ),
    ]
    code = "zh-CN" if language == "zh" else "en"
    head = (
        f'<!DOCTYPE html>\n<html lang="{code}"><head><meta charset="utf-8"><title>{word("title", line=told["line"])}'
        f'</title><meta http-equiv="refresh" content="{REFRESH_SECONDS}"><meta name="viewport" '
        f'content="width=device-width"><style>{STYLE}</style></head>'
    )
    text = f"{head}<body><main>{''.join(parts)}</main></body></html>\n"
    return text.encode("utf-8", "backslashreplace")


def _state(told: Row, at: str, word: Any) -> str:
    state = told["state"] or "stopped"
    idle = state == "running" and not told["running"] and not told["queue"] and not told["elsewhere"]
    said = word("idle_waiting" if told["waiting"] else "idle") if idle else word(f"state_{state}")
    if state == "running" and not told["running"] and not told["elsewhere"] and told["queue"]:
        said = word("all_wait") if all(job["waits_for"] for job in told["queue"]) else said
    if told["paused"] and state == "running":
        said = word("state_line_paused")
    problem = f'<p class="bad">{html.escape(display(str(told["problem"])))}</p>' if told["problem"] else ""
    return f'<p>{said}</p>{problem}<p class="small">{word("at", at=at[:19].replace("T", " "))}</p>'


def _section(title: str, rows: Sequence[str], hint: str = "", *, plain: bool = False) -> str:
    if not rows:
        return ""
    shown = "".join(rows[:_MOST])
    more = f'<p class="small">… {len(rows) - _MOST}</p>' if len(rows) > _MOST else ""
    note = f'<p class="small">{hint}</p>' if hint else ""
    count = f" ({len(rows)})" if len(rows) > 1 else ""
    return f"<section><h2>{title}{count}</h2>{shown if plain else f'<table>{shown}</table>'}{more}{note}</section>"


def _running_row(job: Row, language: str, word: Any) -> str:
    percent = job["percent"]
    bar = f'<div class="bar"><div style="width:{percent}%"></div></div>' if percent is not None else ""
    facts = [word("stage", stage=say(language, f"stage:{job['stage']}"))] if job["stage"] else [word("starting")]
    facts += [f"{percent} %"] if percent is not None else []
    facts += [word("fps", fps=f"{job['fps']:.1f}")] if job["fps"] else []
    facts += [word("left", time=_span(float(job["eta"])))] if job["eta"] else []
    return f'<p><b>{html.escape(job["name"])}</b></p>{bar}<p class="small">{" · ".join(facts)}</p>'


def _queue_row(place: int, job: Row, language: str, word: Any) -> str:
    why_not = word("next")
    if job["waits_for"]:
        since = f" · {word('since', at=_clock(job['since']))}" if job["since"] else ""
        reason = waits(language, job["code"], job["values"], job["waits_for"])
        unnamed = [holder for holder in job["holders"] if holder not in reason]
        holders = f" {word('held_by', who=display(', '.join(unnamed)))}" if unnamed else ""
        why_not = f"{html.escape(display(reason))}{holders}{since}"
    name = html.escape(job["name"])
    return f'<tr><td class="when">{place}</td><td>{name}<br><span class="small">{why_not}</span></td></tr>'


def _waiting_row(waiting: Row, language: str, word: Any) -> str:
    since = f" · {word('since', at=_clock(waiting['since']))}" if waiting["since"] else ""
    said = waits(language, waiting["code"], waiting["values"], str(waiting["reason"]))
    reason = html.escape(display(said))
    return f'<tr><td>{html.escape(display(waiting["path"]))}<br><span class="small">{reason}{since}</span></td></tr>'


def _order_row(order: Row, language: str) -> str:
    said = html.escape(say(language, order["code"], order["values"]))
    name = html.escape(order["order"])
    return f'<tr><td class="when">{_clock(order["at"])}</td><td>{name}<br><span class="small">{said}</span></td></tr>'


def _delivered_row(job: Row, language: str, word: Any) -> str:
    grade = job["grade"]
    mark = f' <span class="grade {grade}">{html.escape(say(language, grade))}</span>' if grade else ""
    if job["held"]:
        what = f"{html.escape(job['name'])} <span class='small'>{word('held')}</span>"
    else:
        what = _link(job["folder"], job["film"], job["film"])
        if job["report"]:
            what += f' <span class="small">{_link(job["folder"], job["report"], say(language, "page:report"))}</span>'
    if reason := job["grade_reason"]:
        mark += f'<br><span class="small">{html.escape(say(language, reason["code"], reason["values"]))}</span>'
    return f'<tr><td class="when">{_clock(job["at"])}</td><td>{what}{mark}</td></tr>'


def _link(folder: str, name: str, text: str) -> str:
    path = f"{folder}/{name}" if folder else name
    return f'<a href="./{quote(path)}">{html.escape(text)}</a>'


def _failed_row(job: Row, language: str) -> str:
    reason = html.escape(job["reason"])
    first = why(language, job["code"])
    said = f"{html.escape(first)}<br>{reason}" if first else reason
    return (
        f'<tr><td class="when">{_clock(job["at"])}</td><td>{html.escape(job["name"])}<br>'
        f'<span class="small bad">{said}</span></td></tr>'
    )


def _clock(stamp: str | None) -> str:
    return html.escape(stamp[5:16].replace("T", " ")) if stamp else ""


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
