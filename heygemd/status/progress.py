"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


@dataclass(frozen=True, slots=True)
class ProgressView:
    """The state of the job in one line: frame ``frame`` of ``of``; ``of`` is 0 if there is nothing to count."""

    text: str
    frame: int = 0
    of: int = 0
    fps: float = 0.0


class Show(Protocol):
    """Shows progress to a person."""

    def tell(self, view: ProgressView) -> None: ...


class PlainLines:
    """For a pipe or a log: one line when the step changes, and one every few seconds within it."""

    EVERY_SECONDS = 5.0

    def __init__(self) -> None:
        self._last = ProgressView("")
        self._at = 0.0

    def tell(self, view: ProgressView) -> None:
        now = time.monotonic()
        if view.text == self._last.text and now - self._at < self.EVERY_SECONDS:
            return
        self._last, self._at = view, now
        print(sentence(view), file=sys.stderr, flush=True)


class Bar:
    """For a terminal: one bar, redrawn in place."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def tell(self, view: ProgressView) -> None:
        total = view.of or None
        self._progress.update(self._task, description=sentence(view), total=total, completed=view.frame if total else 0)


def sentence(view: ProgressView) -> str:
    """``render: frame 50 of 167, 24.1 frames per second``."""
    if not view.of:
        return view.text
    pace = f", {view.fps:.1f} frames per second" if view.fps else ""
    return f"{view.text}: frame {view.frame} of {view.of}{pace}"


@contextlib.contextmanager
def on_stderr() -> Iterator[Show]:
    """Progress on stderr, so that stdout holds results only: a bar on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines()
        return
    # markup=False: a reason may hold brackets
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress)
