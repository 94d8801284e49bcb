"""What lies in an inbox and has come to rest: the ignore list, settling, and the wake-up from watchdog.

Events are hints, the listing is the truth: ``Watcher`` only wakes the loop, a scan (made in the share's own
child) gives ``Entry``s, and ``Settler`` decides from them what nobody is writing any more.  It is pure: the
clock is an argument, and files' own times are never compared with it, because they come from other machines.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from heygemd.common.names import split
from heygemd.common.request import Stamp
from heygemd.share import nofollow
from heygemd.share.completeness import CHECKED_SUFFIXES

_LITTER = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "desktop.ini", "readme.txt", "lost+found", "__macosx", "@eadir",
        "system volume information", "$recycle.bin", "#recycle", "@recycle", "#snapshot", "~snapshot",
        "@recently-snapshot",
    }
)  # fmt: skip
_UNDERWAY_ENDS = (
    ".part", ".partial", ".tmp", ".crdownload", ".filepart", ".opdownload", ".download", ".downloading",
    ".aria2", ".xltd", ".~tmp~",
)  # fmt: skip
_LITTER_STARTS = (".", "~$", "._", ".smbdelete", ".nfs", ".fuse_hidden")
#: rsync writes ``.NAME.XXXXXX`` beside the file; an editor's or Syncthing's work file is a dot-file too.
_RSYNC = re.compile(r"\..+\.[a-z0-9]{6}$")


def ignored(name: str) -> bool:
    """Whether one path component is litter of a system or a file on its way that the inbox does not take.

    Case does not matter.  All dot-files are ignored, so our own marker is too; so is the ``README.txt`` that
    explains the folder to people.
    """
    low = name.lower()
    return low in _LITTER or low.startswith(_LITTER_STARTS) or low.endswith("~") or underway(low)


def underway(name: str) -> bool:
    """Whether ``name`` is what a program calls a file while it is still copying it.

    Such names are ``ignored``, but a scan does well to list them all the same: ``Settler`` then knows that
    the folder around them is not at rest.
    """
    low = name.lower()
    if low.endswith(_UNDERWAY_ENDS) or low.startswith("~syncthing~"):
        return True
    return _RSYNC.match(low) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing.

    ``path`` is relative to the inbox with ``/`` between components, as ``os.fsdecode`` gives it.  ``other``
    marks what is neither a file nor a folder: symbolic links (never followed), pipes, sockets, devices.
    """

    path: str
    is_dir: bool
    stamp: Stamp
    other: bool = False

    def to_list(self) -> list[Any]:
        """For JSON: ``[path, is_dir, size, mtime_ns, inode, other, ctime_ns]``."""
        stamp = self.stamp
        return [self.path, self.is_dir, stamp.size, stamp.mtime_ns, stamp.inode, self.other, stamp.ctime_ns]

    @staticmethod
    def from_list(data: Sequence[Any]) -> Entry:
        """The inverse of ``to_list``."""
        path, is_dir, size, mtime_ns, inode, other, ctime_ns = data
        return Entry(path, is_dir, Stamp(size, mtime_ns, inode, ctime_ns), other)


@dataclass(frozen=True, slots=True)
class Settled:
    """What ``Settler.observe`` found; all times are those of the ``now`` that it was given.

    ``files``: regular files that have come to rest.  ``unsettled``: the others, with the time of their last
    change. ``to_inspect``: files whose stamps rest and whose structure must now be looked at
    (``container.incomplete``), the answer going to ``Settler.inspected``; until then they are unsettled.
    ``incomplete``: what that look found wrong, in files settled or not.  ``quiet_dirs``: folders in whose
    whole tree nothing has changed for ``folder_seconds`` and nothing is underway.  ``first_seen``: per path.
    """

    files: frozenset[str]
    unsettled: Mapping[str, float]
    to_inspect: tuple[Entry, ...]
    incomplete: Mapping[str, str]
    quiet_dirs: frozenset[str]
    first_seen: Mapping[str, float]


@dataclass(slots=True)
class _Record:
    stamp: Stamp
    first_seen: float
    changed: float
    readings: int = 1
    inspected: bool = False
    sentence: str | None = None
    seen: int = 0


