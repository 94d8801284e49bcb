"""``heygemd demo``: the whole line shown once, on a temporary line of its own, with the real daemon.

The pair is made here (a film of the shipped portrait, the shipped sentence) or is the user's own, which is
only copied.  It is dropped into the inbox the way a person would, the daemon is asked over its socket how far
it is, and the film, its log and a before/after sheet are laid into one folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heygemd.common.errors import EngineError, InputError
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES
from heygemd.common.shipped import shipped
from heygemd.scheduler.worker import run_once
from heygemd.status.progress import Show, View, on_stderr
from heygemd.trials import demo_line, portrait
from heygemd.trials.demo_line import Ask, Stage, running_daemon, signals_interrupt, temporary_line

EXIT_DELIVERED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 3, 130
ENDED_BADLY = frozenset({"failed", "cancelled"})
PATIENCE_SECONDS = 600.0  # without any change: nobody waits longer for a demonstration
REASON_SECONDS = 15.0
SHEET_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Pair:
    """What is dropped: two files, and the one name under which both go into the inbox."""

    video: Path
    audio: Path
    name: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The three files that the demo is about."""

    film: Path
    log: Path
    sheet: Path


class Refused(EngineError):
    """The daemon ended the job without a film; the message is the ``reason.txt`` that it left."""


