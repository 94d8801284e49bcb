"""What each word of the command ``heygemd`` does.  Each imports only what it needs, so that none waits for another's.

All take the parsed arguments and return an exit code; ``main.py`` has the words and tells the faults.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from heygemd.common.exits import FAILED, MISSING, OK, Misuse
from heygemd.common.request import JobOptions
from heygemd.contract.control import NoDaemon


def run(args: argparse.Namespace) -> int:
    """The daemon, or one look at what is there."""
    from heygemd.config import load

    path = load.find(args.config)
    if path is None:
        raise Misuse(
            "No configuration was found. 'heygemd check --template > config.toml' writes a commented one; "
            "set name and root of its [[line]]."
        )
    checked = load.load(path)
    from heygemd.daemon import service

    return service.run(checked, once=args.once, terminal=not args.quiet)


def render(args: argparse.Namespace) -> int:
    """One film without a daemon."""
    from heygemd.cli import render

    options = JobOptions(engine=args.engine, crf=args.crf, preset=args.preset, extend=args.extend, face=args.face)
    order = render.Order(args.video, args.audio, args.out, options, replace=args.force)
    if fault := render.fault(order):
        raise Misuse(fault)
    render.tell(render.render(settings(args), order), as_json=args.json)
    return OK


def report(args: argparse.Namespace) -> int:
    """Measure any film."""
    from heygemd.cli import report as cli_report

    told = cli_report.measure(settings(args), args.film, args.video, args.audio, args.html)
    cli_report.tell(told, args.film, args.html, as_json=args.json)
    return OK if told["grade"] is not None else FAILED


def bench(args: argparse.Namespace) -> int:
    """How fast this machine is."""
    from heygemd.trials import bench

    return bench.run(args.video, full=args.full, as_json=args.json, engine=args.engine)


def demo(args: argparse.Namespace) -> int:
    """The whole line, once."""
    from heygemd.trials import demo

    return demo.run(args.video, args.audio, args.out, args.json)


def selftest(args: argparse.Namespace) -> int:
    """One film by the daemon that runs."""
    from heygemd.trials import selftest

    return selftest.run(settings(args), args.line, args.out, as_json=args.json)


def check(args: argparse.Namespace) -> int:
    """The configuration that is in force."""
    from heygemd.config import load
    from heygemd.status import text

    if args.template:
        print(load.template(), end="")
        return OK
    path = load.find(args.config)
    if path is None:
        raise Misuse("No configuration was found: give --config, or write ./config.toml.")
    text.check(load.load(path), as_json=args.json)
    return OK


def doctor(args: argparse.Namespace) -> int:
    """What would work here."""
    from heygemd.doctor import examine

    checks = examine.examine(settings(args))
    examine.tell(checks, as_json=args.json)
    return OK if examine.would_work(checks) else MISSING


def hook(_args: argparse.Namespace) -> int:
    """One hook, told on stdin."""
    from heygemd.config import load
    from heygemd.daemon import hooks

    answer = hooks.serve(sys.stdin.buffer.readline(), load.load)
    print(json.dumps(answer))
    return OK if answer["ok"] else FAILED


def purge(args: argparse.Namespace) -> int:
    """Forget faces, or footage too."""
    from heygemd.cli import purge as cli_purge

    config = settings(args)
    if args.drop is None:
        count = cli_purge.faces(config)
        what = f"{count} {'entry' if count == 1 else 'entries'} forgotten."
        print(json.dumps({"ok": True, "forgotten": count}) if args.json else what)
        return OK
    found = cli_purge.find(config, args.drop)
    stayed = cli_purge.remove(config, found) if args.yes else []
    told = {"ok": not stayed, "removed": args.yes, "drops": [one.to_json() for one in found], "stayed": stayed}
    if args.yes:
        told["forgotten"] = cli_purge.faces(config)
    cli_purge.tell(told, as_json=args.json)
    return OK if not stayed else FAILED


def status(args: argparse.Namespace) -> int:
    """What the daemon is doing."""
    from heygemd.status import text

    text.status(settings(args), as_json=args.json, every=args.watch)
    return OK


def jobs(args: argparse.Namespace) -> int:
    """The jobs, the newest first."""
    from heygemd.status import text

    states = set(args.state or ()) | ({"failed", "cancelled"} if args.failed else set())
    text.jobs(settings(args), states or None, args.limit, as_json=args.json, ago=args.since)
    return OK


def log(args: argparse.Namespace) -> int:
    """What the run log has of a job."""
    from heygemd.status import text

    return OK if text.log(settings(args), args.job, as_json=args.json) else FAILED


def order(args: argparse.Namespace) -> int:
    """Retry, cancel, pause, resume: an order to the daemon."""
    # A retry moves a drop's files back on the share, which may be slow.
    reply = _answer(args, {"cmd": args.cmd} | ({"job": args.job} if args.job else {}), timeout=120)
    who = reply.get("job") or "The daemon"
    done = {
        "retry": "is queued again", "cancel": "is cancelled",
        "pause": "begins no further job; 'heygemd resume' lets it go on", "resume": "goes on",
    }  # fmt: skip
    print(json.dumps(reply) if args.json else f"{who} {done[args.cmd]}.")
    return OK


def reload(args: argparse.Namespace) -> int:
    """Have the daemon read its configuration again."""
    from heygemd.config import changes

    # A faulty file is refused here already, with the same words as the daemon would.
    changes.tell(_answer(args, {"cmd": "reload", "wait": args.wait}, timeout=110), as_json=args.json)
    return OK


def _answer(args: argparse.Namespace, request: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """What the daemon answers.  Raises ``NoDaemon``, and ``Misuse`` where it refuses."""
    from heygemd.contract import control

    try:
        reply = control.call(settings(args).daemon.socket, request, timeout=timeout)
    except NoDaemon as nobody:
        raise NoDaemon(f"{nobody.message} {request['cmd']!r} needs one that runs.") from nobody
    if not reply.get("ok"):
        raise Misuse(str(reply.get("error", "The daemon refused.")))
    return reply


def models(args: argparse.Namespace) -> int:
    """Import, list, check and remove models."""
    from heygemd.cli import models as cli_models
    from heygemd.models.store import Store

    store = Store(settings(args).daemon.models_dir)
    if args.word == "import":
        done = cli_models.importing(store, args.paths, args.name, accept=args.accept_licence, as_json=args.json)
    elif args.word == "verify":
        done = cli_models.verifying(store, as_json=args.json)
    elif args.word == "remove":
        done = cli_models.removing(store, args.name, as_json=args.json)
    else:
        done = cli_models.listing(store, as_json=args.json)
    return OK if done else FAILED


def bundle(args: argparse.Namespace) -> int:
    """Pack for a server without a network."""
    from heygemd.bundle import build

    models_dir = settings(args).daemon.models_dir if args.model else Path()
    packed = build.build(
        build.Order(args.out, args.python, args.torch, tuple(dict.fromkeys(args.model)), models_dir, args.debs)
    )
    if args.json:
        print(json.dumps({"ok": True, "file": str(args.out), "packages": packed}))
    else:
        print(f"{args.out}: {', '.join(packed)}")
        print(f"On the server: tar xf {args.out.name}, then sudo ./install.sh in the folder that it makes.")
    return OK


def settings(args: argparse.Namespace) -> Any:
    """The configuration for a command that works without one, or without lines, too."""
    from heygemd.config import load

    path = load.find(args.config)
    return load.default_config() if path is None else load.load(path, need_lines=False)
