"""Where faces are, by an imported SCRFD model through insightface: chosen once per film, used by ``detect.Finder``.

It runs on the processor even on a machine with a GPU: a dozen keyframes take a second or two, and onnxruntime's CUDA
build would hold memory that nobody counted.  It reads luma alone: on six clips the eyes that it found so differed by
0.6 to 2.2 px from those in colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from heygemd.common.errors import SetupError
from heygemd.models.store import Model, ModelStore
from heygemd.pipeline.face import landmark_models
from heygemd.pipeline.image.geometry import Bytes, Floats

THRESHOLD = 0.5
SIDE = 640
"""Px a side that a picture is searched at, where the model leaves the choice."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face: eyes, nose and corners of the mouth ``(5, 2)`` in luma px, the left of the picture first, and the
    model's score."""

    points: Floats
    score: float

    @property
    def eyes(self) -> Floats:
        """Both centres ``(2, 2)``."""
        return self.points[:2]


class _Network(Protocol):
    """What is used of insightface's reader of a detector."""

    def prepare(self, ctx_id: int, *, det_thresh: float, input_size: tuple[int, int]) -> None:
        """Choose the processor (-1), the least score and the side in px that pictures are searched at."""

    def detect(self, picture: Bytes, *, max_num: int) -> tuple[Floats, Floats]:
        """Boxes ``(n, 5)``, their score last, and five points each ``(n, 5, 2)``."""


class Detector:
    """A loaded pack: its detector, and what else it has (``pack``)."""

    def __init__(self, model: Model, files: Mapping[str, Path], threads: int) -> None:
        """``files``: the pack's, by role, whose hashes were checked."""
        self.model = model
        self.name = f"insightface: {model.name} {model.sha256[:12]}"
        self.pack = landmark_models.opened(files, threads, model.name)
        self._net: _Network = landmark_models.loaded(files["detector"], threads, model.name)
        if not getattr(self._net, "use_kps", False):
            raise SetupError(f"The imported face model {model.name} provides no landmarks; import another model.")
        self._net.prepare(-1, det_thresh=THRESHOLD, input_size=(SIDE, SIDE))

    def faces(self, luma: Bytes) -> list[Detection]:
        """All faces in one picture ``(h, w)`` uint8."""
        boxes, points = self._net.detect(np.repeat(luma[..., None], 3, axis=2), max_num=0)
        return [Detection(np.asarray(p, np.float64), float(b[4])) for b, p in zip(boxes, points, strict=True)]


def choose(wanted: str, models_dir: str, threads: int) -> Detector | None:
    """The detector for ``wanted`` (auto, haar or insightface); None: the built-in one.

    Raises SetupError where insightface is asked for and no model is imported, where a stored file was altered, or
    where insightface cannot be loaded.
    """
    if wanted == "haar" or not models_dir:
        return None
    store = ModelStore(Path(models_dir))
    model = store.one("faces")
    if model is not None:
        return Detector(model, store.trusted(model), threads)
    if wanted == "insightface":
        lack = "no face model is imported.  Cure: heygemd models import PACK"
        raise SetupError(f'finder = "insightface", but {lack}')
    return None
