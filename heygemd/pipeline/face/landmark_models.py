"""What an imported insightface pack tells of a face that was found, beside where it is: 106 landmarks, and who it is.

Both are optional in a pack.  Both read faces at rest in the canonical frame or by their five points, and both run on
the processor, as the detector does (``scrfd``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from heygemd.common.errors import SetupError
from heygemd.pipeline.image.geometry import EYES, IO, Bytes, Floats, Singles, compose, invert, similarity

SAME_PERSON = 0.3
"""Cosine of two faces' codes from which on they are one person's: in the range that is usual with insightface's
recognition models.  No such model was met here, so that this was not measured."""
LANDMARKS = 106
MOUTH = slice(52, 72)
"""insightface's numbering of its 106 points: the lips, whose corners are ``CORNERS``."""
CORNERS = (52, 61)
_FACE = (EYES[0] - 1.1 * IO, EYES[1] - 0.95 * IO, EYES[0] + 1.1 * IO, EYES[1] + 1.9 * IO)
"""The box that a detector draws around a canonical face: left, top, right, bottom."""
_SIDE = 112  # px of the picture that a recognition model reads; where eyes, nose and corners of the mouth lie in it:
_FIVE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


def loaded(path: Path, threads: int, name: str) -> Any:
    """insightface's own reader of a stored ONNX file, on the processor, from that file alone.

    Raises SetupError where insightface cannot be loaded or does not know the file.
    """
    try:
        import onnxruntime
        from insightface.model_zoo import get_model
    except ImportError as error:
        raise SetupError(f"insightface cannot be used here ({error}).  Cure: heygemd doctor") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    net = get_model(str(path), providers=["CPUExecutionProvider"], sess_options=options, download=False)
    if net is None:
        raise SetupError(f"insightface cannot use {path.name} of the imported face model {name}; import another model.")
    return net


class _Box(dict[str, object]):
    """What insightface reads and writes of a face."""

    bbox = np.array(_FACE)


class _LandmarkNetwork(Protocol):
    def get(self, picture: Bytes, face: _Box) -> Floats:
        """BGR picture and where the face is -> points ``(106, 2)`` or ``(106, 3)`` in px."""


class _IdentityNetwork(Protocol):
    def get_feat(self, picture: Bytes) -> Singles:
        """BGR picture of ``_SIDE`` px -> code ``(1, d)``."""


class Landmarks:
    """106 points on a canonical face."""

    def __init__(self, net: _LandmarkNetwork) -> None:
        """``net``: insightface's reader of the model."""
        self._net = net

    def of(self, picture: Bytes) -> Floats:
        """Canonical luma ``(224, 192)`` -> ``(106, 2)`` canonical px."""
        found = self._net.get(np.repeat(picture[..., None], 3, axis=2), _Box())
        points: Floats = np.asarray(found, np.float64)[:, :2]
        return points


class Identity:
    """A face as a code of unit length; the codes of one person are near each other."""

    def __init__(self, net: _IdentityNetwork) -> None:
        """``net``: insightface's reader of the model."""
        self._net = net

    def by_points(self, picture: Bytes, points: Floats) -> Singles:
        """Of a luma picture ``(h, w)`` or a BGR one, by the five points ``(5, 2)`` that the detector gave."""
        return self._code(picture, _fitted(points, _FIVE))

    def by_transform(self, picture: Bytes, transform: Floats) -> Singles:
        """Of the same kind of picture, ``transform`` leading from the canonical face into it."""
        eyes = np.array([[EYES[0] - IO / 2, EYES[1]], [EYES[0] + IO / 2, EYES[1]]])
        return self._code(picture, compose(_fitted(eyes, _FIVE[:2]), invert(transform)))

    def _code(self, picture: Bytes, transform: Floats) -> Singles:
        seen = cv2.warpAffine(_three(picture), transform, (_SIDE, _SIDE))
        code: Singles = np.asarray(self._net.get_feat(seen), np.float32).ravel()
        return code / np.float32(max(1e-9, float(np.linalg.norm(code))))


def _fitted(points: Floats, there: Floats) -> Floats:
    """The similarity that brings ``points`` nearest to ``there``, by least squares."""
    p, q = (np.ascontiguousarray(v, np.float64).view(np.complex128)[:, 0] for v in (points, there))
    own = p - p.mean()
    a = complex(own.conj() @ (q - q.mean())) / float(np.abs(own) @ np.abs(own))
    b = complex(q.mean() - a * p.mean())
    return similarity(a.real, a.imag, b.real, b.imag)


def _three(picture: Bytes) -> Bytes:
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


@dataclass(frozen=True, slots=True)
class Pack:
    """What the imported pack has beside its detector; ``None``: it has not got that."""

    landmarks: Landmarks | None = None
    identity: Identity | None = None


def opened(files: Mapping[str, Path], threads: int, name: str) -> Pack:
    """The pack's models, from its stored ``files`` by role, whose hashes were checked.

    Raises SetupError where insightface does not know one of them.
    """
    landmarks, identity = (
        loaded(files[role], threads, name) if role in files else None for role in ("landmarks106", "identity")
    )
    if landmarks is not None and getattr(landmarks, "lmk_num", 0) != LANDMARKS:
        landmarks = None
    return Pack(Landmarks(landmarks) if landmarks else None, Identity(identity) if identity else None)
