"""The field of every frame that is needed, as a few numbers each: principal components of the kept frames' fields."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage.analysis import landmarks
from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.engines.footage.analysis.mouth_flow import COLUMNS, ROWS, Fields, reader, some
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image import parallel
from heygemd.pipeline.image.geometry import HEIGHT, WIDTH, Bytes, Floats, Singles, cropped
from heygemd.pipeline.image.pca import components

if TYPE_CHECKING:
    from heygemd.contract.job import Tell
    from heygemd.pipeline.media import Clip

COMPONENTS = 20
_LIPS, _SPREAD = 0, 2  # columns of Shapes.reads
_FIT_MAX = 500  # fields that the components are fitted on


@dataclass(frozen=True, slots=True)
class Shapes:
    """Fields and thumbnails of the measured frames.

    scores   (n, k) float32, rows of unmeasured frames are nan
    pose     (n, 5) float32: components of the upper face, z-scored over the kept frames: head pose and expression
    look     (n, 6) float32: components of the lower face's picture, z-scored
    reads    (n, 3) float32: lower lip drop, chin drop, corner spread of the field as measured, canonical px; these
             agree better with landmarks when read before the components cut the field down.  Where an imported model
             gives landmarks, the first and the last are theirs
    """

    mean: Singles
    basis: Singles
    scores: Singles
    pose: Singles
    look: Singles
    reads: Singles
    hub: int

    def field(self, i: int) -> Singles:
        """The denoised field ``(ROWS, COLUMNS, 2)`` of frame ``i``."""
        result: Singles = (self.mean + self.scores[i] @ self.basis).reshape(ROWS, COLUMNS, 2)
        return result


def measure(
    clip: Clip, track: FaceTrack, mouth: Mouth, needed: Sequence[int], tell: Tell, threads: int = 1,
    points: Floats | None = None,
) -> tuple[Shapes, bool]:  # fmt: skip
    """Measure the kept frames and those of ``needed`` that were not kept (a second pass over the clip).

    ``points``: the kept frames' landmarks, which lips are read from then.

    Also returned: whether the shapes were known from an earlier job.  Which frames are measured is part of what they
    are kept under, because the neighbours of a frame have a say in how it is smoothed.
    """
    missing = sorted(set(needed) - set(track.crops.index.tolist()))
    memory = track.memory.about("shapes", hashlib.sha256(np.array(missing, np.int64).tobytes()).hexdigest())
    known = memory.recall("hub", *_KEPT)
    if known is not None:
        return Shapes(**{name: known[name] for name in _KEPT}, hub=int(known["hub"])), True
    shapes = _measured(clip, track, mouth, missing, tell, threads, points)
    memory.keep(hub=np.array(shapes.hub), **{name: getattr(shapes, name) for name in _KEPT})
    return shapes, False


_KEPT = ("mean", "basis", "scores", "pose", "look", "reads")


def _measured(
    clip: Clip, track: FaceTrack, mouth: Mouth, missing: Sequence[int], tell: Tell, threads: int,
    points: Floats | None,
) -> Shapes:  # fmt: skip
    crops = track.crops
    count, good = len(track.transforms), track.usable[crops.index]
    rows = some(np.flatnonzero(good) if good.any() else np.arange(len(good)))
    fields = Fields(crops.y[rows])
    raw = np.empty((len(crops.index), ROWS, COLUMNS, 2), np.float32)
    for row, field in enumerate(parallel.each(fields.of, crops.y, threads)):
        raw[row] = field
        if row % 10 == 0:
            tell.progress("shape", row, len(raw))
    base = _Base(raw, crops.y, good)
    thumbs = np.array([_thumbs(p) for p in crops.y], np.float32)
    scores = np.full((count, len(base.basis)), np.nan, np.float32)
    pose, look = np.zeros((count, 5), np.float32), np.zeros((count, 6), np.float32)
    reads = np.zeros((count, 3), np.float32)
    read = reader(mouth)
    scores[crops.index] = base.scores(raw)
    reads[crops.index] = [read(f) for f in raw]
    if points is not None:
        reads[crops.index[:, None], [_LIPS, _SPREAD]] = landmarks.reads(points)
    pose[crops.index], look[crops.index] = base.views(thumbs)
    for i, frame in zip(missing, clip.walk(missing) if missing else (), strict=False):
        picture = cropped(frame.y, track.transforms[i], (WIDTH, HEIGHT))
        field = fields.of(picture)
        scores[i], reads[i] = base.scores(field[None])[0], read(field)
        if points is not None and track.pack.landmarks is not None:
            reads[i, [_LIPS, _SPREAD]] = landmarks.reads(track.pack.landmarks.of(picture)[None])[0]
        pose[i], look[i] = (a[0] for a in base.views(_thumbs(picture)[None]))
        tell.progress("shape", i, count)
    hub = int(crops.index[rows[fields.hub]])
    return Shapes(base.mean, base.basis, scores, pose, look, reads, hub)


class _Base:
    """Components of fields and of thumbnails, fitted on the usable kept frames."""

    def __init__(self, raw: Singles, pictures: Bytes, good: npt.NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(good) if good.any() else np.arange(len(raw))
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _FIT_MAX)).astype(int))]
        count = max(1, min(COMPONENTS, len(rows) // 6))
        _, self.mean, self.basis = components(raw[rows].reshape(len(rows), -1), count)
        thumbs = np.array([_thumbs(p) for p in pictures[rows]], np.float32)
        self._views = []
        for part, number in ((slice(0, _UPPER), 5), (slice(_UPPER, None), 6)):
            scores, mean, basis = components(_level(thumbs[:, part]), min(number, len(rows)))
            self._views.append((part, mean, basis, scores.std(0) + 1e-6, number))

    def scores(self, raw: Singles) -> Singles:
        return (raw.reshape(len(raw), -1) - self.mean) @ self.basis.T

    def views(self, thumbs: Singles) -> list[Singles]:
        out = []
        for part, mean, basis, spread, number in self._views:
            values = np.zeros((len(thumbs), number), np.float32)
            values[:, : len(basis)] = ((_level(thumbs[:, part]) - mean) @ basis.T) / spread
            out.append(values)
        return out


_UPPER = 24 * 17


def _thumbs(picture: Bytes) -> Singles:
    """Upper face (24 x 17) and lower face (28 x 24) of one canonical picture, as one row."""
    upper = cv2.resize(picture[40:124, 36:156], (24, 17), interpolation=cv2.INTER_AREA)
    lower = cv2.resize(picture[108:196, 46:146], (28, 24), interpolation=cv2.INTER_AREA)
    return np.concatenate([upper.ravel(), lower.ravel()]).astype(np.float32)


def _level(rows: Singles) -> Singles:
    rows = rows - rows.mean(1, keepdims=True)
    result: Singles = rows / (rows.std(1, keepdims=True) + 1e-3)
    return result
