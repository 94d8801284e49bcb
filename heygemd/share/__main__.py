"""The share's child process: one JSON request a line on stdin, one reply a line on stdout."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass

from heygemd.common.spawn import end_with_parent
from heygemd.share import nofollow
from heygemd.share.operations import (
    discard_drop,
    file_drop,
    lay_down,
    move,
    open_drop,
    put,
    put_back,
    remove_filed,
    remove_film,
    remove_seen,
    reveal,
    stage,
    sync_folders,
    take_input,
    write_part,
    write_whole,
)
from heygemd.share.queries import free_mib, inspect, leave_line, listing, open_line, owner, read, scan

OPERATIONS: dict[str, Callable[..., object]] = {
    operation.__name__: operation
    for operation in (
        open_line, leave_line, scan, inspect, read, listing, owner, free_mib, open_drop, take_input, put_back,
        sync_folders, discard_drop, move, stage, put, write_part, reveal, write_whole, lay_down, file_drop,
        remove_seen, remove_filed, remove_film,
    )
}  # fmt: skip


def serve(folders: list[str]) -> None:
    """Answer one request a line until standard input ends; ``folders`` are those of the line (``nofollow.trust``)."""
    nofollow.trust(folders)
    end_with_parent()  # never outlive the daemon
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the daemon ends us, after it has finished its own business
    for line in sys.stdin.buffer:
        request = json.loads(line)
        sys.stdout.write(json.dumps(answer(request["op"], request["args"])) + "\n")
        sys.stdout.flush()


def answer(operation: str, args: list[object]) -> Mapping[str, object]:
    """The reply to one request, ready for JSON: the operation's value, or what the operating system refused."""
    try:
        value = OPERATIONS[operation](*args)
    except OSError as error:
        return {
            "errno": error.errno or errno.EIO,
            "error": error.strerror or str(error),
            "path": os.fsdecode(error.filename) if error.filename else None,
        }
    return {"value": asdict(value) if is_dataclass(value) and not isinstance(value, type) else value}


if __name__ == "__main__":
    serve(sys.argv[1:])
