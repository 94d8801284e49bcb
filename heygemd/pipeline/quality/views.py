"""What the report shows, as the page wants it: pictures as data URIs, curves as plain numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from heygemd.common.errors import EngineError
from heygemd.pipeline.image.geometry import Bytes, Singles
from heygemd.pipeline.quality import Evidence, page

_WIDEST = 300  # px of a frame on the page: two of ten pairs' worth of faces, not of evidence for a court
_BARS = 480  # of the waveform


def of(evidence: Evidence, passed: Sequence[tuple[int, int]]) -> page.ReportViews:
    """Ready to be drawn; ``passed``: frames left as they were."""
    rate = evidence.fps
    return page.ReportViews(
        seconds=evidence.frames / rate,
        pairs=[(s, _jpeg(film), _jpeg(template) if template is not None else None)
               for s, film, template in evidence.pairs],
        strip=[(s, _jpeg(luma)) for s, luma in evidence.strip],
        times=[round(float(t), 3) for t in evidence.times],
        seen=[round(float(v), 3) for v in evidence.seen],
        heard=[round(float(v), 3) for v in evidence.heard],
        loudness=_loudness(evidence.samples),
        passed=[(first / rate, (last + 1) / rate) for first, last in passed],
    )  # fmt: skip


def _jpeg(picture: Bytes) -> str:
    height, width = picture.shape[:2]
    if width > _WIDEST:
        size = (_WIDEST, max(1, round(_WIDEST * height / width)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not ok:
        raise EngineError("A picture of the report could not be drawn.")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _loudness(samples: Singles) -> list[float]:
    if not len(samples):
        return []
    parts = np.array_split(samples, min(_BARS, len(samples)))
    levels = np.array([float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) for part in parts])
    return [round(float(v), 3) for v in levels / max(1e-6, float(levels.max()))]
