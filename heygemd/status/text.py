"""What ``check``, ``status`` and ``jobs`` print: asked of the daemon, or read from the journal when it is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heygemd.common.names import display

_MOST = 20
"""So many of a kind are listed; ``--json`` gives all."""
_NOT_RUNNING = "daemon not running; shown from its journal"

Row = Mapping[str, Any]


# ---------------------------------------------------------------- check


# ---------------------------------------------------------------- status


def status_lines(reply: Row) -> list[str]:
    """The status as lines for a person."""
    if reply.get("state") == "stopped":
        head = _NOT_RUNNING
    else:
        up = f"process {reply.get('pid')}, up since {_when(reply.get('started'))}"
        head = f"heygemd {reply.get('version')}: {reply.get('state')}, {up}"
    return [
        head,
        *_section("lines", [_line_cells(line) for line in reply.get("lines", [])]),
        *_section("engines", _engine_cells(reply.get("guard") or {})),
        *_section("GPUs", _gpu_cells(reply.get("guard") or {})),
        *_section("running", [_running_cells(job) for job in reply.get("running", [])]),
        *_section("queue", [_queue_cells(job) for job in reply.get("queue", [])]),
        *_section("waiting in the inbox", [_waiting_cells(w) for w in reply.get("waiting", [])]),
        *_section("ended last", [_job_cells(job) for job in reply.get("recent", [])]),
        "",
        "jobs: " + (", ".join(f"{n} {state}" for state, n in reply.get("counts", {}).items()) or "none yet"),
    ]


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    more = [f"  … and {len(rows) - _MOST} more"] if len(rows) > _MOST else []
    count = f" ({len(rows)})" if len(rows) > 1 else ""
    return ["", f"{title}{count}", *(f"  {text}" for text in _table(rows[:_MOST])), *more]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns; the last one is as long as it is."""
    from rich.cells import cell_len  # the daemon imports this module, and needs no rich

    printable = [[display(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[i]) for row in printable) for i in range(len(printable[0]) - 1)]
    return [
        "  ".join([*(c + " " * (w - cell_len(c)) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in printable
    ]


def _line_cells(line: Row) -> list[str]:
    return [str(line["name"]), line["state"] or "-", line["watch"] or "-", line["problem"] or line["inbox"] or ""]


def _engine_cells(guard: Row) -> list[list[str]]:
    """Where each engine runs, as it was decided at start, and why."""
    return [[name, choice["device"], choice["reason"]] for name, choice in sorted(guard.get("devices", {}).items())]


def _gpu_cells(guard: Row) -> list[list[str]]:
    """The GPUs as the guard last saw them, which it does only while a job needs one."""
    rows = [
        [gpu["name"], f"{gpu['free_mib']} of {gpu['total_mib']} MiB free", ", ".join(gpu["holders"])]
        for gpu in guard.get("gpus", [])
    ]
    return rows + ([["-", "unavailable", guard["problem"]]] if guard.get("problem") else [])


def progress_words(job: Row) -> str:
    """``render 25 % of 200 frames, 24.0 frames per second, 1 min 5 s left``."""
    progress = str(job.get("stage") or "starting")
    if job.get("of"):
        progress += f" {100 * int(job.get('frame') or 0) // int(job['of'])} % of {job['of']} frames"
    if job.get("fps"):
        progress += f", {job['fps']:.1f} frames per second"
    if job.get("eta"):
        progress += f", {span_words(float(job['eta']))} left"
    return progress


def _running_cells(job: Row) -> list[str]:
    return [job["id"], job["line"], _path(job), progress_words(job)]


def _queue_cells(job: Row) -> list[str]:
    waits = job.get("deferred_reason")
    why = f"waits since {_when(job.get('deferred_since'))}: {waits}" if waits else f"since {_when(job['created'])}"
    return [job["id"], job["line"], job["priority"], job["state"], _path(job), why]


def _waiting_cells(entry: Row) -> list[str]:
    return [entry["line"], entry["path"], f"{entry['reason']} (since {_when(entry['since'])})"]


def _job_cells(job: Row) -> list[str]:
    when = _when(job.get("ended") or job.get("started") or job.get("created"))
    outcome = f"→ {job['film']}.mp4" if job["state"] == "delivered" and job.get("film") else ""
    if outcome and job.get("grade"):
        outcome += f"  {job['grade']}" + (", held for review" if job.get("held") else "")
    return [job["id"], when, job["state"], job["line"], _path(job), outcome or job.get("reason") or ""]


def _path(job: Row) -> str:
    return f"{job['folder']}/{job['name']}" if job.get("folder") else str(job["name"])


def _when(stamp: Any) -> str:
    """``2026-11-22 14:03:07`` of an ISO 8601 time."""
    return str(stamp)[:19].replace("T", " ") if stamp else "-"


def span_words(seconds: float) -> str:
    """``1 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
