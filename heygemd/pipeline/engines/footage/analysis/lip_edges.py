"""The edges of the lips in the hub face, as two smooth curves between two corners.

A parabola over the chord from corner to corner, fitted as a whole: edges followed column by column leave spikes
where a corner is soft.  Where teeth show between the lips there are two curves, else one, twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.engines.footage.analysis.mouth_flow import at
from heygemd.pipeline.image.geometry import EYES, HEIGHT, IO, WIDTH, Bytes, Floats, Singles

_LIP_MARGIN = (0.8, 1.5)  # canonical px that the cuts lie inside the upper and the lower lip
_POWERS = (1.6, 2.0, 2.5, 3.2)
_DARK_ROWS = 5  # canonical px of dark between the lips, from which on they are open
_OFF_LINE = 0.15  # io from the located line at which a fit is one standard deviation of its response worse


@dataclass(frozen=True, slots=True)
class HubFace:
    """The mean hub-registered face: ``y``, ``u``, ``v`` all ``(224, 192)`` float32."""

    y: Singles
    u: Singles
    v: Singles


@dataclass(frozen=True, slots=True)
class LipLines:
    """Canonical px in the hub: corners' x and y, how far the edges sag below the chord in the middle, and the power
    of their curves (2 is a parabola, more is flatter in the middle)."""

    left: float
    right: float
    left_y: float
    right_y: float
    upper_sag: float
    lower_sag: float
    upper_power: float
    lower_power: float
    teeth: bool

    @property
    def gap(self) -> float:
        """Rest opening in the middle, canonical px, between the cuts."""
        return self.lower_sag - self.upper_sag + (_LIP_MARGIN[0] + _LIP_MARGIN[1] if self.teeth else 0.0)

    def upper(self, x: Singles) -> Singles:
        """y of the cut along the upper lip: a little inside the lip where teeth show, or they would hang on it."""
        t = np.minimum(np.abs(self.across(x)), 1)
        margin = _LIP_MARGIN[0] * (1 - t**8) if self.teeth else 0.0
        result: Singles = (self.chord(x) + self.upper_sag * (1 - t**self.upper_power) - margin).astype(np.float32)
        return result

    def lower(self, x: Singles) -> Singles:
        """y of the cut along the lower lip."""
        t = np.minimum(np.abs(self.across(x)), 1)
        margin = _LIP_MARGIN[1] * (1 - t**8) if self.teeth else 0.0
        result: Singles = (self.chord(x) + self.lower_sag * (1 - t**self.lower_power) + margin).astype(np.float32)
        return result

    def profile(self, x: Singles) -> Singles:
        """How far the lips part along x when they part by 1 in the middle."""
        if self.teeth:
            share: Singles = (self.lower(x) - self.upper(x)) / np.float32(self.gap)
        else:
            share = 1 - self.across(x) ** 2
        return np.maximum(share, 0)

    @property
    def widest(self) -> float:
        """Gap that still looks real, canonical px: a smile that is also wide open does not."""
        return max(0.17 * IO, 1.25 * self.gap) if self.teeth else 0.21 * IO

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the mouth, canonical px."""
        return (self.left + self.right) / 2, (self.left_y + self.right_y + self.upper_sag + self.lower_sag) / 2

    def across(self, x: Singles) -> Singles:
        """-1 at the left corner, 1 at the right."""
        return (2 * x - self.left - self.right) / np.float32(self.right - self.left)

    def chord(self, x: Singles) -> Singles:
        """y of the straight line between the corners."""
        t = self.across(x)
        return np.float32(0.5) * ((1 - t) * np.float32(self.left_y) + (1 + t) * np.float32(self.right_y))


