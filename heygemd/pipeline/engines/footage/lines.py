"""The edges of the lips in the hub face, as two smooth curves between two corners.

A parabola over the chord from corner to corner, fitted as a whole: edges followed column by column leave spikes
where a corner is soft.  Where teeth show between the lips there are two curves, else one, twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from heygemd.pipeline.engines.footage.flow import at
from heygemd.pipeline.engines.footage.mouth import Mouth
from heygemd.pipeline.geometry import HEIGHT, IO, WIDTH, Bytes, Floats, Singles


@dataclass(frozen=True, slots=True)
class HubFace:
    """The mean hub-registered face: ``y``, ``u``, ``v`` all ``(224, 192)`` float32."""

    y: Singles
    u: Singles
    v: Singles


@dataclass(frozen=True, slots=True)
class Lines:
    """Canonical px in the hub: corners' x and y, how far the edges sag below the chord in the middle."""

    left: float
    right: float
    left_y: float
    right_y: float
    upper_sag: float
    lower_sag: float
    teeth: bool

    @property
    def gap(self) -> float:
        """Rest opening in the middle, canonical px."""
        return self.lower_sag - self.upper_sag

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


def find(face: HubFace, mouth: Mouth) -> Lines:
    """Fit the curves around the located mouth."""
    luma = cv2.GaussianBlur(face.y, (0, 0), 0.8)
    red = cv2.GaussianBlur(face.v, (0, 0), 1.0)
    contrast = _unit(luma, mouth) - _unit(red, mouth)  # high on teeth
    if _teeth_show(luma, red, mouth):
        upper = _fit(_edge(contrast, +1), mouth, np.arange(-4.0, 12.0), None)
        lower = _fit(_edge(contrast, -1), mouth, np.arange(0.0, 22.0), upper)
        if lower[2] - upper[2] >= 0.03 * IO:
            return Lines(*_corners(mouth), upper[0], upper[1], upper[2], lower[2], True)
    valley = cv2.GaussianBlur(luma, (0, 0), 8) - luma
    line = _fit(valley, mouth, np.arange(-6.0, 10.0), None)
    return Lines(*_corners(mouth), line[0], line[1], line[2], line[2], False)


def _corners(mouth: Mouth) -> tuple[float, float]:
    return mouth.x - mouth.half_width, mouth.x + mouth.half_width


def _unit(image: Singles, mouth: Mouth) -> Singles:
    """``image`` scaled by its spread around the mouth."""
    x, y, h = round(mouth.x), round(mouth.y), round(0.35 * IO)
    part = image[y - h : y + h, x - h : x + h]
    result: Singles = (image - part.mean()) / (part.std() + 1.0)
    return result


def _teeth_show(luma: Singles, red: Singles, mouth: Mouth) -> bool:
    """Whether, down the middle third, something bright and less red lies between two red bands."""
    third = round(mouth.half_width / 3)
    columns = slice(round(mouth.x) - third, round(mouth.x) + third + 1)
    top = round(mouth.y - 0.22 * IO)
    r, y = (image[top : round(mouth.y + 0.42 * IO), columns].mean(1) for image in (red, luma))
    skin = float(np.percentile(red[round(mouth.y - 0.5 * IO) : round(mouth.y + 0.7 * IO), columns], 30))
    best = 0.0
    for k in range(4, len(r) - 4):
        above, below = r[:k].argmax(), k + 1 + r[k + 1 :].argmax()
        peak = min(r[above], r[below]) - skin
        dip = min(r[above], r[below]) - r[k]
        if peak > 2.0 and y[k] > 0.5 * (y[above] + y[below]) + 6:
            best = max(best, dip / peak)
    return best > 0.6


def _edge(image: Singles, sign: int) -> Singles:
    """How much ``image`` rises (or falls) downwards at each pixel, over 3 px."""
    rise = np.zeros_like(image)
    rise[2:-2] = (image[3:-1] + image[4:] - image[:-4] - image[1:-3]) / 2
    return sign * rise


def _fit(
    response: Singles, mouth: Mouth, sags: Floats, corners: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    """(left y, right y, sag) of the parabola with the highest mean response; ``corners`` fixes the first two, and
    keeps the curve below that one."""
    left, right = _corners(mouth)
    x = np.arange(np.ceil(left + 0.12 * (right - left)), right - 0.12 * (right - left))
    t = (2 * x - left - right) / (right - left)
    heights = np.arange(mouth.y - 0.2 * IO, mouth.y + 0.16 * IO)
    ends = [(corners[0], corners[1])] if corners else [(a, b) for a in heights for b in heights if abs(a - b) <= 8]
    lowest = corners[2] + 2 if corners else -np.inf
    candidates = np.array([(a, b, s) for a, b in ends for s in sags if s >= lowest])
    curves = (
        candidates[:, :1] * (1 - t) / 2 + candidates[:, 1:2] * (1 + t) / 2 + candidates[:, 2:] * (1 - t * t)
    ).astype(np.float32)
    columns = np.broadcast_to(x.astype(np.float32), curves.shape)
    values = cv2.remap(response, columns, curves, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    tilt = 0.01 * np.abs(candidates[:, 0] - candidates[:, 1])
    spread = float(response.std())
    best = int((values.mean(1) / (spread + 1e-6) - tilt).argmax())
    left_y, right_y, sag = (float(v) for v in candidates[best])
    return left_y, right_y, sag
