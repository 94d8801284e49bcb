"""The template as a clip: the right picture at each tick, in any order, the same in every bit."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings
from heygemd.pipeline.media import open_clip, output_order, probe
from heygemd.pipeline.media.read import seek
from heygemd.pipeline.media.write import overlay
from tests.pipeline.films import QUICK, clip_of, ffmpeg, number, numbered, pictures, raw_planes, turned
from tests.pipeline.messy import scene

COUNT = 60
KINDS = {
    "long_gop.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-g", "250", "-bf", "3"),
    "open_gop.mkv": ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", "keyint=20:open-gop=1:bframes=4"),
    "refresh.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", "keyint=30:intra-refresh=1"),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=25:bframes=4"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-g", "15", "-bf", "2", "-q:v", "2"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-g", "20", "-bf", "2", "-q:v", "2"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "30"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_order_gives_the_pixels_of_the_forward_pass(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clip_of(numbered(tmp_path / name, COUNT, *KINDS[name]))
    monkeypatch.setattr(seek, "REVERSE_BYTES", 20 * clip.width * clip.height * 3 // 2)
    monkeypatch.setattr(seek, "SKIP_PICTURES", 12)
    forward = list(clip.frames())
    assert [number(frame) for frame in forward] == list(range(COUNT))
    assert clip.counted
    assert clip.count == COUNT
    pixels = pictures(forward)
    order = [*output_order(COUNT, 2 * COUNT, "bounce"), 50, 50, 3, 49, 49, 48, 59, 0]
    assert pictures(clip.walk(order)) == [pixels[k] for k in order]


def test_a_deinterlaced_picture_is_the_same_wherever_decoding_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made of its neighbours too, of which a search that lands on it knows nothing."""
    words = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-flags", "+ildct+ilme", "-x264-params", "tff=1")
    fields = "interlace=scan=tff:lowpass=off"
    clip = clip_of(scene(tmp_path / "a.mp4", *words, count=300, fps="50", filters=fields, shows=lambda n: n // 3))
    assert (clip.info.fields, clip.fps) == ("tff", 25)
    pixels = pictures(clip.frames())
    assert len(pixels) == 150
    monkeypatch.setattr(seek, "REVERSE_BYTES", 20 * clip.width * clip.height * 3 // 2)
    monkeypatch.setattr(seek, "SKIP_PICTURES", 12)
    order = [*range(149, 90, -1), 3, 0, 149, *range(100, 130)]
    assert pictures(clip.walk(order)) == [pixels[k] for k in order]
    assert not overlay.possible(clip)


def test_frames_may_begin_anywhere(tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "a.mp4", 30))
    assert [number(frame) for frame in clip.frames(25)] == [25, 26, 27, 28, 29]
    assert [number(frame) for frame in clip.frames(28)] == [28, 29]


def test_every_frame_belongs_to_its_taker(tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "a.mp4", 12))
    for frame in clip.walk([3, 3, 3, 2, 2, 11, 11]):
        assert number(frame) in (3, 2, 11)
        frame.data[:] = 0


def test_a_search_that_lands_late_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_of(numbered(tmp_path / "a.mp4", 90, *KINDS["long_gop.mp4"]))
    clip.learn()
    honest = seek.Seeker._search_point
    monkeypatch.setattr(seek.Seeker, "_search_point", lambda *a: honest(*a) + 0.5)
    assert [number(frame) for frame in clip.walk(range(80, 60, -1))] == list(range(80, 60, -1))


def test_a_template_that_decodes_differently_each_time_is_refused(tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "a.mp4", 60))
    clip.learn()
    clip._index.prints[40] ^= 1
    with pytest.raises(EngineError, match=r"a\.mp4 decodes differently each time"):
        list(clip.walk(range(50, 30, -1)))


