"""Interlaced templates: whether two moments really are in one picture, and which of them came first.

A flag alone does not tell: cameras and editors put whole pictures into interlaced streams, and streams are passed on
with the order of another.  So a first stretch is checked if the file has such a flag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED, run

_LOOKED_AT = 200  # pictures: eight seconds, in which somebody who speaks moves
_WHOLE = 0.1  # share of combed pictures below which pictures count as whole; 3:2 pulldown has 0.4
_ORDERS = {"T": "tff", "tt": "tff", "tb": "tff", "B": "bff", "bb": "bff", "bt": "bff"}  # showinfo's, ffprobe's
_SEEN = re.compile(r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)")
_FLAG = re.compile(r"\] n: *0 .* i:([TBP]) ")


def flagged(shown: str | None, told: str | None) -> str | None:
    """``"tff"``, ``"bff"`` or ``None`` (whole), as the first picture is flagged or, failing that, the stream.

    ``shown``: a line of ffmpeg's showinfo.  ``told``: ffprobe's field_order.
    """
    seen = _FLAG.search(shown or "")
    return (_ORDERS.get(seen.group(1)) if seen else None) or _ORDERS.get(told or "")


def order_of_fields(source: Sequence[str], flag: str, settings: Settings) -> str | None:
    """Which field comes first, ``"tff"`` or ``"bff"``; ``None`` where pictures are whole in spite of their flag.

    ``source``: ffmpeg's words from the input to ``-map``.  Where nothing moves, ``flag`` holds.
    """
    counts = [0, 0, 0]

    def hear(line: str) -> bool:
        if seen := _SEEN.search(line):
            counts[:] = map(int, seen.groups())
        return False

    argv = [*FFMPEG[:-1], "repeat+level+info", *source, "-frames:v", str(_LOOKED_AT)]
    run([*argv, "-vf", "idet", "-f", "null", "-"], limits=UNTRUSTED, stall=settings.media_seconds, on_line=hear)
    top, bottom, whole = counts
    if top + bottom + whole and top + bottom < _WHOLE * (top + bottom + whole):
        return None
    return flag if top == bottom else "tff" if top > bottom else "bff"
