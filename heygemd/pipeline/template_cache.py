"""What was learned of a template is kept, so that its next film does not pay for it again.

An entry is a set of arrays under a name made of everything that they depend on: the template's bytes, the versions
of the programs that read them, the settings that matter.  Faces are biometric data: the folder is the owner's alone,
what has not been used for some days goes, and ``purge`` forgets everything.  Entries are ``.npz`` files without
pickles, whose checksums numpy's reader verifies; they are written aside and renamed, so none is ever half there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from heygemd import __version__

if TYPE_CHECKING:
    from heygemd.contract.job import Settings, Tell

Arrays = dict[str, Any]  # numpy arrays without objects in them

ALGORITHM = 7
"""Of everything that is kept; a change of counting, tracking or flow that changes their results raises it."""
_SUFFIX, _PART = ".npz", "part-"
_RAW = "raw"  # the member of an entry that is no array
_CHUNK = 1 << 20
_PART_SECONDS = 3600.0  # after which a file that was never finished is nobody's
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Store:
    """The folder: at most ``most_bytes``, nothing that was last used more than ``most_seconds`` ago."""

    folder: Path
    most_bytes: int
    most_seconds: float
    behind: list[Callable[..., Any]] = field(default_factory=list, compare=False, repr=False)  # see Memory.behind

    def prepare(self) -> None:
        """Make the folder, for the owner alone.  Raises ``OSError`` where that cannot be."""
        if not self.folder.is_dir():
            if self.folder.parent.stat().st_uid != os.geteuid():
                raise PermissionError(f"{self.folder.parent} belongs to another user")
            self.folder.mkdir(mode=0o700, exist_ok=True)
        told = self.folder.lstat()
        if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.geteuid():
            raise PermissionError(f"{self.folder} belongs to another user")
        if told.st_mode & 0o077:
            self.folder.chmod(0o700)

    def path(self, parts: Iterable[str]) -> Path:
        """Where the entry of these ``parts`` lies, if there is one."""
        return self.folder / (hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest() + _SUFFIX)

    def read(self, path: Path, names: Iterable[str]) -> Arrays:
        """The arrays ``names`` of an entry, which counts as used.  Raises one of ``_DAMAGE``."""
        import numpy as np

        with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
            arrays = {name: entry[name] for name in names}
        os.utime(path)
        return arrays

    def read_raw(self, path: Path, into: BinaryIO) -> None:
        """Copy an entry's raw bytes ``into`` a file, unharmed.  Raises one of ``_DAMAGE``."""
        with zipfile.ZipFile(path) as entry, entry.open(_RAW) as member:
            shutil.copyfileobj(member, into, _CHUNK)

    def write(self, path: Path, arrays: Arrays, raw: BinaryIO | None = None) -> None:
        """Keep an entry, with the bytes of the file ``raw`` where there is one, then make room.  Raises ``OSError``."""
        import numpy as np

        raw_bytes = raw.seek(0, os.SEEK_END) if raw else 0
        if sum(a.nbytes for a in arrays.values()) + raw_bytes > self.most_bytes:
            return
        handle, part = tempfile.mkstemp(prefix=_PART, dir=self.folder)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
            if raw is not None:
                raw.seek(0)
                with zipfile.ZipFile(part, "a") as entry, entry.open(_RAW, "w", force_zip64=True) as member:
                    shutil.copyfileobj(raw, member, _CHUNK)
            Path(part).replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(part).unlink()
            raise
        self.prune()

    def prune(self) -> int:
        """Forget what is too old, and what has not been used for longest where there is too much; how many entries."""
        now, room, forgotten = time.time(), self.most_bytes, 0
        for used, size, path in sorted(self._entries(), reverse=True):
            room -= size
            if room < 0 or now - used > self.most_seconds:
                path.unlink(missing_ok=True)
                forgotten += 1
        for part in self.folder.glob(f"{_PART}*"):
            with contextlib.suppress(OSError):
                if now - part.stat().st_mtime > _PART_SECONDS:
                    part.unlink()
        return forgotten

    def purge(self) -> int:
        """Forget everything; how many entries there were."""
        entries = self._entries()
        for path in [*(path for _, _, path in entries), *self.folder.glob(f"{_PART}*")]:
            path.unlink(missing_ok=True)
        return len(entries)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(last used, bytes, path) of each."""
        out = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another process may have forgotten it meanwhile
                told = path.lstat()
                out.append((told.st_mtime, told.st_size, path))
        return out


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept about one subject, named by ``parts``; without a store nothing is."""

    store: Store | None = None
    tell: Tell | None = None
    parts: tuple[str, ...] = ()

    def about(self, *more: object) -> Memory:
        """A narrower subject."""
        return Memory(self.store, self.tell, (*self.parts, *map(str, more)))

    def recall(self, *names: str, raw: BinaryIO | None = None) -> Arrays | None:
        """The arrays of these names, as they were kept, and the raw bytes beside them copied into the file ``raw``;
        None where nothing is.  A damaged entry is dropped."""
        if self.store is None or self.tell is None:
            return None
        path = self.store.path(self.parts)
        if not path.exists():
            return None
        try:
            if raw is not None:
                self.store.read_raw(path, raw)
            return self.store.read(path, names)
        except _DAMAGE as error:
            self.tell.event("template_cache_damaged", level="warning", entry=path.name, problem=repr(error))
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    @property
    def has_some(self) -> bool:
        """Whether anything is kept about this subject."""
        return self.store is not None and self.store.path(self.parts).exists()

    @contextlib.contextmanager
    def behind(self) -> Iterator[None]:
        """Within, all that is kept in this store is written by a thread of its own, and it is written at the end:
        a minute's pictures of a face are 100 MB."""
        if self.store is None:
            yield
            return
        written: list[Future[None]] = []
        with ThreadPoolExecutor(1, "keep") as writer:
            self.store.behind.append(lambda *what: written.append(writer.submit(*what)))
            try:
                yield
            finally:
                self.store.behind.pop()
        for one in written:
            one.result()

    def keep(self, raw: BinaryIO | None = None, /, **arrays: Any) -> None:
        """Keep these arrays, and the bytes of the file ``raw``, which may be more than memory should hold.  Where that
        fails, a warning is told: the film can be made without.  Nobody changes the arrays afterwards."""
        if self.store is not None and self.store.behind:
            self.store.behind[-1](self._keep, raw, arrays)
        else:
            self._keep(raw, arrays)

    def _keep(self, raw: BinaryIO | None, arrays: Arrays) -> None:
        if self.store is None or self.tell is None:
            return
        try:
            self.store.write(self.store.path(self.parts), arrays, raw)
        except OSError as error:
            self.tell.event("template_cache_not_written", level="warning", problem=str(error))


