"""Messy but honest media through the whole pipeline: frames, length, orientation, colour, sync and tags are right.

Face and engine are stand-ins that change nothing, so that every picture of the film must be the template's own.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.contract.job import Quiet, Task
from heygemd.pipeline import lipsync
from tests.pipeline.films import QUICK, bursts, ffmpeg, film_sound, onsets, tone, turned
from tests.pipeline.messy import HEIGHT, HEVC, PATCHES, WIDTH, Case, delta_e, hdr, picture, scene, seen
from tests.pipeline.standins import Unchanged, put_in_place

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12")
RIGHT = (0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)  # a phone held upright: "rotation -90"
LEFT = (0, -1 << 16, 0, 1 << 16, 0, 0, 0, WIDTH << 16, 1 << 30)
OVER = (-1 << 16, 0, 0, 0, -1 << 16, 0, WIDTH << 16, HEIGHT << 16, 1 << 30)


def phone(path: Path, matrix: tuple[int, ...], stored: str) -> None:
    """What a phone makes: pictures stored turned by the filter ``stored``, and a matrix that puts them upright."""
    turned(scene(path, *X264, filters=stored), matrix)


def unequal(path: Path) -> None:
    """Pictures 0-9, then every third, then all again, as a phone in poor light."""
    scene(path, "-fps_mode", "vfr", *X264, filters="select='lt(n,10)+not(mod(n,3))*lt(n,30)+gte(n,30)'")


def cut_by_edit_list(path: Path) -> None:
    """The first 0.4 s are in the file and not to be shown."""
    whole = scene(path.with_name("whole.mp4"), *X264, "-g", "40", count=60)
    ffmpeg("-ss", "0.4", "-i", whole, "-c", "copy", path)


def late(path: Path) -> None:
    """A transport stream whose clock begins at ten hours, sound half a second before the pictures."""
    pictures = scene(path.with_name("p.mp4"), *X264)
    tone(path.with_name("s.m4a"), 2)
    joined = ("-i", path.with_name("s.m4a"), "-itsoffset", "0.5", "-i", pictures)
    ffmpeg(*joined, "-map", "0", "-map", "1", "-c", "copy", "-output_ts_offset", "36000", path)


def two_fields(path: Path, first: str, *words: str) -> None:
    """80 moments in 40 pictures, as the fields of interlaced video; every other picture shows two numbers."""
    flags = ("-flags", "+ildct+ilme") if "dvvideo" not in words else ()
    scene(
        path, *words, *flags, fps="50", count=80, size=(720, 576) if "dvvideo" in words else (WIDTH, HEIGHT),
        filters=f"interlace=scan={first}:lowpass=off", shows=lambda moment: (moment + 1) // 4,
    )  # fmt: skip


def first_field(picture: int) -> int:
    """The number in the earlier field of a picture of ``two_fields``."""
    return (2 * picture + 1) // 4


def still(path: Path) -> None:
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-i", "pipe:0")
    ffmpeg(*raw, path, feed=picture(5).tobytes())


def tagged(matrix: str, spread: str, space: str, primaries: str, transfer: str, *codec: str) -> Case:
    """A film with all its colour tags, which must be in the result."""
    words = ("-color_range", spread, "-colorspace", space, "-color_primaries", primaries, "-color_trc")
    words = (*words, {"bt470bg": "gamma28"}.get(transfer, transfer))
    names = ("color_range", "color_space", "color_primaries", "color_transfer")
    return Case(
        lambda p: scene(p, *(codec or X264), *words, matrix=matrix, spread=spread),
        tags=dict(zip(names, (spread, space, primaries, transfer), strict=True)),
    )


PLAIN = dict.fromkeys(("color_space", "color_primaries", "color_transfer"), "bt709") | {"color_range": "tv"}
CONVERTED = frozenset({"converted"})
PALETTE = "format=rgb24,split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
CASES: dict[str, Case] = {
    "phone upright": Case(lambda p: phone(p, RIGHT, "transpose=cclock"), "mov"),
    "phone on its left": Case(lambda p: phone(p, LEFT, "transpose=clock"), "mov"),
    "phone upside down": Case(lambda p: phone(p, OVER, "hflip,vflip"), "mov"),
    "phone, unequal times": Case(unequal, said=frozenset({"variable_rate"}), loose=2),
    "phone, HDR10": Case(lambda p: hdr(p, "smpte2084"), "mov", tags=PLAIN, said=frozenset({"hdr", "converted"})),
    "phone, HLG": Case(lambda p: hdr(p, "arib-std-b67"), "mov", tags=PLAIN, said=frozenset({"hdr", "converted"})),
    "HEVC, 10 bits": Case(lambda p: scene(p, *HEVC, pix_fmt="yuv420p10le"), said=CONVERTED | {"not_h264"}),
    "interlaced, top first": Case(
        lambda p: two_fields(p, "tff", *X264, "-x264-params", "tff=1"),
        shows=first_field, said=frozenset({"interlaced"}),
    ),
    "interlaced, bottom first": Case(
        lambda p: two_fields(p, "bff", "-c:v", "mpeg2video", "-q:v", "2", "-top", "0"), "mpg",
        shows=first_field, said=frozenset({"interlaced"}), tags={"field_order": "progressive"}, tolerance=6,
    ),
    "DV, PAL": Case(
        lambda p: two_fields(p, "bff", "-c:v", "dvvideo", "-aspect", "4:3"), "avi", shows=first_field, size=(720, 576),
        said=frozenset({"interlaced"}), tags={"sample_aspect_ratio": "16:15"}, tolerance=6,
    ),
    "whole pictures, flagged interlaced": Case(
        lambda p: scene(p, *X264, "-flags", "+ildct+ilme", "-x264-params", "tff=1"), tags={"field_order": "progressive"}
    ),
    "anamorphic PAL": Case(
        lambda p: scene(p, *X264, "-aspect", "16:9", size=(720, 576)), size=(720, 576),
        tags={"sample_aspect_ratio": "64:45"},
    ),
    "BT.709": tagged("bt709", "tv", "bt709", "bt709", "bt709"),
    "BT.601, PAL": tagged("bt601", "tv", "bt470bg", "bt470bg", "bt470bg"),
    "BT.601, NTSC": tagged("bt601", "tv", "smpte170m", "smpte170m", "smpte170m"),
    "BT.709, full range": tagged("bt709", "pc", "bt709", "bt709", "iec61966-2-1"),
    "BT.2020 without HDR": tagged("bt2020", "tv", "bt2020nc", "bt2020", "bt2020-10"),
    "odd size": Case(
        lambda p: scene(p, "-c:v", "ffv1", size=(161, 127)), "mkv", size=(162, 128), said=frozenset({"padded"})
    ),
    "23.976 a second": Case(lambda p: scene(p, *X264, fps="24000/1001"), fps=Fraction(24000, 1001)),
    "29.97 a second": Case(lambda p: scene(p, *X264, fps="30000/1001"), fps=Fraction(30000, 1001)),
    "59.94 a second": Case(lambda p: scene(p, *X264, fps="60000/1001"), "mkv", fps=Fraction(60000, 1001)),
    "120 a second": Case(lambda p: scene(p, *X264, fps="120"), fps=Fraction(120)),
    "edit list": Case(cut_by_edit_list, count=50, shows=lambda k: k + 10),
    "late clock, delayed pictures": Case(late, "ts"),
    "MJPEG": Case(lambda p: scene(p, "-c:v", "mjpeg", "-q:v", "2", pix_fmt="yuvj420p", spread="pc"), "avi"),
    "ProRes": Case(lambda p: scene(p, "-c:v", "prores_ks", pix_fmt="yuv422p10le"), "mov", said=CONVERTED),
    "ProRes with alpha": Case(
        lambda p: scene(p, "-c:v", "prores_ks", "-profile:v", "4444", pix_fmt="yuva444p10le"), "mov",
        said=CONVERTED,
    ),
    "VP9": Case(
        lambda p: scene(p, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "2M"), "webm"
    ),
    "AV1": Case(lambda p: scene(p, "-c:v", "libsvtav1", "-preset", "12", "-crf", "20"), said=frozenset({"not_h264"})),
    "GIF": Case(lambda p: scene(p, "-c:v", "gif", last=PALETTE), "gif", tolerance=6),
    "photo, JPEG": Case(still, "jpg", count=1, shows=lambda _: 5),
    "photo, PNG": Case(still, "png", count=1, shows=lambda _: 5),
}  # fmt: skip

SOUNDS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "mono": ("wav", (), {"channels": 1}),
    "5.1": ("flac", (), {"channels": 6}),
    "telephone": ("wav", ("-c:a", "pcm_mulaw"), {"rate": 8000, "channels": 1}),
    "96 kHz": ("flac", ("-sample_fmt", "s32"), {"rate": 96000}),
    "mp3 with its delay": ("mp3", ("-c:a", "libmp3lame", "-b:a", "128k"), {}),
    "mp3 at 16 kHz": ("mp3", ("-c:a", "libmp3lame", "-b:a", "64k"), {"rate": 16000, "channels": 1}),
    "m4a": ("m4a", ("-c:a", "aac"), {}),
    "m4a, delayed": ("m4a", ("-af", "adelay=300:all=1", "-c:a", "aac"), {}),
    "opus": ("opus", ("-c:a", "libopus"), {"rate": 48000}),
    "wma": ("wma", ("-c:a", "wmav2"), {}),
}
DUE = {"m4a, delayed": [0.8, 2.3], "wma": [0.546, 2.046]}  # nothing in a wma tells of its encoder's delay
QUICKLY = ("phone upright", "phone, HDR10", "interlaced, top first", "odd size", "edit list")


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that leaves every picture as it is, and nobody's face."""
    put_in_place(monkeypatch, Unchanged())


