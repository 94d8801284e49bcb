"""``heygemd render``: one film without a daemon, through the same child and with the same log beside it."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heygemd.common.errors import InputError, Misuse, StorageError
from heygemd.common.exits import OK
from heygemd.common.names import display
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES, JobOptions
from heygemd.config import load
from heygemd.config.load import Config
from heygemd.config.render_settings import settings_for
from heygemd.scheduler.worker import render_once
from heygemd.share.nofollow import rename_new
from heygemd.status.progress import Show, View, on_stderr
from heygemd.store import receipts
from heygemd.store.receipts import machine_facts
from heygemd.store.states import now

_KNOWN = AUDIO_SUFFIXES | VIDEO_SUFFIXES | STILL_SUFFIXES


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made of what; ``replace`` allows the film and the log to be replaced."""

    video: Path
    audio: Path
    out: Path
    options: JobOptions
    replace: bool = False

    @property
    def log(self) -> Path:
        """The film's log, beside it."""
        return self.out.with_suffix(".json")

    @property
    def page(self) -> Path:
        """What was measured of the film, beside it."""
        return self.out.with_suffix(".report.html")


@dataclass(frozen=True, slots=True)
class Made:
    """A film that is in its place, with its log, and how long it took."""

    film: Path
    log: Path
    seconds: float
    result: Mapping[str, Any]


def command(args: argparse.Namespace) -> int:
    """One film without a daemon."""
    options = JobOptions(engine=args.engine, crf=args.crf, preset=args.preset, extend=args.extend, face=args.face)
    order = Order(args.video, args.audio, args.out, options, replace=args.force)
    if problem := fault(order):
        raise Misuse(problem)
    tell(render(load.load_or_default(args.config), order), as_json=args.json)
    return OK


def fault(order: Order) -> str | None:
    """What makes the order senseless, as a sentence; ``None``: nothing."""
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
        job = _job(config, order, Path(work))
        show.tell(View("reading the inputs"))
        inputs = {"audio": _identity(order.audio), "video": _identity(order.video)}
        stall = config.limits.stall_seconds
        result = render_once(job, _hearer(show), stall_seconds=stall) | {"started": started, "rendered": now()}
        show.tell(View("writing the film"))
        result["film_file"] = _put(Path(str(result["film"])), order)
        if (Path(work) / "report.html").exists():
            _lay_page(Path(work) / "report.html", order)
            result["page"] = display(order.page.name)
        _write_log(order, job, result, inputs)
    return Made(order.out, order.log, time.monotonic() - began, result)


def _job(config: Config, order: Order, work: Path) -> dict[str, Any]:
    """The task as the child reads it.  The inputs appear under names of our own, which ffmpeg cannot misread."""
    return {
        "audio": str(_alias(order.audio, work, "audio")),
        "video": str(_alias(order.video, work, "video")),
        "work": str(work),
        "audio_name": display(order.audio.name),
        "video_name": display(order.video.name),
        "settings": settings_for(config, order.options),
    }


def _alias(path: Path, work: Path, role: str) -> Path:
    suffix = path.suffix.lower()
    alias = work / f"{role}{suffix if suffix in _KNOWN else ''}"
    alias.symlink_to(path.absolute())
    return alias


def _identity(path: Path) -> dict[str, Any]:
    """Hash and size of an input; InputError where it cannot be read."""
    name = display(str(path))
    if path.exists() and not path.is_file():
        raise InputError(f"{name} is not a file.", reason="not_a_file")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"sha256": digest, "bytes": file.tell()}
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.", reason="unreadable") from error


def _hearer(show: Show) -> Callable[[Mapping[str, Any]], None]:
    def hear(message: Mapping[str, Any]) -> None:
        if message.get("type") != "progress":
            return
        frame, of = int(message.get("frame") or 0), int(message.get("of") or 0)
        show.tell(View(str(message.get("stage", "")), frame, of, float(message.get("fps") or 0.0)))

    return hear


def _put(film: Path, order: Order) -> dict[str, Any]:
    """Copy the film beside its place, make it durable, and only then give it its name."""
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


def _write_log(order: Order, job: Mapping[str, Any], result: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Lay the film's log beside it, as the daemon does."""
    record = receipts.render_log(job, result, order.out)
    for role, identity in inputs.items():
        record["inputs"][role] |= identity
    record["machine"] = machine_facts()
    part = order.log.parent / f".heygemd-{os.getpid()}.json.part"
    try:
        part.write_bytes(receipts.to_bytes(record))
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


def tell(made: Made, *, as_json: bool) -> None:
    """What was made, on stdout."""
    result = made.result
    output, engine = result.get("output", {}), result.get("engine", {})
    if as_json:
        told = {"film": str(made.film), "log": str(made.log), "seconds": round(made.seconds, 2)}
        rest = {k: result.get(k) for k in ("engine", "output", "quality", "warnings", "passed_through")}
        print(json.dumps({"ok": True, **told, **rest}))
        return
    renderer = f" ({engine['renderer']})" if engine.get("renderer") else ""
    size = f"{output.get('width')}x{output.get('height')}, {output.get('frames')} frames"
    print(f"film  {display(str(made.film))}")
    print(f"log   {display(str(made.log))}")
    grade = (result.get("quality") or {}).get("grade")
    if result.get("page"):
        print(f"page  {display(str(made.film.with_suffix('.report.html')))}" + (f" ({grade})" if grade else ""))
    print(f"{size}, engine {engine.get('name')}{renderer}, made in {made.seconds:.1f} s")
    for reason in (result.get("quality") or {}).get("reasons", []):
        print(f"{reason['level']}: {reason['message']} {reason['advice']}".rstrip())
    for warning in result.get("warnings", []):
        print(f"note: {warning.get('message')}")
    for first, last in result.get("passed_through", []):
        print(f"note: frames {first} to {last} have no usable face and were left unchanged")