@dataclass(slots=True)
class _Turn:
    """What one ``observe`` gathers."""

    files: list[str] = field(default_factory=list)
    unsettled: dict[str, float] = field(default_factory=dict)
    to_inspect: list[Entry] = field(default_factory=list)
    incomplete: dict[str, str] = field(default_factory=dict)
    dirs: list[str] = field(default_factory=list)
    first_seen: dict[str, float] = field(default_factory=dict)


class Settler:
    """Remembers every listed path and says which have come to rest.

    A file rests when ``readings`` listings in a row, at least ``seconds`` apart from first to last, showed
    the same size, times and inode, and a look at its structure found it complete; or, if it looks unfinished,
    when nothing has changed for ``incomplete_seconds``.  Paths that are no longer listed are forgotten.
    """

    def __init__(
        self,
        readings: int = 3,
        seconds: float = 3.0,
        folder_seconds: float = 10.0,
        incomplete_seconds: float = 60.0,
    ) -> None:
        self._readings = max(1, readings)
        self._seconds = seconds
        self._folder_seconds = folder_seconds
        self._incomplete_seconds = incomplete_seconds
        self._records: dict[str, _Record] = {}
        self._dirs: dict[str, float] = {}  # folder -> last change anywhere below it
        self._due: float | None = None
        self._turn = 0

    def observe(self, now: float, entries: Sequence[Entry]) -> Settled:
        """Takes one whole listing made at ``now`` (seconds of one monotonic clock, never going back)."""
        self._turn += 1
        self._due = None
        turn = _Turn()
        for entry in entries:
            record = self._note(now, entry)
            turn.first_seen[entry.path] = record.first_seen
            if entry.is_dir:
                turn.dirs.append(entry.path)
            elif underway(entry.path.rpartition("/")[2]):
                self._hold_folder(now, entry.path, record)
            elif not entry.other:
                self._judge(now, entry, record, turn)
        self._forget(now)
        quiet = frozenset(path for path in turn.dirs if self._quiet(now, path))
        files, to_inspect = frozenset(turn.files), tuple(turn.to_inspect)
        return Settled(files, turn.unsettled, to_inspect, turn.incomplete, quiet, turn.first_seen)

    def inspected(self, path: str, stamp: Stamp, sentence: str | None) -> None:
        """Takes what ``container.incomplete`` said of ``path`` while it had ``stamp``; forgotten if that
        changes.
        """
        record = self._records.get(path)
        if record is not None and record.stamp == stamp:
            record.inspected, record.sentence = True, sentence

    def next_due(self, now: float) -> float | None:
        """When something may settle that has not yet, on the clock of ``now``; ``None`` if all is at rest."""
        return None if self._due is None else max(now, self._due)

    def _note(self, now: float, entry: Entry) -> _Record:
        record = self._records.get(entry.path)
        if record is None:
            record = self._records[entry.path] = _Record(entry.stamp, now, now)
            self._touch(now, entry)
        elif record.stamp == entry.stamp:
            record.readings += 1
        else:
            # A folder's size and inode mean nothing on some shares; its time says that a name came or went.
            if not entry.is_dir or record.stamp.mtime_ns != entry.stamp.mtime_ns:
                self._touch(now, entry)
            record.stamp, record.changed, record.readings = entry.stamp, now, 1
            record.inspected, record.sentence = False, None
        record.seen = self._turn
        return record

    def _touch(self, now: float, entry: Entry) -> None:
        if entry.is_dir:
            self._dirs[entry.path] = now
        self._touch_above(now, entry.path)

    def _touch_above(self, now: float, path: str) -> None:
        while path := path.rpartition("/")[0]:
            self._dirs[path] = max(now, self._dirs.get(path, now))

    def _judge(self, now: float, entry: Entry, record: _Record, turn: _Turn) -> None:
        path = entry.path
        rest = now - record.changed
        if record.readings < self._readings or rest < self._seconds:
            turn.unsettled[path] = record.changed
            # Readings spread evenly over the window: the last one falls on its end.
            step = self._seconds / max(1, self._readings - 1)
            self._wake(record.changed + min(self._seconds, step * record.readings))
            return
        if not record.inspected:
            if entry.stamp.size and split(path.rpartition("/")[2])[1] in CHECKED_SUFFIXES:
                turn.to_inspect.append(entry)
                turn.unsettled[path] = record.changed
                self._wake(now)
                return
            record.inspected, record.sentence = True, None if entry.stamp.size else "it is empty"
        if record.sentence is not None:
            turn.incomplete[path] = record.sentence
            if rest < self._incomplete_seconds:
                turn.unsettled[path] = record.changed
                self._wake(record.changed + self._incomplete_seconds)
                return
        turn.files.append(path)

    def _hold_folder(self, now: float, path: str, record: _Record) -> None:
        """A file on its way keeps the folders above from being quiet, until it is plainly left over."""
        if "/" in path and now - record.changed < self._incomplete_seconds:
            self._touch_above(now, path)
            self._wake(record.changed + self._incomplete_seconds)

    def _forget(self, now: float) -> None:
        gone = [path for path, record in self._records.items() if record.seen != self._turn]
        for path in gone:
            del self._records[path]
            self._dirs.pop(path, None)
        for path in gone:
            self._touch_above(now, path)
        if gone:  # folders that are gone may have been touched again just now
            self._dirs = {path: at for path, at in self._dirs.items() if path in self._records}

    def _quiet(self, now: float, path: str) -> bool:
        since = self._dirs.get(path)
        if since is None or now - since >= self._folder_seconds:
            return True
        self._wake(since + self._folder_seconds)
        return False

    def _wake(self, at: float) -> None:
        if self._due is None or at < self._due:
            self._due = at


