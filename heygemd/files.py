"""The only code that touches a line's folders.

Every function here is one *operation*: it may be killed at any instant and done again, and says in its docstring what
a second run does.  They run in a child process (``python -m heygemd.files``, driven by ``shares.py``) because an
operation on a share that has gone away can hang in the kernel, where no signal reaches; the daemon then goes on.

Nothing here overwrites a name that somebody else may have taken, and nothing is visible under its final name before
it is whole: copies are written to ``.heygemd-*.part``, fsynced, and then renamed without replacing.  How a name is
reached, so that no link leads elsewhere, is the business of ``handles.py``.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import hashlib
import json
import os
import pwd
import signal
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from heygemd import container, handles, holding
from heygemd.errors import FULL
from heygemd.handles import BARRED, exists, folder, open_regular, parent, rename_new, sync_folder, unlink
from heygemd.inbox import blind, ignored, underway

MARKER = ".heygemd-line"
PART_PREFIX = ".heygemd-"
_CHUNK = 1 << 20
_DEEPEST = 64
"""Levels of folders below an inbox that are looked into: nobody's work lies deeper, and each level holds a handle."""


# ---------------------------------------------------------------- looking


def open_line(
    folders: dict[str, str], marker: str | None, me: dict[str, Any] | None = None, stale: list[Any] | None = None
) -> dict[str, Any]:
    """Make sure that a line's folders are there, are the ones that we knew and nobody else's.

    A share that is not mounted looks like an empty folder on the local disk, and work begun there would be lost from
    sight once the share returns.  So each inbox carries a marker file with a random id, and an outbox on another file
    system carries the same.  ``marker`` is what the journal remembers: ``None`` (the line is new to it, folders and
    marker may be made), the id, or the id and ``apart`` for an outbox that has a marker of its own.  ``me`` and
    ``stale`` are for ``holding.hold``.  Returns ``{"marker", "blind", "held_by"}``; ``held_by`` is another daemon.
    """
    known, _, apart = (marker or "").partition(" ")
    found = _the_marker(folders["inbox"], "inbox", known)
    device = {name: _device(path) for name, path in folders.items()}
    if found is None:
        found = uuid.uuid4().hex
        _mark(folders["inbox"], found)
    for name in ("processing", "done", "failed"):
        if device[name] != device["inbox"]:
            raise OSError(errno.EXDEV, f"{name}/ must lie on the same file system as the inbox", folders[name])
    if apart or device["outbox"] != device["inbox"]:
        if _the_marker(folders["outbox"], "outbox", found if apart else "") is None:
            _mark(folders["outbox"], found)
        found += " apart"
    held_by = holding.hold(folders["processing"], me, stale) if me else None
    return {"marker": found, "blind": blind(Path(folders["inbox"])), "held_by": held_by}


def leave_line(processing: str, me: dict[str, Any]) -> None:
    """Let others have the line at once.  Again: nothing."""
    holding.leave(processing, me)


def _device(path: str) -> int:
    """The file system of a folder, which is made where it is missing."""
    with folder(path, make=True) as fd:
        return os.fstat(fd).st_dev


def _mark(path: str, marker: str) -> None:
    with folder(path) as fd:
        with suppress(FileNotFoundError):  # a death in the middle, or the power, may have left an empty one
            if os.stat(MARKER, dir_fd=fd, follow_symlinks=False).st_size == 0:
                os.unlink(MARKER, dir_fd=fd)
        _write_new(fd, MARKER, marker.encode() + b"\n")


def _the_marker(path: str, called: str, known: str) -> str | None:
    """The id in a folder's marker file; an error where it is not the known one, if there is one."""
    found = _read_marker(os.path.join(path, MARKER))
    if known and found != known:
        seen = "has no marker file" if found is None else "carries another line's marker file"
        raise FileNotFoundError(
            errno.ENOENT,
            f"the {called} {seen}: is the share mounted? (If the folder was replaced on purpose, put the text "
            f"'{known}' into a file named {MARKER} in it.)",
            path,
        )
    return found


def _read_marker(path: str) -> str | None:
    try:
        with open_regular(path) as file:
            return file.read(1024).decode("ascii", "replace").strip()[:64] or None
    except FileNotFoundError:
        return None


def scan(inbox: str) -> list[list[Any]]:
    """Everything below the inbox that is not on the ignore list (files on their way are listed all the same).

    Returns rows ``[path, is_dir, size, mtime_ns, inode, other, ctime_ns]``; ``path`` is relative with ``/``; ``other``
    is true for what is neither a regular file nor a folder (symbolic links are not followed).  What lies more than 64
    folders deep is not listed.
    """
    with folder(inbox, read=True) as fd:
        return list(_walk(fd, ""))


