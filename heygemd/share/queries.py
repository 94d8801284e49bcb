"""Read-only operations on a line's folders: verify, list, read.

Operations like those of ``operations.py``, in the same child: each may be killed at any instant and done again.
"""

from __future__ import annotations

import base64
import errno
import os
import pwd
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from heygemd.common.request import Stamp
from heygemd.share import completeness, nofollow
from heygemd.share import owner as share_owner
from heygemd.share.answers import LineOpened
from heygemd.share.entry import InboxEntry
from heygemd.share.filesystem import blind
from heygemd.share.ignore import ignored, underway
from heygemd.share.nofollow import folder, is_gone, open_regular, write_new
from heygemd.share.owner import OwnerRecord

MARKER = ".heygemd-line"
_DEEPEST = 64
"""Levels of folders below an inbox that are looked into: nobody's work lies deeper, and each level holds a handle."""


def open_line(
    folders: Mapping[str, str],
    marker: str | None,
    me: Mapping[str, object] | None = None,
    stale: tuple[str, int] | list[str | int] | None = None,
) -> LineOpened:
    """Make sure that a line's folders are there, are the ones that we knew and nobody else's.

    A share that is not mounted looks like an empty folder on the local disk, and work begun there would be lost from
    sight once the share returns.  So each inbox carries a marker file with a random id, and an outbox on another file
    system carries the same.  ``marker`` is what the journal remembers: ``None`` (the line is new to it, folders and
    marker may be made), the id, or the id and ``apart`` for an outbox that has a marker of its own.  ``me`` (an
    ``OwnerRecord`` as JSON) and ``stale`` (an id and a number) are for ``owner.hold``.
    """
    known, _, apart = (marker or "").partition(" ")
    marker_id = _the_marker(folders["inbox"], "inbox", known)
    device = {name: _device(path) for name, path in folders.items()}
    if marker_id is None:
        marker_id = uuid.uuid4().hex
        _mark(folders["inbox"], marker_id)
    for name in ("processing", "done", "failed"):
        if device[name] != device["inbox"]:
            raise OSError(errno.EXDEV, f"{name}/ must be on the same file system as the inbox", folders[name])
    if apart or device["outbox"] != device["inbox"]:
        if _the_marker(folders["outbox"], "outbox", marker_id if apart else "") is None:
            _mark(folders["outbox"], marker_id)
        marker_id += " apart"
    silent = (str(stale[0]), int(stale[1])) if stale else None
    held_by = share_owner.hold(folders["processing"], OwnerRecord.from_json(me), silent) if me else None
    return LineOpened(marker_id, blind(Path(folders["inbox"])), held_by)


def leave_line(processing: str, me: Mapping[str, object]) -> None:
    """Let others have the line at once.  Again: nothing."""
    share_owner.leave(processing, OwnerRecord.from_json(me))


def _device(path: str) -> int:
    """The file system of a folder, which is created if missing."""
    with folder(path, make=True) as fd:
        return os.fstat(fd).st_dev


def _mark(path: str, marker: str) -> None:
    with folder(path) as fd:
        with suppress(FileNotFoundError):  # a death in the middle, or the power, may have left an empty one
            if os.stat(MARKER, dir_fd=fd, follow_symlinks=False).st_size == 0:
                os.unlink(MARKER, dir_fd=fd)
        write_new(fd, MARKER, marker.encode() + b"\n")


def _the_marker(path: str, called: str, known: str) -> str | None:
    """The id in a folder's marker file; raises if it is not the known one."""
    marker = _read_marker(os.path.join(path, MARKER))
    if known and marker != known:
        fault = "has no marker file" if marker is None else "has another line's marker file"
        raise FileNotFoundError(
            errno.ENOENT,
            f"the {called} {fault}: is the share mounted? (If the folder was replaced on purpose, put the text "
            f"'{known}' into a file named {MARKER} in it.)",
            path,
        )
    return marker


def _read_marker(path: str) -> str | None:
    try:
        with open_regular(path) as file:
            return file.read(1024).decode("ascii", "replace").strip()[:64] or None
    except FileNotFoundError:
        return None


def scan(inbox: str) -> list[list[str | int | bool]]:
    """Everything below the inbox that is not on the ignore list (files on their way are listed all the same).

    Returns rows as of ``InboxEntry.to_list``; symbolic links are not followed.  More than 64 folders deep nothing is
    listed.
    """
    with folder(inbox, read=True) as fd:
        return [entry.to_list() for entry in _walk(fd, "")]


def _walk(fd: int, prefix: str) -> Iterator[InboxEntry]:
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
            yield InboxEntry(path, is_dir, stamp_of(info), other)
            if is_dir and path.count("/") < _DEEPEST:
                with suppress(PermissionError, FileNotFoundError, NotADirectoryError), _inner(fd, entry.name) as inner:
                    yield from _walk(inner, path + "/")


def stamp_of(info: os.stat_result) -> Stamp:
    """What a listing says of a file."""
    return Stamp(info.st_size, info.st_mtime_ns, info.st_ino, info.st_ctime_ns)


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
    sentences: dict[str, str | None] = {}
    for path in paths:
        try:
            with open_regular(os.path.join(inbox, path)) as file:
                size = os.fstat(file.fileno()).st_size
                sentences[path] = completeness.incomplete(file, size, Path(path).suffix.lower())
        except PermissionError:
            sentences[path] = None  # not ours to read: the job says so when it is staged
        except OSError as error:
            sentences[path] = f"cannot be read ({error.strerror})"
    return sentences


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
    """The login name or number of the file's owner; ``None`` if the file is gone."""
    try:
        uid = nofollow.status(path).st_uid
    except OSError as error:
        if not is_gone(error):
            raise
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def free_mib(path: str) -> int:
    """Free space of a folder or its nearest existing parent, in MiB."""
    for place in (Path(path), *Path(path).parents):
        with suppress(FileNotFoundError), folder(str(place)) as fd:
            return free_bytes(fd) >> 20
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def free_bytes(fd: int) -> int:
    """Free space of an open folder."""
    room = os.statvfs(fd)
    return room.f_bavail * room.f_frsize
