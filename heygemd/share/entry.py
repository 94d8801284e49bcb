"""One entry of a folder listing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heygemd.common.request import Stamp


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