def test_a_reversed_stretch_holds_few_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_of(numbered(tmp_path / "a.mp4", 80, *KINDS["long_gop.mp4"]))
    clip.learn()
    monkeypatch.setattr(seek, "REVERSE_BYTES", 10 * clip.width * clip.height * 3 // 2)
    chunks: list[int] = []
    honest = seek.Seeker._pictures

    def counting(self: seek.Seeker, first: int, last: int) -> object:
        chunks.append(last - first + 1)
        return honest(self, first, last)

    monkeypatch.setattr(seek.Seeker, "_pictures", counting)
    assert len(list(clip.walk(range(79, -1, -1)))) == 80
    assert max(chunks) == 10
    assert sum(chunks) == 80


def test_a_varying_rate_is_made_constant_by_time(tmp_path: Path) -> None:
    """Pictures 0 to 9, then every third, then a gap of a second."""
    kept = "select='lt(n,10)+not(mod(n,3))*between(n,10,40)+gt(n,66)'"
    path = numbered(tmp_path / "a.mkv", 80, "-vf", kept, "-fps_mode", "vfr", "-c:v", "libx264", "-bf", "2")
    clip = clip_of(path)
    shown = [number(frame) for frame in clip.frames()]
    times = [*range(10), *range(12, 41, 3), *range(67, 80)]
    assert clip.fps == 25
    assert shown == [max(t for t in times if t <= tick) for tick in range(80)]
    assert [number(f) for f in clip.walk([79, 66, 40, 39, 30])] == [79, 39, 39, 39, 30]
    assert clip.facts()["repeated"] == 80 - len(times)


def test_a_rate_of_ntsc_stays_a_fraction(tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "a.mp4", 20, fps="30000/1001"))
    assert clip.fps == Fraction(30000, 1001)
    assert [number(frame) for frame in clip.frames()] == list(range(20))


@pytest.mark.parametrize(
    ("matrix", "rotation"),
    [
        ((0, 1 << 16, 0, -1 << 16, 0, 0, 96 << 16, 0, 1 << 30), 270),
        ((-1 << 16, 0, 0, 0, -1 << 16, 0, 128 << 16, 96 << 16, 1 << 30), 180),
        ((0, -1 << 16, 0, 1 << 16, 0, 0, 0, 128 << 16, 1 << 30), 90),
    ],
)
def test_a_phone_s_rotation_is_applied(matrix: tuple[int, ...], rotation: int, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.mp4", 5)
    upright = next(iter(clip_of(path).frames())).y.copy()
    turned(path, matrix)
    clip = clip_of(path)
    assert clip.info.rotation == rotation
    assert (clip.width, clip.height) == ((128, 96) if rotation == 180 else (96, 128))
    first = next(iter(clip.frames()))
    assert np.array_equal(first.y, np.rot90(upright, rotation // 90))


def test_eight_bit_planes_come_as_they_are_decoded(tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.mp4", 8, "-c:v", "libx264", "-color_range", "pc", pix_fmt="yuvj420p")
    clip = clip_of(path)
    assert clip.info.color_range == "pc"
    for frame, planes in zip(clip.frames(), raw_planes(path, 128, 96), strict=True):
        assert np.array_equal(frame.data, planes)
    assert clip.facts()["converted_from"] is None


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p", "yuv444p"])
def test_other_pixel_formats_are_converted_once(pix_fmt: str, tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "a.mkv", 6, "-c:v", "ffv1", pix_fmt=pix_fmt))
    assert [number(frame) for frame in clip.frames()] == list(range(6))
    assert clip.facts()["converted_from"] == pix_fmt
    assert clip.info.bit_depth == (10 if "10" in pix_fmt else 8)


def test_an_odd_size_is_padded_by_its_own_edge(tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.mkv", 4, "-c:v", "ffv1", size=(65, 49))
    clip = clip_of(path)
    assert (clip.width, clip.height) == (66, 50)
    frame = next(iter(clip.frames()))
    assert np.array_equal(frame.y[:, -1], frame.y[:, -2])
    assert np.array_equal(frame.y[-1], frame.y[-2])
    assert clip.padded


def test_a_still_is_a_clip_of_one_picture(tmp_path: Path) -> None:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "color=red:s=82x60,format=rgb24,crop=41:30:0:0:exact=1",
        "-frames:v",
        "1",
        tmp_path / "a.png",
    )
    clip = clip_of(tmp_path / "a.png")
    frames = list(clip.walk([0, 0, 0]))
    assert (clip.count, clip.fps, clip.width, clip.height) == (1, 25, 42, 30)
    assert len(frames) == 3
    assert abs(int(frames[0].y[10, 10]) - 63) <= 1  # red in BT.709, limited range
    assert abs(int(frames[0].v[5, 5]) - 240) <= 1


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red@0.0:s=40x30,format=rgba", "-frames:v", "1", tmp_path / "a.png")
    frame = next(iter(clip_of(tmp_path / "a.png").frames()))
    assert frame.y.min() >= 234
    assert abs(int(frame.v[5, 5]) - 128) <= 1


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, 3), (3, 2), (8, 1)])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_photo_is_put_upright(orientation: int, turns: int, kind: str, tmp_path: Path) -> None:
    plain = tmp_path / f"plain.{kind}"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=64x48",
        "-frames:v",
        "1",
        "-pix_fmt",
        "yuvj420p" if kind == "jpg" else "rgb24",
        plain,
    )
    path = tmp_path / f"a.{kind}"
    path.write_bytes(_with_orientation(plain.read_bytes(), orientation))
    clip = clip_of(path)
    expected = np.rot90(next(iter(clip_of(plain).frames())).y, turns)
    assert (clip.info.height, clip.info.width) == expected.shape
    assert np.array_equal(next(iter(clip.frames())).y, expected)


