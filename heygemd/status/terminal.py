"""The status on a terminal: colours, bars, as many rows as fit.  Pure: from the status to what rich prints.

Names are what people typed: they are made printable (``display``) and never read as rich's markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from heygemd.common.names import display
from heygemd.contract.status import DeviceRow, GpuRow, JobRow, LineRow, RunningRow, Status, WaitingRow
from heygemd.status.text import counts_words, job_path, progress_words, span_words

_STATE = {"running": "green", "paused": "yellow", "stopping": "yellow", "stopped": "red"}
_OUTCOME = {"delivered": "green", "failed": "red", "cancelled": "yellow"}
_GRADE = {"good": "green", "fair": "yellow", "poor": "red"}
_BAR = 24  # columns
_MOST = 20  # rows of a kind, where there is no height to go by
_FEW = 3  # rows of a kind that are shown even on a very low terminal


@dataclass(frozen=True, slots=True)
class Section:
    """A title and its rows; ``count`` is the number of rows before some were left out of ``rows``."""

    title: str
    rows: Sequence[RenderableType]
    count: int

    def lines(self, rows: int) -> int:
        """Its height with that number of rows: an empty line, its title, the rows, and a line if some are left out."""
        return 2 + rows + (rows < self.count) if rows else 0


def fitted(sections: Sequence[Section], height: int) -> list[Section]:
    """The sections, with rows left out until all fit into ``height`` lines: the first keep the most."""
    kept = [min(section.count, _FEW) for section in sections]

    def room() -> int:
        return height - sum(section.lines(rows) for section, rows in zip(sections, kept, strict=True))

    while room() < 0 and any(kept):  # not even a few of each: whole sections go, from the end
        kept[max(n for n, rows in enumerate(kept) if rows)] = 0
    for number, section in enumerate(sections):
        if kept[number]:
            spare = room() + section.lines(kept[number]) - 2
            kept[number] = section.count if section.count <= spare else max(spare - 1, kept[number])
    return [replace(section, rows=section.rows[:rows]) for section, rows in zip(sections, kept, strict=True) if rows]


class StatusScreen:
    """The status for a terminal of ``width`` columns, at the moment ``now``.

    With ``cut`` each row is one line of the terminal, and a long name is shortened so that the words after it stay.
    """

    def __init__(self, width: int, now: datetime, *, cut: bool) -> None:
        self._width, self._now, self._cut = width, now, cut

    def of(self, status: Status, height: int | None = None) -> Group:
        """The status, within ``height`` lines if that is given."""
        sections = [Section(title, rows, len(rows)) for title, rows in self._sections(status) if rows]
        if height is None:
            sections = [replace(section, rows=section.rows[:_MOST]) for section in sections]
        else:
            sections = fitted(sections, height - 3)  # the head, and the counts with an empty line
        shown: list[RenderableType] = [self._head(status)]
        for section in sections:
            title = f"{section.title} ({section.count})" if section.count > 1 else section.title
            shown += ["", self._row((title, "bold"), indent=0), *section.rows]
            left = section.count - len(section.rows)
            shown += [self._row((f"… and {left} more", "dim"))] if left else []
        return Group(*shown, "", self._row((f"jobs: {counts_words(status)}", "dim"), indent=0))

    def _sections(self, status: Status) -> Iterable[tuple[str, Sequence[RenderableType]]]:
        guard = status["guard"]
        yield "running", [self._running(job) for job in status["running"]]
        yield "troubles", [*self._troubles(status)]
        yield "queue", [self._queued(place, job) for place, job in enumerate(status["queue"], 1)]
        yield "waiting in the inbox", [self._waiting(row) for row in status["waiting"]]
        yield "ended last", [self._ended(job) for job in status["recent"]]
        if guard:
            yield "GPUs", [self._gpu(gpu) for gpu in guard["gpus"]]
            yield "engines", [self._engine(name, choice) for name, choice in sorted(guard["devices"].items())]
        yield "lines", [self._line(line) for line in status["lines"] if not line["problem"]]

    # ------------------------------------------------------------ rows

    def _row(self, *pieces: tuple[str, str], indent: int = 2) -> Text:
        """Pieces of (text, style), one after the other."""
        whole = Text(" " * indent, no_wrap=self._cut, overflow="ellipsis" if self._cut else "fold")
        for text, style in pieces:
            whole.append(display(text), style=style)
        return whole

    def _id(self, job: JobRow) -> tuple[str, str]:
        """The argument of retry, cancel and log; left out if a row has one line."""
        return ("" if self._cut else f"  {job['id']}"), "dim"

    def _name(self, text: str) -> tuple[str, str]:
        name = Text(display(text))
        if self._cut:
            name.truncate(max(self._width * 2 // 5, 12), overflow="ellipsis")
        return name.plain, "bold"

    def _head(self, status: Status) -> Text:
        state = status["state"]
        if state == "stopped":
            return self._row(("heygemd ", "bold"), ("not running; shown from its journal", "red"), indent=0)
        up = f"  process {status['pid']}, up for {self._ago(status['started'])}"
        name = (f"heygemd {status['version']}  ", "bold")
        return self._row(name, (state, _STATE.get(state, "")), (up, ""), indent=0)

    def _running(self, job: RunningRow) -> RenderableType:
        row = Table.grid(padding=(0, 1), expand=True)
        width = min(_BAR, self._width // 4)
        row.add_column(width=1)
        row.add_column(width=width)
        row.add_column(ratio=1)
        of, frame = job.get("of") or 0, job.get("frame") or 0
        bar = ProgressBar(total=of or None, completed=min(frame, of), width=width, pulse=not of, animation_time=0.0)
        where = (f"  line {job['line']}, {job['id']}", "dim")
        row.add_row("", bar, self._row(self._name(job_path(job)), (f"  {progress_words(job)}", ""), where, indent=0))
        return row

    def _troubles(self, status: Status) -> Iterable[Text]:
        for line in status["lines"]:
            if line["problem"]:
                yield self._row((f"line {line['name']} {line['state']}: ", "red"), (line["problem"], ""))
        guard = status["guard"]
        if guard and guard["problem"]:
            yield self._row(("GPU unavailable: ", "red"), (guard["problem"], ""))

    def _queued(self, place: int, job: JobRow) -> Text:
        mark = "" if job["priority"] == "normal" else f" {job['priority']}"
        waits, holders = job["deferred_reason"], job.get("holders")
        who = f" ({', '.join(holders)})" if holders else ""
        words = f"waits {self._ago(job['deferred_since'])}: {waits}{who}" if waits else _stage(job)
        style = "yellow" if waits else "dim"
        place_mark = (f"{place:>3}  ", "dim")
        return self._row(place_mark, self._name(job_path(job)), (f"{mark}  ", "cyan"), (words, style), self._id(job))

    def _waiting(self, row: WaitingRow) -> Text:
        words = f"  {row['reason']}, {self._ago(row['since'])}"
        return self._row((f"{row['line']}  ", "dim"), self._name(row["path"]), (words, "yellow"))

    def _ended(self, job: JobRow) -> Text:
        state, grade = job["state"], job["grade"] or ""
        when = (f"{(job['ended'] or job['created'])[5:16].replace('T', ' ')}  ", "dim")
        if state != "delivered":
            outcome = (f"  {state}  ", _OUTCOME.get(state, ""))
            return self._row(when, self._name(job_path(job)), outcome, (job["reason"] or "", ""), self._id(job))
        film = job["film"] or job["name"]
        name = self._name(f"{job['folder']}/{film}.mp4" if job["folder"] else f"{film}.mp4")
        mark = (f"  {grade or 'delivered'}", _GRADE.get(grade, "green"))
        held = ("  held for review" if job["held"] else "", "red")
        return self._row(when, name, mark, held, self._id(job))

    def _gpu(self, gpu: GpuRow) -> Text:
        busy = f", {gpu['utilisation']} % busy" if gpu["utilisation"] is not None else ""
        held = f"  used by {', '.join(gpu['holders'])}" if gpu["holders"] else ""
        free = f"  {gpu['free_mib']} of {gpu['total_mib']} MiB free{busy}"
        return self._row((gpu["name"], "bold"), (free, ""), (held, "dim"))

    def _engine(self, name: str, choice: DeviceRow) -> Text:
        return self._row((name, "bold"), (f"  {choice['device']}  ", ""), (choice["reason"], "dim"))

    def _line(self, line: LineRow) -> Text:
        state = (f"  {line['state'] or '-'}  ", "green" if line["state"] == "ok" else "yellow")
        return self._row((line["name"], "bold"), state, (f"{line['watch']}  {line['inbox']}", "dim"))

    def _ago(self, stamp: str | None) -> str:
        """How long ago an ISO 8601 time was."""
        try:
            return span_words(max((self._now - datetime.fromisoformat(stamp or "")).total_seconds(), 0.0))
        except (ValueError, TypeError):  # no time, or one without its offset
            return "?"


def _stage(job: JobRow) -> str:
    return "waits for its turn" if job["state"] == "queued" else f"{job['state']}, being delivered"
