"""``heygemd demo``: shows the whole line once, on a temporary line of its own, with the real daemon.

The pair is made here (a film of the shipped portrait, the shipped sentence) or is the user's own, which is
only copied.  It is dropped into the inbox as a person would, the daemon is asked over its socket for its
progress, and the film, its log and a before/after sheet are moved into one folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from heygemd.common.errors import EngineError, InputError
from heygemd.common.exits import FAILED, INTERRUPTED, OK
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES
from heygemd.contract.renderer import SheetReply, SheetRequest
from heygemd.scheduler.worker import run_once
from heygemd.status.progress import ProgressView, Show, on_stderr
from heygemd.trials import portrait_film, temporary_daemon
from heygemd.trials.follow_job import Ending, follow
from heygemd.trials.temporary_daemon import (
    Ask,
    ConfigTables,
    TemporaryLine,
    running_daemon,
    signals_interrupt,
    temporary_line,
)

PATIENCE_SECONDS = 600.0  # without any change: nobody waits longer for a demonstration
REASON_SECONDS = 15.0
SHEET_SECONDS = 600.0
SETTINGS: ConfigTables = {
    "daemon": {"stop_seconds": 10.0},
    "intake": {"poll_seconds": 0.5, "rescan_seconds": 2.0, "settle_readings": 2, "settle_seconds": 1.0},
    "limits": {"attempts": 1, "free_disk_mib": 256, "free_ram_mib": 256},
}


@dataclass(frozen=True, slots=True)
class DemoPair:
    """The two files to drop and their common name in the inbox."""

    video: Path
    audio: Path
    name: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The three files that the demo is about."""

    film: Path
    log: Path
    sheet: Path


class DemoFailed(EngineError):
    """The daemon ended the job without a film; the message is the ``reason.txt`` that it left."""


def run(video: Path | None, audio: Path | None, out: Path | None, json_output: bool) -> int:
    """Show the line once; the exit code of the command.

    ``out`` is the folder for the film, the log and the sheet; ``None`` takes a fresh ``heygemd-demo`` in the
    current folder.  Progress goes to stderr, the three names (or one JSON object) to stdout.  0: delivered;
    3: the job failed, and why was printed; 130: interrupted.  The daemon is stopped before this returns.

    Raises InputError for a file that is not there or not of a known kind, SetupError where ffmpeg is missing
    or the daemon does not start, EngineError where the daemon died or one of the three files is missing.
    """
    _check_own(video, VIDEO_SUFFIXES | STILL_SUFFIXES, "--video")
    _check_own(audio, AUDIO_SUFFIXES, "--audio")
    began = time.monotonic()
    try:
        with signals_interrupt(), temporary_line("demo", SETTINGS) as stage, on_stderr() as show:
            pair = _pair(stage, video, audio, show)
            with running_daemon(stage, show) as ask:
                _drop(stage, pair, show)
                _wait(stage, ask, show)
            delivered = _deliver(stage, pair, _folder(out), show)
    except DemoFailed as failure:
        return _print_failure(failure, json_output)
    except KeyboardInterrupt:
        print("heygemd demo: interrupted; the daemon was stopped.", file=sys.stderr)
        return INTERRUPTED
    _print_delivery(delivered, time.monotonic() - began, json_output)
    return OK


# What is dropped


def _check_own(path: Path | None, suffixes: frozenset[str], option: str) -> None:
    if path is None:
        return
    if not path.is_file():
        raise InputError(f"{option} {path}: the file does not exist.", reason="missing")
    if path.suffix.lower() not in suffixes:
        known = " ".join(sorted(suffixes))
        raise InputError(f"{option} {path}: the file must be of one of these kinds: {known}.", reason="suffix")


def _pair(stage: TemporaryLine, video: Path | None, audio: Path | None, show: Show) -> DemoPair:
    """The user's files; missing ones are generated or come with the package."""
    own = video or audio
    # A name that the inbox ignores (~$x) or that is very long would make a demonstration of that.
    name = re.sub(r"[^\w -]+", "_", own.stem).strip(" _-")[:60] if own else ""
    if audio is None:
        audio = stage.home / "speech.flac"
        portrait_film.write_speech(audio)
    if video is None:
        show.tell(ProgressView("making a video of the portrait"))
        video = stage.home / "portrait.mp4"
        portrait_film.make_portrait_film(video)
    return DemoPair(video, audio, name or "demo")


# The drop, from the inbox to its end


