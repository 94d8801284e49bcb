"""The status on a terminal: colours, bars, as much as fits.  What is shown is built purely from the daemon's reply.

Names are what people typed: they are made printable (``display``) and never read as rich's markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from heygemd.common.errors import HeygemdError
from heygemd.common.names import display
from heygemd.status.text import progress_words, span_words, status_lines

Row = Mapping[str, Any]
_STATE = {"running": "green", "paused": "yellow", "stopping": "yellow", "stopped": "red"}
_OUTCOME = {"delivered": "green", "failed": "red", "cancelled": "yellow"}
_GRADE = {"good": "green", "fair": "yellow", "poor": "red"}
_BAR = 24  # columns
_MOST = 20  # rows of a kind, where there is no height to go by
_FEW = 3  # rows of a kind that are shown even where there is hardly any room


@dataclass(frozen=True, slots=True)
class Part:
    """One section: a title and its rows; ``count`` is how many there are, where not all are among ``rows``."""

    title: str
    rows: Sequence[RenderableType]
    count: int

    def lines(self, rows: int) -> int:
        """What it takes with so many rows: an empty line, its title, and a line that says how many are left out."""
        return 2 + rows + (rows < self.count) if rows else 0


def fitted(parts: Sequence[Part], height: int) -> list[Part]:
    """The parts with so many rows each that all fit into ``height`` lines: the first get the most."""
    kept = [min(part.count, _FEW) for part in parts]

    def room() -> int:
        return height - sum(part.lines(rows) for part, rows in zip(parts, kept, strict=True))

    while room() < 0 and any(kept):  # not even a few of each: whole parts go, from the end
        kept[max(n for n, rows in enumerate(kept) if rows)] = 0
    for number, part in enumerate(parts):
        if kept[number]:
            spare = room() + part.lines(kept[number]) - 2
            kept[number] = part.count if part.count <= spare else max(spare - 1, kept[number])
    return [replace(part, rows=part.rows[:rows]) for part, rows in zip(parts, kept, strict=True) if rows]


class Picture:
    """The status for a terminal of so many columns, at a moment.

    With ``cut`` each row is one line of the terminal, and a long name is shortened so that what is said of it stays.
    """

    def __init__(self, width: int, now: datetime, *, cut: bool) -> None:
        self._width, self._now, self._cut = width, now, cut

    def of(self, reply: Row, height: int | None = None) -> Group:
        """The daemon's reply, within ``height`` lines where that is given."""
        parts = [Part(title, rows, len(rows)) for title, rows in self._parts(reply) if rows]
        if height is None:
            parts = [replace(part, rows=part.rows[:_MOST]) for part in parts]
        else:
            parts = fitted(parts, height - 3)  # the head, and the counts with an empty line
        shown: list[RenderableType] = [self._head(reply)]
        for part in parts:
            title = f"{part.title} ({part.count})" if part.count > 1 else part.title
            shown += ["", self._row((title, "bold"), indent=0), *part.rows]
            left = part.count - len(part.rows)
            shown += [self._row((f"… and {left} more", "dim"))] if left else []
        counts = ", ".join(f"{n} {state}" for state, n in reply.get("counts", {}).items())
        return Group(*shown, "", self._row((f"jobs: {counts or 'none yet'}", "dim"), indent=0))

    def _parts(self, reply: Row) -> Iterable[tuple[str, Sequence[RenderableType]]]:
        guard = reply.get("guard") or {}
        yield "running", [self._running(job) for job in reply.get("running", [])]
        yield "troubles", [*self._troubles(reply, guard)]
        yield "queue", [self._queued(place, job) for place, job in enumerate(reply.get("queue", []), 1)]
        yield "waiting in the inbox", [self._waiting(entry) for entry in reply.get("waiting", [])]
        yield "ended last", [self._ended(job) for job in reply.get("recent", [])]
        yield "GPUs", [self._gpu(gpu) for gpu in guard.get("gpus", [])]
        yield "engines", [self._engine(name, choice) for name, choice in sorted(guard.get("devices", {}).items())]
        yield "lines", [self._well(line) for line in reply.get("lines", []) if not line["problem"]]

    # ------------------------------------------------------------ rows

    def _row(self, *pieces: tuple[str, str], indent: int = 2) -> Text:
        """Pieces of (text, style), one after the other."""
        whole = Text(" " * indent, no_wrap=self._cut, overflow="ellipsis" if self._cut else "fold")
        for text, style in pieces:
            whole.append(display(text), style=style)
        return whole

    def _id(self, job: Row) -> tuple[str, str]:
        """What retry, cancel and log are told; left out where a row has one line."""
        return ("" if self._cut else f"  {job['id']}"), "dim"

    def _name(self, text: str) -> tuple[str, str]:
        name = Text(display(text))
        if self._cut:
            name.truncate(max(self._width * 2 // 5, 12), overflow="ellipsis")
        return name.plain, "bold"

    def _head(self, reply: Row) -> Text:
        state = str(reply.get("state") or "stopped")
        if state == "stopped":
            return self._row(("heygemd ", "bold"), ("not running; shown from its journal", "red"), indent=0)
        up = f"  process {reply.get('pid')}, up for {self._ago(reply.get('started'))}"
        name = (f"heygemd {reply.get('version')}  ", "bold")
        return self._row(name, (state, _STATE.get(state, "")), (up, ""), indent=0)

    def _running(self, job: Row) -> RenderableType:
        row = Table.grid(padding=(0, 1), expand=True)
        width = min(_BAR, self._width // 4)
        row.add_column(width=1)
        row.add_column(width=width)
        row.add_column(ratio=1)
        of, frame = int(job.get("of") or 0), int(job.get("frame") or 0)
        bar = ProgressBar(total=of or None, completed=min(frame, of), width=width, pulse=not of, animation_time=0.0)
        where = (f"  line {job['line']}, {job['id']}", "dim")
        row.add_row("", bar, self._row(self._name(_path(job)), (f"  {progress_words(job)}", ""), where, indent=0))
        return row

    def _troubles(self, reply: Row, guard: Row) -> Iterable[Text]:
        for line in reply.get("lines", []):
            if line["problem"]:
                yield self._row((f"line {line['name']} {line['state']}: ", "red"), (line["problem"], ""))
        if guard.get("problem"):
            yield self._row(("GPU unavailable: ", "red"), (str(guard["problem"]), ""))

    def _queued(self, place: int, job: Row) -> Text:
        mark = "" if job["priority"] == "normal" else f" {job['priority']}"
        waits = job.get("deferred_reason")
        who = f" ({', '.join(job['holders'])})" if job.get("holders") else ""
        told = f"waits {self._ago(job.get('deferred_since'))}: {waits}{who}" if waits else _stage(job)
        style = "yellow" if waits else "dim"
        place_mark = (f"{place:>3}  ", "dim")
        return self._row(place_mark, self._name(_path(job)), (f"{mark}  ", "cyan"), (told, style), self._id(job))

    def _waiting(self, entry: Row) -> Text:
        told = f"  {entry['reason']}, {self._ago(entry.get('since'))}"
        return self._row((f"{entry['line']}  ", "dim"), self._name(entry["path"]), (told, "yellow"))

    def _ended(self, job: Row) -> Text:
        state, grade = str(job["state"]), job.get("grade")
        when = (f"{str(job.get('ended') or job.get('created'))[5:16].replace('T', ' ')}  ", "dim")
        if state != "delivered":
            outcome = (f"  {state}  ", _OUTCOME.get(state, ""))
            return self._row(when, self._name(_path(job)), outcome, (str(job.get("reason") or ""), ""), self._id(job))
        film = str(job.get("film") or job["name"])
        name = self._name(f"{job['folder']}/{film}.mp4" if job.get("folder") else f"{film}.mp4")
        mark = (f"  {grade or 'delivered'}", _GRADE.get(str(grade), "green"))
        held = ("  held for review" if job.get("held") else "", "red")
        return self._row(when, name, mark, held, self._id(job))

    def _gpu(self, gpu: Row) -> Text:
        busy = f", {gpu['utilisation']} % busy" if gpu.get("utilisation") is not None else ""
        held = f"  used by {', '.join(gpu['holders'])}" if gpu.get("holders") else ""
        free = f"  {gpu['free_mib']} of {gpu['total_mib']} MiB free{busy}"
        return self._row((gpu["name"], "bold"), (free, ""), (held, "dim"))

    def _engine(self, name: str, choice: Row) -> Text:
        return self._row((name, "bold"), (f"  {choice['device']}  ", ""), (choice["reason"], "dim"))

    def _well(self, line: Row) -> Text:
        state = (f"  {line['state'] or '-'}  ", "green" if line["state"] == "ok" else "yellow")
        return self._row((line["name"], "bold"), state, (f"{line['watch']}  {line['inbox']}", "dim"))

    def _ago(self, stamp: Any) -> str:
        """How long ago an ISO 8601 time was."""
        try:
            return span_words(max((self._now - datetime.fromisoformat(str(stamp))).total_seconds(), 0.0))
        except (ValueError, TypeError):
            return "?"


def _stage(job: Row) -> str:
    return "waits for its turn" if job["state"] == "queued" else f"{job['state']}, being delivered"


def _path(job: Row) -> str:
    return f"{job['folder']}/{job['name']}" if job.get("folder") else str(job["name"])


# ---------------------------------------------------------------- shown


def once(reply: Row) -> None:
    """Print it as it is."""
    console = Console(highlight=False)
    console.print(Picture(console.width, datetime.now().astimezone(), cut=False).of(reply))


def watch(ask: Callable[[], Row], seconds: float, *, as_json: bool) -> None:
    """Show it again every so many seconds, until interrupted: live on a terminal, one after the other elsewhere.

    ``ask`` may raise ``HeygemdError``: the first time it goes on to the caller, later it is shown.
    """
    told = ask()
    console = Console(highlight=False)
    try:
        if as_json or not console.is_terminal or console.is_dumb_terminal:
            while True:
                print(json.dumps(told) if as_json else "\n".join([*status_lines(told), ""]), flush=True)
                time.sleep(seconds)
                told = _asked(ask)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_framed(told, console), refresh=True)
                time.sleep(seconds)
                told = _asked(ask)
    except KeyboardInterrupt:  # the usual way to end it
        if not as_json and not console.is_terminal:
            sys.stdout.flush()


def _asked(ask: Callable[[], Row]) -> Row:
    try:
        return ask()
    except HeygemdError as error:
        return {"ok": False, "error": error.message}


def _framed(told: Row, console: Console) -> RenderableType:
    """The picture in a terminal of this size, with a last line that says how to leave it."""
    now, size = datetime.now().astimezone(), console.size
    if not told.get("ok", True):
        return Text(f"heygemd\n\n{display(str(told.get('error')))}", style="red")
    clock = Text(f"{now:%H:%M:%S}  Ctrl-C to quit", style="dim", no_wrap=True, overflow="ellipsis")
    return Group(Picture(size.width, now, cut=True).of(told, size.height - 1), clock)
