"""The renderer for templates that speak: two layers.

Below, the frame itself, warped from its own mouth code to the wanted one: jaw and cheeks follow, pose and light stay.
Above, lips and inside of the mouth of an exemplar, another frame of the same person, moved to this frame's pose and
to the wanted code, matched in colour, in a feathered mask that follows the lips.  All fields are composed first, then
native pixels are sampled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage.analysis.mouth_flow import at, grid, in_hub
from heygemd.pipeline.engines.footage.analysis.speaker import Speaker
from heygemd.pipeline.engines.footage.drawing.exemplars import PixelBank
from heygemd.pipeline.image.compose import (
    Area,
    Canvas,
    Planes,
    area_around,
    looked_up,
    matched,
    mixed,
    morphed,
    put,
    shifted,
)
from heygemd.pipeline.image.geometry import IO, Floats, Singles, compose, move, scale_of, similarity

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame

_STEP = 2  # canonical px of the grid on which fields are inverted and composed
_MOVES = 0.02  # canonical px; less is no displacement, and the pixel is left as it is
_MORPH = 0.6  # share of the new exemplar in the frame of a jump
_OWN = 1.2
"""How much of the frame's own opening and width is taken out before the wanted ones are put in.  Codes are measured
with noise, so that modes learnt by regression on them fall short, and what is left of the frame's own speech shows:
with 1.0 the partial r of the result's opening with the template's, given the wanted one, was .34 under a synthetic
voice and .22 under another person's, with 1.15 .26 and .15, with 1.25 .19 and .10 (mean of four clips); given the true
curve the opening's r fell from .82 to .815 and .805.  Of the width, .48 and .24 with 1.0, .17 and -.12 with 1.25, its r
given the true curve being .865 with both."""
_REACH = 0.35  # io that an exemplar's rectangle is larger than the mask


class Layers:
    """Draws one person's mouth."""

    def __init__(self, person: Speaker, transforms: Floats, size: tuple[int, int]) -> None:
        """``transforms`` ``(n, 2, 3)`` of the track; ``size`` of the frames."""
        self._person, self._transforms, self._size = person, transforms, size
        x, y = grid(_STEP)
        fade = cv2.resize(person.fade, (x.shape[1], x.shape[0])) > 0.01
        self._full = self._crop(x, y, fade)
        mask = cv2.resize(person.mask, (x.shape[1], x.shape[0])) > 0.004
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        self._mask_box = (x[0, columns[0]], x[0, columns[-1]], y[rows[0], 0], y[rows[-1], 0])
        self._mask_ring = np.dstack([person.mask, person.ring])

    @staticmethod
    def _crop(x: Singles, y: Singles, inside: Singles) -> tuple[Singles, Singles]:
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        return x[part], y[part]

    def area(self, i: int) -> Area | None:
        """What ``draw`` may touch in template frame ``i``."""
        x, y = self._full
        return self._around(i, (x[0, 0], x[0, -1], y[0, 0], y[-1, 0]))

    def exemplar_area(self, i: int) -> Area | None:
        """The rectangle of frame ``i`` that is needed to use it as an exemplar."""
        return self._around(i, self._exemplar_box())

    def needed_area(self, i: int) -> Area | None:
        """The rectangle that holds both of the above."""
        (x0, x1, y0, y1), (x, y) = self._exemplar_box(), self._full
        return self._around(i, (min(x0, x[0, 0]), max(x1, x[0, -1]), min(y0, y[0, 0]), max(y1, y[-1, 0])))

    def _exemplar_box(self) -> tuple[float, float, float, float]:
        x0, x1, y0, y1 = self._mask_box
        margin = _REACH * IO
        return x0 - margin, x1 + margin, y0 - margin, y1 + margin

    def _around(self, i: int, box: Sequence[float]) -> Area | None:
        x0, x1, y0, y1 = (float(v) for v in box)
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return area_around(move(self._transforms[i], corners), *self._size)

    def draw(
        self,
        frame: Frame,
        i: int,
        code: Floats,
        exemplar: int,
        bank: PixelBank,
        before: int | None = None,
        share: float = 1.0,
    ) -> None:
        """Edit ``frame``, template frame ``i``: show ``code`` (opening, width) with the mouth of ``exemplar``.

        ``before`` is the exemplar that would have come had the choice not jumped here: the frame is then a morph of
        both, or lips would pop.  ``share`` 0..1: how much of all this is shown, 0 being the frame as it is.
        """
        area = self.area(i)
        if area is None:
            return
        person, transform = self._person, self._transforms[i]
        x, y = self._full
        change = (share * (code - _OWN * person.codes[i])).astype(np.float32)
        mode = change[0] * person.modes[0] + change[1] * person.modes[1]
        target = person.field(i) + mode
        hx, hy = in_hub(target, x, y)
        back = -at(mode, hx, hy)
        back[np.maximum(np.abs(back[..., 0]), np.abs(back[..., 1])) < _MOVES] = 0
        linear = transform[:, :2].astype(np.float32)
        canvas = Canvas(area, compose(transform, similarity(_STEP, 0.0, float(x[0, 0]), float(y[0, 0]))))
        moving = self._part((back != 0).any(2), i, area)
        if moving is not None:
            put(frame, moving, shifted(area.of(frame), canvas.part(moving), back @ linear.T, area))
        mask_ring = at(self._mask_ring, hx, hy)
        part = self._part(mask_ring[..., 0] + mask_ring[..., 1] > 0, i, area)
        if exemplar not in bank or part is None:
            return
        canvas, base = canvas.part(part), part.of(frame)
        layer = self._mouth(exemplar, bank, canvas, target, hx, hy)
        if before is not None and before in bank:
            layer = morphed(self._mouth(before, bank, canvas, target, hx, hy), layer, _MORPH)
        mask = mask_ring[..., 0] * np.float32(share)
        layer = matched(base, layer, canvas.luma(mask_ring[..., 1]), 0.22 * IO * scale_of(transform))
        put(frame, part, mixed(base, layer, canvas.luma(mask), canvas.chroma(mask)))

    def _part(self, shows: npt.NDArray[np.bool_], i: int, area: Area) -> Area | None:
        """The part of ``area``, which is that of frame ``i``, in which something ``shows`` on the grid."""
        rows, columns = np.flatnonzero(shows.any(1)), np.flatnonzero(shows.any(0))
        if not len(rows):
            return None
        x, y = self._full
        box = (x[0, columns[0]], x[0, columns[-1]], y[rows[0], 0], y[rows[-1], 0])
        margin = np.array([-_STEP, _STEP, -_STEP, _STEP])
        part = self._around(i, tuple(np.array(box) + margin))
        return part.common(area) if part is not None else None

    def _mouth(
        self, exemplar: int, bank: PixelBank, canvas: Canvas, target: Singles, hx: Singles, hy: Singles
    ) -> Planes:
        """The exemplar's pixels, moved to this frame's pose and to the field ``target``."""
        x, y = self._full
        off = at(self._person.field(exemplar) - target, hx, hy)
        area, source = bank.get(exemplar)
        return looked_up(source, canvas, self._exemplar_points(exemplar, x + off[..., 0], y + off[..., 1], area))

    def _exemplar_points(self, i: int, x: Singles, y: Singles, area: Area) -> Singles:
        """Luma coordinates, relative to ``area``, of canonical points of frame ``i``."""
        t = self._transforms[i]
        where: Singles = np.dstack(
            [
                t[0, 0] * x + t[0, 1] * y + (t[0, 2] - area.x0),
                t[1, 0] * x + t[1, 1] * y + (t[1, 2] - area.y0),
            ]
        ).astype(np.float32)
        return where