def hub_face(y: Bytes, u: Bytes, v: Bytes, fields: Singles) -> HubFace:
    """The mean of canonical crops, each pulled back to the hub by its field (``(k, ROWS, COLUMNS, 2)``)."""
    xx, yy = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    total = np.zeros((3, HEIGHT, WIDTH), np.float32)
    for k, field in enumerate(fields):
        full = at(field, xx, yy)
        for row, plane in enumerate((y[k], u[k], v[k])):
            large = cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
            total[row] += cv2.remap(
                large, xx + full[..., 0], yy + full[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
    return HubFace(*(total / len(fields)))


def find(face: HubFace, mouth: Mouth) -> LipLines:
    """Fit the curves around the located mouth."""
    luma = cv2.GaussianBlur(face.y, (0, 0), 0.8)
    red = cv2.GaussianBlur(face.v, (0, 0), 1.0)
    inside = _between_lips(luma, red, mouth)
    if inside:
        mouth = _dark_part(luma, mouth) if inside == "dark" else mouth
        contrast = (_unit(luma, mouth) if inside == "teeth" else -_unit(luma, mouth)) - _unit(red, mouth)
        upper = _fit(_edge(contrast, +1), mouth, np.arange(-4.0, 12.0), _POWERS, None)
        lower = _fit(_edge(contrast, -1), mouth, np.arange(0.0, 22.0), _POWERS, upper)
        if lower.sag - upper.sag >= 0.03 * IO:
            return LipLines(
                *_corners(mouth), upper.left_y, upper.right_y, upper.sag, lower.sag, upper.power, lower.power, True
            )
    # A moustache has dark lines too, but is not red; and lips are red on both sides of theirs.
    valley = _unit(cv2.GaussianBlur(luma, (0, 0), 8) - luma, mouth) + 0.5 * _unit(
        cv2.GaussianBlur(red, (0, 0), 2), mouth
    )
    line = _fit(valley, mouth, np.arange(-6.0, 10.0), (2.0,), None)
    mouth = _widened(valley, mouth, line)
    line = _fit(valley, mouth, np.arange(-6.0, 10.0), (2.0,), None)
    return LipLines(*_corners(mouth), line.left_y, line.right_y, line.sag, line.sag, 2.0, 2.0, False)


def _widened(valley: Singles, mouth: Mouth, line: _Curve) -> Mouth:
    """The mouth with its corners where the dark line between closed lips really ends.

    On a turned head the first guess of the middle is drawn to the near side; the line itself is not.
    """
    reach = 0.34 * IO
    x = np.arange(mouth.x - mouth.half_width - reach, mouth.x + mouth.half_width + reach).astype(np.float32)
    t = (x - np.float32(mouth.x)) / np.float32(mouth.half_width)
    y = 0.5 * ((1 - t) * line.left_y + (1 + t) * line.right_y) + line.sag * np.maximum(1 - t * t, -0.5)
    rows = (y[None] + np.arange(-3, 4)[:, None]).astype(np.float32)
    columns = np.broadcast_to(x, rows.shape).copy()
    along = cv2.remap(valley, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).max(0)
    along = cv2.GaussianBlur(along[None], (0, 0), 2.0)[0]
    middle = len(x) // 2
    dark = along > 0.35 * np.median(along[np.abs(t) < 0.6])
    left = middle - int(np.argmin(dark[middle::-1])) if not dark[: middle + 1].all() else 0
    right = middle + int(np.argmin(dark[middle:])) if not dark[middle:].all() else len(x) - 1
    low, high = float(x[left]), float(x[right])
    if (excess := high - low - 0.92 * IO) > 0:  # a beard's shadow goes on: cut the side farther out
        low, high = (low, high - excess) if high - EYES[0] > EYES[0] - low else (low + excess, high)
    if high - low < 0.64 * IO:
        return mouth
    return Mouth((low + high) / 2, mouth.y, (high - low) / 2, mouth.confidence)


def _corners(mouth: Mouth) -> tuple[float, float]:
    return mouth.x - mouth.half_width, mouth.x + mouth.half_width


def _unit(image: Singles, mouth: Mouth) -> Singles:
    """``image`` scaled by its spread around the mouth."""
    x, y, h = round(mouth.x), round(mouth.y), round(0.35 * IO)
    part = image[y - h : y + h, x - h : x + h]
    result: Singles = (image - part.mean()) / (part.std() + 1.0)
    return result


def _between_lips(luma: Singles, red: Singles, mouth: Mouth) -> str:
    """The band between two red bands down the middle third and is less red: "teeth" where it is bright, "dark" where
    it is dark over more than a line's height, "" where the lips are closed."""
    third = round(mouth.half_width / 3)
    columns = slice(round(mouth.x) - third, round(mouth.x) + third + 1)
    top = round(mouth.y - 0.22 * IO)
    r, y = (image[top : round(mouth.y + 0.42 * IO), columns].mean(1) for image in (red, luma))
    skin = float(np.percentile(red[round(mouth.y - 0.5 * IO) : round(mouth.y + 0.7 * IO), columns], 30))
    bright, dark = 0.0, 0
    for k in range(4, len(r) - 4):
        above, below = r[:k].argmax(), k + 1 + r[k + 1 :].argmax()
        peak = min(r[above], r[below]) - skin
        dip, lips = min(r[above], r[below]) - r[k], 0.5 * (y[above] + y[below])
        if peak > 2.0 and y[k] > lips + 6:
            bright = max(bright, dip / peak)
        dark += bool(peak > 2.0 and dip > 0.25 * peak and y[k] < 0.72 * lips)
    return "teeth" if bright > 0.6 else "dark" if dark >= _DARK_ROWS else ""


def _dark_part(luma: Singles, mouth: Mouth) -> Mouth:
    """``mouth`` as wide and as high as the dark between its lips: rounded lips reach farther than their opening, and
    cuts along them would tear at the corners."""
    x, y, reach = round(mouth.x), round(mouth.y), round(0.16 * IO)
    rows = luma[y - reach : y + reach + 1]
    half = rows[:, x - 6 : x + 7].mean(1)
    darkest, lips = float(half.min()), float(np.percentile(half, 80))
    dark = rows < 0.5 * (darkest + lips)
    some = dark.sum(0) >= 2
    left, right = x, x
    while some[left - 1] and x - left < mouth.half_width:
        left -= 1
    while some[right + 1] and right - x < mouth.half_width:
        right += 1
    if right - left < 0.2 * IO:
        return mouth
    height = float(np.average(np.arange(len(rows)), weights=dark[:, left : right + 1].sum(1))) + y - reach
    return Mouth((left + right) / 2, height, (right - left) / 2 + _LIP_MARGIN[1], mouth.confidence)


def _edge(image: Singles, sign: int) -> Singles:
    """How much ``image`` rises (or falls) downwards at each pixel, over 3 px."""
    rise = np.zeros_like(image)
    rise[2:-2] = (image[3:-1] + image[4:] - image[:-4] - image[1:-3]) / 2
    return sign * rise


@dataclass(frozen=True, slots=True)
class _Curve:
    left_y: float
    right_y: float
    sag: float
    power: float


def _fit(response: Singles, mouth: Mouth, sags: Floats, powers: tuple[float, ...], above: _Curve | None) -> _Curve:
    """The curve with the highest mean response; ``above`` fixes the corners and keeps the curve below that one."""
    left, right = _corners(mouth)
    x = np.arange(np.ceil(left + 0.12 * (right - left)), right - 0.12 * (right - left))
    t = (2 * x - left - right) / (right - left)
    heights = np.arange(mouth.y - 0.2 * IO, mouth.y + 0.16 * IO)
    ends = [(a, b) for a in heights for b in heights if abs(a - b) <= 8]
    if above is not None:
        ends, sags = [(above.left_y, above.right_y)], sags[sags >= above.sag + 2]
    shapes = np.array([(a, b, s) for a, b in ends for s in sags])
    straight = shapes[:, :1] * (1 - t) / 2 + shapes[:, 1:2] * (1 + t) / 2
    tilt = 0.01 * np.abs(shapes[:, 0] - shapes[:, 1])
    if above is None and len(powers) == 1:
        tilt = tilt + (((shapes[:, :2].mean(1) + shapes[:, 2] - mouth.y) / (_OFF_LINE * IO)) ** 2)
    spread = float(response.std()) + 1e-6
    best, found = -np.inf, _Curve(mouth.y, mouth.y, 0.0, 2.0)
    for power in powers:
        curves = (straight + shapes[:, 2:] * (1 - np.abs(t) ** power)).astype(np.float32)
        columns = np.broadcast_to(x.astype(np.float32), curves.shape)
        values = cv2.remap(response, columns, curves, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        scores = values.mean(1) / spread - tilt
        k = int(scores.argmax())
        if scores[k] > best:
            left_y, right_y, sag = (float(v) for v in shapes[k])
            best, found = float(scores[k]), _Curve(left_y, right_y, sag, power)
    return found