def run(video: Path | None, audio: Path | None, out: Path | None, json_output: bool) -> int:
    """Show the line once; the exit code of the command.

    ``out`` is the folder for the film, the log and the sheet; ``None`` takes a fresh ``heygemd-demo`` in the
    current folder.  Progress goes to stderr, the three names (or one JSON object) to stdout.  0: delivered;
    3: the job failed, and why was told; 130: interrupted.  The daemon is stopped before this returns.

    Raises InputError for a file that is not there or not of a known kind, SetupError where ffmpeg is missing
    or the daemon does not start, EngineError where the daemon died or one of the three files is not as told.
    """
    _check_own(video, VIDEO_SUFFIXES | STILL_SUFFIXES, "--video")
    _check_own(audio, AUDIO_SUFFIXES, "--audio")
    began = time.monotonic()
    try:
        with signals_interrupt(), temporary_line() as stage, on_stderr() as show:
            pair = _pair(stage, video, audio, show)
            with running_daemon(stage, show) as ask:
                _drop(stage, pair, show)
                _wait(stage, ask, show)
            delivered = _deliver(stage, pair, _folder(out), show)
    except Refused as refusal:
        return _tell_failure(refusal, json_output)
    except KeyboardInterrupt:
        print("heygemd demo: interrupted; the daemon was stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    _tell_delivery(delivered, time.monotonic() - began, json_output)
    return EXIT_DELIVERED


# What is dropped


def _check_own(path: Path | None, suffixes: frozenset[str], option: str) -> None:
    if path is None:
        return
    if not path.is_file():
        raise InputError(f"{option} {path}: the file does not exist.", reason="missing")
    if path.suffix.lower() not in suffixes:
        known = " ".join(sorted(suffixes))
        raise InputError(f"{option} {path}: the file must be of one of these kinds: {known}.", reason="suffix")


def _pair(stage: Stage, video: Path | None, audio: Path | None, show: Show) -> Pair:
    """The user's own files where they are; what the user did not give is made or comes with the package."""
    own = video or audio
    # A name that the inbox ignores (~$x) or that is very long would make a demonstration of that.
    name = re.sub(r"[^\w -]+", "_", own.stem).strip(" _-")[:60] if own else ""
    if audio is None:
        audio = stage.home / "speech.flac"
        audio.write_bytes(shipped("demo_speech.flac"))
    if video is None:
        show.tell(View("making a video of the portrait"))
        still, video = stage.home / "portrait.jpg", stage.home / "portrait.mp4"
        still.write_bytes(shipped("portrait.jpg"))
        portrait.film(still, video)
    return Pair(video, audio, name or "demo")


# The temporary line and its daemon


# The drop, from the inbox to its end


def _drop(stage: Stage, pair: Pair, show: Show) -> None:
    show.tell(View("copying the pair into the inbox"))
    inbox = stage.line / "inbox"
    inbox.mkdir(exist_ok=True)
    for source in (pair.video, pair.audio):
        shutil.copyfile(source, inbox / (pair.name + source.suffix.lower()))


def _wait(stage: Stage, ask: Ask, show: Show) -> None:
    """Watch until the only job there is has been delivered.

    Raises Refused where it ended in another way, or where nothing moves any more.
    """
    seen, since = View(""), time.monotonic()
    while True:
        status = ask("status")
        for job in status["recent"]:
            if job["state"] == "delivered":
                return
            if job["state"] in ENDED_BADLY:
                raise Refused(_reason(stage, job))
        view = _view(status)
        if view != seen:
            seen, since = view, time.monotonic()
            show.tell(view)
        if time.monotonic() - since > PATIENCE_SECONDS:
            minutes = PATIENCE_SECONDS / 60
            raise Refused(f"No progress for {minutes:.0f} minutes; the last step was: {seen.text}.")
        time.sleep(demo_line.POLL_SECONDS)


def _view(status: Mapping[str, Any]) -> View:
    """What a status reply says about the only drop there is."""
    for job in status["running"]:
        text = str(job.get("stage") or "starting the renderer")
        return View(text, int(job.get("frame") or 0), int(job.get("of") or 0), float(job.get("fps") or 0.0))
    for job in status["queue"]:
        reason = job.get("deferred_reason")
        return View(f"waiting: {reason}" if reason else "queued")
    for waiting in status["waiting"]:
        return View(f"waiting: {waiting['reason']}")
    return View("in the inbox")


def _reason(stage: Stage, job: Mapping[str, Any]) -> str:
    """What the daemon wrote for the person who dropped it, a moment after the job had ended."""
    deadline = time.monotonic() + REASON_SECONDS
    while time.monotonic() < deadline:
        for path in sorted((stage.line / "failed").rglob("reason.txt")):
            return path.read_text(encoding="utf-8").strip()
        time.sleep(demo_line.POLL_SECONDS)
    return str(job.get("reason") or f"The job ended as {job['state']} without a reason.")


# What comes out


def _folder(out: Path | None) -> Path:
    """``out``, made where it is missing; else a new ``heygemd-demo`` in the current folder."""
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


def _deliver(stage: Stage, pair: Pair, folder: Path, show: Show) -> Delivered:
    """Move film, log and report from the outbox into ``folder``, draw the sheet beside them, look at all three."""
    films = sorted((stage.line / "outbox").rglob("*.mp4"))
    if len(films) != 1 or not films[0].with_suffix(".json").is_file():
        lies = ", ".join(sorted(path.name for path in (stage.line / "outbox").rglob("*"))) or "nothing"
        raise EngineError(f"The daemon reports a delivery, but the outbox contains: {lies}.")
    target = _free_names(folder, pair.name)
    for source, name in ((films[0], target.film), (films[0].with_suffix(".json"), target.log)):
        shutil.move(source, name)
    page = films[0].with_suffix(".report.html")
    if page.is_file():
        shutil.move(page, target.film.with_suffix(".report.html"))
    show.tell(View("drawing the before/after sheet"))
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


def draw_sheet(before: Path, after: Path, out: Path) -> dict[str, Any]:
    """Have the child draw the sheet; what ``heygemd.pipeline.sheet.make`` returned there.

    Raises the error that the child reports, WorkerDied where it ended without one.
    """
    request = {"task": "sheet", "before": str(before), "after": str(after), "out": str(out)}
    return run_once(request, lambda _message: None, stall_seconds=SHEET_SECONDS)


def _tell_failure(refusal: Refused, json_output: bool) -> int:
    if json_output:
        print(json.dumps({"ok": False, "reason": refusal.message}, ensure_ascii=False))
    else:
        print(f"The demo's job failed.\n{refusal.message}", file=sys.stderr)
    return EXIT_FAILED


def _tell_delivery(delivered: Delivered, seconds: float, json_output: bool) -> None:
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
