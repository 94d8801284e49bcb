"""What a film's picture consists of, packet by packet, so that a joined film need not be decoded a second time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, OURS, Child, cores

_FRAMES = re.compile(r"^frame=\s*(\d+)")
_PARAMETERS = "#extradata 0:"
_HASHES = ("-c", "copy", "-f", "framehash", "-hash", "md5", "pipe:1")

CAREFUL = ("-xerror", "-err_detect", "explode", "-skip_loop_filter", "all")
"""Input options of a decode that stops at the first fault.  Nobody looks at these pictures: smoothing the borders of
blocks, which no fault of a stream depends on, is saved."""


@dataclass(frozen=True, slots=True)
class Packets:
    """``parameters``: the decoder's, sent before the first packet; ``digest``: of the sizes and checksums of all
    ``count`` packets."""

    parameters: str
    count: int
    digest: str


def decoded(film: Path, frames: int, settings: Settings) -> Packets:
    """Decode the picture of ``film``, which only we have written, from end to end; what it consists of.

    Raises ``EngineError`` where it does not decode without an error into ``frames`` frames.
    """
    decoded_frames = 0

    def count(line: str) -> bool:
        nonlocal decoded_frames
        if match := _FRAMES.match(line):
            decoded_frames = int(match.group(1))
        return "=" in line and not line.startswith("[")

    argv = [*FFMPEG, *CAREFUL, "-progress", "pipe:2", "-threads", str(cores(settings.threads)), "-i", f"file:{film}"]
    argv += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-", "-map", "0:v:0", *_HASHES]
    parameters, listing, code, tail = _listened(Child(argv, limits=OURS, stall=settings.media_seconds, on_line=count))
    if code != 0 or "[error]" in tail:
        raise EngineError("A segment of the finished film cannot be decoded without errors.", detail=tail)
    if decoded_frames != frames:
        raise EngineError(f"A segment of the finished film has {decoded_frames} frames instead of {frames}.")
    return _summed(parameters, listing)


def consists_of(film: Path, parts: Sequence[Packets], settings: Settings) -> bool:
    """Whether the picture of ``film`` is ``parts``, one after the other, for a decoder too.  Nothing is decoded.

    Raises ``EngineError`` where it cannot be read.
    """
    argv = [*FFMPEG, "-i", f"file:{film}", "-map", "0:v:0", *_HASHES]
    parameters, listing, code, tail = _listened(Child(argv, limits=OURS, stall=settings.media_seconds))
    if code != 0:
        raise EngineError("The finished film cannot be read.", detail=tail)
    at, packets = 0, []
    for part in parts:
        packets.append(_summed(parameters, listing[at : at + part.count]))
        at += part.count
    return packets == list(parts) and at == len(listing)


def _summed(parameters: str, listing: Sequence[str]) -> Packets:
    return Packets(parameters, len(listing), hashlib.sha256("\n".join(listing).encode()).hexdigest())


def _listened(child: Child) -> tuple[str, list[str], int, str]:
    """Parameters, size and checksum of each packet, exit code, last words."""
    output = bytearray()
    try:
        while chunk := child.read_some():
            output += chunk
        code = child.finish()
    finally:
        child.kill()
    lines = output.decode("ascii", "replace").splitlines()
    parameters = "".join(line for line in lines if line.startswith(_PARAMETERS))
    listing = [line.split(",", 4)[4].strip() for line in lines if line.count(",") == 5 and line[:1] != "#"]
    return parameters, listing, code, child.tail
