"""The only code that touches a line's folders.

Every function here is one *operation*: it may be killed at any instant and done again, and says in its docstring what
a second run does.  They run in a child process (``python -m heygemd.files``, driven by ``shares.py``) because an
operation on a share that has gone away can hang in the kernel, where no signal reaches; the daemon then goes on.

Nothing here overwrites a name that somebody else may have taken, and nothing is visible under its final name before
it is whole: copies are written to ``.heygemd-*.part``, fsynced, and then renamed without replacing.
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
from contextlib import suppress
from pathlib import Path
from typing import Any

from heygemd import container, holding
from heygemd.errors import FULL
from heygemd.inbox import blind, ignored, underway

MARKER = ".heygemd-line"
PART_PREFIX = ".heygemd-"
_CHUNK = 1 << 20
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


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
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    if found is None:
        found = uuid.uuid4().hex
        _write_new(Path(folders["inbox"]) / MARKER, found.encode() + b"\n")
    inbox = os.stat(folders["inbox"])
    for name in ("processing", "done", "failed"):
        if os.stat(folders[name]).st_dev != inbox.st_dev:
            raise OSError(errno.EXDEV, f"{name}/ must lie on the same file system as the inbox", folders[name])
    if apart or os.stat(folders["outbox"]).st_dev != inbox.st_dev:
        if _the_marker(folders["outbox"], "outbox", found if apart else "") is None:
            _write_new(Path(folders["outbox"]) / MARKER, found.encode() + b"\n")
        found += " apart"
    held_by = holding.hold(folders["processing"], me, stale) if me else None
    return {"marker": found, "blind": blind(Path(folders["inbox"])), "held_by": held_by}


def leave_line(processing: str, me: dict[str, Any]) -> None:
    """Let others have the line at once.  Again: nothing."""
    holding.leave(processing, me)


def _the_marker(folder: str, called: str, known: str) -> str | None:
    """The id in a folder's marker file; an error where it is not the known one, if there is one."""
    found = _read_marker(Path(folder) / MARKER)
    if known and found != known:
        seen = "has no marker file" if found is None else "carries another line's marker file"
        raise FileNotFoundError(
            errno.ENOENT,
            f"the {called} {seen}: is the share mounted? (If the folder was replaced on purpose, put the text "
            f"'{known}' into a file named {MARKER} in it.)",
            folder,
        )
    return found


def _read_marker(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()[:64] or None
    except FileNotFoundError:
        return None


def scan(inbox: str) -> list[list[Any]]:
    """Everything below the inbox that is not on the ignore list (files on their way are listed all the same).

    Returns rows ``[path, is_dir, size, mtime_ns, inode, other, ctime_ns]``; ``path`` is relative with ``/``; ``other``
    is true for what is neither a regular file nor a folder (symbolic links are not followed).
    """
    return list(_walk(inbox, ""))


def _walk(folder: str, prefix: str) -> Iterator[list[Any]]:
    with os.scandir(folder) as entries:
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
            if is_dir:
                with suppress(PermissionError, FileNotFoundError):
                    yield from _walk(entry.path, path + "/")


def inspect(inbox: str, paths: list[str]) -> dict[str, str | None]:
    """For each path: a sentence why the file looks unfinished, or ``None``."""
    found: dict[str, str | None] = {}
    for path in paths:
        try:
            with _open_regular(os.path.join(inbox, path)) as file:
                size = os.fstat(file.fileno()).st_size
                found[path] = container.incomplete(file, size, Path(path).suffix.lower())
        except PermissionError:
            found[path] = None  # not ours to read: the job says so when it is staged
        except OSError as error:
            found[path] = f"cannot be read ({error.strerror})"
    return found


def read(path: str, limit: int) -> str:
    """The file's bytes, base64; more than ``limit`` bytes raise ``EFBIG``."""
    with _open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
    return base64.b64encode(data).decode()


def listing(folder: str) -> list[str]:
    """The names in a folder; an absent folder has none."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def owner(path: str) -> str:
    """The login name of the file's owner, or the number where it has none."""
    uid = os.stat(path, follow_symlinks=False).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# ---------------------------------------------------------------- claiming


def open_drop(folder: str, request: dict[str, Any]) -> None:
    """Make ``processing/<drop>/`` with ``request.json`` in it.  Again: the same."""
    os.makedirs(folder, exist_ok=True)
    write_whole(os.path.join(folder, "request.json"), base64.b64encode(_pretty(request)).decode())


def move(source: str, target: str) -> str:
    """Rename a file or folder that is ours to take; ``"moved"``, ``"already"`` or ``"gone"``.

    On NFS a rename that reports failure may have happened all the same, so both names are looked at, not the error.
    """
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        if rename_new(source, target):
            return "moved"
    except FileNotFoundError:
        return "already" if _exists(target) else "gone"
    # The target lies in a folder that is ours alone: it is there because an earlier run moved it.  A source that is
    # there still is a newer file of the same name, and stays.
    return "already"


def sync_folders(folders: list[str]) -> None:
    """Make durable what was moved between these folders, before anybody relies on it.  Again: the same."""
    for folder in folders:
        with suppress(FileNotFoundError):  # somebody's subfolder of the inbox may go once it is empty
            sync_folder(folder)


def discard_drop(folder: str) -> None:
    """Remove a drop folder of which nothing was ever moved: ``request.json`` and the folder.  Again: nothing."""
    for name in ("request.json", f"{PART_PREFIX}request.json.part"):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(os.path.join(folder, name))
    remove_empty(folder)


def stage(source: str, target: str) -> dict[str, Any]:
    """Copy a claimed input to a local file of ours while hashing it.

    Returns ``{"sha256", "size", "steady"}``; ``steady`` is false where the file changed while it was read.  Symbolic
    links, devices and FIFOs are refused (``ELOOP``/``EINVAL``).  Again: the copy is made anew.
    """
    os.makedirs(os.path.dirname(target), exist_ok=True)
    digest = hashlib.sha256()
    with _open_regular(source) as file, open(target, "wb") as copy:
        before = os.fstat(file.fileno())
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        after = os.fstat(file.fileno())
    steady = _times(before) == _times(after)
    return {"sha256": digest.hexdigest(), "size": after.st_size, "steady": steady}


# ---------------------------------------------------------------- publishing


def free_mib(folder: str) -> int:
    """What may still be written in a folder, or in the nearest one above it that exists, in MiB."""
    for place in (Path(folder), *Path(folder).parents):
        with suppress(FileNotFoundError):
            room = os.statvfs(place)
            return room.f_bavail * room.f_frsize >> 20
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)


