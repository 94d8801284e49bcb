"""``heygemd run``, and the commands that are one call: hook, bench, demo, selftest, doctor, bundle, completion."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from heygemd.common.errors import Misuse
from heygemd.common.exits import FAILED, MISSING, OK
from heygemd.common.shipped import shipped
from heygemd.config import load


def command(args: argparse.Namespace) -> int:
    """Run the daemon, or with ``--once`` process the inboxes once."""
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
    """Report what works on this machine."""
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
    """A shell's completion script, which shtab generates from the command line's own parsers.

    ``data/completion.bash`` and ``data/completion.zsh`` add what shtab lacks.
    """
    import shtab

    from heygemd import training
    from heygemd.cli.parser import parser

    whole = parser()
    _say_values(whole, {"train-lips": training.parser()})
    preamble = shipped("completion.zsh").decode() if args.shell == "zsh" else ""
    print(shtab.complete(whole, args.shell, preamble=preamble), end="")
    print(shipped("completion.bash").decode() if args.shell == "bash" else "", end="")
    return OK


def _say_values(parser: argparse.ArgumentParser, more: dict[str, argparse.ArgumentParser]) -> None:
    """Set each action's ``complete``, which shtab reads; ``more`` has parsers of commands that read their own words."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.choices |= {name: child for name, child in more.items() if name in action.choices}
            for child in action.choices.values():
                _say_values(child, more)
        elif action.metavar == "JOB":
            vars(action)["complete"] = {"bash": "_heygemd_jobs", "zsh": "_heygemd_jobs", "fish": _FISH_JOBS}
        elif action.type is Path and action.metavar == "DIR":
            vars(action)["complete"] = {**shtab.DIRECTORY, "bash": "_heygemd_dirs"}
        elif action.type is Path:
            vars(action)["complete"] = {**shtab.FILE, "bash": "_heygemd_files"}


_FISH_JOBS = r"(heygemd jobs 2>/dev/null | string match -r '^\d{8}-\d{6}-[0-9a-f]+\.\d+')"
