"""The renderer for templates that never speak, and for stills: three layers that slide over each other.

Upper lip and face, lower lip and jaw, and between them the inside of the mouth, which stays with the skull: the
template's own teeth where they show, a dark inside with a soft row of teeth where they do not.  The lips are cut along
two smooth curves (``lines``) that follow each frame through its field, so that nothing can tear at a corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heygemd.pipeline.engines.footage.analysis.lip_edges import HubFace, LipLines
from heygemd.pipeline.engines.footage.analysis.mouth_flow import in_hub
from heygemd.pipeline.image.compose import Area, Canvas, Planes, area_around, mixed, painted, put, shifted
from heygemd.pipeline.image.geometry import IO, Floats, Singles, compose, move, scale_of, similarity

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame

_STEP = 1.0  # canonical px of the grid on which everything smooth is worked out
_SIDE, _ABOVE, _BELOW = 1.05, 0.55, 1.62  # reach around the mouth's centre, in io
_UPPER_SHARE_OPEN, _UPPER_SHARE_CLOSE = 0.10, 0.28  # how much of a change of opening the upper lip does
_JAW = 0.85  # chin drop per lower lip drop
_WIDTH_GAIN = 0.07  # share of its width that the mouth gains or loses at width +-1


@dataclass(frozen=True, slots=True)
class Colours:
    """Inside of the mouth, (y, u, v): the dark, the teeth, the tongue."""

    dark: tuple[float, float, float]
    teeth: tuple[float, float, float]
    tongue: tuple[float, float, float]


def colours(face: HubFace, lines: LipLines) -> Colours:
    """Derived from the skin around the mouth, so that they share the picture's light."""
    x, y = (round(c) for c in lines.centre)
    reach = round(0.55 * IO)
    around = (slice(y - reach, y + reach), slice(x - reach, x + reach))
    skin = float(np.percentile(face.y[around], 60))
    u, v = float(np.median(face.u[around])), float(np.median(face.v[around]))
    red = float(np.percentile(face.v[y - 8 : y + 12, x - 12 : x + 13], 85))
    darkest = float(np.percentile(face.y[y - 8 : y + 12, x - 20 : x + 21], 2))
    dark = min(16 + 0.13 * (skin - 16), max(20.0, darkest))
    return Colours(
        (dark, 128 + 0.3 * (u - 128), 128 + 0.35 * (red - 128)),
        (16 + 0.92 * (skin - 16), 128 + 0.45 * (u - 128), 128 + 0.40 * (v - 128)),
        (16 + 0.42 * (skin - 16), 128 + 0.4 * (u - 128), 128 + 0.95 * (red - 128)),
    )


