"""Operations that change a line's folders; with ``queries.py`` the only code that touches them.

Every function here is one *operation*: it may be killed at any instant and done again, and says in its docstring what
a second run does.  They run in a child process (``python -m heygemd.share``, driven by ``client.py``):
an operation on a share that has gone away can hang in the kernel, where no signal reaches; the daemon then goes on.

Nothing here overwrites a name that somebody else may have taken, and nothing is visible under its final name before
it is whole: copies are written to ``.heygemd-*.part``, fsynced, and then renamed without replacing.  How a name is
reached, so that no link leads elsewhere, is the business of ``nofollow.py``.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from heygemd.common.errors import FULL
from heygemd.share import nofollow
from heygemd.share.answers import Filed, LaidDown, Moved, PutBack, Removed, RemovedFiles, Revealed, StagedFile, Taken
from heygemd.share.ignore import ignored
from heygemd.share.nofollow import (
    BARRED,
    exists,
    folder,
    is_gone,
    open_regular,
    parent,
    rename_new,
    sync_folder,
    unlink,
)
from heygemd.share.queries import free_bytes

PART_PREFIX = ".heygemd-"
_CHUNK = 1 << 20


# ---------------------------------------------------------------- claiming


def open_drop(drop: str, request: Mapping[str, object]) -> None:
    """Make ``processing/<drop>/`` with ``request.json`` in it.  Again: the same."""
    write_whole(os.path.join(drop, "request.json"), base64.b64encode(_pretty(request)).decode())


def move(source: str, target: str) -> Moved:
    """Rename a file or folder that is ours to take; ``"moved"``, ``"already"`` or ``"gone"``.

    On NFS a rename that reports failure may have happened all the same, so both names are looked at, not the error.
    What lay in a folder that is a link now is gone from there.
    """
    with folder(os.path.dirname(target), make=True):
        pass  # whatever is wrong with it is not the source's
    try:
        if rename_new(source, target):
            return "moved"
    except OSError as error:
        if not is_gone(error):
            raise
        return "already" if exists(target) else "gone"
    # The target lies in a folder that is ours alone: it is there because an earlier run moved it.  A source that is
    # there still is a newer file of the same name, and stays.
    return "already"


def take_input(source: str, target: str, stamps: Mapping[str, Sequence[int]]) -> Taken:
    """Move a settled input out of the inbox as ``move`` does; ``"changed"`` where it is not as it was when it settled.

    ``stamps``: ``[size, mtime_ns, inode]`` of the file (at ``""``) or, by name, of every file in the folder; without
    any nothing is compared.  They are compared right before the rename and, but for the inode (some shares make its
    number from the path), after it: a file that changed in between is ``"changed"`` too, and is at ``target`` then.
    An input that an earlier run moved is not compared again.  Again: as ``move``.
    """
    try:
        if _differs(source, stamps, inodes=True) and not exists(target):
            return "changed"
    except OSError as error:
        if not is_gone(error):
            raise  # of what is gone ``move`` says whether it was moved by an earlier run
    answer = move(source, target)
    return "changed" if answer == "moved" and _differs(target, stamps, inodes=False) else answer


def _differs(path: str, stamps: Mapping[str, Sequence[int]], *, inodes: bool) -> bool:
    if not stamps:
        return False
    infos = {"": nofollow.status(path)}
    if "" not in stamps:
        if not stat.S_ISDIR(infos[""].st_mode):
            return True  # a link, perhaps, has taken the job folder's place
        infos = _files_in(path)
    count = 3 if inodes else 2
    here = {name: _stamp(info)[:count] for name, info in infos.items() if stat.S_ISREG(info.st_mode)}
    return here != {name: tuple(stamp[:count]) for name, stamp in stamps.items()}


def _files_in(path: str) -> dict[str, os.stat_result]:
    """The files in a job folder; the ignore list holds as for the listing that they are compared with."""
    with folder(path, read=True) as fd:
        names = [name for name in os.listdir(fd) if not ignored(name)]
        return {name: os.stat(name, dir_fd=fd, follow_symlinks=False) for name in names}


def _stamp(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ino


def put_back(source: str, target: str) -> PutBack:
    """Move an input back into the inbox: ``"moved"``, ``"gone"`` (moved by an earlier run), or ``"taken"`` where
    somebody has a file of that name there now."""
    try:
        with folder(os.path.dirname(target), make=True):
            pass
        return "moved" if rename_new(source, target) else "taken" if exists(source) else "gone"
    except FileNotFoundError:
        return "gone"


@contextmanager
def _if_there() -> Iterator[None]:
    """A missing file is no error."""
    try:
        yield
    except OSError as error:
        if not is_gone(error):
            raise


def sync_folders(folders: list[str]) -> None:
    """Sync the folders of a move, before the move is relied on.  Again: the same."""
    for path in folders:
        with _if_there():  # somebody's subfolder of the inbox may go once it is empty
            sync_folder(path)


def discard_drop(drop: str, folders: Sequence[str] = ()) -> None:
    """Remove a drop folder in which no input is: ``folders`` in it if they are empty, ``request.json``, and itself.

    ``folders`` are relative to it.  Again: nothing.
    """
    for path in sorted(folders, key=len, reverse=True):
        remove_empty(os.path.join(drop, path))
    for name in ("request.json", f"{PART_PREFIX}request.json.part"):
        with _if_there():
            unlink(os.path.join(drop, name))
    remove_empty(drop)


def stage(source: str, target: str) -> StagedFile:
    """Copy a claimed input to a local file of ours while hashing it.

    Symbolic links, devices and FIFOs are refused (``ELOOP``/``EINVAL``).  Again: the copy is made again.
    """
    os.makedirs(os.path.dirname(target), exist_ok=True)
    digest = hashlib.sha256()
    with open_regular(source) as file, open(target, "wb") as copy:
        before = os.fstat(file.fileno())
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        after = os.fstat(file.fileno())
    steady = _times(before) == _times(after)
    return StagedFile(digest.hexdigest(), after.st_size, steady)


# ---------------------------------------------------------------- publishing


def put(source: str, part: str) -> str:
    """Copy a local file to ``part`` on the share, fsynced; return its SHA-256.  Again: written again.

    ``ENOSPC`` where there is no room, before anything is copied if that can be seen; no half copy then fills the rest.
    """
    with parent(part, make=True) as (fd, name):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
        size, free = os.stat(source).st_size, free_bytes(fd)
        if 0 < free < size:
            message = f"No space left: {free >> 20} MiB are free, the film needs {(size >> 20) + 1} MiB"
            raise OSError(errno.ENOSPC, message, part)
        try:
            digest = _copy(source, fd, name)
        except OSError as error:
            if error.errno in FULL:
                with suppress(OSError):
                    os.unlink(name, dir_fd=fd)
            raise
    sync_folder(os.path.dirname(part))
    return digest


def _copy(source: str, fd: int, name: str) -> str:
    """Copy a local file to a new one in the folder ``fd``, fsynced; its SHA-256."""
    digest = hashlib.sha256()
    with open(source, "rb") as file, nofollow.create(name, fd) as copy:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def write_part(part: str, data: str) -> None:
    """Write base64 ``data`` to ``part``, fsynced, its name too.  Again: written again."""
    with parent(part, make=True) as (fd, name):
        _write_part(fd, name, data)
    sync_folder(os.path.dirname(part))


def reveal(part: str, final: str, outbox: str) -> Revealed:
    """Give a whole part its final name: ``"moved"``, ``"taken"`` (by somebody else), or ``"gone"``.

    ``"gone"`` means that it was revealed before: a part disappears in no other way, unless somebody has removed its
    whole folder from the outbox.  An outbox that is not there is an error.
    """
    answer: Revealed
    try:
        answer = "moved" if rename_new(part, final) else "taken" if exists(part) else "gone"
    except FileNotFoundError:
        with folder(outbox):
            answer = "gone"
    if answer != "taken":
        with suppress(FileNotFoundError):  # somebody has removed the folder
            sync_folder(os.path.dirname(final))  # an earlier run may have died between the rename and this
    return answer


def write_whole(path: str, data: str) -> None:
    """Replace one of *our own* files in a folder of ours by base64 ``data``, whole or not at all."""
    with parent(path, make=True) as (fd, name):
        part = f"{PART_PREFIX}{name}.part"
        _write_part(fd, part, data)
        os.replace(part, name, src_dir_fd=fd, dst_dir_fd=fd)
    sync_folder(os.path.dirname(path))


def lay_down(path: str, data: str) -> LaidDown:
    """Write base64 ``data`` where no file of that name is: ``"moved"`` or ``"taken"``.  Again: ``"taken"``."""
    above, name = os.path.split(path)
    part = os.path.join(above, f"{PART_PREFIX}{name}.part")
    if exists(path):
        unlink(part)  # without renameat2, a death may have left it as a second name
        return "taken"
    with parent(part, make=True) as (fd, new):
        _write_part(fd, new, data)
    if rename_new(part, path):
        return "moved"
    unlink(part)
    return "taken"


def file_drop(source: str, target: str) -> Filed:
    """Move a whole drop folder to ``done/`` or ``failed/``: ``"moved"``, ``"gone"``, ``"taken"``, or ``"barred"`` where
    no folder can be made for it there: something else has that name."""
    try:
        with folder(os.path.dirname(target), make=True):
            pass
    except OSError as error:
        if error.errno not in BARRED:
            raise
        return "barred"
    answer: Filed
    try:
        answer = "moved" if rename_new(source, target) else "taken" if exists(source) else "gone"
    except FileNotFoundError:
        answer = "gone"
    if answer != "taken":
        for path in (os.path.dirname(target), os.path.dirname(source)):
            sync_folder(path)
    return answer


def remove_seen(path: str, stamp: list[int]) -> Removed:
    """Remove a regular file if it still has the ``[size, mtime_ns, inode]`` with which it was listed: ``"removed"``,
    ``"gone"`` or ``"changed"``."""
    try:
        info = nofollow.status(path)
    except FileNotFoundError:
        return "gone"
    if [info.st_size, info.st_mtime_ns, info.st_ino] != stamp or not stat.S_ISREG(info.st_mode):
        return "changed"
    unlink(path)
    return "removed"


def remove_filed(drop: str, files: Sequence[tuple[str, int, int]], ours: Sequence[str]) -> RemovedFiles:
    """Remove filed inputs from a drop's folder: unchanged ``files`` (path, size, mtime_ns), those named in ``ours`` at
    its top, and system litter; then empty folders.

    No link is followed.  Again: what is still there.
    """
    wanted = {path: (size, mtime_ns) for path, size, mtime_ns in files}
    removed, left = 0, list[str]()
    with _if_there(), parent(drop) as (above, top):
        for here, folders, names, fd in os.fwalk(top, topdown=False, follow_symlinks=False, dir_fd=above):
            for name in names:
                path = os.path.relpath(os.path.join(here, name), top)
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                regular = stat.S_ISREG(info.st_mode)
                same = regular and wanted.get(path) == (info.st_size, info.st_mtime_ns)
                if same or (regular and (path in ours or ignored(name))):
                    os.unlink(name, dir_fd=fd)
                    removed += 1
                else:
                    left.append(path)
            for name in folders:
                with suppress(OSError):
                    os.rmdir(name, dir_fd=fd)
    remove_empty(drop)
    return RemovedFiles(removed, tuple(left))


def remove_film(base: str, size: int, job: str) -> Removed:
    """Remove a film of ours with its page and log: ``"removed"``, ``"gone"``, or ``"changed"`` where the log is not
    that of ``job``; a film of another size is somebody else's and stays.  Again: what is still there."""
    film, record = f"{base}.mp4", f"{base}.json"
    try:
        with open_regular(record) as file:
            if f'"job": "{job}"'.encode() not in file.read(1 << 24):
                return "changed"
    except OSError as error:
        if not is_gone(error):
            raise
        return "gone"
    with suppress(FileNotFoundError):
        info = nofollow.status(film)
        if info.st_size != size or not stat.S_ISREG(info.st_mode):
            return "changed"
        unlink(film)
    for path in (f"{base}.report.html", record):
        unlink(path)
    return "removed"


def remove_empty(path: str) -> None:
    """Remove a folder of ours if nothing is in it."""
    with suppress(OSError), parent(path) as (fd, name):
        os.rmdir(name, dir_fd=fd)


# ---------------------------------------------------------------- the pieces


def _times(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _write_part(fd: int, part: str, data: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=fd)
    nofollow.write_new(fd, part, base64.b64decode(data))


def _pretty(data: Mapping[str, object]) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
