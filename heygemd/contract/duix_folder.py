"""The folder shared with a Duix.Avatar container (its ``/code/data``): ``temp`` holds inputs and results.

The container writes there, as root, and is not trusted: every name is looked up in the open folder itself, no link is
followed, only plain files of a bounded size are read.  Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

PREFIX = "heygemd-"
TEMP = "temp"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPlain(Exception):
    """There is something under that name, but no plain file of a size that a film can have."""


def new_code() -> str:
    """A task id that no other has, and by which everything that belongs to the task is found again."""
    return f"{PREFIX}{uuid.uuid4()}"


def inputs_of(code: str) -> tuple[str, str]:
    """File names of a task's sound and video in the shared folder."""
    return f"{code}.wav", f"{code}.mp4"


def result_of(code: str) -> str:
    """The container's file name of a task's film."""
    return f"{code}-r.mp4"


def bare(result: str, code: str) -> str:
    """The film's name in ``temp``, from what the container says; its usual one where that is no name of this task's.

    It says ``/<code>-r.mp4``, meaning ``temp``; an absolute path of its own is taken by its last part.
    """
    name = result.rpartition("/")[2]
    return name if _PLAIN.fullmatch(name) and name.startswith(code) else result_of(code)


class Shared:
    """One shared folder.  Every method raises ``OSError`` if the folder is missing or refuses access."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def _temp(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        outer = os.open(self.folder, flags)
        try:
            inner = os.open(TEMP, flags | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
        try:
            yield inner
        finally:
            os.close(inner)

    def put(self, source: Path, name: str) -> None:
        """Put a copy of ``source`` there; it appears whole."""
        part = f"{name}.part"
        with self._temp() as temp:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=temp)
            with source.open("rb") as file, os.fdopen(os.open(part, _MAKE, 0o644, dir_fd=temp), "wb") as out:
                os.fchmod(out.fileno(), 0o644)  # whoever the container runs as must read it
                while piece := file.read(_PIECE):
                    out.write(piece)
            os.rename(part, name, src_dir_fd=temp, dst_dir_fd=temp)

    def size(self, name: str) -> int | None:
        """Size of a regular file in bytes; ``None`` if it does not exist.  Raises ``NotPlain``."""
        with self._temp() as temp:
            try:
                status = os.stat(name, dir_fd=temp, follow_symlinks=False)
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(status.st_mode):
            raise NotPlain(f"{name} is not a regular file")
        return status.st_size

    def take(self, name: str, target: Path, most: int) -> int:
        """Copy a plain file of at most ``most`` bytes to ``target``; how many they were.  Raises ``NotPlain``."""
        with self._temp() as temp, os.fdopen(os.open(name, _READ, dir_fd=temp), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > most:
                raise NotPlain(f"{name} is not a regular file of at most {most >> 20} MiB")
            copied = 0
            with target.open("wb") as out:
                while copied < status.st_size and (piece := file.read(min(_PIECE, status.st_size - copied))):
                    out.write(piece)
                    copied += len(piece)
        return copied

    def of(self, code: str) -> list[str]:
        """The names of everything that belongs to a task."""
        with self._temp() as temp:
            return sorted(name for name in os.listdir(temp) if name.startswith(code))  # noqa: PTH208

    def clean(self, code: str) -> None:
        """Remove everything that belongs to a task: the container never does."""
        assert code.startswith(PREFIX) and len(code) > len(PREFIX)
        for name in self.of(code):
            self._remove(name)

    def sweep(self, before: float) -> int:
        """Remove what tasks of ours left that were abandoned (cancelled, or late for their deadline): files last
        written before ``before``, in seconds since the epoch.  How many they were."""
        with self._temp() as temp:
            old = [
                entry.name
                for entry in os.scandir(temp)
                if entry.name.startswith(PREFIX) and entry.stat(follow_symlinks=False).st_mtime < before
            ]
        for name in old:
            self._remove(name)
        return len(old)

    def _remove(self, name: str) -> None:
        with self._temp() as temp, contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=temp)
