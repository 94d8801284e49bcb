"""A film laid over the template by the encoder is, in every bit, the one whose pictures all went through us."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import EngineError, GpuMemoryError
from heygemd.contract.job import Quiet, Task
from heygemd.pipeline import lipsync, media, render
from heygemd.pipeline.media import Clip
from heygemd.pipeline.media.write import overlay, packets
from tests.pipeline.films import QUICK, clip_of, ffmpeg, raw_planes, swaying

SIZE = 480, 360
SETTINGS = replace(QUICK, segment_seconds=0.6)


class Ear(Quiet):
    """Keeps the names of events."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        self.heard.append(name)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two seconds of template, 1.6 s of speech: 40 pictures."""
    return swaying(tmp_path_factory.mktemp("material"), "-g", "10", seconds=2, speech=1.6, size=SIZE)


def made(film: Path, voice: Path, work: Path, tell: Quiet) -> tuple[list[bytes], list[str]]:
    """The film's pictures, and which way each segment was made.  The template is analysed once for all films."""
    ways: list[str] = []
    honest = render._Painter.over_the_template, render._Painter.whole_pictures

    def laid_over(self: render._Painter) -> bool:
        done = honest[0](self)
        ways.append("over" if done else "not over")
        return done

    work.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render._Painter, "over_the_template", laid_over)
        settings = replace(SETTINGS, cache_dir=str(film.parent / "cache"))
        lipsync(Task(voice, film, work, "voice.wav", "template.mp4", settings), tell)
    return [planes.tobytes() for planes in raw_planes(work / "film.mp4", *SIZE)], ways


@pytest.fixture(scope="module")
def laid(material: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The pictures of the film laid over its template."""
    pictures, ways = made(*material, tmp_path_factory.mktemp("laid") / "over", Quiet())
    assert ways == ["over"] * 3, "from the beginning, and begun in the middle twice"
    return pictures


def test_a_film_laid_over_its_template_is_the_same_in_every_bit(
    material: tuple[Path, Path], laid: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "possible", lambda _: False)
    whole, ways = made(*material, tmp_path / "whole", Quiet())
    assert ways == ["not over"] * 3
    assert laid == whole and len(whole) == 40


def test_a_template_that_decodes_differently_this_time_is_noticed_and_decoded_by_us(
    material: tuple[Path, Path], laid: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Clip.stretch

    def other(self: Clip, order: Any) -> Any:
        found = honest(self, order)
        assert found is not None
        return replace(found, prints=(*found.prints[:7], found.prints[7] ^ 1, *found.prints[8:]))

    monkeypatch.setattr(Clip, "stretch", other)
    ear = Ear()
    differing, ways = made(*material, tmp_path / "differs", ear)
    assert ways == ["not over"] * 3 and ear.heard.count("template_decodes_differently") == 3
    assert differing == laid


def test_nvenc_without_room_is_told_as_such_when_laying_over_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "v.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2", "-pix_fmt", "yuv420p", film)
    clip = clip_of(film)
    stretch = clip.stretch(range(50))
    assert stretch is not None
    said = "[h264_nvenc @ 0x1] OpenEncodeSessionEx failed: out of memory (10): (no details)"
    script = f"import sys; sys.stderr.write({said!r}); sys.exit(1)"
    monkeypatch.setattr(overlay, "choose_encoder", lambda _: "h264_nvenc")
    monkeypatch.setattr(overlay, "FFMPEG", (sys.executable, "-c", script))
    patch = memoryview(bytes(16 * 16 * 5 // 2))
    with (
        pytest.raises(GpuMemoryError, match="out of memory"),
        overlay.OverlayWriter(tmp_path / "a.mp4", clip, stretch, (0, 0, 16, 16), QUICK) as writer,
    ):
        for _ in range(50):
            writer.write(patch)


@pytest.mark.parametrize("words", [("-c:v", "mjpeg"), ("-vf", "scale=65:48,format=yuv420p"), ("-pix_fmt", "yuv422p")])
def test_pictures_that_must_be_converted_go_through_us(words: tuple[str, ...], tmp_path: Path) -> None:
    film = tmp_path / "v.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1", "-c:v", "ffv1", *words, film)
    assert not overlay.possible(clip_of(film))


def test_only_pictures_that_follow_one_another_are_a_stretch(tmp_path: Path) -> None:
    film = tmp_path / "v.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2", "-pix_fmt", "yuv420p", film)
    clip = clip_of(film)
    clip.learn()
    assert overlay.possible(clip)
    found = clip.stretch(range(40, 45))
    assert found is not None and found.seek is not None and len(found.prints) == 5
    assert [clip.stretch(order) for order in ([3, 2, 1], [1, 1, 2], [1, 3])] == [None] * 3


def test_two_segments_at_a_time_are_the_same_in_every_bit_whichever_way_they_are_made(
    material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(render, "cores", lambda _: 2)
    laid, ways = made(*material, tmp_path / "over", Quiet())
    assert ways == ["over"] * 6, "twice three, half as long"
    monkeypatch.setattr(render, "segments_at_a_time", lambda _: 2)
    monkeypatch.setattr(overlay, "possible", lambda _: False)
    whole, ways = made(*material, tmp_path / "whole", Quiet())
    assert ways == ["not over"] * 6
    assert laid == whole and len(whole) == 40


def test_a_segment_that_fails_stops_the_one_beside_it(
    material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "segments_at_a_time", lambda _: 2)
    begun: list[int] = []
    honest = render._Painter.over_the_template

    def fails(self: render._Painter) -> bool:
        begun.append(self._segment.number)
        if self._segment.number == 1:
            raise EngineError("no room")
        return honest(self)

    monkeypatch.setattr(render._Painter, "over_the_template", fails)
    with pytest.raises(EngineError, match="no room"):
        made(*material, tmp_path / "fails", Quiet())
    assert 1 in begun and len(begun) < 6


def test_a_joined_film_is_known_by_its_packets_and_decoded_where_they_are_not_the_segments(tmp_path: Path) -> None:
    parts = [tmp_path / f"{name}.mp4" for name in "abc"]
    for number, part in enumerate(parts):
        source = f"testsrc=s=64x48:r=25:d={number + 1}"
        ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", part)
    found = [media.decoded(part, 25 * (n + 1), QUICK) for n, part in enumerate(parts)]
    segments = [media.Segment(tmp_path, "key", n, 0, 1) for n in range(3)]
    for part, segment in zip(parts, segments, strict=True):
        part.rename(segment.path)
    media.join(segments, tmp_path / "film.mp4", QUICK, found)
    assert packets.consists_of(tmp_path / "film.mp4", found, QUICK)
    for wrong in (found[:2], found[::-1], [*found, found[0]], [replace(found[0], parameters="other"), *found[1:]]):
        assert not packets.consists_of(tmp_path / "film.mp4", wrong, QUICK)
    data = bytearray(segments[2].path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    segments[2].path.write_bytes(data)
    media.join(segments, tmp_path / "harmed.mp4", QUICK, found)
    assert not packets.consists_of(tmp_path / "harmed.mp4", found, QUICK)
    with pytest.raises(EngineError, match="frames instead of 76"):
        media.decoded(segments[0].path.with_name("film.mp4"), 76, QUICK)
