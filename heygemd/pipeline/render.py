"""Step 5: the pictures of the film, edited and encoded, segment by segment, and each segment decoded again.

Where the engine allows it, two segments are made at a time, each by half of the cores: two encoders that need not wait
for anybody's rows keep two cores busier than one encoder with two threads, and take less time of either.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline import media
from heygemd.pipeline.ffmpeg import cores
from heygemd.pipeline.image.compose import Area, put
from heygemd.pipeline.media.write import overlay

if TYPE_CHECKING:
    from heygemd.contract.job import Settings, Tell
    from heygemd.pipeline.engines import DrawingEngine, DrawingPlan
    from heygemd.pipeline.marking.label import Label

_LARGEST = 0.4  # share of the picture up to which a rectangle of it is cheaper than all of it
_AT_A_TIME = 2  # segments at a time; more would need more memory and gain nothing
_SEEN = 10  # every tenth frame tells whether all can be laid over the template
_LEAST_SECONDS = 2.0  # of film; shorter segments are not worth a process each


@dataclass(frozen=True, slots=True)
class RenderWork:
    """What is painted: ``order`` ``(N,)`` says which template frame lies under output frame k."""

    engine: DrawingEngine
    plan: DrawingPlan
    clip: media.Clip
    order: npt.NDArray[np.int64]
    settings: Settings
    tell: Tell
    label: Label | None = None


def segments_at_a_time(work: RenderWork) -> int:
    """How many segments are made at a time.  Only such as are laid over the template: what goes through us needs the
    memory of two more processes each, and of pictures that are shown backwards."""
    able = work.engine.in_parallel and cores(work.settings.threads) >= _AT_A_TIME
    long = len(work.order) >= _AT_A_TIME * _LEAST_SECONDS * work.clip.fps
    if not (able and long and media.choose_encoder(work.settings) == "libx264" and overlay.possible(work.clip)):
        return 1
    laid_over = work.clip.stretch(work.order.tolist()) is not None
    return _AT_A_TIME if laid_over and _box(work.plan, range(0, len(work.order), _SEEN), work.clip) is not None else 1


def paint(
    segments: Sequence[media.Segment], kept: Collection[int], work: RenderWork, at_a_time: int
) -> list[media.Packets]:
    """Make and receipt the segments whose numbers are not in ``kept``; what each of them consists of, all decoded.

    Raises ``EngineError``.
    """
    settings = replace(work.settings, threads=max(1, cores(work.settings.threads) // at_a_time))
    board = _Board(work.tell, {s.number: s.stop - s.first for s in segments if s.number in kept}, len(work.order))
    own = replace(work, settings=settings, tell=board)
    painters = {s.number: _Painter(s, own, board) for s in segments if s.number not in kept}
    with ThreadPoolExecutor(_AT_A_TIME, "check") as checkers, ThreadPoolExecutor(at_a_time, "paint") as pool:

        def make(segment: media.Segment) -> Future[media.Packets]:
            if segment.number in painters:
                painters.pop(segment.number).paint()
            return checkers.submit(media.decoded, segment.path, segment.stop - segment.first, settings)

        made = [pool.submit(make, segment) for segment in segments]
        try:
            wait(made, return_when=FIRST_EXCEPTION)
            failed = next((one for one in made if one.done() and one.exception()), None)
            return [one.result().result() for one in ([failed] if failed else made)]
        except BaseException:
            board.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Stopped(Exception):
    """Another segment has failed."""


class _Board:
    """A ``Tell`` for several painters at a time: how many frames all of them have made."""

    def __init__(self, tell: Tell, done: dict[int, int], of: int) -> None:
        """``done``: frames by segment."""
        self._tell, self._done, self._of = tell, done, of
        self._one = threading.Lock()
        self._stopped = False

    def made(self, segment: int, frames: int) -> None:
        """``frames`` of a segment are made.  Raises ``_Stopped`` where nobody wants more."""
        if self._stopped:
            raise _Stopped
        with self._one:
            self._done[segment] = frames
            self._tell.progress("render", sum(self._done.values()), self._of)

    def stop(self) -> None:
        """Let nobody make more."""
        self._stopped = True

    def progress(self, stage: str, frame: int, of: int) -> None:
        """See ``Tell``."""
        with self._one:
            self._tell.progress(stage, frame, of)

    def event(self, name: str, level: str = "info", **fields: object) -> None:
        """See ``Tell``."""
        with self._one:
            self._tell.event(name, level, **fields)


class _Painter:
    """The two ways of making one segment."""

    def __init__(self, segment: media.Segment, work: RenderWork, board: _Board) -> None:
        self._segment, self._plan, self._clip = segment, work.plan, work.clip
        self._settings, self._board = work.settings, board
        self._frames = range(segment.first, segment.stop)
        self._order = work.order[segment.first : segment.stop]
        label = work.label
        shown = label.within(segment.first, segment.stop) if label is not None else 0
        self._laid = label.laid(segment.folder, rf"lt(n\,{shown})") if label is not None and shown else None

    def paint(self) -> None:
        """Make the segment and receipt it."""
        if not self.over_the_template():
            self.whole_pictures()
        self._segment.finish()

    def whole_pictures(self) -> None:
        """Decode, edit and encode every picture."""
        with media.FilmWriter(self._segment.path, self._clip, self._settings, self._laid) as writer:
            for k, frame in zip(self._frames, self._clip.walk(self._order), strict=False):
                self._plan.draw(k, frame)
                writer.write(frame)
                self._board.made(self._segment.number, k + 1 - self._segment.first)

    def over_the_template(self) -> bool:
        """Let the encoder decode the template and hand it what is edited, where that can be done; whether it was."""
        stretch = self._clip.stretch(self._order.tolist()) if overlay.possible(self._clip) else None
        box = _box(self._plan, self._frames, self._clip) if stretch is not None else None
        if stretch is None or box is None:
            return False
        try:
            laid = self._laid
            with overlay.OverlayWriter(
                self._segment.path, self._clip, stretch, box.bounds, self._settings, laid
            ) as writer:
                for k, patch in zip(self._frames, self._patches(box), strict=True):
                    writer.write(patch)
                    self._board.made(self._segment.number, k + 1 - self._segment.first)
        except overlay.Differs:
            self._board.event("template_decodes_differently", level="warning", segment=self._segment.number)
            return False
        return True

    def _patches(self, box: Area) -> Iterator[memoryview]:
        """Of each picture: the edited pixels, and an opacity that hides all others of the box."""
        width, height = self._clip.width, self._clip.height
        canvas = media.Frame(np.zeros(width * height * 3 // 2, np.uint8), width, height)
        wide, tall = box.size
        opacity = np.zeros((tall, wide), np.uint8)
        for k in self._frames:
            opacity[:] = 0
            bounds = self._plan.region(k)
            pixels = self._plan.pixels(k) if bounds is not None else None
            if bounds is not None and pixels is not None:
                put(canvas, *pixels)
                self._plan.draw(k, canvas)
                x0, y0, x1, y1 = bounds
                opacity[y0 - box.y0 : y1 - box.y0, x0 - box.x0 : x1 - box.x0] = 255
            yield np.concatenate([p.ravel() for p in (*box.of(canvas), opacity)]).data


def _box(plan: DrawingPlan, frames: Sequence[int], clip: media.Clip) -> Area | None:
    """The rectangle around all that ``frames`` may have edited; None where it is too large, or where the template's
    pixels are not at hand."""
    areas = []
    for k in frames:
        bounds = plan.region(k)
        if bounds is None:
            continue
        if not plan.at_hand(k):
            return None
        areas.append(bounds)
    low, high = np.array(areas or [(0, 0, 16, 16)]).min(0), np.array(areas or [(0, 0, 16, 16)]).max(0)
    box = Area(int(low[0]), int(low[1]), int(high[2]), int(high[3]))
    share = box.size[0] * box.size[1] / (clip.width * clip.height)
    return box if share <= _LARGEST else None
