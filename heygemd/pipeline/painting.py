"""Step 5: the pictures of one segment, edited and encoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline import media
from heygemd.pipeline.compose import Area, put
from heygemd.pipeline.media import over

if TYPE_CHECKING:
    from heygemd.pipeline.engines import Engine, Plan
    from heygemd.pipeline.label import Label
    from heygemd.pipeline.settings import Settings, Tell

_LARGEST = 0.4  # share of the picture up to which a rectangle of it is cheaper than all of it


def paint(
    segment: media.Segment, engine: Engine, plan: Plan, clip: media.Clip, order: npt.NDArray[np.int64],
    settings: Settings, tell: Tell, label: Label | None = None,
) -> None:  # fmt: skip
    """Make the segment's film and receipt it.  Raises ``EngineError``."""
    painter = _Painter(segment, engine, plan, clip, order, settings, tell, label)
    if not painter.over_the_template():
        painter.whole_pictures()
    segment.finish()


class _Painter:
    """The two ways of making one segment."""

    def __init__(
        self, segment: media.Segment, engine: Engine, plan: Plan, clip: media.Clip, order: npt.NDArray[np.int64],
        settings: Settings, tell: Tell, label: Label | None,
    ) -> None:  # fmt: skip
        self._segment, self._engine, self._plan, self._clip = segment, engine, plan, clip
        self._settings, self._tell = settings, tell
        self._frames = range(segment.first, segment.stop)
        self._order, self._of = order[segment.first : segment.stop], len(order)
        shown = label.within(segment.first, segment.stop) if label is not None else 0
        self._laid = label.laid(segment.folder, rf"lt(n\,{shown})") if label is not None and shown else None

    def whole_pictures(self) -> None:
        """Decode, edit and encode every picture."""
        with media.FilmWriter(self._segment.path, self._clip, self._settings, self._laid) as writer:
            for k, frame in zip(self._frames, self._clip.walk(self._order), strict=False):
                self._engine.apply(self._plan, k, frame)
                writer.write(frame)
                self._tell.progress("render", k + 1, self._of)

    def over_the_template(self) -> bool:
        """Let the encoder decode the template and hand it what is edited, where that can be done; whether it was."""
        stretch = self._clip.stretch(self._order.tolist()) if over.possible(self._clip) else None
        box = self._box() if stretch is not None else None
        if stretch is None or box is None:
            return False
        try:
            laid = self._laid
            with over.OverWriter(self._segment.path, self._clip, stretch, box.bounds, self._settings, laid) as writer:
                for k, patch in zip(self._frames, self._patches(box), strict=True):
                    writer.write(patch)
                    self._tell.progress("render", k + 1, self._of)
        except over.Differs:
            self._tell.event("template_decodes_differently", level="warning", segment=self._segment.number)
            return False
        return True

    def _box(self) -> Area | None:
        """The rectangle around all that the segment's pictures may have edited; None where it is too large, or where
        the template's pixels are not at hand."""
        areas = []
        for k in self._frames:
            bounds = self._plan.region(k)
            if bounds is None:
                continue
            if not self._plan.at_hand(k):
                return None
            areas.append(bounds)
        low, high = np.array(areas or [(0, 0, 16, 16)]).min(0), np.array(areas or [(0, 0, 16, 16)]).max(0)
        box = Area(int(low[0]), int(low[1]), int(high[2]), int(high[3]))
        share = box.size[0] * box.size[1] / (self._clip.width * self._clip.height)
        return box if share <= _LARGEST else None

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
                self._engine.apply(self._plan, k, canvas)
                x0, y0, x1, y1 = bounds
                opacity[y0 - box.y0 : y1 - box.y0, x0 - box.x0 : x1 - box.x0] = 255
            yield np.concatenate([p.ravel() for p in (*box.of(canvas), opacity)]).data
