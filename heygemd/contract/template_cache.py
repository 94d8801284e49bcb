"""The template cache on disk: entries by hash, size limit, expiry, purge.  No arrays here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIX, PART = ".npz", "part-"
_PART_SECONDS = 3600.0  # after which a file that was never finished is nobody's


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """The folder: at most ``most_bytes``, nothing that was last used more than ``most_seconds`` ago."""

    folder: Path
    most_bytes: int
    most_seconds: float

    def prepare(self) -> None:
        """Create the folder, accessible only to its owner.  Raises ``OSError``."""
        if not self.folder.is_dir():
            if self.folder.parent.stat().st_uid != os.geteuid():
                raise PermissionError(f"{self.folder.parent} belongs to another user")
            self.folder.mkdir(mode=0o700, exist_ok=True)
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{self.folder} belongs to another user")
        if status.st_mode & 0o077:
            self.folder.chmod(0o700)

    def path(self, parts: Iterable[str]) -> Path:
        """Path of the entry of these ``parts``, whether it exists or not."""
        return self.folder / (hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest() + SUFFIX)

    def prune(self) -> int:
        """Delete entries that are too old, then the least recently used beyond the size limit; return their number."""
        now, room, forgotten = time.time(), self.most_bytes, 0
        for used, size, path in sorted(self._entries(), reverse=True):
            room -= size
            if room < 0 or now - used > self.most_seconds:
                path.unlink(missing_ok=True)
                forgotten += 1
        for part in self.folder.glob(f"{PART}*"):
            with contextlib.suppress(OSError):
                if now - part.stat().st_mtime > _PART_SECONDS:
                    part.unlink()
        return forgotten

    def purge(self) -> int:
        """Forget everything; how many entries there were."""
        entries = self._entries()
        for path in [*(path for _, _, path in entries), *self.folder.glob(f"{PART}*")]:
            path.unlink(missing_ok=True)
        return len(entries)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(last used, bytes, path) of each."""
        out = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process may have forgotten it meanwhile
                status = path.lstat()
                out.append((status.st_mtime, status.st_size, path))
        return out


def purge(folder: Path) -> int:
    """Forget everything that is kept in ``folder``; how many entries there were.  Raises ``OSError``."""
    if not folder.is_dir():
        return 0
    entries = [path for path in folder.iterdir() if path.suffix == SUFFIX or path.name.startswith(PART)]
    for path in entries:
        path.unlink(missing_ok=True)
    return len(entries)
