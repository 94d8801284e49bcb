"""The before/after sheet: what it finds changed, and the picture that it draws."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from heygemd.common.errors import InputError
from heygemd.pipeline import sheet

SIZE = (240, 320)  # height, width
BOX = (140, 150, 50, 30)  # x, y, width, height


def picture(seed: int, *, box: bool = False) -> sheet.Picture:
    """A grey ramp with grain of its own; a dark box where a mouth would be."""
    ramp = np.linspace(60, 200, SIZE[1])[None, :, None].repeat(SIZE[0], 0).repeat(3, 2)
    grain = np.random.default_rng(seed).normal(0, 3, (*SIZE, 3))
    made = np.clip(ramp + grain, 0, 255).astype(np.uint8)
    if box:
        x, y, w, h = BOX
        made[y : y + h, x : x + w] = 20
    return made


def film(path: Path, frames: int, *, box: bool = False, size: str = "320x240") -> Path:
    """A film whose brightness says which frame it is, with or without the box."""
    x, y, w, h = BOX
    mark = f",drawbox={x}:{y}:{w}:{h}:black:fill" if box else ""
    source = f"color=gray:s={size}:r=25:d={frames / 25},format=yuv420p,geq=lum='40+3*N':cb=128:cr=128{mark}"
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-crf", "16", str(path)]
    subprocess.run(argv, check=True)
    return path


def test_the_moments_are_the_middles_of_equal_parts() -> None:
    assert sheet.middles(80, 8) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert sheet.middles(3, 8) == [0, 1, 2]
    assert sheet.middles(1, 8) == [0]


def test_the_changed_place_is_found_with_a_margin() -> None:
    found = sheet.changed_region([picture(1), picture(2)], [picture(3), picture(4, box=True)])
    assert found is not None
    x, y, w, h = found
    assert x < BOX[0] and y < BOX[1] and x + w > BOX[0] + BOX[2] and y + h > BOX[1] + BOX[3]
    assert w * h < 0.25 * SIZE[0] * SIZE[1]
    assert w / h == pytest.approx(SIZE[1] / SIZE[0], rel=0.05)


def test_grain_is_no_change() -> None:
    assert sheet.changed_region([picture(1)], [picture(2)]) is None


def test_what_changed_everywhere_is_not_one_place() -> None:
    assert sheet.changed_region([picture(1)], [255 - picture(1)]) is None


def test_a_change_in_the_corner_gives_a_region_inside_the_picture() -> None:
    changed = picture(1)
    changed[:30, :40] = 0
    found = sheet.changed_region([picture(1)], [changed])
    assert found is not None
    x, y, w, h = found
    assert x == 0 and y == 0 and w <= SIZE[1] and h <= SIZE[0]


def test_the_enlarged_rows_are_there_only_where_something_changed() -> None:
    before, after = [picture(1)] * 3, [picture(2)] * 3
    plain = sheet.draw(before, after, [0.0, 1.0, 2.0], None)
    zoomed = sheet.draw(before, after, [0.0, 1.0, 2.0], (100, 100, 80, 60))
    assert plain.shape[1] == zoomed.shape[1] == sheet.LABEL_WIDTH + 3 * (sheet.TILE_WIDTH + sheet.GAP)
    assert zoomed.shape[0] > 1.8 * plain.shape[0]


def test_each_moment_shows_the_template_frame_that_the_film_was_made_of(tmp_path: Path) -> None:
    before, after = film(tmp_path / "t.mp4", 20), film(tmp_path / "f.mp4", 30, box=True)
    told = sheet.make(str(before), str(after), str(tmp_path / "sheet.png"), columns=3)
    # 20 frames bounced without showing the last one twice: frame 25 of the film is 13 of the template
    assert [moment["frame"] for moment in told["moments"]] == [5, 15, 25]
    assert [moment["template_frame"] for moment in told["moments"]] == [5, 15, 13]
    assert [moment["seconds"] for moment in told["moments"]] == [0.2, 0.6, 1.0]
    drawn = cv2.imread(str(tmp_path / "sheet.png"))
    assert drawn is not None
    middles = [sheet.LABEL_WIDTH + n * (sheet.TILE_WIDTH + sheet.GAP) + sheet.TILE_WIDTH // 4 for n in range(3)]
    greys = [int(drawn[sheet.HEADER_HEIGHT + 20, x, 0]) for x in middles]
    assert greys[0] < greys[2] < greys[1]


def test_a_still_is_a_template_too(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), picture(1))
    told = sheet.make(
        str(tmp_path / "still.png"), str(film(tmp_path / "f.mp4", 10)), str(tmp_path / "s.png"), columns=2
    )
    assert [moment["template_frame"] for moment in told["moments"]] == [0, 0]


def test_a_crop_that_is_asked_for_is_the_one_that_is_shown(tmp_path: Path) -> None:
    before, after = film(tmp_path / "t.mp4", 8), film(tmp_path / "f.mp4", 8, box=True)
    out = str(tmp_path / "sheet.png")
    assert sheet.make(str(before), str(after), out, columns=2, crop=[0, 0, 64, 48])["region"] == [
        0,
        0,
        64,
        48,
    ]
    with pytest.raises(InputError, match="is not inside 320x240"):
        sheet.make(str(before), str(after), out, columns=2, crop=[300, 0, 64, 48])


def test_pictures_of_two_sizes_make_no_sheet(tmp_path: Path) -> None:
    before, after = film(tmp_path / "t.mp4", 5), film(tmp_path / "f.mp4", 5, size="160x120")
    with pytest.raises(InputError, match=r"f\.mp4 is 160x120 and t\.mp4 320x240"):
        sheet.make(str(before), str(after), str(tmp_path / "s.png"))
