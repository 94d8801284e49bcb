"""A person's own way of moving the mouth, learnt from the frames in which he speaks.

The mouth code of a frame is two numbers, opening and width, in standard deviations over the bank.  A mode is the
field that one unit of a code adds, by ridge regression of the fields' components on code and head pose; it is faded
out towards nose, cheeks and neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.engines.footage.analysis.mouth_flow import COLUMNS, GRID, LEFT, ROWS, TOP, grid
from heygemd.pipeline.engines.footage.analysis.shapes import Shapes
from heygemd.pipeline.face.crops import Crops
from heygemd.pipeline.image.geometry import IO, Bytes, Floats, Singles
from heygemd.pipeline.image.smoothing import smoothed

_SMOOTH = 0.5  # frames, of codes and fields
_RIDGE = 0.05


@dataclass(frozen=True, slots=True)
class Speaker:
    """codes   (n, 2) float64: opening and width of every measured frame
    scores     (n, k): the shapes' scores, smoothed a little in time
    modes      (2, ROWS, COLUMNS, 2) float32: canonical px per unit of opening and of width, faded
    mask, ring (ROWS, COLUMNS) float32 0..1 in the hub: where the mouth layer shows, and where it is matched
    bank       frames that exemplars may come from
    """

    shapes: Shapes
    codes: Floats
    scores: Singles
    modes: Singles
    mask: Singles
    ring: Singles
    fade: Singles
    bank: npt.NDArray[np.int64]
    centre: tuple[float, float]

    def field(self, i: int) -> Singles:
        """The field ``(ROWS, COLUMNS, 2)`` of frame ``i``."""
        result: Singles = (self.shapes.mean + self.scores[i] @ self.shapes.basis).reshape(ROWS, COLUMNS, 2)
        return result


def learn(shapes: Shapes, mouth: Mouth, bank: npt.NDArray[np.int64]) -> Speaker:
    """The person model from the frames of ``bank`` (rising frame numbers, all measured and usable)."""
    codes = smoothed_where_known(_codes(shapes, bank))
    scores = smoothed_where_known(shapes.scores)
    pose = shapes.pose[bank]
    drivers = np.concatenate([codes[bank], pose], 1)
    weight = _RIDGE * len(bank) * np.diag(np.concatenate([[0.2, 0.2], np.ones(pose.shape[1])]))
    slopes = np.linalg.solve(drivers.T @ drivers + weight, drivers.T @ scores[bank])[:2]
    modes = (slopes @ shapes.basis).reshape(2, ROWS, COLUMNS, 2)
    centre = _hub_centre(shapes, mouth)
    fade, mask, ring = _regions(centre, mouth.half_width)
    modes = (modes * fade[None, :, :, None]).astype(np.float32)
    return Speaker(shapes, codes, scores, modes, mask, ring, fade, bank, centre)


def _codes(shapes: Shapes, bank: npt.NDArray[np.int64]) -> Floats:
    """Opening: the sum of the standardised drops of lower lip and chin; width: the spread of the corners."""

    def standard(values: Floats) -> Floats:
        result: Singles = (values - values[bank].mean()) / (values[bank].std() + 1e-6)
        return result

    lip, chin, spread = (standard(shapes.reads[:, k].astype(np.float64)) for k in range(3))
    return np.stack([standard(lip + chin), spread], 1)


def smoothed_where_known(values: Floats) -> Floats:
    """Smoothed over neighbouring frames; gaps of unmeasured frames (nan) stay as they are and do not spread."""
    known = np.asarray(np.isfinite(values).all(axis=1))
    filled = np.where(known[:, None], values, 0)
    weight = smoothed(known.astype(np.float64), _SMOOTH)[:, None]
    out = smoothed(filled.astype(np.float64), _SMOOTH) / np.maximum(weight, 1e-6)
    result: Floats = np.where(known[:, None], out, values).astype(values.dtype)
    return result


def _hub_centre(shapes: Shapes, mouth: Mouth) -> tuple[float, float]:
    """Where the located mouth, a mean over frames, lies in the hub frame."""
    column, row = int((mouth.x - LEFT) / GRID), int((mouth.y - TOP) / GRID)
    mean = shapes.mean.reshape(ROWS, COLUMNS, 2)[row - 1 : row + 2, column - 2 : column + 3].mean((0, 1))
    return mouth.x - float(mean[0]), mouth.y - float(mean[1])


def ramp(value: Singles, low: float, high: float) -> Singles:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    result: Singles = t * t * (3 - 2 * t)
    return result


def _regions(centre: tuple[float, float], half_width: float) -> tuple[Singles, Singles, Singles]:
    """Fade of the modes, mask and ring of the mouth layer; sizes chosen on ten clips."""
    gx, gy = grid()
    x, y = (gx - centre[0]) / IO, (gy - centre[1]) / IO
    fade = ramp(y, -0.50, -0.22) * ramp(-y, -1.05, -0.70) * ramp(-np.abs(x), -1.05, -0.65)
    down = y - 0.08
    tall = np.where(down < 0, 0.36, 0.46)
    wide = half_width / IO + 0.26
    distance = ((np.abs(x) / wide) ** 2.4 + (np.abs(down) / tall) ** 2.4) ** (1 / 2.4)
    mask = ramp(-distance, -1.05, -0.75)
    ring = (distance > 0.80) & (distance < 1.25)
    return fade.astype(np.float32), mask.astype(np.float32), ring.astype(np.float32)


def ring_colours(person: Speaker, crops: Crops, count: int) -> Singles:
    """Colour of the skin around the mouth, hub-registered, float16 ``(count, d)``; nan where no crop was kept."""
    gx, gy = grid()
    points = np.flatnonzero((person.ring * (1 - 0.9 * person.mask)).ravel() > 0.3)[::3]
    out = np.full((count, 3 * len(points)), np.nan, np.float16)
    px, py = gx.ravel()[points][None], gy.ravel()[points][None]
    for row, i in enumerate(crops.index):
        field = person.field(int(i)).reshape(-1, 2)[points]
        x, y = px + field[:, 0], py + field[:, 1]
        values = [_read(cv2.blur(crops.y[row], (5, 5)), x, y)]
        values += [_read(plane, (x - 0.5) / 2, (y - 0.5) / 2) for plane in (crops.u[row], crops.v[row])]
        out[i] = np.concatenate(values)
    return out


def _read(plane: Bytes, x: Singles, y: Singles) -> Singles:
    values = cv2.remap(
        plane, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(values[0])