def put(source: str, part: str) -> str:
    """Copy a local file to ``part`` on the share, fsynced; return its SHA-256.  Again: written anew.

    ``ENOSPC`` where there is no room, before anything is copied if that can be seen; no half copy then fills the rest.
    """
    os.makedirs(os.path.dirname(part), exist_ok=True)
    digest = hashlib.sha256()
    with suppress(FileNotFoundError):
        os.unlink(part)
    size, room = os.stat(source).st_size, os.statvfs(os.path.dirname(part))
    if 0 < room.f_bavail * room.f_frsize < size:
        free = room.f_bavail * room.f_frsize >> 20
        raise OSError(errno.ENOSPC, f"No space left: {free} MiB are free, the film has {(size >> 20) + 1} MiB", part)
    try:
        with open(source, "rb") as file, open(part, "xb") as copy:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            _sync(copy.fileno())
    except OSError as error:
        if error.errno in FULL:
            with suppress(OSError):
                os.unlink(part)
        raise
    sync_folder(os.path.dirname(part))
    return digest.hexdigest()


def write_part(part: str, data: str) -> None:
    """Write base64 ``data`` to ``part``, fsynced, its name too.  Again: written anew."""
    _write_anew(part, data)
    sync_folder(os.path.dirname(part))


def reveal(part: str, final: str, outbox: str) -> str:
    """Give a whole part its final name: ``"moved"``, ``"taken"`` (by somebody else), or ``"gone"``.

    ``"gone"`` means that it was revealed before: a part disappears in no other way, unless somebody has removed its
    whole folder from the outbox.  An outbox that is not there is an error.
    """
    folder = os.path.dirname(final)
    try:
        answer = "moved" if rename_new(part, final) else "taken" if _exists(part) else "gone"
    except FileNotFoundError:
        if not os.path.isdir(outbox):
            raise
        answer = "gone"
    if answer != "taken" and os.path.isdir(folder):
        sync_folder(folder)  # an earlier run may have died between the rename and this
    return answer


def write_whole(path: str, data: str) -> None:
    """Replace one of *our own* files in a folder of ours by base64 ``data``, whole or not at all."""
    folder, name = os.path.split(path)
    part = os.path.join(folder, f"{PART_PREFIX}{name}.part")
    _write_anew(part, data)
    os.replace(part, path)
    sync_folder(folder)


def lay_down(path: str, data: str) -> str:
    """Write base64 ``data`` where no file of that name is: ``"moved"`` or ``"taken"``.  Again: ``"taken"``."""
    folder, name = os.path.split(path)
    part = os.path.join(folder, f"{PART_PREFIX}{name}.part")
    if _exists(path):
        with suppress(FileNotFoundError):  # without renameat2, a death may have left it as a second name
            os.unlink(part)
        return "taken"
    _write_anew(part, data)
    if rename_new(part, path):
        return "moved"
    os.unlink(part)
    return "taken"


