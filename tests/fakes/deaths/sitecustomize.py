"""Ends or disturbs the daemon at one of its file operations.  Found by Python through PYTHONPATH, in tests only.

Every process of the daemon (itself and its file children) writes a line into ``$DEATHS_FILE`` before each operation:
``do`` for what changes something on a disk (renames, links, unlinks, new folders and files, fsyncs, commits of the
journal), ``look`` for what only reads the line.  What then happens is told by

    DEATHS_AT=N              before the Nth ``do``, or the first of that sign: SIGKILL …
    DEATHS_VICTIM=group        … for the daemon and its file children, or ``self``: for the process that came to it
    DEATHS_POWER=DIR:DIR       … after the file systems that are mounted there have lost what is not on disk yet
    DEATHS_FAULT=ERROR:HOW:SIGN   operations of this sign fail: ``once``, or until DEATHS_FILE.healed exists
                             (``lasting``), or once and ``after`` they have been done all the same, as on NFS
    DEATHS_SWAP=LINE:FOLDER  before the first such line FOLDER (a pattern below the line) is put aside, and a link to
                             the folder ``secret`` takes its place
    DEATHS_REPLACE=LINE:NAME;…  before such a line somebody puts the first that is left of 1/NAME, 2/NAME … in the
                             folder ``next`` into the inbox, over NAME
    DEATHS_NFS=1           the file systems know no renameat2
    DEATHS_UNCOUNTED=1     nothing of all this, only the renderer and the hurry
    DEATHS_MUTATION=NAME   the order of operations is changed: mutations.py

The renderer is fake_renderer.py, and nobody waits for a second where a hundredth will do.  Nothing in heygemd knows of
this.
"""

import ctypes
import errno
import fcntl
import glob
import importlib.machinery
import os
import re
import signal
import sqlite3
import sys

_FILE = os.environ.get("DEATHS_FILE")
_AT = os.environ.get("DEATHS_AT", "0")
_ERROR, _HOW, _SIGN = (os.environ.get("DEATHS_FAULT", "::").split(":", 2) + [""] * 3)[:3]
_SWAP_AT, _, _SWAP = os.environ.get("DEATHS_SWAP", "").partition(":")
_REPLACE = [word.partition(":")[::2] for word in os.environ.get("DEATHS_REPLACE", "").split(";") if word]
_NFS = "DEATHS_NFS" in os.environ
_FILES = "heygemd.share" in sys.orig_argv
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/ext4.h; 2: without writing its journal out
_DROP = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
_ROOT = os.path.dirname(_FILE or "")
_swapping = False

_PACE = {
    "turn": 0.05, "start_turn": 0.02, "retry": 0.1, "breath": 0.02, "queue_first": 0.05, "queue_longest": 0.1,
}  # fmt: skip


# ------------------------------------------------------------ what is done


def _paths(name, args, kwargs):
    """What it is about, by whole paths."""
    for number, arg in enumerate(args):
        if isinstance(arg, int) and name in ("fsync", "statvfs", "scandir", "stat", "listdir"):
            yield os.readlink(f"/proc/self/fd/{arg}")
        if isinstance(arg, (str, bytes, os.PathLike)):
            fd = kwargs.get("dir_fd", kwargs.get(("src_dir_fd", "dst_dir_fd")[number > 0]))
            yield os.path.join(os.readlink(f"/proc/self/fd/{fd}") if fd is not None else "", os.fsdecode(arg))


def _sign(name, args, kwargs):
    """The operation and its paths, the same in every life."""
    new = name == "open" and len(args) > 1 and isinstance(args[1], int) and args[1] & os.O_EXCL
    paths = [_DROP.sub("DROP", path.removeprefix(_ROOT + "/")) for path in _paths(name, args, kwargs)]
    return " ".join(["create" if new else name, *(path.replace("\n", " ") for path in paths)])


