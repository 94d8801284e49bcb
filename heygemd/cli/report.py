"""``heygemd report``: measure any film in a child process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from heygemd.common.errors import InputError, StorageError
from heygemd.common.exits import FAILED, OK
from heygemd.common.names import display
from heygemd.common.request import JobOptions
from heygemd.config import load
from heygemd.config.load import Config
from heygemd.config.render_settings import settings_for
from heygemd.contract.figures import Report
from heygemd.contract.renderer import News, ProgressMessage, ReportRequest
from heygemd.scheduler.worker import run_once
from heygemd.status.progress import ProgressView, Show, on_stderr

_ROWS = (
    ("sync", "offset_ms", "offset of mouth to sound, ms"),
    ("sync", "confidence", "  confidence"),
    ("sync", "r", "  correlation"),
    ("sync", "articulation", "lip movement, template = 1"),
    ("picture", "sharpness", "mouth sharpness, template = 1"),
    ("picture", "seam", "edges around the mouth, template = 1"),
    ("picture", "outside_db", "similarity outside the mouth, dB"),
    ("picture", "held_percent", "repeated frames, %"),
)


def command(args: argparse.Namespace) -> int:
    """Measure any film."""
    report = measure(load.load_or_default(args.config), args.film, args.video, args.audio, args.html)
    print_report(report, args.film, args.html, as_json=args.json)
    return OK if report["grade"] is not None else FAILED


def measure(config: Config, film: Path, video: Path | None, audio: Path | None, page: Path | None) -> Report:
    """The figures and the grade of ``film``; a page of them is written to ``page`` where that is given.

    Raises InputError for a file that is not there, StorageError where the page cannot be written, and as
    ``worker.run_once``.  What cannot be measured gives a ``problem`` instead of a grade.
    """
    for path in (film, video, audio):
        if path is not None and not path.is_file():
            raise InputError(f"{display(str(path))} does not exist.", reason="missing")
    request = ReportRequest(
        film.absolute(),
        settings_for(config, JobOptions()),
        video.absolute() if video else None,
        audio.absolute() if audio else None,
    )
    with on_stderr() as show:
        report = run_once(request, _hearer(show), stall_seconds=config.limits.stall_seconds)
    text = report.pop("page")
    if page is not None:
        try:
            page.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise StorageError(f"{display(str(page))} cannot be written: {error.strerror or error}.") from error
    return report


def _hearer(show: Show) -> Callable[[News], None]:
    def hear(message: News) -> None:
        if isinstance(message, ProgressMessage):
            show.tell(ProgressView(message.stage, message.frame, message.of))

    return hear


def print_report(report: Report, film: Path, page: Path | None, *, as_json: bool) -> None:
    """The grade, its reasons and the figures, on stdout."""
    if as_json:
        given = {"ok": report["grade"] is not None, "film": str(film), "page": str(page or "") or None}
        print(json.dumps({**given, **report}))
        return
    if report["grade"] is None:
        print(f"{display(film.name)} could not be measured: {report['problem']}")
        return
    print(f"{display(film.name)}: {report['grade']}")
    for reason in report["reasons"]:
        print(f"  {reason['level']}: {reason['message']} {reason['advice']}".rstrip())
    figures: dict[str, Mapping[str, object]] = {"sync": report.get("sync", {}), "picture": report.get("picture", {})}
    for table, key, words in _ROWS:
        value = figures[table].get(key)
        if value is not None:
            print(f"  {words:38} {value}")
    if page is not None:
        print(f"page  {display(str(page))}")