def _drop(stage: TemporaryLine, pair: DemoPair, show: Show) -> None:
    show.tell(ProgressView("copying the pair into the inbox"))
    inbox = stage.line / "inbox"
    inbox.mkdir(exist_ok=True)
    for source in (pair.video, pair.audio):
        shutil.copyfile(source, inbox / (pair.name + source.suffix.lower()))


def _wait(stage: TemporaryLine, ask: Ask, show: Show) -> None:
    """Wait until the only job there is has been delivered.

    Raises DemoFailed where it ended in another way, or where nothing moves any more.
    """
    poll = temporary_daemon.POLL_SECONDS
    ending = follow(lambda: ask("status"), lambda _row: True, show, patience=PATIENCE_SECONDS, poll=poll)
    if ending.state != "delivered":
        raise DemoFailed(ending.reason if ending.state == "stalled" else _reason(stage, ending))


def _reason(stage: TemporaryLine, ending: Ending) -> str:
    """The daemon's ``reason.txt``, shortly after the job ended."""
    deadline = time.monotonic() + REASON_SECONDS
    while time.monotonic() < deadline:
        for path in sorted((stage.line / "failed").rglob("reason.txt")):
            return path.read_text(encoding="utf-8").strip()
        time.sleep(temporary_daemon.POLL_SECONDS)
    return ending.reason or f"The job ended as {ending.state} without a reason."


# What comes out


def _folder(out: Path | None) -> Path:
    """``out``, created if missing; else a new ``heygemd-demo`` in the current folder."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return out.resolve()
    n = 1
    while True:
        folder = Path.cwd() / ("heygemd-demo" if n == 1 else f"heygemd-demo ({n})")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        n += 1


def _deliver(stage: TemporaryLine, pair: DemoPair, folder: Path, show: Show) -> Delivered:
    """Move film, log and report from the outbox into ``folder``, draw the sheet beside them, look at all three."""
    films = sorted((stage.line / "outbox").rglob("*.mp4"))
    if len(films) != 1 or not films[0].with_suffix(".json").is_file():
        names = ", ".join(sorted(path.name for path in (stage.line / "outbox").rglob("*"))) or "nothing"
        raise EngineError(f"The daemon reports a delivery, but the outbox contains: {names}.")
    target = _free_names(folder, pair.name)
    for source, name in ((films[0], target.film), (films[0].with_suffix(".json"), target.log)):
        shutil.move(source, name)
    page = films[0].with_suffix(".report.html")
    if page.is_file():
        shutil.move(page, target.film.with_suffix(".report.html"))
    show.tell(ProgressView("drawing the before/after sheet"))
    draw_sheet(pair.video, target.film, target.sheet)
    for made in (target.film, target.log, target.sheet):
        if not made.is_file() or made.stat().st_size == 0:
            raise EngineError(f"{made} is missing or empty.")
    return target


def _free_names(folder: Path, name: str) -> Delivered:
    """The first of ``name``, ``name (2)`` ... of which none of the files is there."""
    n = 1
    while True:
        base = name if n == 1 else f"{name} ({n})"
        names = Delivered(folder / f"{base}.mp4", folder / f"{base}.json", folder / f"{base}.sheet.png")
        page = names.film.with_suffix(".report.html")
        if not any(path.exists() for path in (names.film, names.log, names.sheet, page)):
            return names
        n += 1


def draw_sheet(before: Path, after: Path, out: Path) -> SheetReply:
    """Have the child draw the sheet.

    Raises the error that the child reports, WorkerDied where it ended without one.
    """
    request = SheetRequest(str(before), str(after), str(out))
    return run_once(request, lambda _message: None, stall_seconds=SHEET_SECONDS)


def _print_failure(failure: DemoFailed, json_output: bool) -> int:
    if json_output:
        print(json.dumps({"ok": False, "reason": failure.message}, ensure_ascii=False))
    else:
        print(f"The demo's job failed.\n{failure.message}", file=sys.stderr)
    return FAILED


def _print_delivery(delivered: Delivered, seconds: float, json_output: bool) -> None:
    film, log, sheet = (str(path) for path in (delivered.film, delivered.log, delivered.sheet))
    if json_output:
        answer = {"ok": True, "film": film, "log": log, "sheet": sheet, "seconds": round(seconds, 1)}
        print(json.dumps(answer, ensure_ascii=False))
        return
    print(f"Delivered in {seconds:.0f} seconds:")
    print(f"  film   {film}")
    print(f"  log    {log}")
    print(f"  sheet  {sheet}    (above: before, below: after)")
    print(f"Watch it with: ffplay -autoexit {shlex.quote(film)}")
    print("If this machine has no screen, copy the files to one that has.")
