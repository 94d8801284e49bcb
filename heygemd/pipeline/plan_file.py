"""The plan of a film, written once into the job's work folder and hashed.

All that steps 1 to 4 have found out and step 5 needs.  A renderer that finds a plan there reads it and draws: the job
was killed and goes on, or its plan was made ahead while another job was rendered.  The receipt is written last; it says
what the plan was made of, so that it is never taken for another job's.  The plan's hash is part of each segment's key.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from heygemd.contract.job import Settings, Task, Tell
from heygemd.pipeline import template_cache
from heygemd.pipeline.face.crops import NO_CROPS, Crops
from heygemd.pipeline.media import open_clip
from heygemd.pipeline.media.write.segments import BESIDE

if TYPE_CHECKING:
    from heygemd.pipeline.engines import DrawingEngine, DrawingPlan
    from heygemd.pipeline.face.track import FaceTrack
    from heygemd.pipeline.media import Clip, Encoded, Media
    from heygemd.pipeline.result import Stages

PLAN, RECEIPT = "plan.npz", "plan.json"
_PICTURES = ("index", "y", "u", "v")
_LATER = frozenset({"crf", "preset", "encoder", "segment_seconds", "mark", "producer"})
"""Settings that matter only when the plan is there."""
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


class _Identity(TypedDict):
    """What an input is: its size, time of change (ns) and inode, and its hash."""

    stat: list[int]
    sha256: str


@dataclass(frozen=True, slots=True)
class Planned:
    """``order`` ``(N,)``: the template's picture under each output frame; ``seconds`` of sound.

    ``digest``: of the plan, or of what it follows from; ``written``: it is on the disk, and of the ``track`` the
    pictures are only there.  ``sound``: encoded beside all this, where it has to be; it is made anew in another life.
    """

    clip: Clip
    track: FaceTrack
    order: npt.NDArray[np.int64]
    plan: DrawingPlan
    seconds: float
    digest: str = ""
    written: bool = False
    sound: Encoded | None = None


def keep(task: Task, engine: DrawingEngine, made: Planned, tell: Tell) -> Planned:
    """Write the plan, where its engine can, and name it.  Where it cannot be written, the film is made without."""
    from heygemd.pipeline.face.track import arrays as track_arrays

    subject, inputs = _subject(task.settings, engine.name), [_identity(path) for path in (task.audio, task.video)]
    digest = hashlib.sha256(json.dumps([subject, *(identity["sha256"] for identity in inputs)]).encode())
    try:
        plan_arrays = made.plan.pack(task.work)
        if plan_arrays is not None:
            facts = {"seconds": made.seconds, "limit": made.clip.limit}
            parts = {"plan": plan_arrays, "index": made.clip.index_arrays(), "track": track_arrays(made.track)}
            arrays = {f"{part}/{name}": value for part in parts for name, value in parts[part].items()}
            about = {"subject": subject, "inputs": inputs}
            digest = _written(task.work, about, {"told": np.array(json.dumps(facts)), **arrays})
            track = replace(made.track, crops=NO_CROPS)
            return replace(made, track=track, digest=digest.hexdigest(), written=True)
    except OSError as error:
        tell.event("plan_not_written", level="warning", problem=str(error))
    return replace(made, digest=digest.hexdigest())


def whole_track(task: Task, made: Planned) -> FaceTrack:
    """The track with the few pictures that measuring the film takes; without, where they cannot be read."""
    if not made.written or task.settings.report == "off":
        return made.track
    try:
        with (task.work / PLAN).open("rb") as file, np.load(file, allow_pickle=False) as entry:
            crops = Crops(*(entry[f"track/{name}"] for name in _PICTURES))
    except _DAMAGE:
        return made.track
    return replace(made.track, crops=crops)


def recalled(task: Task, video: Media, engine: DrawingEngine, stages: Stages) -> Planned | None:
    """The plan that lies in the work folder, if it is this job's and whole."""
    try:
        receipt = json.loads((task.work / RECEIPT).read_text())
    except (OSError, ValueError):
        return None
    try:
        if receipt["subject"] != _subject(task.settings, engine.name) or not _same_inputs(task, receipt["inputs"]):
            return None
        with stages("plan"):
            planned = _read(task, video, engine, receipt["sha256"])
    except _DAMAGE as error:
        stages.tell.event("plan_damaged", level="warning", problem=repr(error))
        return None
    stages.tell.event("plan_recalled", sha256=planned.digest)
    return planned


def _read(task: Task, video: Media, engine: DrawingEngine, digest: str) -> Planned:
    from heygemd.pipeline.face import detect
    from heygemd.pipeline.face.track import read_again

    with (task.work / PLAN).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise ValueError(f"the hash of {PLAN} differs from its receipt")
        file.seek(0)
        entry = np.load(file, allow_pickle=False)
        parts: dict[str, template_cache.Arrays] = {"plan": {}, "index": {}, "track": {}}
        for name in entry.files:
            part, _, inner = name.partition("/")
            if part == "track" and inner in _PICTURES:
                parts[part][inner] = getattr(NO_CROPS, inner)
            elif inner:
                parts[part][inner] = entry[name]
        facts = json.loads(str(entry["told"]))
    assert video.video is not None
    clip = open_clip(task.video, video.video, task.settings, task.video_name, video.start, facts["limit"])
    clip.take_index(parts["index"])
    track = read_again(parts["track"], detect.choose(task.settings))
    plan = engine.unpack(parts["plan"], task.work)
    return Planned(clip, track, parts["plan"]["order"], plan, facts["seconds"], digest, written=True)


def forget(folder: Path) -> None:
    """Remove a plan: the film is made."""
    for path in folder.glob("plan*"):
        path.unlink()


def _written(folder: Path, about: Mapping[str, object], arrays: template_cache.Arrays) -> hashlib._Hash:
    (folder / RECEIPT).unlink(missing_ok=True)
    with (folder / PLAN).open("wb") as out:
        template_cache.write_arrays(out, arrays)
        out.flush()
        os.fsync(out.fileno())
    with (folder / PLAN).open("rb") as back:
        digest = hashlib.file_digest(back, "sha256")
    part = (folder / RECEIPT).with_suffix(".part")
    with part.open("w") as receipt:
        json.dump({**about, "sha256": digest.hexdigest()}, receipt)
        receipt.flush()
        os.fsync(receipt.fileno())
    part.rename(folder / RECEIPT)
    return digest


def _subject(settings: Settings, engine: str) -> str:
    """What a plan depends on beside its inputs."""
    values = settings.flat()
    chosen = {k: v for k, v in values.items() if k not in BESIDE | _LATER and not k.startswith(("report", "label"))}
    return hashlib.sha256(json.dumps([engine, chosen, *template_cache.versions()], sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> _Identity:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"stat": _stat(path), "sha256": sha256}


def _stat(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _same_inputs(task: Task, identities: list[_Identity]) -> bool:
    """Staged copies do not change; those that were staged again are read."""
    paths = (task.audio, task.video)
    return all(
        identity["stat"] == _stat(path) or identity["sha256"] == _identity(path)["sha256"]
        for path, identity in zip(paths, identities, strict=True)
    )
