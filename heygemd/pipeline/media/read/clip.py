"""The template at a constant frame rate: forward in a stream, and in any order with bounded memory.

A template is decoded from its beginning once: the times of its pictures say which of them is shown at each tick of the
constant rate.  Everything later is decoded again from where it is needed (``seek``) and checked against that pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from heygemd.common.errors import InputError
from heygemd.contract.job import Settings, Tell
from heygemd.pipeline.media.frame import Frame, even
from heygemd.pipeline.media.info import VideoInfo
from heygemd.pipeline.media.read.decoder import (
    MICRO,
    Decoder,
    converted,
    deinterlaced,
    output_colour,
    tone_mapped,
    working_size,
)
from heygemd.pipeline.media.read.index import Index
from heygemd.pipeline.media.read.seek import Seeker, Stretch, repeated
from heygemd.pipeline.template_cache import NOTHING, Arrays, Memory

ENOUGH_KEYS = 5  # pictures at which decoding can start, to be a fair look at a clip
NEIGHBOURS = 2  # before and after a picture, that a deinterlacer looks at


class ClipFacts(TypedDict):
    """What was done to a template's pictures before anything else, for the log."""

    frames: int
    fps: str
    source_frames: int
    repeated: int
    dropped: int
    padded_to_even: bool
    scaled: bool
    converted_from: str | None
    deinterlaced: str | None
    tone_mapped_from: str | None
    decode_faults: int
    cut_at_limit: bool


