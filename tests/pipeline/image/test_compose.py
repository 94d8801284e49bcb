from __future__ import annotations

import numpy as np

from heygemd.pipeline.image.compose import Canvas, Planes, area_around, looked_up, matched, mixed, put, shifted
from heygemd.pipeline.image.geometry import similarity
from heygemd.pipeline.media import Frame

RNG = np.random.default_rng(3)


def _frame(width: int = 96, height: int = 80) -> Frame:
    return Frame(RNG.integers(0, 256, width * height * 3 // 2, dtype=np.uint8), width, height)


def test_areas_are_even_and_inside_the_picture() -> None:
    area = area_around(np.array([[-5.0, 3.2], [50.9, 33.0]]), 96, 80)
    assert area is not None
    assert area.bounds == (0, 2, 52, 34) and area.size == (52, 32)
    assert area_around(np.array([[200.0, 3.0], [230.0, 33.0]]), 96, 80) is None


def test_putting_an_area_touches_nothing_else() -> None:
    frame = _frame()
    before = frame.copy()
    area = area_around(np.array([[20.0, 20.0], [60.0, 50.0]]), 96, 80)
    assert area is not None
    put(frame, area, Planes(*(np.zeros_like(p) for p in area.of(frame))))
    inside = np.zeros((80, 96), bool)
    inside[area.y0 : area.y1, area.x0 : area.x1] = True
    assert (frame.y[inside] == 0).all() and (frame.y[~inside] == before.y[~inside]).all()
    assert (frame.u[~inside[::2, ::2]] == before.u[~inside[::2, ::2]]).all()
    assert (frame.v[~inside[::2, ::2]] == before.v[~inside[::2, ::2]]).all()


def test_no_shift_gives_the_same_bytes() -> None:
    frame = _frame()
    area = area_around(np.array([[10.0, 10.0], [70.0, 60.0]]), 96, 80)
    assert area is not None
    canvas = Canvas(area, similarity(2.5, 0.1, 8.0, 9.0))
    same = shifted(area.of(frame), canvas, np.zeros((24, 26, 2), np.float32))
    assert all((a == b).all() for a, b in zip(same, area.of(frame), strict=True))


def test_a_shift_moves_luma_and_chroma_together() -> None:
    frame = _frame()
    y, x = np.mgrid[0:80, 0:96]
    frame.y[:], frame.u[:], frame.v[:] = x * 2, x[::2, ::2] * 2 + 1, y[::2, ::2] * 2 + 1
    area = area_around(np.array([[0.0, 0.0], [94.0, 78.0]]), 96, 80)
    assert area is not None
    canvas = Canvas(area, similarity(4.0, 0.0))
    moved = shifted(area.of(frame), canvas, np.full((30, 40, 2), 4.0, np.float32))
    part = np.s_[10:30, 10:30]
    assert (moved.y[part] == x[part] * 2 + 8).all()
    assert (moved.u[part] == frame.u[part] + 8).all() and (moved.v[part] == frame.v[part] + 8).all()


def test_looking_up_its_own_place_gives_the_picture_back() -> None:
    frame = _frame()
    area = area_around(np.array([[0.0, 0.0], [94.0, 78.0]]), 96, 80)
    assert area is not None
    canvas = Canvas(area, similarity(2.0, 0.0))
    x, y = np.meshgrid(np.arange(48) * 2.0, np.arange(40) * 2.0)
    back = looked_up(area.of(frame), canvas, np.dstack([x, y]).astype(np.float32))
    inner = np.s_[2:-4, 2:-4]
    assert all((a[inner] == b[inner]).all() for a, b in zip(back, area.of(frame), strict=True))


def test_the_colour_of_a_layer_is_matched_and_outliers_do_not_count() -> None:
    base = Planes(np.full((64, 64), 120, np.uint8), np.full((32, 32), 110, np.uint8), np.full((32, 32), 150, np.uint8))
    layer = Planes(*(p - 12 for p in base))
    base.y[:, :8] = 250  # hair, say
    ring = np.ones((64, 64), np.float32)
    out = matched(base, layer, ring, 12.0)
    assert np.abs(out.y[:, 24:].astype(int) - 120).max() <= 1
    assert np.abs(out.u.astype(int) - 110)[:, 12:].max() <= 1


def test_masks_mix() -> None:
    below, above = (Planes(*(np.full(s, v, np.uint8) for s in ((8, 8), (4, 4), (4, 4)))) for v in (100, 200))
    half = mixed(below, above, np.full((8, 8), 0.5, np.float32), np.ones((4, 4), np.float32))
    assert (half.y == 150).all() and (half.u == 200).all()
