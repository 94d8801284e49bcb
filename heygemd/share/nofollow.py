"""Files below a line's folders, reached by handle: on the way to them no symbolic link is followed.

Whoever can write to a share can put a link in place of a folder between two steps, and would have files elsewhere read,
moved, written or removed.  So the folders that the configuration names are opened anew for each operation (a link at
or above one of them is the operator's, and works), and from there every component is opened without following links;
what is then done is done to a name in a folder that is held open.  Other places (the work folder, libraries) are the
machine's own and are reached by their paths.

Where a link is in the way, ``ELOOP`` is raised; all errors carry the whole path that was asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

BARRED = (errno.ELOOP, errno.ENOTDIR)
"""A folder of the line is something else now, perhaps a link."""
_RENAME_NOREPLACE = 1
_HELD = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)
_trusted: tuple[str, ...] = ()


def trust(folders: Iterable[str]) -> None:
    """From now on these folders are lines', in this process: below them no link is followed."""
    global _trusted
    _trusted = _longest_first(folders)


def _longest_first(folders: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted((folder.rstrip("/") for folder in folders), key=len, reverse=True))


# ---------------------------------------------------------------- on the way


@contextlib.contextmanager
def folder(path: str, *, make: bool = False, read: bool = False, trusted: Iterable[str] | None = None) -> Iterator[int]:
    """A handle of a folder, to act on names in it; with ``read`` also to list and to fsync it.

    ``make``: what is missing of it is made.  ``trusted``: in place of what ``trust`` was told.
    """
    base, parts = _split(path, _trusted if trusted is None else _longest_first(trusted))
    if make and not Path(base).is_dir():
        Path(base).mkdir(parents=True, exist_ok=True)
    with _named(path):
        fd = os.open(base, _READ if read and not parts else _HELD)
    try:
        for number, part in enumerate(parts, 1):
            with _named(path):
                inner = _step(fd, part, make=make, flags=_READ if read and number == len(parts) else _HELD)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def parent(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """A handle of the folder in which ``path`` lies, and its name there.  Errors about that name get the path."""
    above, name = os.path.split(path.rstrip("/"))
    with contextlib.ExitStack() as held:
        with _named(path):
            fd = held.enter_context(folder(above, make=make))
        try:
            yield fd, name
        except OSError as error:
            if error.filename == name:
                error.filename = path
            raise


def _split(path: str, trusted: Iterable[str]) -> tuple[str, list[str]]:
    """The folder that is trusted, and the components below it; the path alone where it is no line's."""
    for base in trusted:
        if path == base or path.startswith(base + "/"):
            parts = [part for part in path[len(base) :].split("/") if part not in ("", ".")]
            if ".." in parts:
                raise OSError(errno.ELOOP, "a path must not contain '..'", path)
            return base or "/", parts
    return path or ".", []


def _step(fd: int, part: str, *, make: bool, flags: int) -> int:
    try:
        return os.open(part, flags | os.O_NOFOLLOW, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, f"{part} is a symbolic link; links are not followed here", part) from None
        raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, dir_fd=fd)
    return _step(fd, part, make=False, flags=flags)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors get the whole path, as if the kernel had gone all the way."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


def is_gone(error: OSError) -> bool:
    """Whether it says that a file is not there: its folder may be gone too, or something else in its place."""
    return error.errno == errno.ENOENT or error.errno in BARRED


# ---------------------------------------------------------------- what is done there


def open_regular(path: str) -> BinaryIO:
    """Open for reading, following no link and waiting for no FIFO; ``EINVAL`` for what is no regular file."""
    with parent(path) as (fd, name):
        inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    if not stat.S_ISREG(os.fstat(inner).st_mode):
        os.close(inner)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(inner, "rb")


def create(name: str, fd: int) -> BinaryIO:
    """A new file in the folder ``fd``; ``EEXIST`` if the name exists."""
    return os.fdopen(os.open(name, _NEW, 0o666, dir_fd=fd), "wb")


def write_new(fd: int, name: str, data: bytes) -> None:
    """A new file with this content in the folder ``fd``, fsynced.  A failed fsync is never tried again on the same
    file: the caller writes the file anew."""
    with create(name, fd) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def status(path: str) -> os.stat_result:
    """Of the name itself, be it a link."""
    with parent(path) as (fd, name):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


def exists(path: str) -> bool:
    """Whether the name is there.  Unlike ``os.path.lexists`` it takes no error for a no: what cannot be seen may well
    be there."""
    try:
        status(path)
    except FileNotFoundError:
        return False
    return True


def unlink(path: str) -> None:
    """Remove a name; nothing happens if it does not exist."""
    with contextlib.suppress(FileNotFoundError), parent(path) as (fd, name):
        os.unlink(name, dir_fd=fd)


def sync_folder(path: str) -> None:
    """fsync a folder; file systems that cannot (old cifs: EINVAL) have made the entry durable in their own way."""
    with folder(path, read=True) as fd:
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise


# ---------------------------------------------------------------- names that change


def rename_new(source: str, target: str) -> bool:
    """Rename without replacing; false where ``target`` exists.

    ``renameat2(RENAME_NOREPLACE)`` where the file system has it.  NFS does not: there a file is linked and unlinked
    (``link`` fails on a taken name), and a folder is renamed, which replaces an empty folder at most.  A run that died
    between link and unlink, or whose link was done though NFS called it failed, has left two names of one file: the
    first is removed.
    """
    with parent(source) as (here, old), parent(target) as (there, new):
        result = _libc.renameat2(here, os.fsencode(old), there, os.fsencode(new), _RENAME_NOREPLACE)
        if result == 0:
            return True
        number = ctypes.get_errno()
        if number == errno.EEXIST:
            return _finish_link(here, old, there, new)
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), source)
        if stat.S_ISDIR(os.stat(old, dir_fd=here, follow_symlinks=False).st_mode):
            return _rename_folder(here, old, there, new)
        try:
            os.link(old, new, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
        except FileExistsError:
            return _finish_link(here, old, there, new)
        os.unlink(old, dir_fd=here)
        return True


def _finish_link(here: int, old: str, there: int, new: str) -> bool:
    """Remove the first name if both are names of one file; false otherwise."""
    try:
        first = os.stat(old, dir_fd=here, follow_symlinks=False)
        second = os.stat(new, dir_fd=there, follow_symlinks=False)
    except FileNotFoundError:
        return False
    # A share that makes inode numbers up may give two files the same; without a second link they are not the same.
    if first.st_nlink < 2 or not os.path.samestat(first, second):
        return False
    os.unlink(old, dir_fd=here)
    return True


def _rename_folder(here: int, old: str, there: int, new: str) -> bool:
    try:
        os.rename(old, new, src_dir_fd=here, dst_dir_fd=there)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True
