"""``heygemd retry``, ``cancel``, ``pause``, ``resume`` and ``reload``: orders to the running daemon."""

from __future__ import annotations

import argparse
import json

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.common.errors import Misuse, NoDaemon
from heygemd.common.exits import OK
from heygemd.common.names import display
from heygemd.config import load


def command(args: argparse.Namespace) -> int:
    """Retry, cancel, pause, resume: an order to the daemon."""
    # A retry moves a drop's files back on the share, which may be slow.
    reply = _ask(args, {"cmd": args.cmd} | ({"job": args.job} if args.job else {}), timeout=120)
    who = reply.get("job") or "The daemon"
    done = {
        "retry": "is queued again", "cancel": "is cancelled",
        "pause": "is paused and starts no new job; 'heygemd resume' starts jobs again", "resume": "starts jobs again",
    }  # fmt: skip
    print(json.dumps(dict(reply)) if args.json else f"{who} {done[args.cmd]}.")
    return OK


def reload(args: argparse.Namespace) -> int:
    """Have the daemon read its configuration again."""

    # A faulty file is refused here already, with the same message as the daemon's.
    _print_changes(_ask(args, {"cmd": "reload", "wait": args.wait}, timeout=110), as_json=args.json)
    return OK


def _ask(args: argparse.Namespace, request: Row, *, timeout: float) -> Row:
    """The daemon's reply.  Raises ``NoDaemon``, and ``Misuse`` where it refuses."""
    from heygemd.contract import control

    try:
        reply = control.call(load.load_or_default(args.config).daemon.socket, request, timeout=timeout)
    except NoDaemon as nobody:
        raise NoDaemon(f"{nobody.message} {request['cmd']!r} needs a running daemon.") from nobody
    if not reply.get("ok"):
        raise Misuse(str(reply.get("error", "The daemon refused the request.")))
    return reply


def _print_changes(reply: Row, *, as_json: bool) -> None:
    """Print the changes of a new configuration from the daemon's reply."""
    if as_json:
        print(json.dumps(dict(reply)))
        return
    changes = [
        f"{what}: {', '.join(map(display, checked.texts(reply, key)))}"
        for key, what in (
            ("tables", "new settings"), ("added", "lines added"), ("removed", "lines removed"),
            ("changed", "lines changed"), ("needs_restart", "need a restart"),
        )
        if checked.texts(reply, key)
    ]  # fmt: skip
    print(
        f"{display(checked.text(reply, 'source'))} is now in force"
        + "".join(f"\n  {line}" for line in changes or ["nothing changed"])
    )