def _with_orientation(data: bytes, orientation: int) -> bytes:
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)
    if data.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    import zlib

    chunk = b"eXIf" + exif
    return data[:33] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def test_large_photos_are_scaled_and_say_so(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=4000x3000", "-frames:v", "1", tmp_path / "a.jpg")
    clip = clip_of(tmp_path / "a.jpg", Settings(threads=1))
    assert (clip.width, clip.height) == (2160, 1620)
    clip.learn()
    assert clip.facts()["scaled"]


def test_a_long_template_is_decoded_to_its_limit_only(tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.mp4", 60, *KINDS["long_gop.mp4"])
    found = probe(path, "a.mp4", QUICK).video
    assert found is not None
    clip = open_clip(path, found, QUICK, limit=20)
    assert clip.count == 20
    assert [number(frame) for frame in clip.frames()] == list(range(20))
    assert clip.count == 20
    assert clip.facts()["cut_at_limit"]
    assert clip.facts()["source_frames"] <= 21
    assert [number(frame) for frame in clip.walk([19, 18, 0, 19])] == [19, 18, 0, 19]


@pytest.mark.parametrize("limit", [1, 13, 25, 26, 40])
def test_a_limit_may_fall_into_a_gap(limit: int, tmp_path: Path) -> None:
    kept = "select='lt(n,10)+gt(n,24)'"
    path = numbered(tmp_path / "a.mkv", 30, "-vf", kept, "-fps_mode", "vfr", "-c:v", "libx264")
    found = probe(path, "a.mkv", QUICK).video
    assert found is not None
    clip = open_clip(path, found, QUICK, limit=limit)
    expected = [tick if tick < 10 or tick > 24 else 9 for tick in range(30)][:limit]
    assert [number(frame) for frame in clip.frames()] == expected
    assert clip.count == len(expected)


def test_a_damaged_template_says_so(tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.ts", 60, "-c:v", "libx264", "-g", "20")
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 4000] = bytes(4000)
    path.write_bytes(data)
    clip = clip_of(path, QUICK)
    clip.learn()
    assert clip.faults > 0
    assert 30 <= clip.count <= 61


@pytest.mark.parametrize(
    ("extend", "expected"),
    [
        ("bounce", [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]),
        ("loop", [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]),
        ("hold", [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]),
    ],
)
def test_a_short_template_is_extended_as_asked(extend: str, expected: list[int]) -> None:
    assert output_order(4, 10, extend).tolist() == expected
    assert output_order(4, 3, extend).tolist() == [0, 1, 2]
    assert output_order(1, 3, extend).tolist() == [0, 0, 0]