def made(folder: Path, video: Path, audio: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """The film and what is said of it."""
    work = folder / "work"
    work.mkdir()
    settings = replace(QUICK, crf=8, **changes)
    told = lipsync(Task(audio, video, work, "a.wav", video.name, settings), Quiet()).to_json()
    return work / "film.mp4", told


def check(case: Case, folder: Path) -> None:
    video = folder / f"v.{case.suffix}"
    case.make(video)
    film, told = made(folder, video, bursts(folder / "a.wav", seconds=2.5))
    width, height = case.size
    shown = seen(film, width, height)
    due = round(2.5 * case.fps)
    assert len(shown.numbers) == told["output"]["frames"] == due
    wrong = [(k, n, case.number(k)) for k, n in enumerate(shown.numbers) if not 0 <= case.number(k) - n <= case.loose]
    assert not wrong, wrong
    difference = delta_e(shown.patches, np.array(PATCHES, float))
    assert difference.max() < case.tolerance, (difference, shown.patches)
    assert Fraction(shown.stream["r_frame_rate"]) == case.fps
    assert (shown.stream["codec_name"], shown.stream["pix_fmt"][-7:]) in (("h264", "yuv420p"), ("h264", "uvj420p"))
    assert abs(float(shown.stream["start_time"])) < 0.001
    frame = 1 / float(case.fps)
    assert abs(float(shown.stream["duration"]) - 2.5) <= frame
    assert onsets(film_sound(film)) == pytest.approx([0.5, 2.0], abs=min(frame, 0.005))
    assert {key: shown.stream.get(key) for key in case.tags} == case.tags
    assert shown.combed < 3
    codes = {warning["code"] for warning in told["warnings"]}
    assert case.said <= codes
    assert codes - case.said <= {"not_h264", "converted"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", QUICKLY)
def test_messy_but_honest_media_is_done_right(name: str, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", [name for name in CASES if name not in QUICKLY])
def test_all_messy_but_honest_media_is_done_right(name: str, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", SOUNDS)
def test_a_click_in_any_sound_is_heard_when_it_should_be(name: str, tmp_path: Path) -> None:
    suffix, words, form = SOUNDS[name]
    sound = bursts(tmp_path / f"a.{suffix}", *words, **form)
    film, told = made(tmp_path, scene(tmp_path / "v.mp4"), sound)
    shown = seen(film, WIDTH, HEIGHT)
    as_played = onsets(film_sound(sound))
    assert onsets(film_sound(film)) == pytest.approx(as_played, abs=0.01)
    assert as_played == pytest.approx(DUE.get(name, [0.5, 2.0]), abs=0.01)
    assert abs(len(shown.numbers) / 25 - DUE.get(name, [0, 2.0])[1] - 0.5) <= 0.06
    assert abs(told["output"]["audio"]["seconds"] - len(shown.numbers) / 25) <= 0.04
