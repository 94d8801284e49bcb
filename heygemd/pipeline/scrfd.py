"""Where faces are, by an imported SCRFD model through insightface: chosen once per film, used by ``finder``.

It runs on the processor even where there is a GPU: a dozen keyframes take a second or two, and onnxruntime's CUDA
build would hold memory that nobody counted.  It reads luma alone: on six clips the eyes that it found so differed by
0.6 to 2.2 px from those in colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heygemd.errors import SetupError
from heygemd.models import Model, Store
from heygemd.pipeline.geometry import Bytes, Floats

THRESHOLD = 0.5
SIDE = 640
"""Px a side that a picture is searched at, where the model leaves the choice."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One face: eye centres ``(2, 2)`` in luma px, the left of the picture first, and the model's score."""

    eyes: Floats
    score: float


class Detector:
    """A loaded model."""

    def __init__(self, model: Model, path: Path, threads: int) -> None:
        """``path``: the model's detector, whose hash was checked."""
        import onnxruntime
        from insightface.model_zoo import get_model

        self.model = model
        self.name = f"insightface: {model.name} {model.sha256[:12]}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._net: Any = get_model(str(path), providers=["CPUExecutionProvider"], sess_options=options, download=False)
        if self._net is None or not getattr(self._net, "use_kps", False):
            raise SetupError(f"The imported face model {model.name} gives no landmarks; import another.")
        self._net.prepare(-1, det_thresh=THRESHOLD, input_size=(SIDE, SIDE))

    def faces(self, luma: Bytes) -> list[Seen]:
        """All faces in one picture ``(h, w)`` uint8."""
        boxes, points = self._net.detect(np.repeat(luma[..., None], 3, axis=2), max_num=0)
        return [Seen(np.asarray(p[:2], np.float64), float(b[4])) for b, p in zip(boxes, points, strict=True)]


def choose(wanted: str, models_dir: str, threads: int) -> Detector | None:
    """The detector for ``wanted`` (auto, haar or insightface); None: the built-in one.

    Raises SetupError where insightface is asked for and no model is imported, where a stored file was altered, or
    where insightface cannot be loaded.
    """
    if wanted == "haar" or not models_dir:
        return None
    store = Store(Path(models_dir))
    model = store.one("faces")
    if model is not None:
        return Detector(model, store.trusted(model)["detector"], threads)
    if wanted == "insightface":
        lack = f"no face model is imported in {store.folder}.  Cure: heygemd models import PACK"
        raise SetupError(f'finder = "insightface", but {lack}')
    return None
