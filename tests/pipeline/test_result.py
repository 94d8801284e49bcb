"""What is said about a film: advice, stages, versions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from heygemd.contract.job import Quiet, Settings
from heygemd.pipeline.media import AudioInfo, Media, VideoInfo, open_clip
from heygemd.pipeline.media.read import decoder
from heygemd.pipeline.media.write.encode import colour_argv
from heygemd.pipeline.result import Stages, advice, clip_warnings, versions

SOUND = AudioInfo(0, "pcm_s16le", 44100, 2, 20.0, 0.0, 0)
PICTURE = VideoInfo(
    0, 640, 480, Fraction(25), Fraction(25), False, 500, 20.0, 0.0, "h264", "yuv420p", 8, 0, Fraction(1),
    None, None, None, None, "progressive", None,
)  # fmt: skip


def codes(sound: AudioInfo = SOUND, picture: VideoInfo = PICTURE) -> list[str]:
    audio, video = Media("wav", 20.0, 0.0, None, sound), Media("mp4", 20.0, 0.0, picture, None)
    return [code for code, _ in advice(audio, video, "a.wav", "v.mp4")]


def test_good_inputs_get_no_advice() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("sound", "code"),
    [
        ({"seconds": 301.0}, "long_audio"),
        ({"codec": "mp3"}, "lossy_audio"),
        ({"codec": "aac"}, "lossy_audio"),
        ({"codec": "pcm_mulaw"}, "lossy_audio"),
    ],
)
def test_advice_on_sound(sound: dict[str, Any], code: str) -> None:
    assert codes(sound=replace(SOUND, **sound)) == [code]


@pytest.mark.parametrize("codec", ["flac", "alac", "pcm_s24le", "pcm_f32le"])
def test_lossless_sound_gets_none(codec: str) -> None:
    assert codes(sound=replace(SOUND, codec=codec)) == []


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        ({"codec": "hevc"}, "not_h264"),
        ({"fps": Fraction(8)}, "slow_rate"),
    ],
)
def test_advice_on_pictures(picture: dict[str, Any], code: str) -> None:
    assert codes(picture=replace(PICTURE, **picture)) == [code]


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ({}, {}),
        ({"field_order": "tt"}, {}),  # a flag alone, with whole pictures behind it
        ({"fields": "tff"}, {"interlaced": "25/1 frames per second"}),
        ({"fields": "bff", "rotation": 90}, {"interlaced": "combing remains visible"}),
        ({"pix_fmt": "yuv420p10le", "bit_depth": 10}, {"converted": "yuv420p10le"}),
        ({"pix_fmt": "yuvj444p"}, {"converted": "yuvj444p"}),
        ({"bit_depth": 10, "color_transfer": "smpte2084"}, {"hdr": "PQ", "converted": "8-bit"}),
        ({"color_transfer": "arib-std-b67"}, {"hdr": "HLG"}),
    ],
)
def test_what_was_done_to_the_pictures_is_said(picture: dict[str, Any], said: dict[str, str]) -> None:
    clip = open_clip(Path("v.mp4"), replace(PICTURE, **picture), Settings())
    found = dict(clip_warnings(clip))
    assert found.keys() == said.keys()
    assert all(word in found[code] for code, word in said.items())


def test_hdr_that_this_ffmpeg_cannot_convert_is_said_to_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "has_filters", lambda *_: False)
    info = replace(PICTURE, color_transfer="smpte2084", color_primaries="bt2020")
    assert "bands" in dict(clip_warnings(open_clip(Path("v.mp4"), info, Settings())))["hdr"]
    assert colour_argv(info) == ["-color_primaries", "bt2020", "-color_trc", "smpte2084"]


def test_a_photo_need_not_be_h264() -> None:
    assert codes(picture=replace(PICTURE, codec="mjpeg", pix_fmt="yuvj420p", still="jpeg_pipe")) == []


def test_stages_are_timed_in_order_and_a_failed_one_is_not_noted() -> None:
    stages = Stages(Quiet())
    with stages("audio"):
        pass
    with stages("face", 50):
        pass
    with pytest.raises(ZeroDivisionError), stages("lips"):
        raise ZeroDivisionError
    assert [(stage["name"], stage["frames"]) for stage in stages.done] == [("audio", 0), ("face", 50)]
    assert all(stage["seconds"] >= 0 for stage in stages.done)


def test_versions_name_only_what_had_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    told = versions()
    assert {"heygemd", "ffmpeg", "python", "numpy"} <= told.keys()
    assert "torch" not in told
