"""``heygemd run``, and the commands that are one call: hook, bench, demo, selftest, doctor, bundle, completion."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from heygemd.common.errors import Misuse
from heygemd.common.exits import FAILED, MISSING, OK
from heygemd.config import load


def command(args: argparse.Namespace) -> int:
    """The daemon, or one look at what is there."""
    path = load.find(args.config)
    if path is None:
        raise Misuse(
            "No configuration was found. Run 'heygemd check --template > config.toml', then set name and root of "
            "its [[line]]."
        )
    checked = load.load(path)
    from heygemd.daemon import service

    return service.run(checked, once=args.once, terminal=not args.quiet)


def hook(_args: argparse.Namespace) -> int:
    """One hook; its order is one line on stdin."""
    from heygemd.daemon import hooks

    answer = hooks.serve(sys.stdin.buffer.readline(), load.load)
    print(json.dumps(answer))
    return OK if answer["ok"] else FAILED


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

    return selftest.run(load.load_or_default(args.config), args.line, args.out, as_json=args.json)


def doctor(args: argparse.Namespace) -> int:
    """What would work here."""
    from heygemd.doctor import examine

    checks = examine.examine(load.load_or_default(args.config))
    examine.print_findings(checks, as_json=args.json)
    return OK if examine.would_work(checks) else MISSING


def bundle(args: argparse.Namespace) -> int:
    """Pack for a server without a network."""
    from heygemd.bundle import build

    models_dir = load.load_or_default(args.config).daemon.models_dir if args.model else Path()
    packed = build.build(
        build.BundleOrder(args.out, args.python, args.torch, tuple(dict.fromkeys(args.model)), models_dir, args.debs)
    )
    if args.json:
        print(json.dumps({"ok": True, "file": str(args.out), "packages": packed}))
    else:
        print(f"{args.out}: {', '.join(packed)}")
        print(f"On the server: tar xf {args.out.name}, then sudo ./install.sh in the extracted folder.")
    return OK


def completion(args: argparse.Namespace) -> int:
    """A shell's completion script."""
    from heygemd import training
    from heygemd.cli import completion
    from heygemd.cli.parser import parser

    print(completion.script(args.shell, parser(), {"train-lips": training.parser()}), end="")
    return OK