class _Wake(FileSystemEventHandler):
    """Calls ``wake`` and does nothing else: one exception in a handler ends watchdog's thread for good."""

    #: Our own scans open folders and read files; without this they would wake the loop that made them.
    _READING = frozenset({"opened", "closed_no_write"})

    def __init__(self, wake: Callable[[], object]) -> None:
        super().__init__()
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in self._READING:
            self._wake()


class Watcher:
    """Calls ``wake`` (from a thread of watchdog's) when something changes below some folders, soon and
    perhaps often.

    Only a hint, and only for folders that are not ``blind``; the loop scans on its own clock all the same.
    ``wake`` must not raise and should only set a flag.
    """

    def __init__(self, folders: Iterable[Path], wake: Callable[[], object], trusted: Iterable[str] = ()) -> None:
        """``trusted``: folders below which no link is followed (``handles``)."""
        self._folders, self._trusted = tuple(folders), tuple(trusted)
        self._handler = _Wake(wake)
        self._observer: Any = None

    def start(self) -> str | None:
        """Begins; returns why it cannot (inotify's limits, say) as a sentence, in which case polling must
        do.
        """
        self.stop()
        observer = Observer()
        try:
            for folder in self._folders:
                with nofollow.folder(str(folder), read=True, trusted=self._trusted):
                    pass  # no link is in the way: watchdog would list what is behind it
                observer.schedule(self._handler, str(folder), recursive=True)
            observer.start()
        except OSError as error:
            observer.unschedule_all()
            return (
                f"changes cannot be watched ({error.strerror or error}); the inbox is polled instead. "
                "If inotify's limit is the cause, raise fs.inotify.max_user_watches with sysctl"
            )
        self._observer = observer
        return None

    def alive(self) -> bool:
        """Whether every thread that should deliver events is there.  ``True`` proves little; rescan
        anyway.
        """
        if self._observer is None or not self._observer.is_alive():
            return False
        return all(emitter.is_alive() for emitter in self._observer.emitters)

    def stop(self) -> None:
        """Ends the threads; may be called at any time and more than once."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(timeout=5)


#: Types of file system (``linux/magic.h``) whose changes may be made by another machine, which inotify never
#: sees.
_REMOTE = {
    0x6969: "nfs", 0x517B: "smb", 0xFE534D42: "smb2", 0xFF534D42: "cifs", 0x65735546: "fuse",
    0x01021997: "9p", 0x00C36400: "ceph", 0x5346414F: "afs", 0x6B414653: "kafs", 0x73757245: "coda",
    0x7461636F: "ocfs2", 0x01161970: "gfs2", 0x0BD00BD0: "lustre", 0x47504653: "gpfs",
    0x786F4256: "vboxsf", 0x19830326: "beegfs",
}  # fmt: skip


def blind(path: Path) -> bool:
    """Whether inotify cannot be relied on for ``path``: a share mounted from elsewhere, or anything through
    FUSE.

    Asks ``statfs(2)``, which may hang on a dead share: call it where share I/O is done.  Raises ``OSError``.
    """
    # struct statfs has 120 bytes on 64-bit Linux, its first word is f_type.
    buffer = ctypes.create_string_buffer(512)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    kind = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return kind in _REMOTE