def file_drop(source: str, target: str) -> str:
    """Move a whole drop folder to ``done/`` or ``failed/``: ``"moved"``, ``"gone"`` or ``"taken"``."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        answer = "moved" if rename_new(source, target) else "taken" if _exists(source) else "gone"
    except FileNotFoundError:
        answer = "gone"
    if answer != "taken":
        for folder in (os.path.dirname(target), os.path.dirname(source)):
            sync_folder(folder)
    return answer


def remove_seen(path: str, stamp: list[int]) -> str:
    """Remove a regular file if it still has the ``[size, mtime_ns, inode]`` with which it was listed: ``"removed"``,
    ``"gone"`` or ``"changed"``."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return "gone"
    if [info.st_size, info.st_mtime_ns, info.st_ino] != stamp or not stat.S_ISREG(info.st_mode):
        return "changed"
    with suppress(FileNotFoundError):
        os.unlink(path)
    return "removed"


def remove_filed(folder: str, files: list[list[Any]], ours: list[str]) -> dict[str, Any]:
    """Remove from a drop's folder what was filed there: ``files`` (``[path, size, mtime_ns]``) that are still so,
    those called as in ``ours`` at its top, and litter of systems; then the folders that are empty.

    Returns ``{"removed": count, "left": [paths]}``.  No link is followed.  Again: what is still there.
    """
    wanted = {path: (size, mtime_ns) for path, size, mtime_ns in files}
    removed, left = 0, []
    if not os.path.isdir(folder):
        return {"removed": 0, "left": []}
    for here, _, names, fd in os.fwalk(folder, topdown=False, follow_symlinks=False):
        inner = os.path.relpath(here, folder)
        for name in names:
            path = name if inner == "." else os.path.join(inner, name)
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            regular = stat.S_ISREG(info.st_mode)
            same = regular and wanted.get(path) == (info.st_size, info.st_mtime_ns)
            if same or (regular and (path in ours or ignored(name))):
                os.unlink(name, dir_fd=fd)
                removed += 1
            else:
                left.append(path)
        remove_empty(here)
    return {"removed": removed, "left": left}


def remove_film(base: str, size: int, job: str) -> str:
    """Remove a film of ours with its page and log: ``"removed"``, ``"gone"``, or ``"changed"`` where the log is not
    that of ``job``; a film of another size is somebody else's and stays.  Again: what is still there."""
    record = f"{base}.json"
    try:
        with _open_regular(record) as file:
            if f'"job": "{job}"'.encode() not in file.read(1 << 24):
                return "changed"
    except FileNotFoundError:
        return "gone"
    with suppress(FileNotFoundError):
        info = os.lstat(f"{base}.mp4")
        if info.st_size != size or not stat.S_ISREG(info.st_mode):
            return "changed"
        os.unlink(f"{base}.mp4")
    for path in (f"{base}.report.html", record):
        with suppress(FileNotFoundError):
            os.unlink(path)
    return "removed"


def remove_empty(folder: str) -> None:
    """Remove a folder of ours if nothing is in it."""
    with suppress(OSError):
        os.rmdir(folder)


# ---------------------------------------------------------------- the pieces


def rename_new(source: str, target: str) -> bool:
    """Rename without replacing; false where ``target`` exists.

    ``renameat2(RENAME_NOREPLACE)`` where the file system has it.  NFS does not: there a file is linked and unlinked
    (``link`` fails on a taken name), and a folder is renamed, which replaces an empty folder at most.  A run that died
    between link and unlink, or whose link was done though NFS called it failed, has left two names of one file: the
    first is removed.
    """
    result = _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if result == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return _finish_link(source, target)
    if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), source)
    if stat.S_ISDIR(os.lstat(source).st_mode):
        return _rename_folder(source, target)
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return _finish_link(source, target)
    os.unlink(source)
    return True


def _finish_link(source: str, target: str) -> bool:
    """Where both are names of one file, remove the first; false where they are not."""
    try:
        first, second = os.lstat(source), os.lstat(target)
    except FileNotFoundError:
        return False
    # A share that makes inode numbers up may give two files the same; without a second link they are not the same.
    if first.st_nlink < 2 or not os.path.samestat(first, second):
        return False
    os.unlink(source)
    return True


def _rename_folder(source: str, target: str) -> bool:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def _exists(path: str) -> bool:
    """Whether the name is there.  Unlike ``os.path.lexists`` it takes no error for a no: what cannot be seen may well
    be there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _times(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _open_regular(path: str) -> Any:
    """Open for reading, following no link and waiting for no FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(fd, "rb")


def _write_anew(part: str, data: str) -> None:
    os.makedirs(os.path.dirname(part), exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(part)
    _write_new(Path(part), base64.b64decode(data))


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        _sync(file.fileno())


def _sync(fd: int) -> None:
    """A failed fsync is never tried again on the same file: the caller writes the file anew."""
    os.fsync(fd)


def sync_folder(folder: str) -> None:
    """fsync a folder; file systems that cannot (old cifs: EINVAL) have made the entry durable in their own way."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


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


def serve() -> None:
    """Answer one request a line until standard input ends."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the daemon
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
    serve()
