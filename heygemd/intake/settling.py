"""Decides which files in an inbox are complete: unchanged for long enough, and not truncated.

Events are hints, the listing is the truth: ``Watcher`` only wakes the loop, a scan (made in the share's own
child) gives ``InboxEntry``s, and ``Settler`` decides from them what nobody is writing any more.  It is pure: the
clock is an argument, and files' own times are never compared with it, because they come from other machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heygemd.common.names import split
from heygemd.common.request import Stamp
from heygemd.share.completeness import CHECKED_SUFFIXES
from heygemd.share.entry import InboxEntry
from heygemd.share.ignore import underway


@dataclass(frozen=True, slots=True)
class Settled:
    """Result of ``Settler.observe``; all times are relative to its ``now``.

    ``files``: regular files that have come to rest.  ``unsettled``: the others, with the time of their last
    change. ``to_inspect``: files whose stamps rest and whose structure must now be looked at
    (``container.incomplete``), the answer going to ``Settler.inspected``; until then they are unsettled.
    ``incomplete``: what that look found wrong, in files settled or not.  ``quiet_dirs``: folders in whose
    whole tree nothing has changed for ``folder_seconds`` and nothing is underway.  ``first_seen``: per path.
    """

    files: frozenset[str]
    unsettled: Mapping[str, float]
    to_inspect: tuple[InboxEntry, ...]
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
    to_inspect: list[InboxEntry] = field(default_factory=list)
    incomplete: dict[str, str] = field(default_factory=dict)
    dirs: list[str] = field(default_factory=list)
    first_seen: dict[str, float] = field(default_factory=dict)


class Settler:
    """Remembers every listed path and reports which are complete.

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

    def observe(self, now: float, entries: Sequence[InboxEntry]) -> Settled:
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

    def _note(self, now: float, entry: InboxEntry) -> _Record:
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

    def _touch(self, now: float, entry: InboxEntry) -> None:
        if entry.is_dir:
            self._dirs[entry.path] = now
        self._touch_above(now, entry.path)

    def _touch_above(self, now: float, path: str) -> None:
        while path := path.rpartition("/")[0]:
            self._dirs[path] = max(now, self._dirs.get(path, now))

    def _judge(self, now: float, entry: InboxEntry, record: _Record, turn: _Turn) -> None:
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
