"""The before/after sheet: frames of the template above, the film's frames of the same moments below.

Below these two rows, where the film differs from the template in one place, that place is shown enlarged.
The place is measured from the pixels, not taken from the plan: the sheet shows what was changed, not what
should have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.common.errors import EngineError, InputError
from heygemd.contract.job import Settings
from heygemd.contract.renderer import Moment
from heygemd.pipeline import media

Picture = npt.NDArray[np.uint8]  # (h, w, 3) BGR or (h, w) luma
Region = tuple[int, int, int, int]  # x, y, width, height in the film's pixels

WIDEST = 1280  # pixels: sixteen 4K pictures would be 400 MB
TILE_WIDTH = 240
GAP = 4
LABEL_WIDTH = 92  # room for "template", "film" at the left
HEADER_HEIGHT = 26
BACKGROUND = (32, 32, 32)
INK = (235, 235, 235)

DIFFERENCE = 8.0  # grey levels after smoothing: two encodings of one picture stay below 4 at CRF 18
SMOOTHING = 1 / 80  # of the picture's width: wider than grain, narrower than a mouth
STRONG = 0.12  # of the greatest difference: what moves most, not all that moves a little with it
MARGIN = 0.25  # of the changed place's size, on each side
MOST = 0.5  # of the picture's area: what changed everywhere is not one place


class SheetFacts(TypedDict):
    """The file, the enlarged place (x, y, width, height) and the columns."""

    sheet: str
    region: list[int] | None
    moments: list[Moment]


def make(
    before: str,
    after: str,
    out: str,
    columns: int = 8,
    crop: Sequence[int] | None = None,
    extend: str = "bounce",
) -> SheetFacts:
    """Draw the sheet of the template ``before`` and the film ``after`` as the PNG file ``out``.

    ``columns`` moments are spread evenly over the film, the middles of as many equal parts.  The template's
    frame of a moment is the one that ``media.output_order`` gives for ``extend``, which must be what the film
    was made with.  ``crop`` (x, y, width, height in pixels) replaces the measured place of the enlarged rows.

    Raises InputError for what is not a film, EngineError where the sheet cannot be written.
    """
    settings = Settings()
    template, film = _open(before, settings), _open(after, settings)
    if (template.width, template.height) != (film.width, film.height):
        raise InputError(
            f"{Path(after).name} is {film.width}x{film.height} and {Path(before).name} "
            f"{template.width}x{template.height}: a sheet needs two videos of the same size.",
            reason="size_differs",
        )
    template.learn()
    film.learn()
    moments = middles(film.count, columns)
    order = media.output_order(template.count, film.count, extend)
    sources = [int(order[k]) for k in moments]
    befores, afters = _pictures(template, sources), _pictures(film, moments)
    shrunk = befores[0].shape[1] / film.width
    found = None if crop else changed_region(befores, afters)
    region = _scaled(found, 1 / shrunk) if found else None
    if crop:
        region = _checked(crop, film.width, film.height)
    seconds = [float(k / film.fps) for k in moments]
    _write(Path(out), draw(befores, afters, seconds, _scaled(region, shrunk) if region else None))
    return {
        "sheet": out,
        "region": list(region) if region else None,
        "moments": [
            {"seconds": round(s, 3), "frame": k, "template_frame": source}
            for s, k, source in zip(seconds, moments, sources, strict=True)
        ],
    }


def middles(count: int, columns: int) -> list[int]:
    """The middle frames of ``columns`` equal parts of ``count`` frames; every frame if ``count`` is smaller."""
    columns = max(1, min(columns, count))
    return [int((2 * n + 1) * count / (2 * columns)) for n in range(columns)]


def changed_region(befores: Sequence[Picture], afters: Sequence[Picture]) -> Region | None:
    """The one place where the pictures differ, with a margin and their aspect; ``None`` if they are alike.

    ``befores`` and ``afters`` are pairs of (h, w, 3) BGR pictures of one size.
    """
    height, width = befores[0].shape[:2]
    size = max(3, round(width * SMOOTHING))
    strongest = np.zeros((height, width), np.float32)
    for old, new in zip(befores, afters, strict=True):
        greys = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (old, new)]
        difference = cv2.absdiff(greys[0], greys[1])
        smooth = np.asarray(cv2.blur(difference, (size, size)), np.float32)
        np.maximum(strongest, smooth, out=strongest)
    reach = np.ones((2 * size + 1, 2 * size + 1), np.uint8)  # a mouth and its chin are one place
    mask = cv2.dilate((strongest > DIFFERENCE).astype(np.uint8), reach)
    labels, parts = cv2.connectedComponents(mask)
    if labels < 2 or float(mask.mean()) > MOST:
        return None
    place = 1 + int(np.argmax([float(strongest[parts == n].sum()) for n in range(1, labels)]))
    inside = np.where(parts == place, strongest, 0)
    x, y, w, h = cv2.boundingRect((inside > max(DIFFERENCE, STRONG * float(inside.max()))).astype(np.uint8))
    return _widened((x, y, w, h), width, height)


def _widened(box: Region, width: int, height: int) -> Region:
    """The box with a margin and the picture's aspect, inside the picture."""
    x, y, w, h = box
    scale = max(w / width, h / height) * (1 + 2 * MARGIN)
    wide, high = min(width, round(width * scale)), min(height, round(height * scale))
    left = min(max(0, x + w // 2 - wide // 2), width - wide)
    top = min(max(0, y + h // 2 - high // 2), height - high)
    return left, top, wide, high


def _scaled(region: Region, factor: float) -> Region:
    x, y, w, h = region
    return round(x * factor), round(y * factor), max(1, round(w * factor)), max(1, round(h * factor))


def _checked(crop: Sequence[int], width: int, height: int) -> Region:
    x, y, w, h = (int(v) for v in crop)
    if w < 1 or h < 1 or x < 0 or y < 0 or x + w > width or y + h > height:
        raise InputError(f"The crop {x},{y},{w},{h} is not inside {width}x{height} pixels.", reason="crop")
    return x, y, w, h


def draw(
    befores: Sequence[Picture], afters: Sequence[Picture], seconds: Sequence[float], region: Region | None
) -> Picture:
    """The sheet as (h, w, 3) BGR: a header with the times, two rows, and two enlarged ones if ``region``."""
    rows: list[tuple[str, list[Picture]]] = [("template", list(befores)), ("film", list(afters))]
    if region:
        x, y, w, h = region
        rows += [(label, [p[y : y + h, x : x + w] for p in pictures]) for label, pictures in rows[:2]]
    strips = [_header(seconds)]
    for label, pictures in rows:
        strips.append(_strip(label, [_tile(picture) for picture in pictures]))
    return np.concatenate(strips)


def _tile(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    size = (TILE_WIDTH, max(1, round(TILE_WIDTH * height / width)))
    smooth = cv2.INTER_AREA if width > TILE_WIDTH else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=smooth), np.uint8)


def _strip(label: str, tiles: Sequence[Picture]) -> Picture:
    height = tiles[0].shape[0]
    strip = _blank(height + GAP, len(tiles))
    _text(strip, label, 8, height // 2)
    for n, tile in enumerate(tiles):
        left = LABEL_WIDTH + n * (TILE_WIDTH + GAP)
        strip[:height, left : left + TILE_WIDTH] = tile
    return strip


def _header(seconds: Sequence[float]) -> Picture:
    strip = _blank(HEADER_HEIGHT, len(seconds))
    for n, second in enumerate(seconds):
        _text(strip, f"{second:.2f} s", LABEL_WIDTH + n * (TILE_WIDTH + GAP) + 4, HEADER_HEIGHT - 9)
    return strip


def _blank(height: int, columns: int) -> Picture:
    return np.full((height, LABEL_WIDTH + columns * (TILE_WIDTH + GAP), 3), BACKGROUND, np.uint8)


def _text(picture: Picture, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)


def _write(out: Path, picture: Picture) -> None:
    ok, data = cv2.imencode(".png", picture)
    if not ok:
        raise EngineError(f"The sheet {out} could not be drawn.")
    out.write_bytes(data.tobytes())


def _open(path: str, settings: Settings) -> media.Clip:
    name = Path(path).name
    found = media.probe(Path(path), name, settings)
    if found.video is None:
        raise InputError(f"{name} contains no picture.", reason="no_video")
    return media.open_clip(Path(path), found.video, settings, name, found.start)


def _pictures(clip: media.Clip, indices: Sequence[int]) -> list[Picture]:
    """These frames as (h, w, 3) BGR, at most ``WIDEST`` wide; read as BT.601 whatever they are tagged."""
    size = (min(clip.width, WIDEST), round(min(clip.width, WIDEST) * clip.height / clip.width))
    pictures = []
    for frame in clip.walk(indices):
        picture = cv2.cvtColor(frame.data.reshape(-1, clip.width), cv2.COLOR_YUV2BGR_I420)
        pictures.append(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8))
    return pictures
