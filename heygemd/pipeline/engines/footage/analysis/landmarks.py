"""The mouth by an imported model's landmarks, if one is imported: where it is, how far it is open, how wide.

The lips' points are told apart by where they lie, not by their numbers: the outer edges of a mouth are its highest and
lowest points.  The chin stays measured by flow: landmarks on its edge shake too much to tell a face that rests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.face.landmark_models import CORNERS, LANDMARKS, MOUTH
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.geometry import Floats, Singles

_EDGE = 3  # points that make an edge of the lips


def seen(track: FaceTrack) -> Floats | None:
    """``(m, 106, 2)`` canonical px of the kept frames; ``None`` where no model gives them."""
    model = track.pack.landmarks
    if model is None:
        return None
    memory = track.memory.about("landmarks")
    known = memory.recall("points")
    if known is not None:
        points: Floats = known["points"]
        return points
    found = [model.of(picture) for picture in track.crops.y]
    points = np.array(found, np.float32).reshape(-1, LANDMARKS, 2)
    memory.keep(points=points)
    return points


def place(points: Floats, usable: npt.NDArray[np.bool_]) -> Mouth:
    """Where the mouth lies, the median over the frames ``(m,)`` that are ``usable``."""
    chosen = points[usable] if usable.any() else points
    left, right = (chosen[:, corner] for corner in CORNERS)
    middle = np.median((left + right) / 2, axis=0)
    half = float(np.median(np.hypot(*(right - left).T))) / 2
    return Mouth(float(middle[0]), float(middle[1]), half, 1.0)


def reads(points: Floats) -> Singles:
    """``(m, 106, 2)`` -> ``(m, 2)`` float32, canonical px: the lips' height, outer edge to outer edge, and their
    width."""
    down = np.sort(points[:, MOUTH, 1], axis=1)
    height = down[:, -_EDGE:].mean(1) - down[:, :_EDGE].mean(1)
    left, right = (points[:, corner] for corner in CORNERS)
    return np.stack([height, np.hypot(*(right - left).T)], 1).astype(np.float32)
