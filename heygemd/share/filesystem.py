"""File systems by type: which are on a network or in user space, for the inbox's watch and for the journal's place."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

#: By the type of ``linux/magic.h``: file systems that another machine may change, which inotify never sees, and on
#: which SQLite's locks and shared memory are not safe.  FUSE is among them: sshfs, rclone and many shares are FUSE.
NETWORK_FILE_SYSTEMS = {
    0x6969: "NFS", 0x517B: "SMB", 0xFE534D42: "SMB2", 0xFF534D42: "CIFS", 0x65735546: "FUSE", 0x01021997: "9p",
    0x00C36400: "Ceph", 0x5346414F: "AFS", 0x6B414653: "AFS", 0x73757245: "Coda", 0x7461636F: "OCFS2",
    0x01161970: "GFS2", 0x0BD00BD0: "Lustre", 0x47504653: "GPFS", 0x786F4256: "vboxsf", 0x19830326: "BeeGFS",
}  # fmt: skip
_TYPE_MASK = 0xFFFFFFFF


def blind(path: Path) -> bool:
    """Whether inotify cannot be relied on for ``path``.  May hang on a dead share; raises ``OSError``."""
    return network_file_system(path) is not None


def network_file_system(path: Path) -> str | None:
    """The name of the network file system on which ``path`` is; ``None`` on a local disk.

    Asks ``statfs(2)``, which may hang on a dead share: call it where share I/O is done.  Raises ``OSError``.
    """
    return NETWORK_FILE_SYSTEMS.get(_type_of(path))


def _type_of(path: Path) -> int:
    """``f_type`` of ``statfs(2)``."""
    buffer = ctypes.create_string_buffer(512)  # struct statfs has 120 bytes on 64-bit Linux, its first word is f_type
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return ctypes.c_long.from_buffer(buffer).value & _TYPE_MASK