def _ramp(value: Singles, low: float, high: float) -> Singles:
    t = np.clip((value - low) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Warp:
    """Draws one template's mouth at a given opening and width."""

    def __init__(self, face: HubFace, lines: LipLines) -> None:
        self.lines, self._colours = lines, colours(face, lines)
        cx, cy = lines.centre
        columns, rows = (int(2 * _SIDE * IO / _STEP), int((_ABOVE + _BELOW) * IO / _STEP))
        self._origin = (cx - _SIDE * IO, cy - _ABOVE * IO)
        x, y = np.meshgrid(self._origin[0] + np.arange(columns) * _STEP, self._origin[1] + np.arange(rows) * _STEP)
        self._x, self._y = x.astype(np.float32), y.astype(np.float32)

    def area(self, transform: Floats, width: int, height: int) -> Area | None:
        """What ``draw`` may touch in a frame with this track transform."""
        x, y = self._x, self._y
        corners = np.array([[x[0, 0], y[0, 0]], [x[0, -1], y[0, 0]], [x[0, -1], y[-1, 0]], [x[0, 0], y[-1, 0]]])
        return area_around(move(transform, corners.astype(np.float64)), width, height)

    def draw(self, frame: Frame, transform: Floats, field: Singles | None, gap: float, width: float) -> None:
        """Edit ``frame``: lips ``gap`` canonical px apart in the middle, ``width`` in -1..1 of their usual width.

        ``field`` is the frame's own field (hub to frame), None where the frame is the hub.
        """
        area = self.area(transform, frame.width, frame.height)
        if area is None:
            return
        hx, hy = self._hub(field)
        canvas = Canvas(area, compose(transform, similarity(_STEP, 0.0, *self._origin)))
        source = area.of(frame)
        put(frame, area, self._layers(source, canvas, transform, hx, hy, gap, width))

    def _hub(self, field: Singles | None) -> tuple[Singles, Singles]:
        """Hub coordinates of each grid point of the frame's canonical face: h + G(h) = grid."""
        x, y = self._x, self._y
        if field is None:
            return x, y
        return in_hub(field, x, y)

    def _layers(
        self,
        source: Planes,
        canvas: Canvas,
        transform: Floats,
        x: Singles,
        y: Singles,
        gap: float,
        width: float,
    ) -> Planes:
        lines = self.lines
        change = min(gap, lines.widest) - lines.gap
        raised = -change * (_UPPER_SHARE_OPEN if change > 0 else _UPPER_SHARE_CLOSE)  # downwards positive
        dropped = change + raised
        t = lines.across(x)
        upper, lower = lines.upper(x), lines.lower(x)
        # Lips close on each other all along, but part most in the middle.
        profile = lines.profile(x) if change < 0 else np.clip(1 - t * t, 0, 1) ** 1.5
        side = self._narrowed(x, y, t, width)
        jaw = self._jaw_shift(x, y, lower, profile, dropped)
        lip = self._lip_shift(y, upper, profile, raised)
        linear = transform[:, :2].astype(np.float32)

        def native(down: Singles) -> Singles:
            return np.dstack([side * linear[0, 0] + down * linear[0, 1], side * linear[1, 0] + down * linear[1, 1]])

        below, above = (shifted(source, canvas, native(d)) for d in (jaw, lip))
        upper_edge, lower_edge = upper + raised * profile, lower + dropped * profile
        pixel = 1 / scale_of(transform)
        inside = self._inside(source, canvas, x, y, upper, lower, upper_edge, lower_edge)
        is_upper = _coverage(canvas, upper_edge - y, pixel)
        is_lower = _coverage(canvas, y - lower_edge, pixel)
        # Towards the corners the opening becomes thinner than a pixel: the inside fades out instead of fraying.
        open_here = np.clip((lower_edge - upper_edge) / np.float32(2.0 * pixel), 0, 1) * _ramp(profile, 0.04, 0.30)
        shown = [a(open_here) for a in (canvas.luma, canvas.chroma)]
        masks = [
            np.clip(1 - np.clip((1 - u) * (1 - w) * s, 0, 1), 0, 1)
            for u, w, s in zip(is_upper, is_lower, shown, strict=True)
        ]
        split = [_share(u, w) for u, w in zip(is_upper, is_lower, strict=True)]
        lips = mixed(below, above, *split)
        return mixed(inside, lips, *masks)

    def _narrowed(self, x: Singles, y: Singles, t: Singles, width: float) -> Singles:
        """Sideways shift of the source, canonical px."""
        reach = np.exp(-((np.abs(t) / 1.5) ** 4) - ((y - self.lines.centre[1]) / (0.5 * IO)) ** 4)
        return (-_WIDTH_GAIN * width * (x - self.lines.centre[0]) * reach).astype(np.float32)

    def _jaw_shift(self, x: Singles, y: Singles, lower: Singles, profile: Singles, dropped: float) -> Singles:
        """Downward shift of the source for the lower layer: full at the lip, spread over the jaw, zero at the neck."""
        cx, cy = self.lines.centre
        broad = np.exp(-((np.abs(x - cx) / (0.78 * IO)) ** 3)).astype(np.float32) * np.float32(_JAW)
        neck = 1 - _ramp(y, cy + 0.72 * IO, cy + 1.55 * IO)
        source = y
        for _ in range(3):
            away = _ramp(source - lower, 0.0, 0.30 * IO)
            weight = ((1 - away) * profile + away * broad) * neck
            source = y - np.float32(dropped) * weight
        above = _ramp(lower - y, 0.10 * IO, 0.35 * IO)  # nothing of this layer shows so far up
        result: Singles = (source - y) * (1 - above)
        return result

    def _lip_shift(self, y: Singles, upper: Singles, profile: Singles, raised: float) -> Singles:
        """Downward shift of the source for the upper layer: full at the lip, zero below the nose."""
        near = 1 - _ramp(upper - y, 0.05 * IO, 0.30 * IO)
        below = 1 - _ramp(y - upper, 0.10 * IO, 0.35 * IO)
        result: Singles = -np.float32(raised) * profile * near * below
        return result

    def _inside(
        self, source: Planes, canvas: Canvas, x: Singles, y: Singles, upper: Singles, lower: Singles,
        upper_edge: Singles, lower_edge: Singles,
    ) -> Planes:  # fmt: skip
        """The inside of the mouth: dark, tongue, teeth; over it the template's own teeth where it shows them."""
        c = self._colours
        # The strip of mixed pixels between teeth and lip goes with neither once they part; until then with the teeth,
        # or a dark line would show along the cut.
        strip = 3.8 * np.clip((lower_edge - lower) / np.float32(1.8), 0, 1) - 2.0
        gap = np.maximum(lower_edge - upper_edge, 0.5)
        depth = np.clip((y - upper_edge) / gap, 0, 1)
        t = np.abs(self.lines.across(x))
        wide = float(gap.max()) / IO
        if self.lines.teeth:  # only what opens below the template's own teeth is ours: all of it mouth floor
            floor = np.clip((y - lower + strip) / np.maximum(lower_edge - lower + strip, 1.0), 0, 1)
            tongue = 0.9 * _ramp(floor, 0.0, 0.7) * (1 - _ramp(t, 0.40, 0.95))
        else:
            tongue = 0.75 * _ramp(depth, 0.55, 1.0) * (1 - _ramp(t, 0.25, 0.75))
            tongue = tongue * float(np.clip((wide - 0.07) / 0.08, 0, 1))
        shade = 0.55 + 0.45 * depth
        teeth, light = (np.zeros_like(x),) * 2 if self.lines.teeth else self._teeth(x, y, t, upper_edge, wide)
        painted_planes = []
        for k in range(3):
            value = np.full_like(x, c.dark[k]) * (shade if k == 0 else 1)
            value = value + (c.tongue[k] - value) * tongue
            value = value + (c.teeth[k] * (light if k == 0 else 1) - value) * teeth
            painted_planes.append(value.astype(np.float32))
        fill = painted(canvas, painted_planes)
        if not self.lines.teeth:
            return fill
        own = _coverage(canvas, np.minimum(y - upper + 2.0, lower - strip - y), 1.0)
        return mixed(fill, source, own[0], own[1])

    def _teeth(self, x: Singles, y: Singles, t: Singles, upper_edge: Singles, wide: float) -> tuple[Singles, Singles]:
        """Cover and light of an upper row of teeth, seen only when the lips are well apart.

        It hangs from the skull, partly behind the upper lip; each tooth is rounded at its edge and set off from the
        next by a soft shadow, and the row falls off in light towards the cheeks and under the lip.
        """
        middle = (x - np.float32(self.lines.centre[0])) / np.float32(IO)
        edges = np.array([-0.335, -0.275, -0.20, -0.105, 0.0, 0.105, 0.20, 0.275, 0.335], np.float32)
        nearest = np.abs(middle[..., None] - edges).min(2)
        rounded = np.exp(-((nearest / 0.022) ** 2))
        edge = upper_edge + np.float32(0.060 * IO) * (1 - 0.55 * t * t) - np.float32(0.007 * IO) * rounded
        showing = float(np.clip((wide - 0.045) / 0.05, 0, 1))
        cover = _ramp(edge - y, -0.7, 0.9) * (1 - _ramp(t, 0.60, 0.92)) * np.float32(0.92 * showing)
        under_lip = 0.80 + 0.20 * _ramp(y - upper_edge, 0.0, 0.035 * IO)
        light = (1 - 0.09 * np.exp(-((nearest / 0.012) ** 2))) * (1 - 0.42 * t * t) * under_lip
        return cover, light


def _coverage(canvas: Canvas, distance: Singles, pixel: float) -> tuple[Singles, Singles]:
    """0..1 where ``distance`` (canonical px) turns positive, about a pixel wide; luma and chroma."""
    scale = np.float32(1 / (1.6 * pixel))
    return (
        np.clip(canvas.luma(distance, extend=True) * scale + 0.5, 0, 1),
        np.clip(canvas.chroma(distance, extend=True) * scale * 0.7 + 0.5, 0, 1),
    )


def _share(upper: Singles, lower: Singles) -> Singles:
    """How much of a lip pixel is the upper layer's."""
    result: Singles = upper / np.maximum(upper + lower, 1e-3)
    return result
