"""A plan of the footage engine: enough to draw any output frame, and the facts for the log."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.engines.footage.analysis.shapes import Shapes
from heygemd.pipeline.engines.footage.drawing.exemplars import remembered
from heygemd.pipeline.engines.footage.drawing.plan_arrays import KNOWN, prefixed, taken
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.compose import Area, Planes
from heygemd.pipeline.image.geometry import Floats
from heygemd.pipeline.image.patches import Patches

if TYPE_CHECKING:
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.media import Clip, Frame
    from heygemd.pipeline.template_cache import Arrays


FADE = 4
"""Output frames over which the mouth fades in and out beside frames that are left as they are."""


def shares(editable: npt.NDArray[np.bool_]) -> Floats:
    """How much of the wanted mouth each output frame shows, 0..1 ``(N,)``: none where nothing can be edited, all of it
    more than ``FADE`` frames away from there."""
    if editable.all():
        return np.ones(len(editable))
    frames, lost = np.arange(len(editable)), np.flatnonzero(~editable)
    after = np.searchsorted(lost, frames)
    far = np.concatenate([[-np.inf], lost, [np.inf]])  # the lost frame before frame k is far[after[k]]
    away = np.minimum(frames - far[after], far[after + 1] - frames)
    shown: Floats = np.minimum(1, away / (FADE + 1))
    return shown


@dataclass(frozen=True, slots=True)
class Frames:
    """Of each output frame: template frame ``order`` and ``shares`` (see ``Scene``); ``transforms`` of the template's
    frames, and their ``size``."""

    order: npt.NDArray[np.int64]
    shares: Floats
    transforms: Floats
    size: tuple[int, int]

    def usable(self, k: int) -> bool:
        """Whether output frame ``k`` has a face to edit."""
        return bool(self.shares[k] > 0)


@dataclass(frozen=True, slots=True)
class Scene:
    """The template as analysed, and which of its frames lies under each output frame."""

    clip: Clip
    track: FaceTrack
    shapes: Shapes
    mouth: Mouth
    order: npt.NDArray[np.int64]
    shares: Floats
    """How much of the wanted mouth each output frame shows (``shares``)."""

    @property
    def frames(self) -> Frames:
        """The part of all this that drawing needs."""
        size = self.clip.width, self.clip.height
        return Frames(self.order, self.shares, self.track.transforms, size)

    def pixels_in(self, area: Callable[[int], Area | None]) -> Patches | None:
        """The template's pixels in ``area`` of each of its kept, usable frames: from this analysis, or kept from an
        earlier film's."""
        track = self.track
        usable = track.crops.index[track.usable[track.crops.index]]
        areas = {i: own for i in usable.tolist() if (own := area(i)) is not None} if track.patches else {}
        return remembered(track.memory, track.patches, areas)


class FootagePlan(ABC):
    """A renderer that is ready for one film: one ``draw`` per output frame.

    ``facts`` is plain data for the log; ``passed_through`` are (first, last) output frames left untouched for want of a
    usable face; ``warnings`` are (code, message).
    """

    def __init__(self, frames: Frames, known: Patches | None, facts: Facts | None = None) -> None:
        """``known``: the template's pixels, as far as they are at hand."""
        self.frames, self.known = frames, known
        self.facts: Facts = facts or {}
        self.passed_through: list[tuple[int, int]] = []
        self.warnings: list[tuple[str, str]] = []

    @abstractmethod
    def area(self, k: int) -> Area | None:
        """The part of output frame ``k`` that ``draw`` may change; None where it changes nothing."""

    @abstractmethod
    def draw(self, k: int, frame: Frame) -> None:
        """Edit output frame ``k`` in place, inside ``area(k)``, reading nothing outside of it."""

    @abstractmethod
    def own_arrays(self, folder: Path) -> tuple[Facts, Arrays]:
        """What ``pack`` writes of the renderer itself: plain data and arrays.  Raises ``OSError``."""

    def region(self, k: int) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) in luma px, even, end exclusive: all that ``draw`` may change in output frame ``k``."""
        area = self.area(k)
        return None if area is None else area.bounds

    def at_hand(self, k: int) -> bool:
        """See ``engines.DrawingPlan``."""
        area = self.area(k)
        return area is None or (self.known is not None and self.known.covers(int(self.frames.order[k]), area))

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """See ``engines.DrawingPlan``."""
        area, i = self.area(k), int(self.frames.order[k])
        if self.known is None or area is None or not self.known.covers(i, area):
            return None
        return area, self.known.part(i, area)

    def pack(self, folder: Path) -> Arrays:
        """All of a plan: small arrays, and pixels in files in ``folder``.  Raises ``OSError``."""
        frames = self.frames
        told: Facts = {"facts": self.facts, "passed_through": self.passed_through, "size": frames.size}
        arrays: Arrays = {"order": frames.order, "shares": frames.shares, "transforms": frames.transforms}
        own_told, own_arrays = self.own_arrays(folder)
        arrays |= own_arrays
        if self.known is not None:
            arrays |= prefixed("known", self.known.lay(folder / KNOWN))
        return {"told": np.array(json.dumps(told | own_told, default=lambda value: value.item())), **arrays}

    def take_facts(self, arrays: Arrays) -> None:
        """Take from packed ``arrays`` what the log says of the plan."""
        told = json.loads(str(arrays["told"]))
        self.facts = told["facts"]
        self.passed_through = [(first, last) for first, last in told["passed_through"]]


def frames_of(arrays: Arrays, folder: Path) -> tuple[Frames, Patches | None]:
    """Of a packed plan: its frames and the pixels at hand.  Raises ``OSError``, ``ValueError`` or ``KeyError`` where a
    file is damaged."""
    told = json.loads(str(arrays["told"]))
    frames = Frames(arrays["order"], arrays["shares"], arrays["transforms"], tuple(told["size"]))
    return frames, Patches.laid(folder / KNOWN, taken("known", arrays)) if "known.at" in arrays else None
