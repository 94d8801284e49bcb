"""``heygemd selftest``: the daemon that runs makes one film on a real line, and nothing of it stays there.

The pair is the demo's.  It goes into the inbox as a person would put it there; the film and its log are taken from
the outbox, and its inputs out of ``done/``.  What failed stays, with its ``reason.txt``.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heygemd.common.errors import EngineError, SetupError
from heygemd.common.shipped import shipped
from heygemd.config.load import Config, LineConfig
from heygemd.contract import control
from heygemd.status.progress import Show, View, on_stderr
from heygemd.trials import portrait

DELIVERED, FAILED = 0, 3
PATIENCE_SECONDS = 900.0  # without any change: a line that shows no progress for so long has not passed the test
FILING_SECONDS = 60.0
OPENING_SECONDS = 60.0
POLL_SECONDS = 0.5
MODE = 0o660  # for the daemon, which is in the group that the inbox passes on
_BADLY = frozenset({"failed", "cancelled"})


def run(config: Config, line_name: str | None, out: Path | None, *, as_json: bool) -> int:
    """Make the film; 0 where it was delivered, 3 where the job failed, and why is told.

    ``out`` is the folder for film and log (``None``: the current one).  Raises ``NoDaemon``, and ``SetupError`` where
    the line is not configured or cannot be reached.
    """
    line, began = _line(config, line_name), time.monotonic()
    folder = (out or Path()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _reachable(config, line)
    name = f"heygemd-selftest-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with on_stderr() as show:
        _drop(line, name, show)
        reason = _wait(config, line, name, show)
    if reason is not None:
        _tell_failure(reason, line, as_json)
        return FAILED
    film, log = _collect(line, name, folder)
    seconds = time.monotonic() - began
    if as_json:
        told = {"ok": True, "line": line.name, "film": str(film), "log": str(log), "seconds": round(seconds, 1)}
        print(json.dumps(told, ensure_ascii=False))
    else:
        print(f"Line {line.name} delivered a film in {seconds:.0f} s: {film}, with its log next to it.")
    return DELIVERED


def _line(config: Config, name: str | None) -> LineConfig:
    if not config.lines:
        raise SetupError(f"{config.source} has no [[line]]; the self-test needs one.")
    for line in config.lines:
        if name in (None, line.name):
            return line
    raise SetupError(
        f"{config.source} has no line {name!r}; its lines: {', '.join(line.name for line in config.lines)}."
    )


def _ask(config: Config) -> Mapping[str, Any]:
    return control.call(config.daemon.socket, {"cmd": "status"}, timeout=30)


def _reachable(config: Config, line: LineConfig) -> None:
    """Wait until the daemon has looked at the line, if it has just been started."""
    ends = time.monotonic() + OPENING_SECONDS
    while True:
        row = next((row for row in _ask(config)["lines"] if row["name"] == line.name), None)
        if row is None:
            raise SetupError(
                f"The daemon does not serve line {line.name}; run heygemd reload to load the configuration."
            )
        if row["state"] == "ok":
            return
        if row["problem"] or time.monotonic() > ends:
            raise SetupError(f"Line {line.name} is {row['state']}: {row['problem'] or 'it does not answer'}")
        time.sleep(POLL_SECONDS)


def _drop(line: LineConfig, name: str, show: Show) -> None:
    show.tell(View("making a video of the portrait"))
    with tempfile.TemporaryDirectory(prefix="heygemd-selftest-") as folder:
        still, film, speech = (Path(folder) / name for name in ("portrait.jpg", "portrait.mp4", "speech.flac"))
        still.write_bytes(shipped("portrait.jpg"))
        speech.write_bytes(shipped("demo_speech.flac"))
        portrait.film(still, film)
        show.tell(View("copying the pair into the inbox"))
        try:
            for source in (film, speech):
                target = line.inbox / (name + source.suffix)
                shutil.copyfile(source, target)
                target.chmod(MODE)
        except OSError as error:
            raise SetupError(f"{line.inbox} cannot be written to: {error.strerror or error}.") from error


def _wait(config: Config, line: LineConfig, name: str, show: Show) -> str | None:
    """``None`` once the film is delivered; else why there is none."""
    seen, since = View(""), time.monotonic()
    while True:
        status = _ask(config)
        for job in status["recent"]:
            if (job["line"], job["name"]) == (line.name, name):
                if job["state"] == "delivered":
                    return None
                if job["state"] in _BADLY:
                    return str(job["reason"] or job["state"])
        view = _view(status, name)
        if view != seen:
            seen, since = view, time.monotonic()
            show.tell(view)
        if time.monotonic() - since > PATIENCE_SECONDS:
            return f"No progress for {PATIENCE_SECONDS / 60:.0f} minutes; the last step was: {seen.text}."
        time.sleep(POLL_SECONDS)


def _view(status: Mapping[str, Any], name: str) -> View:
    for job in status["running"]:
        text = str(job.get("stage") or "starting the renderer")
        text = text if job["name"] == name else f"after {job['name']}: {text}"
        return View(text, int(job.get("frame") or 0), int(job.get("of") or 0), float(job.get("fps") or 0.0))
    for job in status["queue"]:
        if job["name"] == name:
            return View(f"waiting: {job['deferred_reason']}" if job.get("deferred_reason") else "queued")
    return View("in the inbox")


def _collect(line: LineConfig, name: str, folder: Path) -> tuple[Path, Path]:
    """Take film, log and report away, and the inputs once they are filed."""
    delivered = next((f for f in (line.outbox, line.review) if (f / f"{name}.mp4").is_file()), line.outbox)
    film, log, report = ((name + suffix) for suffix in (".mp4", ".json", ".report.html"))
    for file in (film, log):
        if not (delivered / file).is_file() or (delivered / file).stat().st_size == 0:
            raise EngineError(f"The daemon reports {delivered / file} as delivered, but the file is missing or empty.")
    for file in (film, log, report):
        if (delivered / file).is_file():  # there need be no report
            shutil.move(delivered / file, folder / file)
    ends = time.monotonic() + FILING_SECONDS
    while not (line.done / name).is_dir() and time.monotonic() < ends:
        time.sleep(POLL_SECONDS)
    shutil.rmtree(line.done / name, ignore_errors=True)
    return folder / film, folder / log


def _tell_failure(reason: str, line: LineConfig, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": False, "line": line.name, "reason": reason}, ensure_ascii=False))
    else:
        print(f"The self-test's job on line {line.name} failed. {reason}", file=sys.stderr)
