"""What was learned of a template is kept, so that its next film does not pay for it again.

An entry is a set of arrays under a name made of everything that they depend on: the template's bytes, the versions
of the programs that read them, the settings that matter.  Faces are biometric data: the folder is the owner's alone,
what has not been used for some days goes, and ``purge`` forgets everything.  Entries are ``.npz`` files without
pickles, whose checksums numpy's reader verifies; they are written aside and renamed, so none is ever half there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from heygemd import __version__
from heygemd.contract.template_cache import PART, CacheFolder

if TYPE_CHECKING:
    from heygemd.contract.job import Settings, Tell


ALGORITHM = 7
"""Of everything that is kept; a change of counting, tracking or flow that changes their results raises it."""
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by name, without objects in them."""
_RAW = "raw"  # the member of an entry that is no array
_CHUNK = 1 << 20


def write_arrays(file: BinaryIO, arrays: Arrays) -> None:
    """Write ``arrays`` as numpy's npz.  Raises ``OSError``."""
    save: Callable[..., None] = np.savez  # its stub takes arrays by keyword, and no mapping of them
    save(file, **arrays)


@dataclass(frozen=True, slots=True)
class TemplateCache(CacheFolder):
    """The cache folder with entries of arrays."""

    behind: list[Callable[..., None]] = field(default_factory=list, compare=False, repr=False)  # see Memory.behind

    def read(self, path: Path, names: Iterable[str]) -> Arrays:
        """The arrays ``names`` of an entry, which counts as used.  Raises one of ``_DAMAGE``."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
            arrays = {name: entry[name] for name in names}
        os.utime(path)
        return arrays

    def read_raw(self, path: Path, into: BinaryIO) -> None:
        """Copy an entry's raw bytes ``into`` a file, unharmed.  Raises one of ``_DAMAGE``."""
        with zipfile.ZipFile(path) as entry, entry.open(_RAW) as member:
            shutil.copyfileobj(member, into, _CHUNK)

    def write(self, path: Path, arrays: Arrays, raw: BinaryIO | None = None) -> None:
        """Keep an entry, with the bytes of the file ``raw`` if it is given, then make room.  Raises ``OSError``."""
        raw_bytes = raw.seek(0, os.SEEK_END) if raw else 0
        if sum(a.nbytes for a in arrays.values()) + raw_bytes > self.most_bytes:
            return
        handle, part = tempfile.mkstemp(prefix=PART, dir=self.folder)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                write_arrays(file, arrays)
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


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept about one subject, named by ``parts``; without a store nothing is."""

    store: TemplateCache | None = None
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

    def keep(self, raw: BinaryIO | None = None, /, **arrays: npt.NDArray[Any]) -> None:
        """Keep these arrays, and the bytes of the file ``raw``, which may be more than memory should hold.  Where that
        fails, a warning goes to the log: the film can be made without.  Nobody changes the arrays afterwards."""
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


def of(template: Path, settings: Settings, tell: Tell) -> Memory:
    """What is kept about the template in this file.  Raises ``OSError`` where the file cannot be read."""
    if not settings.cache_dir or settings.cache_mib <= 0:
        return NOTHING
    store = TemplateCache(Path(settings.cache_dir), settings.cache_mib << 20, settings.cache_days * 86_400.0)
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

    from heygemd.pipeline.ffmpeg import ffmpeg_version

    return (__version__, str(ALGORITHM), ffmpeg_version(), cv2.__version__, np.__version__)
