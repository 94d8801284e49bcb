"""Pictures of a counted template in any order, memory bounded, each checked against the counting pass.

The times of the pictures say where a search landed, and a fingerprint of each says whether a decode that began in the
middle (for a reversed stretch) came out the same.  Containers differ in how exactly they can be searched (MPEG-TS and
AVI often land late); where a search fails, the stretch is decoded from further ahead, at last from the beginning.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from heygemd.common.errors import EngineError
from heygemd.pipeline.media.frame import Frame, fingerprint
from heygemd.pipeline.media.read.decoder import MICRO, Decoder, Shown
from heygemd.pipeline.media.read.index import Index
from heygemd.pipeline.media.read.spill import FrameSpill

REVERSE_BYTES = 384 << 20  # of decoded pictures that a reversed stretch spills at most: 11 s of 720p25
RUN_UP_SECONDS = (0.0, 2.0, 12.0)  # how far ahead of a picture decoding is begun, tried in turn
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


class Seeker:
    """Decodes a counted template again; pictures are the numbers of source pictures in its ``index``."""

    def __init__(
        self, index: Index, decode: Callable[[float | None], Decoder], name: str, size: tuple[int, int], start: float,
        needed_before: int,
    ) -> None:  # fmt: skip
        """``decode``: opens the file at seconds after the container's start, ``None``: at the beginning; ``name``: the
        user's of the file; ``size``: (width, height) of a frame; ``start``: the container's zero in seconds;
        ``needed_before``: decoded pictures that one picture depends on."""
        self._index, self._decode, self._name = index, decode, name
        self._size, self._start, self._needed_before = size, start, needed_before

    def walk(self, sources: Sequence[int]) -> Iterator[Frame]:
        """The pictures ``sources``: runs forward, backward, repeats and jumps.  Raises ``EngineError`` where the
        template decodes differently the second time."""
        for begin, end in _runs(sources):
            run = sources[begin:end]
            walker = self._forward if run[0] <= run[-1] else self._backward
            yield from walker(run)

    def stretch(self, sources: Sequence[int]) -> Stretch | None:
        """The pictures ``sources``, where they follow one another, each once."""
        index = self._index
        if not (index.timed and sources and list(sources) == list(range(sources[0], sources[0] + len(sources)))):
            return None
        first, stop = sources[0], sources[-1] + 1
        seek = self._search_point(first, 0.0) if self._worth_searching(first) else None
        times = index.times[first], index.times[min(stop, len(index.times) - 1)]
        return Stretch(seek, times, tuple(index.prints[first:stop]))

    def _forward(self, run: Sequence[int]) -> Iterator[Frame]:
        """A run of source pictures that never steps back; after a long step forward a new search is made."""
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
                yield from repeated(frame, times)
            at = stop

    def _backward(self, run: Sequence[int]) -> Iterator[Frame]:
        """A run of source pictures that only steps back, decoded forward in chunks and handed out
        reversed."""
        width, height = self._size
        room = max(2, REVERSE_BYTES // (width * height * 3 // 2))
        spill = FrameSpill(width, height)
        at = 0
        while at < len(run):
            first = self._chunk_start(run[at], room, run[-1])
            stop = at
            while stop < len(run) and run[stop] >= first:
                stop += 1
            wanted = set(run[at:stop])
            spill.clear()
            for source, frame in self._pictures(first, run[at]):
                if source in wanted:
                    spill.put(source, frame)
            for source in run[at:stop]:
                yield spill.get(source)
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
                f"{self._name} decodes differently each time (picture {first}).  "
                "Please convert it to H.264 and try again."
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


def repeated(frame: Frame | None, times: int) -> Iterator[Frame]:
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
