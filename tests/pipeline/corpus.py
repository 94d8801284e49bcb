"""Files that lie, break off or reach out: a seeded corpus of media under media endings.

A file depends on the seed and its number alone (and on the installed ffmpeg, which makes the honest files that are
spoiled), so that what one of them found can be found again.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.pipeline.films import bursts, ffmpeg
from tests.pipeline.messy import scene

X264 = ("-c:v", "libx264", "-preset", "ultrafast")
HOURS = 36_000  # seconds: ten hours


@dataclass(frozen=True)
class Spoiled:
    """One file of the corpus."""

    number: int
    how: str  # what was done to what
    suffix: str
    data: bytes

    @property
    def sound(self) -> bool:
        """Whether it goes by the ending of a sound."""
        return self.suffix in SOUNDS


SOUNDS = {
    "wav": (), "mp3": ("-c:a", "libmp3lame"), "m4a": ("-c:a", "aac"), "flac": (), "ogg": ("-c:a", "libvorbis"),
    "opus": ("-c:a", "libopus"), "wma": ("-c:a", "wmav2"), "aac": ("-c:a", "aac"),
}  # fmt: skip
FILMS = {
    "mp4": X264, "mov": ("-c:v", "mjpeg"), "mkv": X264, "webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "avi": ("-c:v", "mpeg4"), "ts": X264, "mpg": ("-c:v", "mpeg2video"), "gif": ("-pix_fmt", "rgb8"),
}  # fmt: skip


@cache
def honest(folder: Path) -> dict[str, bytes]:
    """A small good file of each kind, by ending."""
    folder.mkdir(exist_ok=True)
    found = {}
    for suffix, words in SOUNDS.items():
        found[suffix] = bursts(folder / f"a.{suffix}", *words, rate=16000, channels=1).read_bytes()
    for suffix, words in FILMS.items():
        found[suffix] = scene(folder / f"a.{suffix}", *words, count=25).read_bytes()
    for suffix in ("png", "jpg"):
        ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x128", "-frames:v", "1", folder / f"a.{suffix}")
        found[suffix] = (folder / f"a.{suffix}").read_bytes()
    return found


# ------------------------------------------------------------ bytes that were changed


def _flips(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    for _ in range(chance.choice((1, 4, 16, 64, 256))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _head_flips(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    for _ in range(chance.choice((1, 3, 9))):
        data[chance.randrange(min(len(data), 256))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))


def _cut(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    del data[chance.randrange(len(data)) :]


def _hole(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    at = chance.randrange(len(data))
    size = min(len(data) - at, chance.choice((64, 1024, 8192)))
    data[at : at + size] = bytes(size)


def _foreign_head(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    size = chance.choice((4, 12, 64, 512))
    data[:size] = good[chance.choice(sorted(good))][:size]


def _joined(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    data[chance.randrange(len(data)) :] = good[chance.choice(sorted(good))]


def _numbers(data: bytearray, chance: random.Random, good: dict[str, bytes]) -> None:
    """Numbers of a head made absurd: sizes, rates, durations, counts."""
    names = [b"mvhd", b"mdhd", b"tkhd", b"stts", b"stsz", b"stco", b"elst", b"avc1", b"mp4a", b"avih", b"strh", b"strf"]
    names += [b"fmt ", b"data", b"IHDR", b"\xff\xc0", b"fLaC", b"moov", b"trun", b"stsc", b"ctts", b"\x00\x00\x01\xb3"]
    there = [name for name in names if name in data]
    at = data.index(chance.choice(there)) if there else chance.randrange(len(data))
    for _ in range(chance.choice((1, 2, 4))):
        place = min(at - 4 + 4 * chance.randrange(12), len(data) - 4)
        value = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 16384, 65535 << 16, HOURS, HOURS * 90000))
        data[max(0, place) : max(0, place) + 4] = struct.pack(chance.choice((">I", "<I")), value & 0xFFFFFFFF)


_WAYS = (_flips, _head_flips, _cut, _hole, _foreign_head, _joined, _numbers, _numbers)


def mutated(seed: int, count: int, folder: Path) -> Iterator[Spoiled]:
    """``count`` honest files, each spoiled in one way, kinds and ways in turn."""
    good = honest(folder)
    kinds = sorted(good)
    for n in range(count):
        chance = random.Random(f"{seed}-{n}")
        suffix, way = kinds[n % len(kinds)], _WAYS[n // len(kinds) % len(_WAYS)]
        data = bytearray(good[suffix])
        way(data, chance, good)
        yield Spoiled(n, f"{way.__name__} {suffix}", suffix, bytes(data))


# ------------------------------------------------------------ files that are whole, and absurd


def _lavfi(source: str, *words: str) -> Callable[[Path], None]:
    return lambda path: ffmpeg("-f", "lavfi", "-i", source, *words, path)


def _with_sound(*words: str) -> Callable[[Path], None]:
    sources = ("-f", "lavfi", "-i", "testsrc=s=160x128:d=1", "-f", "lavfi", "-i", "sine=d=1")
    return lambda path: ffmpeg(*sources, *words, path)


def _with_text(path: Path) -> None:
    words = path.with_name("words.srt")
    words.write_text("1\n00:00:00,000 --> 00:00:01,000\n<b>hello</b>\n")
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x128:d=1", "-i", words, "-c:s", "mov_text", *X264, path)


def _only_text(path: Path) -> None:
    words = path.with_name("words.srt")
    words.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    ffmpeg("-i", words, "-c:s", "srt", "-f", "matroska", path)


_ABSURD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "one pixel": ("mkv", _lavfi("testsrc=s=16x16:d=1,scale=1:1", "-c:v", "ffv1")),
    "one pixel, png": ("png", _lavfi("color=s=16x16,scale=1:1", "-frames:v", "1")),
    "16384 wide": ("mkv", _lavfi("color=s=16384x64:d=0.4", "-c:v", "ffv1")),
    "16384 high": ("mkv", _lavfi("color=s=64x16384:d=0.4", "-c:v", "ffv1")),
    "wider than can be": ("mkv", _lavfi("color=s=20000x32:d=0.2", "-c:v", "ffv1")),
    "67 million pixels": ("jpg", _lavfi("color=s=8192x8192", "-frames:v", "1")),
    "negative times": ("mkv", _lavfi("testsrc=d=1,setpts=PTS-100/TB", *X264, "-avoid_negative_ts", "disabled")),
    "negative times, mp4": ("mp4", _lavfi("testsrc=d=1,setpts=PTS-2/TB", *X264, "-avoid_negative_ts", "disabled")),
    "a gap of ten hours": ("mkv", _lavfi(f"testsrc=s=160x128:d=1,setpts=PTS+gte(N\\,12)*{HOURS}/TB", *X264)),
    "times that jump back": ("ts", _lavfi("testsrc=s=160x128:d=1,setpts=PTS+mod(N\\,5)*3/TB", "-c:v", "mpeg2video")),
    "all at one time": ("mkv", _lavfi("testsrc=s=160x128:d=1,setpts=0", "-fps_mode", "passthrough", *X264)),
    "one picture": ("mp4", _lavfi("testsrc=s=160x128:d=1", "-frames:v", "1", *X264)),
    "no picture": ("mkv", _lavfi("testsrc=s=160x128:d=1,select=0", *X264)),
    "1000 a second": ("mkv", _lavfi("testsrc=s=160x128:r=1000:d=0.5", *X264)),
    "one in an hour": ("mkv", _lavfi("testsrc=s=160x128:r=1/3600:d=7200", *X264)),
    "48 channels": ("wav", lambda path: bursts(path, channels=48, rate=16000)),
    "one sample": ("wav", _lavfi("sine=d=1,atrim=end_sample=1")),
    "one sample a second": ("wav", _lavfi("sine=d=1,asetrate=1")),
    "sound and many more streams": ("mkv", _with_sound(*("-map", "0", "-map", "1") * 12, "-c:v", "mpeg4")),
    "subtitles beside": ("mp4", _with_text),
    "subtitles alone": ("mkv", _only_text),
    "sound alone": ("mp4", _lavfi("sine=d=1", "-c:a", "aac")),
    "pictures in a sound file": ("m4a", _with_sound(*X264, "-c:a", "aac", "-f", "mp4")),
    "silence of no length": ("wav", _lavfi("sine=d=1", "-t", "0")),
    "changes its size": ("ts", lambda path: _changing(path)),
}  # fmt: skip


def _changing(path: Path) -> None:
    """Two streams with pictures of two sizes, one behind the other."""
    data = b""
    for size in ("160x128", "320x64"):
        part = path.with_name(f"{size}.ts")
        ffmpeg("-f", "lavfi", "-i", f"testsrc=s={size}:d=1", *X264, part)
        data += part.read_bytes()
    path.write_bytes(data)


def absurd(folder: Path) -> Iterator[Spoiled]:
    """Files that ffmpeg makes and nobody should."""
    for n, (how, (suffix, make)) in enumerate(_ABSURD.items()):
        path = folder / f"absurd-{n}.{suffix}"
        make(path)
        yield Spoiled(n, how, suffix, path.read_bytes())


# ------------------------------------------------------------ files that reach out


def reaching(target: Path, port: int, folder: Path) -> Iterator[Spoiled]:
    """Texts and films that name ``target``, a file outside, and a server on localhost's ``port``.

    The words for each kind are under endings of films and sounds.
    """
    film, url = f"file://{target}", f"http://127.0.0.1:{port}/x.mp4"
    texts = {}
    for what, place in (("file", film), ("path", str(target)), ("net", url)):
        texts |= {
            f"hls {what}": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{place}\n#EXT-X-ENDLIST\n",
            f"m3u {what}": f"{place}\n",
            f"concat {what}": f"ffconcat version 1.0\nfile '{place}'\n",
            f"dash {what}": "<?xml version='1.0'?><MPD type='static' profiles='urn:mpeg:dash:profile:isoff-live:2011'>"
            f"<Period><AdaptationSet><Representation id='1'><BaseURL>{place}</BaseURL></Representation>"
            "</AdaptationSet></Period></MPD>",
            f"svg {what}": "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' "
            f"width='64' height='64'><image width='64' height='64' xlink:href='{place}'/></svg>",
            f"asx {what}": f"<asx version='3.0'><entry><ref href='{place}'/></entry></asx>",
            f"pls {what}": f"[playlist]\nFile1={place}\nNumberOfEntries=1\n",
            f"xml entity {what}": f"<!DOCTYPE a [<!ENTITY x SYSTEM '{place}'>]><a>&x;</a>",
        }
    texts["sdp net"] = f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n"
    texts["edl"] = f"# mpv EDL v0\n{target}\n"
    for n, (how, text) in enumerate(texts.items()):
        yield Spoiled(n, how, ("mp4", "mkv", "ts", "png", "wav", "mp3")[n % 6], text.encode())
    whole = scene(folder / "linked.mov", *X264, count=25).read_bytes()
    for n, place in enumerate((film, url), len(texts)):
        yield Spoiled(n, "mov data reference", "mov", _elsewhere(whole, place))


def _elsewhere(mov: bytes, place: str) -> bytes:
    """A QuickTime film whose pictures are said to lie in another file."""
    entry = b"url \0\0\0\0" + place.encode() + b"\0"
    return _replaced(mov, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), entry)


def _replaced(data: bytes, way: tuple[bytes, ...], entry: bytes) -> bytes:
    """The boxes of ``data`` with the entries of the one at the end of ``way`` replaced by one."""
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        if kind == way[0]:
            entries = struct.pack(">III", 0, 1, len(entry) + 4) + entry
            body = _replaced(body, way[1:], entry) if len(way) > 1 else entries
        out += struct.pack(">I4s", len(body) + 8, kind) + body
        at += size
    return out