def _walk(fd: int, prefix: str) -> Iterator[list[Any]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            if ignored(entry.name) and not underway(entry.name):
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone between the listing and the look: the next scan tells
            path = prefix + entry.name
            is_dir = stat.S_ISDIR(info.st_mode)
            other = not is_dir and not stat.S_ISREG(info.st_mode)
            yield [path, is_dir, info.st_size, info.st_mtime_ns, info.st_ino, other, info.st_ctime_ns]
            if is_dir and path.count("/") < _DEEPEST:
                with suppress(PermissionError, FileNotFoundError, NotADirectoryError), _inner(fd, entry.name) as inner:
                    yield from _walk(inner, path + "/")


@contextmanager
def _inner(fd: int, name: str) -> Iterator[int]:
    """A folder in a folder, to be listed; ``ENOTDIR`` where it is a link now."""
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        yield inner
    finally:
        os.close(inner)


def inspect(inbox: str, paths: list[str]) -> dict[str, str | None]:
    """For each path: a sentence why the file looks unfinished, or ``None``."""
    found: dict[str, str | None] = {}
    for path in paths:
        try:
            with open_regular(os.path.join(inbox, path)) as file:
                size = os.fstat(file.fileno()).st_size
                found[path] = container.incomplete(file, size, Path(path).suffix.lower())
        except PermissionError:
            found[path] = None  # not ours to read: the job says so when it is staged
        except OSError as error:
            found[path] = f"cannot be read ({error.strerror})"
    return found


def read(path: str, limit: int) -> str:
    """The file's bytes, base64; more than ``limit`` bytes raise ``EFBIG``."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
    return base64.b64encode(data).decode()


def listing(path: str) -> list[str]:
    """The names in a folder; an absent folder has none."""
    try:
        with folder(path, read=True) as fd:
            return os.listdir(fd)
    except FileNotFoundError:
        return []


def owner(path: str) -> str | None:
    """The login name of the file's owner, or the number where it has none; ``None`` where the file is gone."""
    try:
        uid = handles.status(path).st_uid
    except OSError as error:
        if not _is_gone(error):
            raise
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# ---------------------------------------------------------------- claiming


def open_drop(drop: str, request: dict[str, Any]) -> None:
    """Make ``processing/<drop>/`` with ``request.json`` in it.  Again: the same."""
    write_whole(os.path.join(drop, "request.json"), base64.b64encode(_pretty(request)).decode())


def move(source: str, target: str) -> str:
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
        if not _is_gone(error):
            raise
        return "already" if exists(target) else "gone"
    # The target lies in a folder that is ours alone: it is there because an earlier run moved it.  A source that is
    # there still is a newer file of the same name, and stays.
    return "already"


def _is_gone(error: OSError) -> bool:
    """Whether it says that a file is not there: its folder may be gone too, or something else in its place."""
    return error.errno == errno.ENOENT or error.errno in BARRED


@contextmanager
def _if_there() -> Iterator[None]:
    """Nothing is wrong where it is gone."""
    try:
        yield
    except OSError as error:
        if not _is_gone(error):
            raise


def sync_folders(folders: list[str]) -> None:
    """Make durable what was moved between these folders, before anybody relies on it.  Again: the same."""
    for path in folders:
        with _if_there():  # somebody's subfolder of the inbox may go once it is empty
            sync_folder(path)


def discard_drop(drop: str) -> None:
    """Remove a drop folder of which nothing was ever moved: ``request.json`` and the folder.  Again: nothing."""
    for name in ("request.json", f"{PART_PREFIX}request.json.part"):
        with _if_there():
            unlink(os.path.join(drop, name))
    remove_empty(drop)


def stage(source: str, target: str) -> dict[str, Any]:
    """Copy a claimed input to a local file of ours while hashing it.

    Returns ``{"sha256", "size", "steady"}``; ``steady`` is false where the file changed while it was read.  Symbolic
    links, devices and FIFOs are refused (``ELOOP``/``EINVAL``).  Again: the copy is made anew.
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
    return {"sha256": digest.hexdigest(), "size": after.st_size, "steady": steady}


# ---------------------------------------------------------------- publishing


def free_mib(path: str) -> int:
    """What may still be written in a folder, or in the nearest one above it that exists, in MiB."""
    for place in (Path(path), *Path(path).parents):
        with suppress(FileNotFoundError), folder(str(place)) as fd:
            return _free(fd) >> 20
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _free(fd: int) -> int:
    room = os.statvfs(fd)
    return room.f_bavail * room.f_frsize


def put(source: str, part: str) -> str:
    """Copy a local file to ``part`` on the share, fsynced; return its SHA-256.  Again: written anew.

    ``ENOSPC`` where there is no room, before anything is copied if that can be seen; no half copy then fills the rest.
    """
    with parent(part, make=True) as (fd, name):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
        size, free = os.stat(source).st_size, _free(fd)
        if 0 < free < size:
            said = f"No space left: {free >> 20} MiB are free, the film has {(size >> 20) + 1} MiB"
            raise OSError(errno.ENOSPC, said, part)
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
    with open(source, "rb") as file, handles.create(name, fd) as copy:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        _sync(copy.fileno())
    return digest.hexdigest()


def write_part(part: str, data: str) -> None:
    """Write base64 ``data`` to ``part``, fsynced, its name too.  Again: written anew."""
    with parent(part, make=True) as (fd, name):
        _write_anew(fd, name, data)
    sync_folder(os.path.dirname(part))


def reveal(part: str, final: str, outbox: str) -> str:
    """Give a whole part its final name: ``"moved"``, ``"taken"`` (by somebody else), or ``"gone"``.

    ``"gone"`` means that it was revealed before: a part disappears in no other way, unless somebody has removed its
    whole folder from the outbox.  An outbox that is not there is an error.
    """
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
        _write_anew(fd, part, data)
        os.replace(part, name, src_dir_fd=fd, dst_dir_fd=fd)
    sync_folder(os.path.dirname(path))


def lay_down(path: str, data: str) -> str:
    """Write base64 ``data`` where no file of that name is: ``"moved"`` or ``"taken"``.  Again: ``"taken"``."""
    above, name = os.path.split(path)
    part = os.path.join(above, f"{PART_PREFIX}{name}.part")
    if exists(path):
        unlink(part)  # without renameat2, a death may have left it as a second name
        return "taken"
    with parent(part, make=True) as (fd, new):
        _write_anew(fd, new, data)
    if rename_new(part, path):
        return "moved"
    unlink(part)
    return "taken"


def file_drop(source: str, target: str) -> str:
    """Move a whole drop folder to ``done/`` or ``failed/``: ``"moved"``, ``"gone"``, ``"taken"``, or ``"barred"`` where
    no folder can be made for it there: something else has that name."""
    try:
        with folder(os.path.dirname(target), make=True):
            pass
    except OSError as error:
        if error.errno not in BARRED:
            raise
        return "barred"
    try:
        answer = "moved" if rename_new(source, target) else "taken" if exists(source) else "gone"
    except FileNotFoundError:
        answer = "gone"
    if answer != "taken":
        for path in (os.path.dirname(target), os.path.dirname(source)):
            sync_folder(path)
    return answer


def remove_seen(path: str, stamp: list[int]) -> str:
    """Remove a regular file if it still has the ``[size, mtime_ns, inode]`` with which it was listed: ``"removed"``,
    ``"gone"`` or ``"changed"``."""
    try:
        info = handles.status(path)
    except FileNotFoundError:
        return "gone"
    if [info.st_size, info.st_mtime_ns, info.st_ino] != stamp or not stat.S_ISREG(info.st_mode):
        return "changed"
    unlink(path)
    return "removed"


def remove_filed(drop: str, files: list[list[Any]], ours: list[str]) -> dict[str, Any]:
    """Remove from a drop's folder what was filed there: ``files`` (``[path, size, mtime_ns]``) that are still so,
    those called as in ``ours`` at its top, and litter of systems; then the folders that are empty.

    Returns ``{"removed": count, "left": [paths]}``.  No link is followed.  Again: what is still there.
    """
    wanted = {path: (size, mtime_ns) for path, size, mtime_ns in files}
    removed, left = 0, []
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
    return {"removed": removed, "left": left}


def remove_film(base: str, size: int, job: str) -> str:
    """Remove a film of ours with its page and log: ``"removed"``, ``"gone"``, or ``"changed"`` where the log is not
    that of ``job``; a film of another size is somebody else's and stays.  Again: what is still there."""
    film, record = f"{base}.mp4", f"{base}.json"
    try:
        with open_regular(record) as file:
            if f'"job": "{job}"'.encode() not in file.read(1 << 24):
                return "changed"
    except OSError as error:
        if not _is_gone(error):
            raise
        return "gone"
    with suppress(FileNotFoundError):
        info = handles.status(film)
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


def _write_anew(fd: int, part: str, data: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=fd)
    _write_new(fd, part, base64.b64decode(data))


def _write_new(fd: int, name: str, data: bytes) -> None:
    with handles.create(name, fd) as file:
        file.write(data)
        file.flush()
        _sync(file.fileno())


def _sync(fd: int) -> None:
    """A failed fsync is never tried again on the same file: the caller writes the file anew."""
    os.fsync(fd)


def _pretty(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()


# ---------------------------------------------------------------- the child

OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        open_line, leave_line, scan, inspect, read, listing, owner, open_drop, sync_folders, discard_drop, move,
        stage, free_mib, put, write_part, reveal, write_whole, lay_down, file_drop, remove_empty, remove_seen,
        remove_filed, remove_film,
    )
}  # fmt: skip


def serve(folders: list[str]) -> None:
    """Answer one request a line until standard input ends; ``folders`` are those of the line (``handles.trust``)."""
    handles.trust(folders)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the daemon
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the daemon ends us, after it has finished its own business
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer = {"value": OPERATIONS[request["op"]](*request["args"])}
        except OSError as error:
            answer = {
                "errno": error.errno or errno.EIO,
                "error": error.strerror or str(error),
                "path": os.fsdecode(error.filename) if error.filename else None,
            }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1:])
