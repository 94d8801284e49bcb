"""The template at a constant frame rate: forward in a stream, and in any order with bounded memory.

A template is decoded from its beginning once, and everything later is checked against that pass: the times of
its pictures say which of them is shown at each tick of the constant rate, and a fingerprint of each says
whether a decode that began in the middle (for a reversed stretch) came out the same.  Containers differ in
how exactly they can be searched (MPEG-TS and AVI often land late); where a search fails, the stretch is
decoded from further ahead, at last from the beginning.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heygemd.common.errors import EngineError, InputError
from heygemd.contract.job import Settings, Tell
from heygemd.pipeline.media.frame import Frame, even, fingerprint
from heygemd.pipeline.media.read.decoder import (
    MICRO,
    Decoder,
    Shown,
    converted,
    deinterlaced,
    output_colour,
    tone_mapped,
    working_size,
)
from heygemd.pipeline.media.read.index import Index
from heygemd.pipeline.media.read.probe import VideoInfo
from heygemd.pipeline.media.read.spill import Aside
from heygemd.pipeline.template_cache import NOTHING, Arrays, Memory

REVERSE_BYTES = 384 << 20  # of decoded pictures that a reversed stretch lays aside at most: 11 s of 720p25
RUN_UP_SECONDS = (0.0, 2.0, 12.0)  # how far ahead of a picture decoding is begun, tried in turn
ENOUGH_KEYS = 5  # pictures at which decoding can start, to be a fair look at a clip
NEIGHBOURS = 2  # before and after a picture, that a deinterlacer looks at
SKIP_PICTURES = 120  # a step forward over fewer pictures is decoded through, a longer one searched


@dataclass(frozen=True, slots=True)
class Stretch:
    """Source pictures that follow one another, as a decode of its own must find them again.

    ``seek`` as for ``Decoder``; ``times``: of the first, and of the one after the last or, at the end, of the last,
    in microseconds; ``prints``: their fingerprints.
    """

    seek: float | None
    times: tuple[int, int]
    prints: tuple[int, ...]


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
        self._needed_before = NEIGHBOURS if deinterlaced(info) else 0  # decoded pictures, for one to be what it is
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
        """Lines in which ffmpeg told of damage during the counting pass."""
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

    def facts(self) -> dict[str, Any]:
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
        """Pictures at which decoding can start, at even distances where there are many, by estimated number."""
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
                yield from _repeat(held, self._within_limit(index, index.add(shown)))
                held = shown.frame
                if len(index.ticks) == self.limit:
                    break
            if held is None:
                raise InputError(
                    f"No frame of {self.name} ({self.info.codec}) can be decoded.",
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
        """The pictures ``order[0]``, ``order[1]``, …: runs forward, backward, repeats and jumps, memory
        bounded.

        The picture of one index is the same in every bit wherever it stands in the order, and equals that of
        ``frames()``.  Raises ``EngineError`` where the template decodes differently the second time.
        """
        self.learn()
        sources = [self._index.ticks[k] for k in order]
        for begin, end in _runs(sources):
            run = sources[begin:end]
            walker = self._forward if run[0] <= run[-1] else self._backward
            yield from walker(run)

    def stretch(self, order: Sequence[int]) -> Stretch | None:
        """The pictures of ``order``, where they are source pictures that follow one another, each shown once."""
        self.learn()
        index = self._index
        sources = [index.ticks[k] for k in order]
        if not (index.timed and sources and sources == list(range(sources[0], sources[0] + len(sources)))):
            return None
        first, stop = sources[0], sources[-1] + 1
        seek = self._search_point(first, 0.0) if self._worth_searching(first) else None
        return Stretch(
            seek, (index.times[first], index.times[min(stop, len(index.times) - 1)]), tuple(index.prints[first:stop])
        )

    def _forward(self, run: Sequence[int]) -> Iterator[Frame]:
        """A run of source pictures that never steps back; a long step forward begins anew."""
        at = 0
        while at < len(run):
            stop = at + 1
            while stop < len(run) and run[stop] - run[stop - 1] <= SKIP_PICTURES:
                stop += 1
            wanted = run[at:stop]
            place = 0
            for source, frame in self._pictures(wanted[0], wanted[-1]):
                times = 0
                while place < len(wanted) and wanted[place] == source:
                    place, times = place + 1, times + 1
                yield from _repeat(frame, times)
            at = stop

    def _backward(self, run: Sequence[int]) -> Iterator[Frame]:
        """A run of source pictures that only steps back, decoded forward in chunks and handed out
        reversed."""
        room = max(2, REVERSE_BYTES // (self.width * self.height * 3 // 2))
        aside = Aside(self.width, self.height)
        at = 0
        while at < len(run):
            first = self._chunk_start(run[at], room, run[-1])
            stop = at
            while stop < len(run) and run[stop] >= first:
                stop += 1
            wanted = set(run[at:stop])
            aside.clear()
            for source, frame in self._pictures(first, run[at]):
                if source in wanted:
                    aside.put(source, frame)
            for source in run[at:stop]:
                yield aside.get(source)
            at = stop

    def _chunk_start(self, last: int, room: int, lowest: int) -> int:
        """The first source picture of a chunk that ends with ``last``: where decoding can start, if
        possible."""
        first = max(last - room + 1, lowest)
        place = bisect_left(self._index.keys, first)
        if first > lowest and place < len(self._index.keys) and self._index.keys[place] <= last:
            return self._index.keys[place]
        return first

    def _pictures(self, first: int, last: int) -> Iterator[tuple[int, Frame]]:
        """Source pictures ``first`` to ``last``, checked against the counting pass.

        Tries to begin close by, then further ahead, then at the beginning.  A difference after the first
        picture has been handed out continues from the picture that differs.
        """
        for run_up in (*RUN_UP_SECONDS, None):
            if first > last:
                return
            if run_up is not None and not self._worth_searching(first):
                continue
            if run_up == 0 and self._needed_before:
                continue
            for source, frame in self._attempt(first, last, run_up):
                first = source + 1
                yield source, frame
        if first <= last:
            raise EngineError(
                f"{self.name} decodes differently each time (frame {first}).  Please convert it to H.264 and try again."
            )

    def _worth_searching(self, source: int) -> bool:
        return self._index.timed and source > SKIP_PICTURES // 4

    def _attempt(self, first: int, last: int, run_up: float | None) -> Iterator[tuple[int, Frame]]:
        """Decode from ``run_up`` seconds ahead of ``first`` (``None``: from the beginning) until something
        differs from the counting pass."""
        index = self._index
        source = 0 if run_up is None else -1  # of the next picture; -1: not yet known
        with self._decode(None if run_up is None else self._search_point(first, run_up)) as decoder:
            for shown in decoder:
                if source < 0:
                    source = self._place(shown, first)
                if source < 0 or source > last:
                    return
                if source >= first:
                    if fingerprint(shown.frame) != index.prints[source]:
                        return
                    yield source, shown.frame
                source += 1
                if source > last:
                    return

    def _place(self, shown: Shown, first: int) -> int:
        """Which source picture a search landed on; -1 where it landed behind ``first`` or nowhere known."""
        if shown.time is None:
            return -1
        place = bisect_left(self._index.times, shown.time)
        known = place < len(self._index.times) and self._index.times[place] == shown.time
        return place if known and place <= first - self._needed_before else -1

    def _search_point(self, source: int, run_up: float) -> float:
        """Seconds after the container's start: halfway between a picture and the one before it, or the very time of one
        at which decoding can start, because halfway would begin with the one before that."""
        place = bisect_left(self._index.keys, source)
        if run_up == 0 and self._index.keys[place : place + 1] == array("q", [source]):
            return max(0.0, self._index.times[source] / MICRO - self._start)
        between = (self._index.times[source - 1] + self._index.times[source]) / 2 / MICRO
        return max(0.0, between - self._start - run_up)

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
    the clip consists; what lies behind them is never decoded.  A still is a clip of one picture.
    """
    return Clip(path, info, settings, name or path.name, start, limit)


def _repeat(frame: Frame | None, times: int) -> Iterator[Frame]:
    """``frame`` handed out ``times`` times, a copy each but the last."""
    if frame is not None and times:
        for _ in range(times - 1):
            yield frame.copy()
        yield frame


def _runs(sources: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Half-open ranges of ``sources`` that never step back or never step forward, as long as they can be.

    Equal neighbours belong to whichever run they stand in.
    """
    begin, end = 0, 0
    while begin < len(sources):
        direction = 0
        end = begin + 1
        while end < len(sources):
            step = (sources[end] > sources[end - 1]) - (sources[end] < sources[end - 1])
            if step and direction and step != direction:
                break
            direction = direction or step
            end += 1
        yield begin, end
        begin = end
