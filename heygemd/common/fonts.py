"""Reads from a font which characters it has (its ``cmap`` table, OpenType 1.9, formats 4 and 12); draws nothing."""

from __future__ import annotations

import struct
from pathlib import Path

from heygemd.common.shipped import DATA

OURS = DATA / "label.otf"
"""The font that travels with heygemd, see ``data/LICENSE-label-font.txt``."""

_MOST_BYTES = 64 << 20
_UNICODE = {(0, 3), (0, 4), (0, 6), (3, 1), (3, 10)}  # (platform, encoding) of tables by Unicode code points


def missing(text: str, font: Path) -> str:
    """The characters of ``text`` that ``font`` lacks, each once, in order.  Raises ``OSError``, and ``ValueError``
    where the file is no OpenType font."""
    has = _ranges(font)
    lacking = [c for c in dict.fromkeys(text) if not any(low <= ord(c) <= high for low, high in has)]
    return "".join(lacking)


def _ranges(font: Path) -> list[tuple[int, int]]:
    """The code points that the font has, as ranges with both ends.  Of a collection, the first font's."""
    if font.stat().st_size > _MOST_BYTES:
        raise ValueError("is too large for a font")
    data = font.read_bytes()
    try:
        start = struct.unpack_from(">I", data, 12)[0] if data[:4] == b"ttcf" else 0
        if data[start : start + 4] not in (b"OTTO", b"true", b"\0\1\0\0"):
            raise ValueError("is not an OpenType font (.otf, .ttf, .ttc)")
        cmap = next(
            struct.unpack_from(">I", data, at + 8)[0]
            for at in range(start + 12, start + 12 + 16 * struct.unpack_from(">H", data, start + 4)[0], 16)
            if data[at : at + 4] == b"cmap"
        )
        found = []
        for n in range(struct.unpack_from(">H", data, cmap + 2)[0]):
            *kind, offset = struct.unpack_from(">HHI", data, cmap + 4 + 8 * n)
            if tuple(kind) in _UNICODE:
                found += _table(data, cmap + offset)
    except (struct.error, StopIteration) as error:
        raise ValueError("is damaged: its character table cannot be read") from error
    return found


def _table(data: bytes, at: int) -> list[tuple[int, int]]:
    form = struct.unpack_from(">H", data, at)[0]
    if form == 12:
        groups = struct.unpack_from(">I", data, at + 12)[0]
        rows = (struct.unpack_from(">III", data, at + 16 + 12 * n) for n in range(groups))
        return [(low, high) for low, high, glyph in rows if glyph]
    if form != 4:
        return []
    count = struct.unpack_from(">H", data, at + 6)[0] // 2
    ends = struct.unpack_from(f">{count}H", data, at + 14)
    starts = struct.unpack_from(f">{count}H", data, at + 16 + 2 * count)
    deltas = struct.unpack_from(f">{count}H", data, at + 16 + 4 * count)
    offsets = struct.unpack_from(f">{count}H", data, at + 16 + 6 * count)
    found = []
    for n, (low, high, delta, offset) in enumerate(zip(starts, ends, deltas, offsets, strict=True)):
        place = at + 16 + 6 * count + 2 * n + offset
        for code in range(low, min(high, 0xFFFE) + 1):
            glyph = struct.unpack_from(">H", data, place + 2 * (code - low))[0] if offset else (code + delta) & 0xFFFF
            if glyph:
                found.append((code, code))
    return found
