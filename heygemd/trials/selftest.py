"""``heygemd selftest``: has the running daemon make one film on a real line, and leaves nothing of it there.

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
from pathlib import Path

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.common.errors import EngineError, SetupError
from heygemd.common.exits import FAILED, OK
from heygemd.config.load import Config, LineConfig
from heygemd.contract import control
from heygemd.status.progress import ProgressView, Show, on_stderr
from heygemd.trials import portrait_film
from heygemd.trials.follow_job import follow

PATIENCE_SECONDS = 900.0  # without any change: a line that shows no progress for that time has failed the test
FILING_SECONDS = 60.0
OPENING_SECONDS = 60.0
POLL_SECONDS = 0.5
MODE = 0o660  # for the daemon, which is in the group that the inbox passes on


def run(config: Config, line_name: str | None, out: Path | None, *, as_json: bool) -> int:
    """Make the film; 0 where it was delivered, 3 where the job failed, after printing why.

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
        _print_failure(reason, line, as_json)
        return FAILED
    film, log = _collect(line, name, folder)
    seconds = time.monotonic() - began
    if as_json:
        result = {"ok": True, "line": line.name, "film": str(film), "log": str(log), "seconds": round(seconds, 1)}
        print(json.dumps(result, ensure_ascii=False))
    else:
        print(f"Line {line.name} delivered a film in {seconds:.0f} s: {film}, with its log next to it.")
    return OK


def _line(config: Config, name: str | None) -> LineConfig:
    if not config.lines:
        raise SetupError(f"{config.source} has no [[line]]; the self-test needs one.")
    for line in config.lines:
        if name in (None, line.name):
            return line
    raise SetupError(
        f"{config.source} has no line {name!r}; its lines: {', '.join(line.name for line in config.lines)}."
    )


def _status(config: Config) -> Row:
    return control.call(config.daemon.socket, {"cmd": "status"}, timeout=30)


def _reachable(config: Config, line: LineConfig) -> None:
    """Wait until the daemon has looked at the line, if it has just been started."""
    ends = time.monotonic() + OPENING_SECONDS
    while True:
        rows = checked.rows(_status(config), "lines")
        row = next((row for row in rows if row.get("name") == line.name), None)
        if row is None:
            raise SetupError(
                f"The daemon does not serve line {line.name}; run heygemd reload to load the configuration."
            )
        state, problem = checked.text(row, "state"), checked.text(row, "problem")
        if state == "ok":
            return
        if problem or time.monotonic() > ends:
            raise SetupError(f"Line {line.name} is {state}: {problem or 'it does not answer'}")
        time.sleep(POLL_SECONDS)


def _drop(line: LineConfig, name: str, show: Show) -> None:
    show.tell(ProgressView("making a video of the portrait"))
    with tempfile.TemporaryDirectory(prefix="heygemd-selftest-") as folder:
        film, speech = Path(folder) / "portrait.mp4", Path(folder) / "speech.flac"
        portrait_film.write_speech(speech)
        portrait_film.make_portrait_film(film)
        show.tell(ProgressView("copying the pair into the inbox"))
        try:
            for source in (film, speech):
                target = line.inbox / (name + source.suffix)
                shutil.copyfile(source, target)
                target.chmod(MODE)
        except OSError as error:
            raise SetupError(f"{line.inbox} cannot be written to: {error.strerror or error}.") from error


def _wait(config: Config, line: LineConfig, name: str, show: Show) -> str | None:
    """``None`` once the film is delivered; else why there is none."""

    def is_ours(job: Row) -> bool:
        return (job.get("line"), job.get("name")) == (line.name, name)

    ending = follow(lambda: _status(config), is_ours, show, patience=PATIENCE_SECONDS, poll=POLL_SECONDS)
    return None if ending.state == "delivered" else ending.reason or ending.state


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


def _print_failure(reason: str, line: LineConfig, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": False, "line": line.name, "reason": reason}, ensure_ascii=False))
    else:
        print(f"The self-test's job on line {line.name} failed. {reason}", file=sys.stderr)
