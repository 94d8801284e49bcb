"""Native pixels of the mouths that may be shown again, so that any of them can be put over any other frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from heygemd.pipeline.image.compose import Area, Planes
from heygemd.pipeline.image.patches import Patches

if TYPE_CHECKING:
    from heygemd.contract.job import Tell
    from heygemd.pipeline.media import Clip
    from heygemd.pipeline.template_cache import Memory

KEPT_BYTES = 384 << 20
"""Of pixels that are kept for the next film of a template: a minute of a face that fills a 1080p picture."""


class PixelBank:
    """Rectangles of frames by frame number."""

    def __init__(self, areas: Mapping[int, Area], known: Patches | None, more: Patches) -> None:
        """``areas``: what will be asked for; of those that ``known`` does not cover, ``more`` has the pixels."""
        self.areas, self.more = dict(areas), more
        self._known = known

    @staticmethod
    def read(clip: Clip, areas: Mapping[int, Area], known: Patches | None, tell: Tell) -> PixelBank:
        """What ``known`` does not cover is read in one pass over the clip."""
        more = Patches()
        missing = sorted(i for i, area in areas.items() if known is None or not known.covers(i, area))
        for done, (i, frame) in enumerate(zip(missing, clip.walk(missing) if missing else (), strict=False)):
            more.add(i, areas[i], frame)
            tell.progress("bank", done, len(missing))
        return PixelBank(areas, known, more)

    def __contains__(self, i: int) -> bool:
        return i in self.areas

    def get(self, i: int) -> tuple[Area, Planes]:
        """Where the rectangle of frame ``i`` lies in its frame, and its pixels."""
        area = self.areas[i]
        if i in self.more or self._known is None:
            return self.more.get(i)
        return area, self._known.part(i, area)


def remembered(memory: Memory, seen: Patches | None, areas: Mapping[int, Area]) -> Patches | None:
    """What the analysis of the template has ``seen``, or an earlier film's did: its pixels in ``areas``, by frame, are
    kept for the next, if they are no more than ``KEPT_BYTES``."""
    about = memory.about("mouths")
    if seen is None:
        return Patches.recalled(about)
    covered = [(i, area) for i, area in sorted(areas.items()) if seen.covers(i, area)]
    if sum(area.size[0] * area.size[1] * 3 // 2 for _, area in covered) <= KEPT_BYTES:
        seen.keep(about, covered)
    return seen