def _come_to(kind, sign):
    """Write the line; die if it is the one; say whether it fails."""
    if _swapping:
        return False
    with _open(_FILE, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        lines = file.read().splitlines()
        file.write(f"{kind} {sign}\n")
        file.flush()
        if f"{kind} {sign}" == _SWAP_AT and _SWAP_AT not in lines:
            _swap()
        _replace(f"{kind} {sign}")
        if kind == "do" and _AT in (sign, str(1 + sum(line.startswith("do ") for line in lines))):
            _die()
        if sign != _SIGN:
            return False
        if _HOW == "lasting":
            return not _exists(f"{_FILE}.healed")
        return f"{kind} {sign}" not in lines


def _swap():
    """Where there is no such folder yet, or no place for it, the link is put where it will be, or nothing is done."""
    global _swapping
    _swapping = True  # what is done here is not the daemon's
    above, name = os.path.split(f"{_ROOT}/line/{_SWAP}")
    folders = [path for path in glob.glob(above) if os.path.isdir(path) and not os.path.islink(path)]
    names = [path for above in folders for path in glob.glob(f"{above}/{name}")]
    names += [f"{above}/{name}" for above in folders if "*" not in name]
    if names:
        if os.path.isdir(names[0]):
            _os_rename(names[0], f"{_ROOT}/aside")
        os.symlink(f"{_ROOT}/secret", names[0])
        with _open(f"{_FILE}.swapped", "w") as file:
            file.write(names[0])
    _swapping = False


def _replace(line):
    for number, (at, name) in enumerate(_REPLACE, 1):
        if at == line and _exists(f"{_ROOT}/next/{number}/{name}"):
            _os_rename(f"{_ROOT}/next/{number}/{name}", f"{_ROOT}/line/inbox/{name}")
            return


def _die():
    for folder in filter(None, os.environ.get("DEATHS_POWER", "").split(":")):
        fd = _os_open(folder, os.O_RDONLY)
        fcntl.ioctl(fd, _SHUTDOWN, b"\2\0\0\0")
    if os.environ.get("DEATHS_VICTIM") == "self":
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(os.getpgrp(), signal.SIGKILL)
    signal.pause()


def _fault():
    number = getattr(errno, _ERROR)
    return OSError(number, os.strerror(number), "(a fault of the test)")


def _counted(kind, function, name):
    def counted(*args, **kwargs):
        sign = _sign(name, args, kwargs)
        if not _real(name, args, kwargs, sign):
            return function(*args, **kwargs)
        fails = _come_to("do" if sign.startswith("create ") else kind, sign)
        if fails and _HOW != "after":
            raise _fault()
        result = function(*args, **kwargs)
        if fails:
            raise _fault()
        return result

    return counted


def _real(name, args, kwargs, sign):
    """Whether it touches the site, and changes anything: making a folder that is there is no operation."""
    if name == "mkdir" and _exists(next(_paths(name, args, kwargs))):
        return False
    return name == "fsync" or any(word.startswith(("line", "state", "disk")) for word in sign.split()[1:])


class _Library(ctypes.CDLL):
    def __getattr__(self, name):
        function = super().__getattr__(name)  # which keeps it as an attribute, so it comes here only once
        if name == "renameat2":
            function = _renaming(function)
            setattr(self, name, function)
        return function


def _renaming(function):
    def rename(from_fd, source, to_fd, target, flags):
        if _NFS:
            ctypes.set_errno(errno.EINVAL)
            return -1
        handles = {"src_dir_fd": from_fd, "dst_dir_fd": to_fd}
        fails = _come_to("do", _sign("renameat2", (source, target), handles))
        if fails and _HOW != "after":
            ctypes.set_errno(getattr(errno, _ERROR))
            return -1
        result = function(from_fd, source, to_fd, target, flags)
        if fails:
            ctypes.set_errno(getattr(errno, _ERROR))
            return -1
        return result

    return rename


class _Journal(sqlite3.Connection):
    _state = ""

    def execute(self, sql, *args):
        if args and sql.startswith(("UPDATE", "INSERT")):
            states = [str(value) for value in args[0] if str(value).isalpha()]
            self._state = states[0] if states else self._state
        if sql == "COMMIT" and _come_to("do", f"commit {self._state}"):
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


def _creating(path, mode="r", *args, **kwargs):
    name = "create" if mode[0] in "wx" else "read" if _FILES else ""
    kind, sign = "do" if name == "create" else "look", _sign(name, (path,), {})
    if name and _real(name, (path,), {}, sign) and _come_to(kind, sign):
        raise _fault()
    return _open(path, mode, *args, **kwargs)


def _count_operations():
    import builtins

    builtins.open = _creating
    for name in ("rename", "replace", "link", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, _counted("do", getattr(os, name), name))
    if _FILES:
        for name in ("open", "stat", "lstat", "scandir", "listdir", "statvfs"):
            setattr(os, name, _counted("look", getattr(os, name), name))
    ctypes.CDLL = _Library
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=_Journal, **kwargs)


# ------------------------------------------------------------ what is different


def _quicken(init):
    names = init.__code__.co_varnames[1 : init.__code__.co_argcount]
    assert _PACE.keys() <= set(names), "a wait has another name now"
    init.__defaults__ = tuple(_PACE.get(name, value) for name, value in zip(names, init.__defaults__, strict=True))


def _after_import(loader, module):
    _exec(loader, module)
    if module.__name__ == "heygemd.common.aio":
        _quicken(module.Pace.__init__)
    if "DEATHS_MUTATION" in os.environ:
        import mutations

        mutations.apply(os.environ["DEATHS_MUTATION"], module)


if _FILE and ("run" in sys.orig_argv or _FILES):
    _open, _os_open, _os_rename = open, os.open, os.rename
    _exec = importlib.machinery.SourceFileLoader.exec_module
    importlib.machinery.SourceFileLoader.exec_module = _after_import

    def _exists(path, _stat=os.stat):
        try:
            _stat(path)
        except OSError:
            return False
        return True

    if "DEATHS_UNCOUNTED" not in os.environ:
        _count_operations()
elif _FILE and "heygemd.pipeline" in sys.orig_argv:
    import fake_renderer

    fake_renderer.serve()
