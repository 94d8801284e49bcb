"""Does a file look as if its end were still to come?  A few reads of its structure, nothing is decoded.

Sizes and times can be final long before the content is (Explorer and robocopy set both first), so a file
that has stopped changing is looked at once more.  The answer only delays: a file that stays unfinished for
``incomplete_seconds`` is taken all the same, and the probe then names what is wrong with it.
"""

from __future__ import annotations

from typing import BinaryIO

from heygemd.common.request import STILL_SUFFIXES

_MP4 = frozenset({".mp4", ".mov", ".m4v", ".m4a"})
_MATROSKA = frozenset({".mkv", ".webm"})
_RIFF = frozenset({".wav", ".avi"})

#: Suffixes for which there is anything to look at.
CHECKED_SUFFIXES = _MP4 | _MATROSKA | _RIFF | STILL_SUFFIXES | {".gif"}

#: Boxes that may open an ISO or QuickTime file; with anything else in front it is not one, whatever its name.
_FIRST_BOXES = frozenset(b"ftyp moov mdat free skip wide pnot uuid styp sidx moof emsg".split())
#: Steps of a walk; a film in fragments of a second has two boxes a second, so an hour of one is seen to its
#: end.
_STEPS = 4096
_TAIL = 65536
_UNKNOWN_32 = 0xFFFFFFFF


def incomplete(head: BinaryIO, size: int, suffix: str) -> str | None:
    """Why a file looks unfinished, as a clause such as ``its index (moov) is not there yet``; ``None`` if it
    does not.

    ``head`` is the file, seekable and open for reading, ``size`` its length in bytes and ``suffix`` its
    lower-case suffix with the dot.  Reads at most a few hundred KiB, whatever the bytes say.  A file of
    another kind than its suffix says is not unfinished: that is for the probe to tell.  Raises ``OSError``
    as reading does.
    """
    if size == 0:
        return "it is empty"
    start = _at(head, 0, 64)
    if not any(start):
        return "its beginning has not been written yet"
    if suffix in _MP4:
        return _mp4(head, size)
    if suffix in _MATROSKA:
        return _matroska(head, size)
    if suffix in _RIFF:
        return _riff(head, size)
    if suffix in STILL_SUFFIXES or suffix == ".gif":
        return _picture(head, size, start)
    return None


def _picture(file: BinaryIO, size: int, start: bytes) -> str | None:
    """PNG, JPEG and GIF have a mark at their end; some cameras put more behind it (not behind a GIF's)."""
    if start.startswith(b"\x89PNG"):
        mark = b"IEND"
    elif start.startswith(b"\xff\xd8"):
        mark = b"\xff\xd9"
    elif start.startswith(b"GIF8"):
        mark = b";"
    else:
        return None
    there = mark in _at(file, max(0, size - (_TAIL if len(mark) > 1 else 1)), _TAIL)
    return None if there else "the end of the picture is missing"


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _short(size: int, wanted: int) -> str:
    return f"only {size:,} of {wanted:,} bytes have arrived"


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Walks the top-level boxes (ISO/IEC 14496-12, 4.2)."""
    seen: set[bytes] = set()
    offset = 0
    for _ in range(_STEPS):
        if offset >= size:
            break
        kind, length = _box(file, offset, size)
        if not seen and kind not in _FIRST_BOXES:
            return None  # not an MP4 at all
        whole = b"moov" in seen and not seen.isdisjoint({b"mdat", b"moof"})
        if length < 8 or not kind.isascii():
            return None if whole else "its structure is invalid after the first parts"
        if offset + length > size and not (whole and kind not in (b"mdat", b"moof")):
            return f"its part '{kind.decode()}' is cut off: {_short(size, offset + length)}"
        seen.add(kind)
        offset += length
    else:
        return None
    if b"moov" not in seen:
        return "its index (moov) is missing"
    if size > 2 * _TAIL and not any(_at(file, size - _TAIL, _TAIL)):
        return "its end has not been written yet"
    return None


def _box(file: BinaryIO, offset: int, size: int) -> tuple[bytes, int]:
    """Type and length of the box at ``offset``; length 0 if it is invalid."""
    head = _at(file, offset, 16)
    length, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if len(head) < 8:
        return b"    ", size - offset if any(head) else 0
    if length == 1:
        length = int.from_bytes(head[8:16], "big") if len(head) == 16 else 0
    elif length == 0 and kind.strip(b"\0"):
        length = size - offset  # "to the end of the file"
    return kind, length


def _riff(file: BinaryIO, size: int) -> str | None:
    """RIFF, RIFX, RF64 and BW64: the length in the head, and where the sound is (EBU Tech 3306)."""
    head = _at(file, 0, 12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return None
    if len(head) < 12:
        return "its header is cut off"
    order = "big" if head[:4] == b"RIFX" else "little"
    length = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
    if length == _UNKNOWN_32:
        return None if head[:4] == b"RIFF" else _rf64(file, size)
    if length == 0:
        return "its header is incomplete, as in a recording that is still running"
    # One byte of grace: many writers count the padding of an odd last chunk and leave it out.
    if length + 8 > size + 1:
        return f"it is cut off: {_short(size, length + 8)}"
    return _wave_data(file, size, order) if head[8:12] == b"WAVE" else None


def _rf64(file: BinaryIO, size: int) -> str | None:
    head = _at(file, 12, 16)
    if head[:4] != b"ds64" or len(head) < 16:
        return "its header is cut off"
    length = int.from_bytes(head[8:16], "little")
    return f"it is cut off: {_short(size, length + 8)}" if length + 8 > size + 1 else None


def _wave_data(file: BinaryIO, size: int, order: str) -> str | None:
    offset = 12
    for _ in range(256):
        head = _at(file, offset, 8)
        if len(head) < 8:
            return "its sound is missing"
        length = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
        if head[:4] == b"data":
            if length == 0 and offset + 16 < size:
                return "its header is incomplete, as in a recording that is still running"
            cut = length != _UNKNOWN_32 and offset + 8 + length > size
            return f"its sound is cut off: {_short(size, offset + 8 + length)}" if cut else None
        offset += 8 + length + length % 2
    return None


def _matroska(file: BinaryIO, size: int) -> str | None:
    """EBML head, then the Segment with its length, unless that is unknown as in a live recording (RFC
    8794).
    """
    offset = 0
    for _ in range(16):
        name, length, body = _element(_at(file, offset, 12))
        if offset == 0 and name != b"\x1a\x45\xdf\xa3":
            return None
        if not name:
            return "its content is missing"
        end = None if length is None else offset + body + length
        if name == b"\x18\x53\x80\x67" or end is None:
            return f"it is cut off: {_short(size, end)}" if end is not None and end > size else None
        if end >= size:
            return "its content is missing"
        offset = end
    return None


def _element(head: bytes) -> tuple[bytes, int | None, int]:
    """Id, length (``None``: unknown) and bytes of the head of an EBML element; an empty id where there is
    none.
    """
    wide = 9 - head[0].bit_length() if head and head[0] else 9
    rest = head[wide:]
    long = 9 - rest[0].bit_length() if wide <= 4 and rest and rest[0] else 9
    if long > 8 or len(rest) < long:
        return b"", 0, 0
    bits = 7 * long
    value = int.from_bytes(rest[:long], "big") & ((1 << bits) - 1)
    return head[:wide], None if value == (1 << bits) - 1 else value, wide + long