NOTHING = Memory()
"""Keeps nothing."""


def purge(folder: Path) -> int:
    """Forget everything that is kept in ``folder``; how many entries there were.  Raises ``OSError``."""
    if not folder.is_dir():
        return 0
    entries = [path for path in folder.iterdir() if path.suffix == _SUFFIX or path.name.startswith(_PART)]
    for path in entries:
        path.unlink(missing_ok=True)
    return len(entries)


def of(template: Path, settings: Settings, tell: Tell) -> Memory:
    """What is kept about the template in this file.  Raises ``OSError`` where the file cannot be read."""
    if not settings.cache_dir or settings.cache_mib <= 0:
        return NOTHING
    store = Store(Path(settings.cache_dir), settings.cache_mib << 20, settings.cache_days * 86_400.0)
    try:
        store.prepare()
        store.prune()
    except OSError as error:
        tell.event("template_cache_unusable", level="warning", folder=settings.cache_dir, problem=str(error))
        return NOTHING
    with template.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return Memory(store, tell, (content, *versions()))


def versions() -> tuple[str, ...]:
    """Of everything whose results may differ from one version to the next."""
    import cv2
    import numpy as np

    from heygemd.pipeline.ffmpeg import ffmpeg_version

    return (__version__, str(ALGORITHM), ffmpeg_version(), cv2.__version__, np.__version__)