class Clip:
    """A template as ``count`` pictures at ``fps``; see ``open_clip``.

    ``width`` and ``height`` are even; ``info`` tells what the file is.  ``count`` is the container's
    estimate until one pass has been made (``counted``), then exact.  Every ``Frame`` that is handed out
    belongs to the taker.
    """

    def __init__(
        self, path: Path, info: VideoInfo, settings: Settings, name: str, start: float, limit: int | None
    ) -> None:
        """See ``open_clip``."""
        width, height = working_size(info)
        self.path = path
        self.info = info
        self.name = name
        self.width = even(width)
        self.height = even(height)
        self.padded = (width, height) != (self.width, self.height)
        self.fps = info.fps
        self._settings = settings
        self._start = start
        self.limit = limit
        self._index = Index(info.fps)
        self._file_memory = NOTHING  # what is kept about the file
        self.memory = NOTHING  # what is kept about these pictures, once they are counted

    @property
    def count(self) -> int:
        """Pictures of one pass at ``fps``."""
        if self._index.whole:
            return len(self._index.ticks)
        return self.info.frames if self.limit is None else min(self.info.frames, self.limit)

    @property
    def counted(self) -> bool:
        """Whether a whole pass has been made, so that ``count`` is exact."""
        return self._index.whole

    @property
    def faults(self) -> int:
        """Lines in which ffmpeg reported damage during the counting pass."""
        return self._index.faults

    @property
    def first_seconds(self) -> float:
        """When the first picture is shown, in seconds after the container's start."""
        return (self._index.first or 0) / MICRO - self._start if self._index.timed else 0.0

    @property
    def colour(self) -> dict[str, str | None]:
        """What the planes of its pictures mean; see ``output_colour``."""
        return output_colour(self.info)

    @property
    def key_pictures(self) -> list[int]:
        """Pictures, rising, at which decoding can start: those that follow one are cheap to come by."""
        keys = set(self._index.keys)
        return [k for k, source in enumerate(self._index.ticks) if source in keys]

    def easy(self, order: npt.NDArray[np.int64]) -> list[int]:
        """Places in ``order`` whose picture can be decoded without others, where it runs forward."""
        forward = np.append(np.diff(order) == 1, False)
        return np.flatnonzero(forward & np.isin(order, self.key_pictures)).tolist()

    def facts(self) -> ClipFacts:
        """For the log: what was done to the template's pictures before anything else."""
        shown = set(self._index.ticks)
        return {
            "frames": self.count,
            "fps": f"{self.fps.numerator}/{self.fps.denominator}",
            "source_frames": len(self._index.times),
            "repeated": len(self._index.ticks) - len(shown),
            "dropped": len(self._index.times) - len(shown),
            "padded_to_even": self.padded,
            "scaled": working_size(self.info) != (self.info.width, self.info.height),
            "converted_from": self.info.pix_fmt if converted(self.info) else None,
            "deinterlaced": self.info.fields if deinterlaced(self.info) else None,
            "tone_mapped_from": self.info.color_transfer if tone_mapped(self.info) else None,
            "decode_faults": self._index.faults,
            "cut_at_limit": self.count == self.limit,
        }

    @contextmanager
    def keeping_behind(self) -> Iterator[None]:
        """Within, what is learned about the clip is kept by a thread of its own; see ``Memory.behind``."""
        with self._file_memory.behind():
            yield

    def recall(self, memory: Memory) -> None:
        """Take the count from an earlier job on the same file, or remember to keep it once it is known; ``memory`` is
        what is kept of the file.

        A clip that ends before the limit is the same under every limit.
        """
        self._file_memory = memory
        about = memory.about("index", self.fps, self._start)
        for subject in (about, about.about(self.limit)):
            known = subject.recall(*Index.KEPT)
            if known is not None and (self.limit is None or len(known["ticks"]) <= self.limit):
                self._index, self.memory = Index.recalled(self.fps, known), subject
                return

    def index_arrays(self) -> Arrays:
        """What one whole pass found out, once it was made; ``take_index`` spares another clip on the same file it."""
        return self._index.arrays()

    def take_index(self, arrays: Arrays) -> None:
        """See ``index_arrays``."""
        self._index = Index.recalled(self.fps, arrays)

    def _counted(self, index: Index) -> None:
        """A whole pass has been made."""
        index.whole = True
        self._index = index
        about = self._file_memory.about("index", self.fps, self._start)
        self.memory = about.about(self.limit) if self.count == self.limit else about
        self.memory.keep(**index.arrays())

    def learn(self, tell: Tell | None = None) -> None:
        """Make the counting pass if none has been made."""
        if not self.counted:
            for k, _ in enumerate(self.frames()):
                if tell is not None:
                    tell.progress("template", k + 1, max(self.count, k + 1))

    def glances(self, most: int) -> dict[int, Frame]:
        """At most ``most`` pictures by number, spread over the clip, for a look at what it shows.

        A clip that has not been counted gives pictures at which decoding can start, because they come without the
        others between; their numbers are then estimates.  Where it has too few of them, it is counted.
        """
        if not self.counted:
            found = self._key_pictures(most)
            if len(found) >= min(most, ENOUGH_KEYS):
                return found
            wanted = self._spread(most)
            found = self._counted_with(wanted)
            if 2 * len(found) >= len(wanted):
                return found
        wanted = self._spread(most)
        return dict(zip(wanted, self.walk(wanted), strict=False))

    def _spread(self, most: int) -> list[int]:
        """Numbers of pictures, evenly spread, the clip's ends left out."""
        return sorted({int(k) for k in np.linspace(0, max(0, self.count - 1), most + 2)[1:-1]})

    def _counted_with(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Those of the pictures ``wanted`` that there are, found in the counting pass."""
        numbers = frozenset(wanted)
        return {k: frame for k, frame in enumerate(self.frames()) if k in numbers}

    def _key_pictures(self, most: int) -> dict[int, Frame]:
        """Pictures at which decoding can start, at even distances if the clip has many, by estimated number."""
        apart = float(self.count / self.fps) / (most + 1)
        found: dict[int, Frame] = {}
        first: int | None = None
        with Decoder(self.path, self.info, self._settings, self.name, keys_apart=apart) as decoder:
            for shown in decoder:
                if shown.time is None:
                    return {}
                first = shown.time if first is None else first
                number = round(Fraction(shown.time - first, MICRO) * self.fps)
                if number >= self.count or len(found) > most:
                    break
                found[number] = shown.frame
        return found if len(found) <= most else dict(list(found.items())[1:])

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Pictures ``start``, ``start + 1``, … to the end.

        The first call that reads to the end counts.  Raises ``InputError`` (``undecodable``) where not one
        picture can be decoded.
        """
        if self.counted:
            yield from self.walk(range(start, self.count))
        else:
            yield from itertools.islice(self._first_pass(), start, None)

    def _first_pass(self) -> Iterator[Frame]:
        index = Index(self.fps)
        held: Frame | None = None
        with self._decode(None) as decoder:
            for shown in decoder:
                yield from repeated(held, self._within_limit(index, index.add(shown)))
                held = shown.frame
                if len(index.ticks) == self.limit:
                    break
            if held is None:
                raise InputError(
                    f"Not one picture of {self.name} ({self.info.codec}) can be decoded.",
                    detail=decoder.tail,
                    reason="undecodable",
                )
            index.faults = decoder.faults
        if len(index.ticks) != self.limit:
            index.ticks.append(len(index.times) - 1)  # the last picture is shown for one tick
            yield held
        self._counted(index)

    def _within_limit(self, index: Index, added: int) -> int:
        """Take back ticks beyond the limit; how many of the ``added`` ones remain."""
        excess = max(0, len(index.ticks) - self.limit) if self.limit is not None else 0
        del index.ticks[len(index.ticks) - excess :]
        return added - excess

    def walk(self, order: Iterable[int]) -> Iterator[Frame]:
        """The pictures ``order[0]``, ``order[1]``, …: runs forward, backward, repeats and jumps, memory bounded.

        The picture of one index is the same in every bit wherever it stands in the order, and equals that of
        ``frames()``.  Raises ``EngineError`` where the template decodes differently the second time.
        """
        self.learn()
        yield from self._seeker().walk([self._index.ticks[k] for k in order])

    def stretch(self, order: Sequence[int]) -> Stretch | None:
        """The pictures of ``order``, where they are source pictures that follow one another, each shown once."""
        self.learn()
        return self._seeker().stretch([self._index.ticks[k] for k in order])

    def _seeker(self) -> Seeker:
        needed_before = NEIGHBOURS if deinterlaced(self.info) else 0
        return Seeker(self._index, self._decode, self.name, (self.width, self.height), self._start, needed_before)

    def _decode(self, seek: float | None) -> Decoder:
        return Decoder(self.path, self.info, self._settings, self.name, seek)


def open_clip(
    path: Path,
    info: VideoInfo,
    settings: Settings,
    name: str = "",
    start: float = 0.0,
    limit: int | None = None,
) -> Clip:
    """The template at ``path`` (``name`` to the user) as a ``Clip``; nothing is decoded yet.

    ``start``: the container's own zero in seconds, from ``Media.start``.  ``limit``: of how many pictures at most
    the clip consists; later ones are never decoded.  A still is a clip of one picture.
    """
    return Clip(path, info, settings, name or path.name, start, limit)
