"""``heygemd demo``: the whole line shown once, on a temporary line of its own, with the real daemon.

The pair is made here (a film of the shipped portrait, the shipped sentence) or is the user's own, which is
only copied.  It is dropped into the inbox the way a person would, the daemon is asked over its socket how far
it is, and the film, its log and a before/after sheet are laid into one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from heygemd.common.errors import EngineError, InputError, SetupError
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES
from heygemd.common.shipped import shipped
from heygemd.common.spawn import environment, python
from heygemd.contract import control
from heygemd.scheduler.worker import run_once
from heygemd.status.progress import Show, View, on_stderr
from heygemd.trials import portrait

EXIT_DELIVERED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 3, 130
DAEMON = (*python("heygemd"), "run")
ENDED_BADLY = frozenset({"failed", "cancelled"})
START_SECONDS = 60.0  # a daemon that has not answered by then will not
STOP_SECONDS = 30.0
PATIENCE_SECONDS = 600.0  # without any change: nobody waits longer for a demonstration
REASON_SECONDS = 15.0
SHEET_SECONDS = 600.0
POLL_SECONDS = 0.3
SOCKET_PATH_BYTES = 100  # the kernel's limit for AF_UNIX is 107

CONFIG = """\
[daemon]
state_dir = {state}
socket = {socket}
stop_seconds = 10.0

[intake]
poll_seconds = 0.5
rescan_seconds = 2.0
settle_readings = 2
settle_seconds = 1.0

[limits]
attempts = 1
free_disk_mib = 256
free_ram_mib = 256

[[line]]
name = "demo"
root = {root}
"""

Ask = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """The temporary line: everything of it lies under ``home``, which goes when the demo ends."""

    home: Path

    @property
    def line(self) -> Path:
        return self.home / "line"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def socket(self) -> Path:
        return self.home / "s"

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    @property
    def output(self) -> Path:
        """What the daemon prints."""
        return self.home / "daemon.txt"


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
        with _signals_interrupt(), _stage() as stage, on_stderr() as show:
            pair = _pair(stage, video, audio, show)
            with _daemon(stage, show) as ask:
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
        raise InputError(f"{option} {path}: there is no such file.", reason="missing")
    if path.suffix.lower() not in suffixes:
        known = " ".join(sorted(suffixes))
        raise InputError(f"{option} {path}: only these kinds of file are taken here: {known}.", reason="suffix")


def _pair(stage: Stage, video: Path | None, audio: Path | None, show: Show) -> Pair:
    """The user's own files where they are; what the user did not give is made or comes with the package."""
    own = video or audio
    # A name that the inbox ignores (~$x) or that is very long would make a demonstration of that.
    name = re.sub(r"[^\w -]+", "_", own.stem).strip(" _-")[:60] if own else ""
    if audio is None:
        audio = stage.home / "speech.flac"
        audio.write_bytes(shipped("demo_speech.flac"))
    if video is None:
        show.tell(View("filming the portrait"))
        still, video = stage.home / "portrait.jpg", stage.home / "portrait.mp4"
        still.write_bytes(shipped("portrait.jpg"))
        portrait.film(still, video)
    return Pair(video, audio, name or "demo")


# The temporary line and its daemon


@contextlib.contextmanager
def _stage() -> Iterator[Stage]:
    home = Path(tempfile.mkdtemp(prefix="heygemd-demo-"))
    if len(os.fsencode(Stage(home).socket)) > SOCKET_PATH_BYTES:
        home.rmdir()
        home = Path(tempfile.mkdtemp(prefix="heygemd-demo-", dir="/tmp"))
    stage = Stage(home)
    try:
        for folder in (stage.line, stage.state):
            folder.mkdir()
        # A JSON string is a TOML string for every path that mkdtemp gives.
        places = {"state": stage.state, "socket": stage.socket, "root": stage.line}
        text = CONFIG.format(**{k: json.dumps(str(v), ensure_ascii=False) for k, v in places.items()})
        stage.config.write_text(text, encoding="utf-8")
        yield stage
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _daemon(stage: Stage, show: Show) -> Iterator[Ask]:
    """The real daemon, and how to ask it; stopped at the end, always.

    It runs in a session of its own, so that Ctrl-C reaches only us and its end is ours to order.
    """
    show.tell(View("starting the daemon"))
    argv = [*DAEMON, "--config", str(stage.config)]
    with stage.output.open("wb") as output:
        daemon = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(),
        )

    def ask(command: str) -> Mapping[str, Any]:
        try:
            reply = control.call(stage.socket, {"cmd": command}, timeout=30)
        except SetupError as error:
            try:
                code = daemon.wait(POLL_SECONDS)  # it hangs up a moment before it is gone
            except subprocess.TimeoutExpired:
                raise error from None
            raise EngineError(f"The daemon ended with code {code}. It said:\n{_said(stage)}") from error
        if not reply["ok"]:
            raise EngineError(f"The daemon refused '{command}': {reply['error']}")
        return reply

    try:
        _wait_for_start(ask, stage)
        yield ask
    finally:
        _stop(daemon)


def _wait_for_start(ask: Ask, stage: Stage) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(SetupError):
            ask("ping")
            return
    raise SetupError(f"The daemon did not answer in {START_SECONDS:.0f} seconds. It said:\n{_said(stage)}")


def _said(stage: Stage) -> str:
    """The last lines that the daemon printed."""
    lines = stage.output.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-15:]) or "(nothing)"


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal was closed) end the demo as Ctrl-C does: with the daemon stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
            raise Refused(f"Nothing has moved for {minutes:.0f} minutes; the last was: {seen.text}.")
        time.sleep(POLL_SECONDS)


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
        time.sleep(POLL_SECONDS)
    return str(job.get("reason") or f"The job ended as {job['state']} and left no reason.")


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
        raise EngineError(f"A film and its log were delivered, says the daemon; in the outbox lies: {lies}.")
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
    print("No screen on this machine? Copy the files to one that has.")
