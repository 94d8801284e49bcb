"""Kills the daemon before its Nth file operation.  Found by Python at start through PYTHONPATH, in tests only.

Every process of the daemon (itself and its file children) counts renames, links, unlinks, mkdirs, creations, fsyncs
and journal commits in one shared file, ``$DEATHS_FILE``, a line each; the process that comes to line ``$DEATHS_AT``
kills its process group, which is the daemon and all its file children.  Nothing in heygemd knows of this.
"""

import ctypes
import fcntl
import os
import signal
import sqlite3
import sys

_FILE = os.environ.get("DEATHS_FILE")
_AT = int(os.environ.get("DEATHS_AT", "0"))
_OURS = "heygemd.files" in sys.orig_argv or "run" in sys.orig_argv


def _count(what: str) -> None:
    with _open(_FILE, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = len(file.readlines()) + 1
        file.write(what.replace("\n", " ") + "\n")
        file.flush()
        if number == _AT:
            os.killpg(os.getpgrp(), signal.SIGKILL)
            signal.pause()


def _before(function, name):
    def counted(*args, **kwargs):
        _count(f"{name} {args!r}")
        return function(*args, **kwargs)

    return counted


class _Library(ctypes.CDLL):
    def __getattr__(self, name):
        function = super().__getattr__(name)  # which keeps it as an attribute, so it comes here only once
        if name == "renameat2":
            function = _before(function, name)
            setattr(self, name, function)
        return function


class _Journal(sqlite3.Connection):
    def execute(self, sql, *args):
        if sql == "COMMIT":
            _count("commit")
        return super().execute(sql, *args)


def _creating(path, mode="r", *args, **kwargs):
    if mode[0] in "wx" and str(path) != _FILE:
        _count(f"create {path!r}")
    return _open(path, mode, *args, **kwargs)


if _FILE and _OURS:
    import builtins

    _open = builtins.open
    builtins.open = _creating
    for _name in ("rename", "replace", "link", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, _name, _before(getattr(os, _name), _name))
    ctypes.CDLL = _Library
    _connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: _connect(*args, factory=_Journal, **kwargs)
