"""A film whose pictures are the template's own with a small rectangle of ours laid over each.

The encoder's ffmpeg decodes the template itself, so that only the rectangles travel between processes: whole pictures
through two pipes cost a tenth of a film's processor time.  Some rows of what it decoded come back and are
checked against the counting pass.
"""

from __future__ import annotations

import threading
import zlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED_WRITER, Child, cores
from heygemd.pipeline.media.frame import ROWS_APART
from heygemd.pipeline.media.read.clip import Clip
from heygemd.pipeline.media.read.decoder import converted, deinterlaced, output_range, upright_filters
from heygemd.pipeline.media.read.probe import input_argv
from heygemd.pipeline.media.read.seek import Stretch
from heygemd.pipeline.media.write.encode import Laid, choose_encoder, colour_argv, encoder_argv, encoder_failed

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in luma px, even, ends exclusive


class Differs(Exception):
    """The template decoded differently this time; what was made of it is not to be used."""


def possible(clip: Clip) -> bool:
    """Whether pictures of this template come out of the filters as they are and go into the encoder so: narrow range,
    nothing turned, padded, scaled or made of its neighbours."""
    info = clip.info
    plain = info.still is None and not info.rotation and not clip.padded and not converted(info)
    return plain and not deinterlaced(info) and output_range(info) == "tv"


class OverlayWriter:
    """Encodes a stretch of the template; a context manager as ``FilmWriter``, whose film has the same pictures.

    Leaving it normally raises ``Differs`` or, where ffmpeg failed, ``EngineError``.
    """

    def __init__(
        self, path: Path, clip: Clip, stretch: Stretch, box: Box, settings: Settings, laid: Laid | None = None
    ) -> None:
        """``box``: the place of the rectangles that are written; ``laid``: the label over the pictures."""
        self.path = path
        self.encoder = choose_encoder(settings)
        self.frames = 0
        self._expected = stretch.prints
        self._row_bytes = clip.width * -(-clip.height // ROWS_APART)
        self._found = 0  # pictures that came out as expected
        self._differs = False
        argv = _argv(path, clip, stretch, box, settings, self.encoder, laid)
        self._child = Child(argv, limits=UNTRUSTED_WRITER, stall=settings.media_seconds, feed=True)
        self._checker = threading.Thread(target=self._check, daemon=True)
        self._checker.start()

    def _check(self) -> None:
        """In a thread: read the rows, end the child where one picture's are not what they should be."""
        rows = np.empty(self._row_bytes, np.uint8)
        try:
            for expected in self._expected:
                if self._child.read_into(rows.data) < self._row_bytes:
                    return
                if zlib.crc32(rows.data) != expected:
                    self._differs = True
                    self._child.kill()
                    return
                self._found += 1
        except (EngineError, OSError, ValueError):  # it was ended; whoever ended it knows why
            return

    def write(self, patch: memoryview) -> None:
        """Lay the next rectangle over: planes Y, U, V and opacity (0 or 255), 4:2:0, as large as the box."""
        try:
            fed = self._child.write(patch)
        except (EngineError, OSError, ValueError):
            self._stop_if_different()
            raise
        if not fed:
            self._fail(self._child.finish())
        self.frames += 1

    def _stop_if_different(self) -> None:
        if self._differs:
            raise Differs

    def _fail(self, code: int) -> None:
        self._stop_if_different()
        raise encoder_failed(self.encoder, self.frames, code, self._child.tail)

    def __enter__(self) -> OverlayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._child.close_feed()
                self._checker.join()
                if code := self._child.finish():
                    self._fail(code)
                if self._differs or self._found < len(self._expected):
                    raise Differs
        finally:
            self._child.kill()
            self._checker.join()


def _argv(
    path: Path, clip: Clip, stretch: Stretch, box: Box, settings: Settings, encoder: str, laid: Laid | None
) -> list[str]:
    info, tags, count = clip.info, colour_argv(clip.info), str(len(stretch.prints))
    x0, y0, x1, y1 = box
    argv = [*FFMPEG, "-y", "-threads", str(cores(settings.threads))]
    argv += ["-ss", f"{stretch.seek:.6f}"] if stretch.seek is not None else []
    argv += ["-copyts", *input_argv(clip.path, info)]
    argv += ["-f", "rawvideo", "-pix_fmt", "yuva420p", "-s", f"{x1 - x0}x{y1 - y0}", "-framerate", _spelt(clip.fps)]
    argv += [*tags, "-i", "pipe:0", *(laid.argv(tags) if laid is not None else [])]
    argv += ["-filter_complex", _graph(clip, stretch, box, laid)]
    argv += ["-map", "[film]", "-frames:v", count, *encoder_argv(settings, encoder)]
    argv += ["-pix_fmt", "yuv420p", *tags, "-fps_mode", "passthrough", "-f", "mp4", f"file:{path}"]
    argv += ["-map", "[rows]", "-frames:v", count, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    return argv


def _graph(clip: Clip, stretch: Stretch, box: Box, laid: Laid | None) -> str:
    """Filters.  Both inputs are numbered, so that picture ``n`` meets rectangle ``n``.  The picture after the last is
    let in where there is one, because ``fps`` holds each back until it has seen the next."""
    info, (first, last) = clip.info, stretch.times
    rate, tick = _spelt(clip.fps), _spelt(1 / clip.fps)
    numbered = f"settb={tick},setpts=N"
    chosen = rf"select=between(pts\,{first}\,{last})"
    fields = ",".join(["field=top"] * (ROWS_APART.bit_length() - 1))  # each takes every other row
    sar = f"setsar={_spelt(info.sar)}"
    label = "" if laid is None else f"[mouths];[mouths][2:v]{laid.filter()}"
    return (
        f"[0:{info.index}]{upright_filters(info, clip.path)},{chosen},{numbered},fps={rate},split[base][seen];"
        f"[1:v]{numbered}[patch];[base][patch]overlay={box[0]}:{box[1]}:eval=init:eof_action=pass{label},{sar}[film];"
        f"[seen]{fields},extractplanes=y[rows]"
    )


def _spelt(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"
