"""The film: planes as given, tags as given, and nothing believed that was not decoded."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from heygemd.common.errors import EngineError, GpuMemoryError, SetupError
from heygemd.pipeline import ffmpeg as pipeline_ffmpeg
from heygemd.pipeline.media import FilmWriter, choose_encoder, mux, probe, verify
from tests.pipeline.films import QUICK, clip_of, ffmpeg, numbered, raw_planes, tone

LOSSLESS = replace(QUICK, crf=0)


def film(tmp_path: Path, template: Path, frames: int, seconds: float, name: str = "film.mp4") -> Path:
    clip = clip_of(template, LOSSLESS)
    with FilmWriter(tmp_path / "silent.mp4", clip, LOSSLESS) as writer:
        for frame in clip.walk([5] * frames):
            writer.write(frame)
    sound = tone(tmp_path / "a.wav", seconds)
    found = probe(sound, "a.wav", QUICK).audio
    assert found is not None
    mux(tmp_path / "silent.mp4", sound, found, tmp_path / name, QUICK, seconds, clip.fps)
    return tmp_path / name


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p"])
def test_the_encoder_gets_the_template_s_planes_bit_for_bit(pix_fmt: str, tmp_path: Path) -> None:
    words = ("-c:v", "libx264", "-g", "5", "-bf", "2", "-colorspace", "bt709", "-color_primaries", "bt709")
    full = ("-color_range", "pc") if pix_fmt == "yuvj420p" else ()
    template = numbered(tmp_path / "t.mp4", 12, *words, "-color_trc", "bt709", *full, pix_fmt=pix_fmt)
    clip = clip_of(template, LOSSLESS)
    with FilmWriter(tmp_path / "silent.mp4", clip, LOSSLESS) as writer:
        for frame in clip.frames():
            frame.y[40:60, 30:70] = 128  # the mouth
            writer.write(frame)
    made = probe(tmp_path / "silent.mp4", "film", QUICK).video
    assert made is not None
    assert (made.codec, made.pix_fmt, made.color_range) == ("h264", pix_fmt, clip.info.color_range)
    assert (made.color_space, made.color_primaries, made.color_transfer) == ("bt709", "bt709", "bt709")
    pairs = zip(raw_planes(template, 128, 96), raw_planes(tmp_path / "silent.mp4", 128, 96), strict=True)
    outside = np.ones(128 * 96 * 3 // 2, bool)
    outside[: 128 * 96].reshape(96, 128)[40:60, 30:70] = False
    for before, after in pairs:
        assert np.array_equal(before[outside], after[outside])
        assert (after[~outside] == 128).all()


def test_sample_aspect_ratio_and_rate_are_kept(tmp_path: Path) -> None:
    words = ("-c:v", "libx264", "-vf", "setsar=16/15")
    template = numbered(tmp_path / "t.mp4", 12, *words, fps="30000/1001")
    made = probe(film(tmp_path, template, 30, 1.0), "film", QUICK).video
    assert made is not None
    assert (made.sar, made.fps, made.rotation) == (Fraction(16, 15), Fraction(30000, 1001), 0)


def test_a_right_film_is_described_as_measured(tmp_path: Path) -> None:
    path = film(tmp_path, numbered(tmp_path / "t.mp4", 12), 50, 2.01)
    told = verify(path, 50, Fraction(25), 2.01, QUICK)
    assert (told["frames"], told["fps"], told["width"], told["codec"]) == (50, "25/1", 128, "h264")
    assert told["audio"]["codec"] == "aac"
    assert told["audio"]["seconds"] == pytest.approx(2.01, abs=0.002)


def test_a_film_with_too_few_frames_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path, numbered(tmp_path / "t.mp4", 12), 48, 2.0)
    with pytest.raises(EngineError, match="has 48 frames instead of 50"):
        verify(path, 50, Fraction(25), 2.0, QUICK)


def test_a_film_whose_sound_is_too_long_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path, numbered(tmp_path / "t.mp4", 12), 50, 2.2)
    with pytest.raises(EngineError, match=r"picture lasts 2\.000 s, its sound 2\.200 s"):
        verify(path, 50, Fraction(25), 2.0, QUICK)


def test_a_damaged_film_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path, numbered(tmp_path / "t.mp4", 12), 50, 2.0)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 2000
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(data)
    with pytest.raises(EngineError, match="cannot be decoded without errors"):
        verify(path, 50, Fraction(25), 2.0, QUICK)


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no sound"):
        verify(numbered(tmp_path / "t.mp4", 50), 50, Fraction(25), 2.0, QUICK)


def test_a_film_in_another_container_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path, numbered(tmp_path / "t.mp4", 12), 50, 2.0)
    ffmpeg("-i", path, "-c", "copy", "-f", "matroska", tmp_path / "b.mp4")
    with pytest.raises(EngineError, match="is matroska,webm instead of mp4"):
        verify(tmp_path / "b.mp4", 50, Fraction(25), 2.0, QUICK)


def test_an_encoder_that_fails_says_why(tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "t.mp4", 30))
    with pytest.raises(EngineError) as caught, FilmWriter(tmp_path / "no" / "a.mp4", clip, QUICK) as writer:
        for frame in clip.walk([0] * 400):
            writer.write(frame)
    assert "No such file or directory" in caught.value.detail


def test_nvenc_that_finds_no_room_on_the_gpu_is_no_defect_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heygemd.pipeline.media.write.encode.choose_encoder", lambda _: "h264_nvenc")
    said = "[h264_nvenc @ 0x1] OpenEncodeSessionEx failed: out of memory (10): (no details)"
    script = f"import sys; sys.stderr.write({said!r}); sys.exit(1)"
    monkeypatch.setattr("heygemd.pipeline.media.write.encode.FFMPEG", (sys.executable, "-c", script))
    clip = clip_of(numbered(tmp_path / "t.mp4", 2), QUICK)
    with pytest.raises(GpuMemoryError) as caught, FilmWriter(tmp_path / "a.mp4", clip, QUICK) as writer:
        for frame in clip.walk([0] * 50):
            writer.write(frame)
    assert "out of memory" in caught.value.message and said in caught.value.detail


def test_nvenc_is_chosen_only_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = replace(QUICK, encoder="auto")
    monkeypatch.setattr("heygemd.pipeline.media.write.encode.nvenc_works", lambda: True)
    assert choose_encoder(auto) == "h264_nvenc"
    monkeypatch.setattr("heygemd.pipeline.media.write.encode.nvenc_works", lambda: False)
    assert choose_encoder(auto) == "libx264"
    assert choose_encoder(QUICK) == "libx264"
    with pytest.raises(SetupError, match="h264_nvenc does not work on this machine"):
        choose_encoder(replace(QUICK, encoder="h264_nvenc"))


def test_the_nvenc_trial_answers_on_any_machine() -> None:
    pipeline_ffmpeg.nvenc_works.cache_clear()
    assert pipeline_ffmpeg.nvenc_works() in (True, False)


def test_one_thread_count_gives_one_film(tmp_path: Path) -> None:
    clip = clip_of(numbered(tmp_path / "t.mp4", 12))
    made = []
    for name in ("a.mp4", "b.mp4"):
        with FilmWriter(tmp_path / name, clip, replace(QUICK, threads=2)) as writer:
            for frame in clip.walk(range(12)):
                writer.write(frame)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
