"""What an analysis leaves behind: enough to draw any output frame, and the facts for the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.image.geometry import Floats

if TYPE_CHECKING:
    from heygemd.pipeline.image.compose import Area, Planes
    from heygemd.pipeline.media import Frame


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


class Drawer(Protocol):
    """One renderer, ready for one film."""

    def area(self, k: int) -> Area | None:
        """What output frame ``k`` may have changed; None where nothing is."""

    def draw(self, k: int, frame: Frame) -> None:
        """Edit output frame ``k`` in place, inside ``area(k)``, reading nothing outside of it."""

    def at_hand(self, k: int) -> bool:
        """Whether ``pixels(k)`` are known without decoding the template."""

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """``area(k)`` and the template's pixels there, where they are at hand."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``facts`` is plain data for the log; ``passed_through`` are (first, last) output frames left untouched for want
    of a usable face; ``warnings`` are (code, message)."""

    drawer: Drawer
    facts: dict[str, Any]
    passed_through: list[tuple[int, int]]
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def region(self, k: int) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) in luma px, even, end exclusive: all that ``apply`` may change in output frame ``k``."""
        area = self.drawer.area(k)
        return None if area is None else area.bounds

    def at_hand(self, k: int) -> bool:
        """See ``engines.Plan``."""
        return self.drawer.at_hand(k)

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """See ``engines.Plan``."""
        return self.drawer.pixels(k)
