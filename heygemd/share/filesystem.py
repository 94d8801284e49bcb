"""File systems by type: which are on a network, and where inotify sees nothing."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

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


NETWORK_FILE_SYSTEMS = {0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb2", 0x517B: "smb"}


def _file_system(path: Path) -> int:
    """The file system's type number of ``statfs(2)``; 0 where it cannot be told."""
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), buffer) != 0:
        return 0
    return int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF
