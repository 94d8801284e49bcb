from __future__ import annotations

import io
import random
import subprocess
import wave
from pathlib import Path

import pytest

from heygemd.share.completeness import CHECKED_SUFFIXES, incomplete


def look(data: bytes, suffix: str) -> str | None:
    return incomplete(io.BytesIO(data), len(data), suffix)


def box(kind: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return (len(body) + 8 if length is None else length).to_bytes(4, "big") + kind + body


FTYP = box(b"ftyp", b"isom\0\0\0\0")
MOOV = box(b"moov", b"m" * 100)
MDAT = box(b"mdat", b"d" * 1000)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    files = {}
    for name, more in {
        "plain.mp4": [],
        "fast.mp4": ["-movflags", "+faststart"],
        "fragments.mp4": ["-movflags", "+frag_keyframe+empty_moov", "-g", "5"],
        "old.mov": [],
        "a.mkv": [],
        "a.webm": ["-c:v", "libvpx"],
        "a.avi": ["-c:v", "mpeg4"],
        "a.png": ["-frames:v", "1"],
        "a.jpg": ["-frames:v", "1"],
        "a.gif": [],
        "a.wav": [],
        "a.m4a": [],
    }.items():
        sound = Path(name).suffix in (".wav", ".m4a")
        source = "sine=d=1" if sound else "testsrc=s=64x64:r=10:d=2"
        argv = [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            source,
            "-threads",
            "1",
            *more,
            str(folder / name),
        ]
        subprocess.run(argv, check=True)
        files[name] = (folder / name).read_bytes()
    return files


def test_whole_files_of_every_kind_look_complete(film: dict[str, bytes]) -> None:
    for name, data in film.items():
        assert look(data, Path(name).suffix) is None, name


def test_a_file_whose_end_is_missing_looks_unfinished(film: dict[str, bytes]) -> None:
    for name, data in film.items():
        if name == "fragments.mp4":
            continue
        for part in (0.3, 0.7, 0.97):
            cut = data[: int(len(data) * part)]
            assert look(cut, Path(name).suffix), (name, part)


def test_a_file_that_was_given_its_size_before_its_content_looks_unfinished(film: dict[str, bytes]) -> None:
    for name in ("plain.mp4", "old.mov", "a.png", "a.jpg"):
        data = film[name]
        half = data[: len(data) // 2]
        assert look(half + bytes(len(data) - len(half) + 70000), Path(name).suffix), name
    for suffix in (*CHECKED_SUFFIXES, ".mp3"):
        assert look(bytes(100_000), suffix) == "its beginning has not been written yet"


def test_fragments_cut_within_their_data_look_unfinished(film: dict[str, bytes]) -> None:
    data = film["fragments.mp4"]
    last = data.rindex(b"mdat")
    assert look(data[: last + 20], ".mp4")


def test_an_empty_file_looks_unfinished_whatever_it_is_called() -> None:
    assert look(b"", ".mp4") == "it is empty"
    assert look(b"", ".xyz") == "it is empty"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (FTYP + MDAT, "moov"),
        (FTYP + box(b"mdat", b"d" * 10, 5000), "mdat"),
        (FTYP + MOOV + MDAT[:500], "mdat"),
        (FTYP + MOOV[:50], "moov"),
        (FTYP + MDAT + bytes(100), "structure is invalid"),
        (FTYP + box(b"mdat", b"", 1) + (10**15).to_bytes(8, "big"), "mdat"),
        (FTYP + MDAT + b"\0\0\0", "structure is invalid"),
        (FTYP, "moov"),
    ],
)
def test_an_mp4_in_progress_is_named_for_what_is_missing(data: bytes, word: str) -> None:
    assert word in (look(data, ".mp4") or "")


@pytest.mark.parametrize(
    "data",
    [
        FTYP + MOOV + MDAT,
        FTYP + MDAT + MOOV,
        FTYP + MOOV + box(b"mdat", b"d" * 50, 0),
        FTYP + MOOV + b"\0\0\0\1mdat" + (16 + 50).to_bytes(8, "big") + b"d" * 50,
        FTYP + MOOV + MDAT + bytes(64),
        FTYP + MOOV + MDAT + b"trailing words of a camera",
        b"This is a text that somebody called lesson.mp4, for a reason of theirs.",
        b"\x47" * 188 * 4,
    ],
)
def test_an_mp4_that_is_whole_or_none_at_all_is_not_held_up(data: bytes) -> None:
    assert look(data, ".mp4") is None


def riff(body: bytes, length: int | None = None, kind: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + body
    return kind + (len(body) if length is None else length).to_bytes(4, "little") + body


FMT = b"fmt " + (16).to_bytes(4, "little") + bytes(16)


def data_chunk(body: bytes, length: int | None = None) -> bytes:
    return b"data" + (len(body) if length is None else length).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("data", "unfinished"),
    [
        (riff(FMT + data_chunk(b"s" * 100)), False),
        (riff(FMT + data_chunk(b"s" * 101)), False),
        (riff(FMT + data_chunk(b"s" * 101), 4 + 24 + 8 + 102), False),
        (riff(FMT + data_chunk(b"s" * 100, 0xFFFFFFFF), 0xFFFFFFFF), False),
        (riff(FMT + data_chunk(b"")), False),
        (riff(FMT + b"LIST" + (4).to_bytes(4, "little") + b"abcd" + data_chunk(b"s" * 8)), False),
        (b"ID3 not a wave file at all", False),
        (riff(FMT + data_chunk(b"s" * 100), 0), True),
        (riff(FMT + data_chunk(b"s" * 100, 0)), True),
        (riff(FMT + data_chunk(b"s" * 100, 5000)), True),
        (riff(FMT + data_chunk(b"s" * 100), 9000), True),
        (riff(FMT), True),
        (b"RIFF\1", True),
        (
            b"RF64" + b"\xff" * 4 + b"WAVEds64" + (28).to_bytes(4, "little") + (10**10).to_bytes(8, "little"),
            True,
        ),
    ],
)
def test_a_wave_file_is_judged_by_its_lengths(data: bytes, unfinished: bool) -> None:
    assert bool(look(data, ".wav")) is unfinished


def test_a_wave_file_that_ends_in_silence_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\1\1" * 16000 + bytes(320_000))
    assert look(path.read_bytes(), ".wav") is None


def test_a_live_recording_of_unknown_length_is_complete(film: dict[str, bytes]) -> None:
    data = bytearray(film["a.mkv"])
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    assert look(bytes(data[: len(data) // 2]), ".mkv") is None


def test_hostile_bytes_end_in_an_answer_and_few_reads(film: dict[str, bytes]) -> None:
    class Counting(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            Counting.reads += 1
            assert size is not None and 0 < size <= 65536
            return super().read(size)

    chance = random.Random(7)
    seeds = [*film.values(), riff(FMT + data_chunk(b"s" * 100)), FTYP + MOOV + MDAT]
    for _ in range(1500):
        data = bytearray(chance.choice(seeds)[:3000])
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(min(len(data), chance.choice((16, 64, 3000))))] = chance.choice((0, 1, 255, 127))
        suffix = chance.choice(sorted(CHECKED_SUFFIXES))
        incomplete(Counting(bytes(data)), chance.choice((len(data), 10**12)), suffix)
    Counting.reads = 0
    incomplete(Counting(FTYP + box(b"free") * 50_000), 10**15, ".mp4")
    assert Counting.reads < 10_000
