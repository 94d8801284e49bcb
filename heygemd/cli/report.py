"""``heygemd report``: measure any film, another tool's too, in a child of its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heygemd.common.errors import InputError, StorageError
from heygemd.common.exits import FAILED, OK
from heygemd.common.names import display
from heygemd.common.request import JobOptions
from heygemd.config import load
from heygemd.config.load import Config
from heygemd.config.render_settings import settings_for
from heygemd.scheduler.worker import run_once
from heygemd.status.progress import Show, View, on_stderr

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
    told = measure(load.load_or_default(args.config), args.film, args.video, args.audio, args.html)
    tell(told, args.film, args.html, as_json=args.json)
    return OK if told["grade"] is not None else FAILED


def measure(config: Config, film: Path, video: Path | None, audio: Path | None, page: Path | None) -> dict[str, Any]:
    """The figures and the grade of ``film``; a page of them is written to ``page`` where that is given.

    Raises InputError for a file that is not there, StorageError where the page cannot be written, and as
    ``worker.run_once``.  What cannot be measured gives a ``problem`` instead of a grade.
    """
    for path in (film, video, audio):
        if path is not None and not path.is_file():
            raise InputError(f"{display(str(path))} does not exist.", reason="missing")
    request = {
        "task": "report", "film": str(film.absolute()),
        "video": str(video.absolute()) if video else None, "audio": str(audio.absolute()) if audio else None,
        "settings": settings_for(config, JobOptions()),
    }  # fmt: skip
    with on_stderr() as show:
        told = dict(run_once(request, _hearer(show), stall_seconds=config.limits.stall_seconds))
    text = str(told.pop("page"))
    if page is not None:
        try:
            page.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise StorageError(f"{display(str(page))} cannot be written: {error.strerror or error}.") from error
    return told


def _hearer(show: Show) -> Callable[[Mapping[str, Any]], None]:
    def hear(message: Mapping[str, Any]) -> None:
        if message.get("type") == "progress":
            show.tell(View(str(message.get("stage", "")), int(message.get("frame") or 0), int(message.get("of") or 0)))

    return hear


def tell(told: Mapping[str, Any], film: Path, page: Path | None, *, as_json: bool) -> None:
    """The grade, its reasons and the figures, on stdout."""
    if as_json:
        print(json.dumps({"ok": told["grade"] is not None, "film": str(film), "page": str(page or "") or None, **told}))
        return
    if told["grade"] is None:
        print(f"{display(film.name)} could not be measured: {told['problem']}")
        return
    print(f"{display(film.name)}: {told['grade']}")
    for reason in told["reasons"]:
        print(f"  {reason['level']}: {reason['message']} {reason['advice']}".rstrip())
    for table, key, words in _ROWS:
        value = (told.get(table) or {}).get(key)
        if value is not None:
            print(f"  {words:38} {value}")
    if page is not None:
        print(f"page  {display(str(page))}")
