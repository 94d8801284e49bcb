"""Long films in segments: each is encoded by itself, receipted, kept over a death, and joined without re-encoding.

A segment's pictures are a pure function of (plan, settings, tools, range), all of which are in the *key*; so one that
was finished before the worker died is taken as it is, and the joined film equals that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from heygemd import __version__
from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings, Task
from heygemd.pipeline.ffmpeg import FFMPEG, OURS, run
from heygemd.pipeline.media.write.packets import Packets
from heygemd.pipeline.media.write.segment_bounds import begins

BESIDE = frozenset(
    {"batch", "cache_dir", "cache_mib", "cache_days", "models_dir", "media_seconds", "command_seconds", "language"}
    | {"duix_url", "duix_shared", "duix_seconds", "duix_poll_seconds"}
)
"""Settings that decide no picture.  Batches of another size round otherwise in the network's last bit and not in what
is seen, so a job that ran out of memory goes on with smaller ones behind what it has made."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Output frames ``first`` to ``stop - 1``, in a file of their own."""

    folder: Path
    key: str
    number: int
    first: int
    stop: int

    @property
    def path(self) -> Path:
        """The video, without sound."""
        return self.folder / f"segment-{self.number:05d}.mp4"

    @property
    def receipt(self) -> Path:
        """Written last: what is beside it is whole."""
        return self.path.with_suffix(".json")

    def done(self) -> bool:
        """Whether it was finished in an earlier life, under the same key, and is still what it was."""
        try:
            receipt = json.loads(self.receipt.read_text())
            return receipt == self._facts() and bool(receipt["bytes"])
        except (OSError, ValueError):
            return False

    def finish(self) -> None:
        """Write the receipt, after the video is on the disk."""
        for path, data in ((self.path, None), (self.receipt.with_suffix(".part"), json.dumps(self._facts()).encode())):
            with path.open("rb" if data is None else "wb") as file:
                if data is not None:
                    file.write(data)
                    file.flush()
                os.fsync(file.fileno())
        self.receipt.with_suffix(".part").rename(self.receipt)

    def _facts(self) -> dict[str, object]:
        size = self.path.stat().st_size
        return {"key": self.key, "first": self.first, "stop": self.stop, "bytes": size}


def key_of(settings: Settings, plan: str, frames: int, tools: Sequence[str] = ()) -> str:
    """What decides every picture of the film: the plan by its hash, the settings, the number of frames, this version,
    and the ``tools`` that the settings leave open: which encoder, which model."""
    values = settings.flat()
    chosen = {key: values[key] for key in values if key not in BESIDE and not key.startswith("report")}
    return hashlib.sha256(json.dumps([__version__, plan, frames, chosen, *tools], sort_keys=True).encode()).hexdigest()


def content_of(task: Task) -> str:
    """What both inputs are, as a hash."""
    digest = hashlib.sha256()
    for path in (task.audio, task.video):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def segments_of(
    task: Task,
    plan: str,
    frames: int,
    fps: Fraction,
    tools: Sequence[str] = (),
    at_a_time: int = 1,
    easy: list[int] | None = None,
) -> list[Segment]:
    """The segments of a film of ``frames`` frames, about ``settings.segment_seconds`` each, the last one shorter.

    ``plan`` and ``tools``: see ``key_of``; ``easy``: see ``segment_bounds.begins``.  Where several are made
    ``at_a_time``, they are shorter, so that a death costs no more, and their number lets all begin and end together.
    """
    length = max(1, round(task.settings.segment_seconds * fps / at_a_time))
    if at_a_time > 1:
        rounds = -(-frames // (length * at_a_time))
        length = max(1, -(-frames // (rounds * at_a_time)))
    key = key_of(task.settings, plan, frames, (*tools, str(at_a_time)))
    starts = begins(frames, length, at_a_time, easy or [])
    ends = zip(starts, [*starts[1:], frames], strict=True)
    return [Segment(task.work, key, n, first, end) for n, (first, end) in enumerate(ends)]


def join(segments: Sequence[Segment], out: Path, settings: Settings, made_of: Sequence[Packets] = ()) -> None:
    """Copy the segments' pictures, in order, into one file.  Raises ``EngineError``.

    ``made_of``: their packets.  Where the same parameters hold for all of them, the packets stay as they are; else
    ffmpeg puts the parameters before each key picture.
    """
    listing = out.with_suffix(".txt")
    listing.write_text("".join(f"file '{segment.path.name}'\n" for segment in segments))
    alike = len({packets.parameters for packets in made_of}) == 1
    argv = [*FFMPEG, "-y", "-f", "concat", "-safe", "1", "-auto_convert", str(int(not alike)), "-i", f"file:{listing}"]
    argv += ["-map", "0:v:0", "-c", "copy", "-f", "mp4", f"file:{out}"]
    done = run(argv, limits=OURS, stall=settings.media_seconds)
    listing.unlink()
    if done.code:
        raise EngineError("The film's segments could not be joined.", detail=done.stderr)
