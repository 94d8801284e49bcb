"""Native pixels of one rectangle of each of many frames, in a temporary file without a name.

Mouths are shown again over other frames; without these pixels the template would have to be decoded once more for them.
They are read piece by piece and never mapped: a long template's would count as this process's memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from heygemd.common.errors import EngineError
from heygemd.pipeline.image.compose import Area, Planes

if TYPE_CHECKING:
    from heygemd.pipeline.media import Frame
    from heygemd.pipeline.template_cache import Arrays, Memory

_KEPT = ("frames", "areas")


def _nameless() -> BinaryIO:
    """A temporary file that is gone when it is closed, and that ``_name`` may give a name before."""
    try:
        return os.fdopen(os.open(tempfile.gettempdir(), os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600), "w+b")
    except OSError:  # not every file system has them
        return cast(BinaryIO, tempfile.TemporaryFile(prefix="heygemd-patches-"))


def _name(file: int, path: Path) -> None:
    """Give an open file this name; where that cannot be, a copy of it gets it."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # with a folder's descriptor, the link in /proc is followed (linkat(2), AT_SYMLINK_FOLLOW)
        os.link(f"/proc/self/fd/{file}", path.name, dst_dir_fd=folder)
    except OSError:
        with Path(f"/proc/self/fd/{file}").open("rb") as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
    finally:
        os.close(folder)


class Patches:
    """Rectangles of frames by frame number."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self._areas: dict[int, Area] = {}
        self._at: dict[int, int] = {}
        self._file = file or _nameless()
        self._end, self._written = 0, 0

    def add(self, i: int, area: Area, pixels: Frame | Planes) -> None:
        """Keep ``area`` of frame ``i``; ``pixels`` are the whole frame's, or the area's own planes."""
        planes = pixels if isinstance(pixels, Planes) else area.of(pixels)
        self._areas[i], self._at[i] = area, self._end
        for plane in planes:
            self._end += self._file.write(np.ascontiguousarray(plane).data)

    def __contains__(self, i: int) -> bool:
        return i in self._at

    def covers(self, i: int, area: Area) -> bool:
        """Whether all of ``area`` of frame ``i`` is kept."""
        own = self._areas.get(i)
        return own is not None and area.within(own)

    def get(self, i: int) -> tuple[Area, Planes]:
        """Where the rectangle of frame ``i`` lies in its frame, and its pixels.  Raises ``EngineError`` where the
        file's disk fails."""
        if self._written < self._end:
            self._file.flush()
            self._written = self._end
        area = self._areas[i]
        width, height = area.size
        luma, chroma = width * height, width * height // 4
        pixels = np.empty(luma + 2 * chroma, np.uint8)
        if os.preadv(self._file.fileno(), [pixels.data], self._at[i]) < len(pixels):
            raise EngineError("The temporary file with the template's mouth pixels cannot be read again.")
        u, v = (pixels[at : at + chroma].reshape(height // 2, width // 2) for at in (luma, luma + chroma))
        return area, Planes(pixels[:luma].reshape(height, width), u, v)

    def part(self, i: int, area: Area) -> Planes:
        """The pixels of ``area``, which frame ``i`` covers."""
        own, planes = self.get(i)
        return planes if own == area else area.inside(own, planes)

    def keep(self, memory: Memory, areas: Iterable[tuple[int, Area]]) -> None:
        """Keep ``areas``, all covered, for the next film; ``recalled`` reads them back."""
        kept = Patches()
        for i, area in areas:
            kept.add(i, area, self.part(i, area))
        kept._file.flush()
        bounds = np.array([area.bounds for area in kept._areas.values()], np.int64).reshape(-1, 4)
        memory.keep(kept._file, frames=np.array(list(kept._areas), np.int64), areas=bounds)

    def lay(self, path: Path) -> Arrays:
        """Let the file have this name; ``laid`` reads it with what is returned.  Raises ``OSError``."""
        self._file.flush()
        path.unlink(missing_ok=True)
        _name(self._file.fileno(), path)
        os.fsync(self._file.fileno())
        frames, bounds = list(self._areas), [area.bounds for area in self._areas.values()]
        at = np.array([self._at[i] for i in frames], np.int64)
        return {"frames": np.array(frames, np.int64), "areas": np.array(bounds, np.int64).reshape(-1, 4), "at": at}

    @staticmethod
    def laid(path: Path, arrays: Arrays) -> Patches:
        """The inverse of ``lay``.  Raises ``OSError``, and ``ValueError`` where the file is too short."""
        made = Patches(path.open("rb"))
        for i, bounds, at in zip(*(arrays[name].tolist() for name in ("frames", "areas", "at")), strict=True):
            area = Area(*bounds)
            made._areas[i], made._at[i] = area, at
            made._end = max(made._end, at + area.size[0] * area.size[1] * 3 // 2)
        made._written = made._end
        if path.stat().st_size < made._end:
            raise ValueError(f"{path.name} is too short")
        return made

    @staticmethod
    def recalled(memory: Memory) -> Patches | None:
        """What was kept there."""
        made = Patches()
        kept = memory.recall(*_KEPT, raw=made._file)
        if kept is None:
            return None
        for i, bounds in zip(kept["frames"].tolist(), kept["areas"].tolist(), strict=True):
            area = Area(*bounds)
            made._areas[i], made._at[i] = area, made._end
            made._end += area.size[0] * area.size[1] * 3 // 2
        return made
