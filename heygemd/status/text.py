"""The status and the jobs as plain lines of text.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from heygemd.common.names import display
from heygemd.contract.status import GuardRow, JobRow, LineRow, Progress, RunningRow, Status, WaitingRow

_MOST = 20
"""Rows of a kind that are shown; ``--json`` gives all."""
_NOT_RUNNING = "daemon not running; shown from its journal"


def status_lines(status: Status) -> list[str]:
    """The status as lines for a person."""
    if status["state"] == "stopped":
        head = _NOT_RUNNING
    else:
        up = f"process {status['pid']}, up since {_when(status['started'])}"
        head = f"heygemd {status['version']}: {status['state']}, {up}"
    guard = status["guard"]
    return [
        head,
        *_section("lines", [_line_cells(line) for line in status["lines"]]),
        *_section("engines", _engine_cells(guard) if guard else []),
        *_section("GPUs", _gpu_cells(guard) if guard else []),
        *_section("running", [_running_cells(job) for job in status["running"]]),
        *_section("queue", [_queue_cells(job) for job in status["queue"]]),
        *_section("waiting in the inbox", [_waiting_cells(row) for row in status["waiting"]]),
        *_section("ended last", [_job_cells(job) for job in status["recent"]]),
        "",
        f"jobs: {counts_words(status)}",
    ]


def job_lines(jobs: Sequence[JobRow]) -> list[str]:
    """The jobs as a table, one a line."""
    return _table([_job_cells(job) for job in jobs]) if jobs else ["no jobs"]


def counts_words(status: Status) -> str:
    """``1 delivered, 2 queued``."""
    return ", ".join(f"{number} {state}" for state, number in status["counts"].items()) or "none yet"


def progress_words(progress: Progress | RunningRow) -> str:
    """``render 25 % of 200 frames, 24.0 frames per second, 1 min 5 s left``."""
    words = progress.get("stage") or "starting"
    if frames := progress.get("of"):
        words += f" {100 * (progress.get('frame') or 0) // frames} % of {frames} frames"
    if fps := progress.get("fps"):
        words += f", {fps:.1f} frames per second"
    if eta := progress.get("eta"):
        words += f", {span_words(eta)} left"
    return words


def span_words(seconds: float) -> str:
    """``1 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def job_path(job: JobRow) -> str:
    """The job's name, below its folder in the inbox."""
    return f"{job['folder']}/{job['name']}" if job["folder"] else job["name"]


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    more = [f"  … and {len(rows) - _MOST} more"] if len(rows) > _MOST else []
    count = f" ({len(rows)})" if len(rows) > 1 else ""
    return ["", f"{title}{count}", *(f"  {text}" for text in _table(rows[:_MOST])), *more]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns; the last one is as long as its text."""
    from rich.cells import cell_len  # the daemon imports this module, and needs no rich

    printable = [[display(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[i]) for row in printable) for i in range(len(printable[0]) - 1)]
    return [
        "  ".join([*(c + " " * (w - cell_len(c)) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in printable
    ]


def _line_cells(line: LineRow) -> list[str]:
    return [line["name"], line["state"] or "-", line["watch"] or "-", line["problem"] or line["inbox"]]


def _engine_cells(guard: GuardRow) -> list[list[str]]:
    """Where each engine runs, as it was decided at start, and why."""
    return [[name, choice["device"], choice["reason"]] for name, choice in sorted(guard["devices"].items())]


def _gpu_cells(guard: GuardRow) -> list[list[str]]:
    """The GPUs as the guard last read them, which it does only while a job needs one."""
    rows = [
        [gpu["name"], f"{gpu['free_mib']} of {gpu['total_mib']} MiB free", ", ".join(gpu["holders"])]
        for gpu in guard["gpus"]
    ]
    return rows + ([["-", "unavailable", guard["problem"]]] if guard["problem"] else [])


def _running_cells(job: RunningRow) -> list[str]:
    return [job["id"], job["line"], job_path(job), progress_words(job)]


def _queue_cells(job: JobRow) -> list[str]:
    waits = job["deferred_reason"]
    why = f"waits since {_when(job['deferred_since'])}: {waits}" if waits else f"since {_when(job['created'])}"
    return [job["id"], job["line"], job["priority"], job["state"], job_path(job), why]


def _waiting_cells(row: WaitingRow) -> list[str]:
    return [row["line"], row["path"], f"{row['reason']} (since {_when(row['since'])})"]


def _job_cells(job: JobRow) -> list[str]:
    when = _when(job["ended"] or job["started"] or job["created"])
    outcome = f"→ {job['film']}.mp4" if job["state"] == "delivered" and job["film"] else ""
    if outcome and job["grade"]:
        outcome += f"  {job['grade']}" + (", held for review" if job["held"] else "")
    return [job["id"], when, job["state"], job["line"], job_path(job), outcome or job["reason"] or ""]


def _when(stamp: str | None) -> str:
    """``2026-11-22 14:03:07`` of an ISO 8601 time."""
    return stamp[:19].replace("T", " ") if stamp else "-"
