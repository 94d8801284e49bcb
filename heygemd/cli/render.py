"""``heygemd render``: one film without a daemon, with the daemon's renderer and film log."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from heygemd.common.errors import InputError, Misuse, StorageError
from heygemd.common.exits import OK
from heygemd.common.names import display
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES, JobOptions
from heygemd.config import load
from heygemd.config.load import Config
from heygemd.config.render_settings import settings_for
from heygemd.contract.job import Task
from heygemd.contract.renderer import News, ProgressMessage
from heygemd.scheduler.worker import render_once
from heygemd.share.nofollow import rename_new
from heygemd.status.progress import ProgressView, Show, on_stderr
from heygemd.store import receipts
from heygemd.store.receipts import machine_facts
from heygemd.store.states import FileIdentity, FilmRecord, now

_KNOWN = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES


@dataclass(frozen=True, slots=True)
class Order:
    """One film to make; ``replace`` allows existing film and log to be replaced."""

    video: Path
    audio: Path
    out: Path
    options: JobOptions
    replace: bool = False

    @property
    def log(self) -> Path:
        """Path of the film's log, next to the film."""
        return self.out.with_suffix(".json")

    @property
    def page(self) -> Path:
        """Path of the film's report page, next to the film."""
        return self.out.with_suffix(".report.html")


@dataclass(frozen=True, slots=True)
class Made:
    """A film that is in its place, with its log, and how long it took."""

    film: Path
    log: Path
    seconds: float
    record: FilmRecord
    page: Path | None  # of the report, where one was made


def command(args: argparse.Namespace) -> int:
    """One film without a daemon."""
    options = JobOptions(engine=args.engine, crf=args.crf, preset=args.preset, extend=args.extend, face=args.face)
    order = Order(args.video, args.audio, args.out, options, replace=args.force)
    if problem := fault(order):
        raise Misuse(problem)
    print_result(render(load.load_or_default(args.config), order), as_json=args.json)
    return OK


def fault(order: Order) -> str | None:
    """The reason to refuse the order, as a sentence; ``None``: no reason."""
    if order.out.suffix.lower() != ".mp4":
        return f"--out {display(str(order.out))} must end in .mp4."
    if not order.out.parent.is_dir():
        return f"The folder of --out, {display(str(order.out.parent))}, does not exist."
    for taken in (order.out, order.log, order.page):
        if taken.is_dir():
            return f"{display(str(taken))} is a folder."
        if any(p.exists() and taken.exists() and p.samefile(taken) for p in (order.video, order.audio)):
            return f"{display(str(taken))} is one of the inputs."
        if taken.exists() and not order.replace:
            return f"{display(str(taken))} already exists. Add --force to replace it."
    return None


def render(config: Config, order: Order) -> Made:
    """Make the film, put it and its log in place, and return them.

    Whatever happens, ``order.out`` is either as it was or the whole film.  Raises InputError for an input that
    cannot be read or used, StorageError where the film cannot be put in place, and as ``worker.render_once``.
    """
    began, started = time.monotonic(), now()
    with _ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="heygemd-render-") as work, on_stderr() as show:
        task = _task(config, order, Path(work))
        show.tell(ProgressView("reading the inputs"))
        inputs = _identity(order.audio), _identity(order.video)
        facts = render_once(task, _hearer(show), stall_seconds=config.limits.stall_seconds)
        rendered = now()
        show.tell(ProgressView("writing the film"))
        film_file, page = _put(Path(facts["film"]), order), None
        if (Path(work) / "report.html").exists():
            _lay_page(Path(work) / "report.html", order)
            page = order.page
        record: FilmRecord = {
            **facts, "rendered": rendered, "held": False, "has_page": page is not None, "film_file": film_file,
        }  # fmt: skip
        name = display(order.page.name) if page is not None else None
        _write_log(
            order,
            receipts.render_log(task, order.out, record, inputs, started=started, page=name, machine=machine_facts()),
        )
    return Made(order.out, order.log, time.monotonic() - began, record, page)


def _task(config: Config, order: Order, work: Path) -> Task:
    """The inputs appear under names of our own, which ffmpeg cannot misread."""
    audio, video = _alias(order.audio, work, "audio"), _alias(order.video, work, "video")
    names = display(order.audio.name), display(order.video.name)
    return Task(audio, video, work, *names, settings_for(config, order.options))


