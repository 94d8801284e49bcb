"""One entry of a folder listing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heygemd.common.request import Stamp


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One line of a listing.

    ``path`` is relative to the inbox with ``/`` between components, as ``os.fsdecode`` gives it.  ``other``
    marks what is neither a file nor a folder: symbolic links (never followed), pipes, sockets, devices.
    """

    path: str
    is_dir: bool
    stamp: Stamp
    other: bool = False

    def to_list(self) -> list[str | int | bool]:
        """For JSON: ``[path, is_dir, size, mtime_ns, inode, other, ctime_ns]``."""
        stamp = self.stamp
        return [self.path, self.is_dir, stamp.size, stamp.mtime_ns, stamp.inode, self.other, stamp.ctime_ns]

    @staticmethod
    def from_list(data: Sequence[object]) -> InboxEntry:
        """The inverse of ``to_list``.  Raises ``TypeError`` for anything else."""
        path, is_dir, size, mtime_ns, inode, other, ctime_ns = data
        if not (isinstance(path, str) and isinstance(size, int) and isinstance(mtime_ns, int)):
            raise TypeError(f"not a row of a listing: {data!r}")
        if not (isinstance(inode, int) and isinstance(ctime_ns, int)):
            raise TypeError(f"not a row of a listing: {data!r}")
        return InboxEntry(path, bool(is_dir), Stamp(size, mtime_ns, inode, ctime_ns), bool(other))
