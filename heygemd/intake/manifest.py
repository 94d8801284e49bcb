"""Batch manifests (``*.toml``, ``*.json``, ``*.csv``) and a job folder's ``job.toml``: bytes in, checked
requests out.

Whoever can write to the share is not trusted: keys and values come from closed sets, everything is counted
and measured, paths only lead down, and every fault is named at once.  Nothing is opened here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import tomli

from heygemd.common import names
from heygemd.common.errors import Fault
from heygemd.common.request import JobOptions
from heygemd.intake.manifest_schema import (
    FOLDER_KEYS,
    JOB_KEYS,
    MANIFEST_KEYS,
    MAX_FAULTS,
    Faulty,
    Hopeless,
    ManifestCheck,
    at,
    clip,
    quoted,
)


@dataclass(frozen=True, slots=True)
class ManifestJob:
    """One film that a manifest asks for.

    ``name`` is the film's, unique in the manifest; ``audio`` and ``video`` are clean paths relative to the
    manifest or to a library folder; ``options`` are the job's own over the manifest's.
    """

    name: str
    audio: str
    video: str
    options: JobOptions
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's jobs, or its faults: with faults there are no jobs."""

    jobs: tuple[ManifestJob, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Content of a ``job.toml``: options for all jobs of its folder, and the sound file."""

    audio: str | None = None
    options: JobOptions = field(default_factory=JobOptions)
    faults: tuple[Fault, ...] = ()
    consent: str | None = None


def problem(name: str, faults: Sequence[Fault]) -> str:
    """Faults of the file ``name`` as text for a person: one sentence, or a list."""
    shown = names.display(name)
    if len(faults) == 1:
        return f"{shown} cannot be used: {faults[0]}."
    return f"{shown} cannot be used; it has {len(faults)} faults:" + "".join(f"\n  {fault}" for fault in faults)


def read(data: bytes, suffix: str, *, max_jobs: int = 1000, max_bytes: int = 1 << 20) -> Manifest:
    """The manifest in ``data``; ``suffix`` is ``.toml``, ``.json`` or ``.csv``.

    Either ``audio`` with ``videos``, or ``jobs`` (in CSV: one a row), each with ``audio``, ``video`` and
    perhaps ``output`` and options.  An ``audio`` beside ``jobs`` serves those that name none.
    """
    check = ManifestCheck()
    try:
        text = _text(data, max_bytes)
        if suffix == ".csv":
            rows, base = _csv_rows(text, check, max_jobs), JobOptions()
        else:
            table = _parse(text, suffix, check)
            base = check.options("", table)
            rows = _rows(table, check, max_jobs)
        return Manifest(_jobs(rows, base, check))
    except Hopeless as reason:
        return Manifest(faults=(*check.faults[: MAX_FAULTS - 1], Fault("the file", str(reason))))
    except Faulty:
        return Manifest(faults=check.all())


def read_folder(data: bytes, *, max_bytes: int = 1 << 20) -> FolderOptions:
    """The ``job.toml`` in ``data``; an empty one is valid."""
    check = ManifestCheck()
    try:
        table = _parse(_text(data, max_bytes), ".toml", check) if data.strip() else {}
        check.keys("", table, FOLDER_KEYS)
        options = check.options("", table)
        audio = check.path("", table, "audio") if "audio" in table else None
        if audio is not None and "/" in audio:
            check.fault("audio", "must be the name of a file in this folder")
        consent = check.path("", table, "consent") if "consent" in table else None
        if consent is not None and "/" in consent:
            check.fault("consent", "must be the name of a file in this folder")
    except Hopeless as reason:
        return FolderOptions(faults=(*check.faults, Fault("the file", str(reason))))
    except Faulty:
        pass
    return FolderOptions(faults=check.all()) if check.faults else FolderOptions(audio, options, consent=consent)


# ------------------------------------------------------------ bytes to tables


def _text(data: bytes, max_bytes: int) -> str:
    if len(data) > max_bytes:
        raise Hopeless(f"is larger than {max_bytes // 1024} KiB")
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        wanted = "UTF-16" if coding == "utf-16" else "UTF-8"
        raise Hopeless(f"is not {wanted} text (byte {error.start + 1}); save it as UTF-8") from None
    if not text.strip():
        raise Hopeless("is empty")
    return text


def _parse(text: str, suffix: str, check: ManifestCheck) -> Mapping[str, object]:
    kind = suffix[1:].upper()
    try:
        table: object = tomli.loads(text) if suffix == ".toml" else _json(text, check)
    except RecursionError:
        raise Hopeless("is nested too deeply") from None
    except ValueError as error:  # of tomli and json, and of int() for a number with thousands of digits
        raise Hopeless(f"is not valid {kind}: {clip(str(error), 200)}") from None
    if not isinstance(table, dict):
        raise Hopeless("must be an object with 'audio' and 'videos', or with 'jobs'")
    return table


def _json(text: str, check: ManifestCheck) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                check.fault(clip(key), f"is given {count} times")
        return dict(pairs)

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a number")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def _rows(table: Mapping[str, object], check: ManifestCheck, max_jobs: int) -> list[tuple[str, Mapping[str, object]]]:
    """The jobs of a TOML or JSON manifest as ``(where, table)``."""
    check.keys("", table, MANIFEST_KEYS)
    given = [key for key in ("videos", "jobs") if key in table]
    if len(given) != 1:
        raise Hopeless("must contain either 'videos' (with 'audio') or 'jobs'" + (", not both" if given else ""))
    listed = table[given[0]]
    if not isinstance(listed, list) or not listed:
        raise Hopeless(f"'{given[0]}' must be a list with at least one entry, not {quoted(listed)}")
    if len(listed) > max_jobs:
        raise Hopeless(f"requests {len(listed)} films; at most {max_jobs} are allowed in one manifest")
    shared: dict[str, object] = {}
    if "audio" in table or given == ["videos"]:
        # A fault of it is reported once; any good name may stand in, as no job will come of it.
        shared = {"audio": check.path("", table, "audio") or "audio.wav"}
    if "consent" in table and (consent := check.path("", table, "consent")) is not None:
        shared["consent"] = consent
    if given == ["videos"]:
        return [(f"video {n}", {**shared, "video": video}) for n, video in enumerate(listed, 1)]
    rows: list[tuple[str, Mapping[str, object]]] = []
    for n, job in enumerate(listed, 1):
        if isinstance(job, dict):
            rows.append((f"job {n}", {**shared, **job}))
        else:
            check.fault(f"job {n}", f"must be a table with 'audio' and 'video', not {quoted(job)}")
    return rows


def _csv_rows(text: str, check: ManifestCheck, max_jobs: int) -> list[tuple[str, Mapping[str, object]]]:
    """The rows of a CSV manifest as ``(where, table)``; empty cells are left out, ``crf`` becomes a
    number.
    """
    if any(c in text for c in "\0\x0b\x0c\x1c\x1d\x1e\x85"):
        raise Hopeless("contains control characters")
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[tuple[str, Mapping[str, object]]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(cells, check)
                continue
            if len(rows) == max_jobs:
                raise Hopeless(f"requests more than {max_jobs} films; at most {max_jobs} are allowed in one manifest")
            rows.append((f"line {reader.line_num}", _cells(header, cells, f"line {reader.line_num}", check)))
    except csv.Error as error:
        raise Hopeless(f"is not valid CSV: {error} (line {reader.line_num})") from None
    if not rows:
        raise Hopeless("has a header but no rows")
    return rows


def _header(cells: Sequence[str], check: ManifestCheck) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    while header and not header[-1]:
        header.pop()
    check.keys("the heading", dict.fromkeys(header), JOB_KEYS)
    check.all_different("the heading", header)
    if "video" not in header or "audio" not in header:
        raise Hopeless(
            f"must name the columns in its first line: audio, video and optionally {', '.join(JOB_KEYS[2:])}"
        )
    return header


def _cells(header: Sequence[str], cells: Sequence[str], where: str, check: ManifestCheck) -> dict[str, object]:
    if any(cell.strip() for cell in cells[len(header) :]):
        check.fault(where, f"has {len(cells)} cells, but the header names {len(header)} columns")
    texts = {key: cell.strip() for key, cell in zip(header, cells, strict=False) if cell.strip()}
    row: dict[str, object] = dict(texts)
    if re.fullmatch(r"[+-]?[0-9]{1,9}", texts.get("crf", "")):
        row["crf"] = int(texts["crf"])
    return row


# ------------------------------------------------------------ tables to jobs


def _jobs(
    rows: Sequence[tuple[str, Mapping[str, object]]], base: JobOptions, check: ManifestCheck
) -> tuple[ManifestJob, ...]:
    jobs: list[ManifestJob] = []
    wanted: dict[str, str] = {}  # folded output -> where it was first asked for
    for where, row in rows:
        check.keys(where, row, JOB_KEYS)
        audio, video = check.path(where, row, "audio"), check.path(where, row, "video")
        output, options = check.output(where, row), check.options(where, row)
        if output is not None:
            first = wanted.setdefault(names.folded(output), where)
            if first != where:
                check.fault(at(where, "output"), f"'{clip(output)}' is already the output of {first}")
        consent = check.path(where, row, "consent") if "consent" in row else None
        jobs.append(ManifestJob(output or "", audio or "", video or "", options.with_defaults(base), consent))
    if check.faults:
        raise Faulty
    return _named(jobs, set(wanted))


def _named(jobs: Sequence[ManifestJob], taken: set[str]) -> tuple[ManifestJob, ...]:
    """Names for the jobs that asked for none: the video's.

    Where several would have the same (one template, many sounds), each is called ``video-audio``, and
    numbered if that does not tell them apart either.
    """
    count = Counter(names.folded(_stem(job.video)) for job in jobs if not job.name)
    named = []
    for job in jobs:
        if not job.name:
            base = _stem(job.video)
            if count[names.folded(base)] > 1:
                base = f"{base}-{_stem(job.audio)}"
            name = names.free_name(names.film_name(base), taken)
            taken.add(names.folded(name))
            job = replace(job, name=name)
        named.append(job)
    return tuple(named)


def _stem(path: str) -> str:
    return names.nfc(names.split(names.leaf(path))[0])