def _alias(path: Path, work: Path, role: str) -> Path:
    suffix = path.suffix.lower()
    alias = work / f"{role}{suffix if suffix in _KNOWN else ''}"
    alias.symlink_to(path.absolute())
    return alias


def _identity(path: Path) -> FileIdentity:
    """Hash and size of an input.  Raises ``InputError`` if it cannot be read."""
    name = display(str(path))
    if path.exists() and not path.is_file():
        raise InputError(f"{name} is not a file.", reason="not_a_file")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"sha256": digest, "bytes": file.tell()}
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.", reason="unreadable") from error


def _hearer(show: Show) -> Callable[[News], None]:
    def hear(message: News) -> None:
        if isinstance(message, ProgressMessage):
            show.tell(ProgressView(message.stage, message.frame, message.of, message.fps))

    return hear


def _put(film: Path, order: Order) -> FileIdentity:
    """Copy the film to a temporary name in its folder, sync it, then rename it."""
    part = order.out.parent / f".heygemd-{os.getpid()}.part"
    digest = hashlib.sha256()
    try:
        with film.open("rb") as source, part.open("xb") as target:
            while piece := source.read(1 << 20):
                target.write(piece)
                digest.update(piece)
            target.flush()
            os.fsync(target.fileno())
            size = target.tell()
        _reveal(part, order.out, order.replace)
    except OSError as error:
        raise StorageError(_cannot(order.out, error)) from error
    finally:
        part.unlink(missing_ok=True)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _reveal(part: Path, final: Path, replace: bool) -> None:
    if replace:
        part.replace(final)
    elif not rename_new(str(part), str(final)):
        name = display(str(final))
        raise StorageError(
            f"{name} was created by another program in the meantime; it is kept, and the new film is discarded."
        )


def _lay_page(page: Path, order: Order) -> None:
    part = order.page.parent / f".heygemd-{os.getpid()}.html.part"
    try:
        part.write_bytes(page.read_bytes())
        _reveal(part, order.page, order.replace)
    except OSError as error:
        raise StorageError(_cannot(order.page, error)) from error
    finally:
        part.unlink(missing_ok=True)


def _write_log(order: Order, film_log: dict[str, object]) -> None:
    """Write the film's log beside it, as the daemon does."""
    part = order.log.parent / f".heygemd-{os.getpid()}.json.part"
    try:
        part.write_bytes(receipts.to_bytes(film_log))
        _reveal(part, order.log, order.replace)
    except OSError as error:
        raise StorageError(_cannot(order.log, error)) from error
    finally:
        part.unlink(missing_ok=True)


def _cannot(path: Path, error: OSError) -> str:
    return f"{display(str(path))} cannot be written: {error.strerror or error}."


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a render as Ctrl-C does: the child is ended and the work folder removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_result(made: Made, *, as_json: bool) -> None:
    """Print the result."""
    record = made.record
    output, engine, quality = record["output"], record["engine"], record["quality"]
    if as_json:
        places = {"film": str(made.film), "log": str(made.log), "seconds": round(made.seconds, 2)}
        rest = {"quality": quality, "warnings": record["warnings"], "passed_through": record["passed_through"]}
        print(json.dumps({"ok": True, **places, "engine": engine, "output": output, **rest}))
        return
    renderer = f" ({engine['renderer']})" if engine.get("renderer") else ""
    size = f"{output.get('width')}x{output.get('height')}, {output.get('frames')} frames"
    print(f"film  {display(str(made.film))}")
    print(f"log   {display(str(made.log))}")
    grade = quality.get("grade") if quality else None
    if made.page is not None:
        print(f"page  {display(str(made.page))}" + (f" ({grade})" if grade else ""))
    print(f"{size}, engine {engine.get('name')}{renderer}, made in {made.seconds:.1f} s")
    for reason in quality.get("reasons", []) if quality else []:
        print(f"{reason['level']}: {reason['message']} {reason['advice']}".rstrip())
    for warning in record["warnings"]:
        print(f"note: {warning['message']}")
    for first, last in record["passed_through"]:
        print(f"note: frames {first} to {last} have no usable face and were left unchanged")
