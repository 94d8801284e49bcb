"""Still pictures: which demuxer reads them, and which way up they are (EXIF), told from their first bytes.

The orientation is read here because ffmpeg 5 to 7 honours it in JPEG only and newer ones in more formats;
with ``-noautorotate`` and our own filters the result does not depend on the version.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD = 1 << 20  # bytes of a file that are searched for its EXIF block
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a picture is put upright: the ffmpeg filters, and the degrees counterclockwise (mirrors aside)."""

    rotation: int
    filters: tuple[str, ...]


_TURNS = {
    2: Orientation(0, ("hflip",)),
    3: Orientation(180, ("hflip", "vflip")),
    4: Orientation(0, ("vflip",)),
    5: Orientation(90, ("transpose=cclock_flip",)),
    6: Orientation(270, ("transpose=clock",)),
    7: Orientation(270, ("transpose=clock_flip",)),
    8: Orientation(90, ("transpose=cclock",)),
}  # EXIF 2.3, tag 274
UPRIGHT = Orientation(0, ())


def still_demuxer(path: Path) -> str | None:
    """``jpeg_pipe`` or ``png_pipe`` by the file's first bytes, else ``None``."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg_pipe"
    return "png_pipe" if head == b"\x89PNG\r\n\x1a\n" else None


def turn_of(path: Path, demuxer: str | None) -> Orientation:
    """How the still at ``path`` must be turned; upright where it does not say or says nonsense."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    block = _jpeg_exif(head) if demuxer == "jpeg_pipe" else _png_exif(head)
    try:
        return _TURNS.get(_orientation(block), UPRIGHT)
    except struct.error:
        return UPRIGHT


def _jpeg_exif(head: bytes) -> bytes:
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, size = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
            return head[at + 10 : at + 2 + size]
        if marker in (0xDA, 0xD9) or size < 2:
            break
        at += 2 + size
    return b""


def _png_exif(head: bytes) -> bytes:
    at = 8
    while at + 8 <= len(head):
        size, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if kind == b"eXIf":
            return head[at + 8 : at + 8 + size]
        at += 12 + size
    return b""


def _orientation(block: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    (first,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, first)
    for entry in range(min(count, 200)):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", block, first + 2 + 12 * entry)
        if tag == _ORIENTATION and kind == 3:
            return int(value)
    return 1
