"""What a viewer would see at once: a soft mouth, a seam, a change where none is due, pictures held or jumped.

Sharpness, seam and the rest of the picture are measured on pairs: a frame of the film and the template's frame that it
was made of, cut at the film's own resolution with the same transform.  Encoding once more softens all of a picture a
little, so the mouth counts against the upper face of the same two frames; and open mouths have stronger edges than
closed ones, so its fine detail counts against its coarse one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from heygemd.contract.figures import PictureFigures
from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.face.follow import runs
from heygemd.pipeline.image.geometry import EYES, HEIGHT, IO, WIDTH, Bytes, Floats, Singles, cropped, scale_of
from heygemd.pipeline.media import Frame

ZOOM_MOST = 3.0  # canonical faces are compared at up to so many times their size, 192 px between the eyes
_HELD, _HELD_MOUTH = 0.7, 0.2  # of the usual change of face and surroundings, and of the mouth, which moves on its own
_HELD_SURELY = 0.25
_STILL = 0.25  # grey levels; where pictures usually change by less, nothing can be held
_USUAL = 12  # pictures on either side that say what is usual
_JUMP = 6.0  # times the usual change of the mouth, while the rest of the face changes by less than _CALM times
_CALM = 3.0


@dataclass(frozen=True, slots=True)
class FramePair:
    """One moment: the film's cut, the template's, and the transform into both; ``free`` ``(h, w)`` bool: where
    nothing may have changed."""

    film: Frame
    template: Frame
    transform: Floats
    free: Bytes


def compare(pairs: Sequence[FramePair], mouth: Mouth) -> PictureFigures:
    """Medians over the pairs: ``sharpness`` and ``seam`` (1: as in the template), ``outside_db`` (PSNR of what must
    not have changed)."""
    sharp, seam, outside = [], [], []
    for pair in pairs:
        zoom = float(np.clip(scale_of(pair.transform), 0.5, ZOOM_MOST))
        film, template = (_canonical(p.y, pair.transform, zoom) for p in (pair.film, pair.template))
        inner, ring, upper = _places(mouth, zoom)
        fine = [_bends(p, 0.8) for p in (film, template)]
        coarse = [_bends(p, 2.4) for p in (film, template)]
        sharp.append(_against(fine, inner, upper) / max(0.05, _against(coarse, inner, upper)))
        seam.append(_against(fine, ring, upper))
        if pair.free.any():
            off = pair.film.y[pair.free].astype(np.float32) - pair.template.y[pair.free]
            outside.append(float(10 * np.log10(255**2 / max(0.05, float((off**2).mean())))))
    return {
        "sharpness": _median(sharp, 2),
        "seam": _median(seam, 2),
        "outside_db": _median(outside, 1),
    }


def _canonical(luma: Bytes, transform: Floats, zoom: float) -> Bytes:
    smaller = transform.copy()
    smaller[:, :2] /= zoom
    return cropped(luma, smaller, (round(WIDTH * zoom), round(HEIGHT * zoom)))


def _bends(picture: Bytes, sigma: float) -> Singles:
    """How strongly luma bends at each pixel, at one scale; grain finer than ``sigma`` px is smoothed off."""
    return np.abs(cv2.Laplacian(cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.float32), cv2.CV_32F, ksize=3))


def _against(values: Sequence[Singles], place: Bytes, upper: Bytes) -> float:
    """Film over template in ``place``, in units of the same in the upper face."""
    inside, base = (_mean(values[0], m) / max(1e-3, _mean(values[1], m)) for m in (place, upper))
    return inside / max(0.05, base)


def _places(mouth: Mouth, zoom: float) -> tuple[Bytes, Bytes, Bytes]:
    """Masks at ``zoom``: the mouth itself, the band where engines blend it in, the eyes and what is between them."""
    y, x = np.mgrid[0 : round(HEIGHT * zoom), 0 : round(WIDTH * zoom)].astype(np.float32) / np.float32(zoom)
    across, down = (x - np.float32(mouth.x)) / np.float32(IO), (y - np.float32(mouth.y + 0.06 * IO)) / np.float32(IO)
    reach = np.sqrt((across / (mouth.half_width / IO + 0.26)) ** 2 + (down / 0.44) ** 2)
    inner = np.sqrt((across / (mouth.half_width / IO + 0.06)) ** 2 + (down / 0.26) ** 2) < 1
    ring = (reach > 0.85) & (reach < 1.2) & (y < HEIGHT - 4)
    upper = (np.abs(x - EYES[0]) < 0.75 * IO) & (y > EYES[1] - 0.35 * IO) & (y < EYES[1] + 0.3 * IO)
    return inner, ring, upper


def _mean(values: Singles, mask: Bytes) -> float:
    return float(values[mask].mean()) if mask.any() else 0.0


def _median(values: Sequence[float], digits: int) -> float | None:
    return round(float(np.median(values)), digits) if values else None


def steps(canonical: Bytes, numbers: Sequence[int], mouth: Mouth) -> tuple[Singles, Singles]:
    """How much the mouth and the upper face of canonical pictures ``(m, 224, 192)`` differ from the picture before,
    mean grey levels ``(m,)`` each; ``nan`` where that one was not looked at.  ``numbers``: the pictures' in the film.
    """
    top, left = round(mouth.y - 0.4 * IO), round(mouth.x - 0.55 * IO)
    around = (slice(max(0, top), top + round(IO)), slice(max(0, left), left + round(1.1 * IO)))
    above = (slice(int(EYES[1] - 0.35 * IO), int(EYES[1] + 0.3 * IO)), slice(48, 144))
    out = np.full((2, len(canonical)), np.nan, np.float32)
    for k in range(1, len(canonical)):
        if numbers[k] == numbers[k - 1] + 1:
            for row, place in enumerate((around, above)):
                out[row, k] = cv2.absdiff(canonical[k][place], canonical[k - 1][place]).mean()
    return out[0], out[1]


def held(whole: Singles, mouth: Singles, *, strict: bool) -> Bytes:
    """Which pictures hardly differ from the one before though those around them do, bool ``(m,)``: ``whole`` and
    ``mouth`` are mean changes from the picture before, as the pictures are, not as the face carries them.

    ``strict``: there is no template to ask, which pictures of a calm person need.
    """
    out = np.ones(len(whole), bool)
    for changes, share in ((whole, _HELD_SURELY if strict else _HELD), (mouth, _HELD_MOUTH)):
        around = usual(changes)
        out &= (np.nan_to_num(changes, nan=np.inf) < share * around) & (around > _STILL)
    return out


def jumped(mouth: Singles, upper: Singles) -> Bytes:
    """Which pictures show another mouth in a face that goes on calmly, bool ``(m,)``; see ``steps``."""
    leaps = np.nan_to_num(mouth, nan=0.0) > _JUMP * np.maximum(usual(mouth), 0.5)
    calm = np.nan_to_num(upper, nan=0.0) < _CALM * np.maximum(usual(upper), 0.5)
    result: Bytes = leaps & calm
    return result


def usual(changes: Singles) -> Singles:
    """The median change around each picture."""
    out = np.zeros(len(changes), np.float32)
    for k in range(len(changes)):
        near = changes[max(0, k - _USUAL) : k + _USUAL + 1]
        near = near[np.isfinite(near)]
        out[k] = float(np.median(near)) if len(near) else 0.0
    return out


def jitter(lips: Singles, numbers: Sequence[int]) -> float | None:
    """How much the lips tremble: the second difference's root mean square over neighbours, io."""
    index = np.asarray(numbers)
    if len(index) < 3:
        return None
    next_to = (index[2:] - index[:-2]) == 2
    bends = (lips[2:] - 2 * lips[1:-1] + lips[:-2])[next_to]
    return round(float(np.sqrt((bends**2).mean() / 6)), 4) if len(bends) else None


def ranges(flags: Bytes, numbers: Sequence[int]) -> list[list[int]]:
    """(first, last) frame numbers of the runs of true values."""
    return [[int(numbers[a]), int(numbers[b])] for a, b in runs(flags)]
