"""Writes down every try to reach a network.  Found by Python through PYTHONPATH, in tests only; heygemd does not know.

``$SOCKET_DIARY`` is a file: each Python process that starts appends ``started`` and its first module, and a line for
each name that is looked up and each address outside of this machine that something is sent to.
"""

import os
import sys

_DIARY = os.environ.get("SOCKET_DIARY")
_SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_ASKING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"}


def _note(line):
    with open(_DIARY, "a") as diary:
        diary.write(line + "\n")


def _heed(event, told):
    if event in _ASKING or (event in _SENDING and isinstance(told[1], tuple)):  # a path is a socket of this machine
        _note(f"{event} {told[1:] if event in _SENDING else told}")


if _DIARY:
    _note(f"started {' '.join(sys.orig_argv[1:5])}")
    sys.addaudithook(_heed)
