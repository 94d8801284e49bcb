"""What a file is, and one sentence for everything that it should not be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import InputError
from heygemd.pipeline.media import probe
from heygemd.pipeline.media.read.probe import Want
from heygemd.pipeline.media.read.rates import frame_rate
from tests.pipeline.films import QUICK, ffmpeg, numbered, tone


def refusal(path: Path, want: Want, name: str = "lesson.mp4") -> InputError:
    with pytest.raises(InputError) as caught:
        probe(path, name, QUICK, want=want)
    assert name in str(caught.value)
    return caught.value


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_film_is_described(tmp_path: Path) -> None:
    path = numbered(
        tmp_path / "a.mp4", 30, "-c:v", "libx264", "-vf", "setsar=4/3", "-colorspace", "bt709", "-color_range", "tv"
    )
    found = probe(path, "a.mp4", QUICK, want="video")
    video = found.video
    assert video is not None
    assert (video.width, video.height, video.fps, video.codec) == (128, 96, 25, "h264")
    assert (video.sar, video.color_space, video.color_range) == (Fraction(4, 3), "bt709", "tv")
    assert (video.frames, video.bit_depth, video.vfr, video.still) == (30, 8, False, None)
    assert found.audio is None
    assert found.to_json()["video"]["fps"] == "25/1"


def test_an_empty_file(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "a", b""), "video").reason == "empty_file"


@pytest.mark.parametrize("name", ["a", "a.mp4", "a.mp3", "a.mkv", "a.png"])
def test_text_that_calls_itself_a_film(name: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path / name, b"Dear all,\nplease find attached\n" * 50), "video").reason == "not_media"


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    whole = numbered(tmp_path / "whole.mp4", 60).read_bytes()
    error = refusal(written(tmp_path / "a", whole[: len(whole) // 2]), "video")
    assert error.reason == "truncated"
    assert "moov" in str(error)


def test_sound_where_a_film_is_due(tmp_path: Path) -> None:
    error = refusal(tone(tmp_path / "a.m4a", 1), "video")
    assert error.reason == "no_video"
    assert "only sound" in str(error)


def test_a_cover_picture_is_no_film(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", tmp_path / "c.png")
    tone(tmp_path / "plain.mp3", 1)
    words = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic")
    ffmpeg("-i", tmp_path / "plain.mp3", "-i", tmp_path / "c.png", *words, tmp_path / "a.mp3")
    assert refusal(tmp_path / "a.mp3", "video").reason == "no_video"
    assert probe(tmp_path / "a.mp3", "a.mp3", QUICK, want="audio").audio is not None


def test_a_film_where_sound_is_due(tmp_path: Path) -> None:
    assert refusal(numbered(tmp_path / "a.mp4", 5), "audio").reason == "no_audio"


def test_sound_without_length(tmp_path: Path) -> None:
    assert refusal(tone(tmp_path / "a.wav", 1, "-t", "0"), "audio", "a.wav").reason == "empty_audio"


def test_a_picture_of_absurd_size(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=8x8", "-frames:v", "1", tmp_path / "small.png")
    assert refusal(tmp_path / "small.png", "still").reason == "bad_size"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=20000x32", "-frames:v", "1", tmp_path / "wide.png")
    assert refusal(tmp_path / "wide.png", "still").reason == "bad_size"
    data = bytearray((tmp_path / "small.png").read_bytes())
    data[16:24] = (200_000).to_bytes(4, "big") * 2  # a header that promises 120 GB of pixels
    assert refusal(written(tmp_path / "huge.png", bytes(data)), "still").reason == "undecodable"


def test_a_stream_that_lost_its_beginning(tmp_path: Path) -> None:
    whole = numbered(tmp_path / "whole.ts", 30, "-c:v", "libx264", "-g", "250").read_bytes()
    error = refusal(written(tmp_path / "a.ts", whole[188 * 20 :]), "video")
    assert error.reason == "undecodable"
    assert "0x0" not in str(error)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path / "a.mp4", b"x")
    monkeypatch.setattr(Path, "open", refuse)
    error = refusal(path, "video")
    assert error.reason == "unreadable"
    assert "permissions" in str(error)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing", "video").reason == "unreadable"


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{film}\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '{film}'\n",
        b"<?xml version='1.0'?><MPD type='static'><Period><AdaptationSet><Representation><BaseURL>{film}"
        b"</BaseURL></Representation></AdaptationSet></Period></MPD>",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["hls", "concat", "dash", "sdp"],
)
def test_a_playlist_that_points_elsewhere_is_never_followed(content: bytes, tmp_path: Path) -> None:
    film = numbered(tmp_path / "film.mp4", 5)
    path = written(tmp_path / "a.mp4", content.replace(b"{film}", str(film).encode()))
    assert refusal(path, "video").reason == "not_media"


def test_a_name_that_looks_like_a_pattern_is_one_file(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", "-update", "1", tmp_path / "b.png")
    path = (tmp_path / "b.png").rename(tmp_path / "pic%03d*.png")
    assert probe(path, "pic.png", QUICK, want="still").video is not None


@pytest.mark.parametrize(
    ("grid", "average", "expected"),
    [
        ("25/1", "25/1", (Fraction(25), False)),
        ("30/1", "1350/61", (Fraction(30), True)),
        ("30000/1001", "30000/1001", (Fraction(30000, 1001), False)),
        ("60000/1001", "30000/1001", (Fraction(30000, 1001), False)),
        ("1000/1", "24987/1000", (Fraction(25), True)),
        ("90000/1", "2997/100", (Fraction(30000, 1001), True)),
        ("240/1", "240/1", (Fraction(120), False)),
        ("0/0", "25/1", (Fraction(25), False)),
        ("19001/317", "19001/317", (Fraction(60000, 1001), False)),
        ("2999/100", "2999/100", (Fraction(2999, 100), False)),
        ("0/0", "0/0", None),
    ],
)
def test_the_rate_is_one_that_can_be_meant(grid: str, average: str, expected: Any) -> None:
    assert frame_rate({"r_frame_rate": grid, "avg_frame_rate": average}) == expected


def test_a_sound_of_one_sample_a_second_is_refused_and_not_stretched_to_hours(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", 1.0)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"fmt ") + 12
    raw[at : at + 4] = (1).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(InputError, match="1 samples per second"):
        probe(path, "a.wav", QUICK, want="audio")
