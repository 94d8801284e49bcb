"""The command ``heygemd``: its words, its exit codes, and how faults are told.  What a word does lives elsewhere.

Results go to stdout (as one JSON object with ``--json``), everything else to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heygemd import __version__, log
from heygemd.config import ENGINES
from heygemd.control import NoDaemon
from heygemd.errors import (
    Cancelled,
    ConfigError,
    EngineError,
    HeygemdError,
    InputError,
    SetupError,
    WorkerDied,
)
from heygemd.journal import JobState
from heygemd.requests import EXTENDS, FACES, PRESETS, JobOptions

OK, UNEXPECTED, MISUSE, FAILED, NO_DAEMON, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES = {
    OK: "done; with run --once: everything was delivered",
    UNEXPECTED: "an unexpected error",
    MISUSE: "wrong use, or a fault in the configuration",
    FAILED: "a film could not be made; with run --once: at least one",
    NO_DAEMON: "no daemon answers, and there is nothing to read",
    MISSING: "something is missing on this machine; doctor says what",
    INTERRUPTED: "interrupted",
}

_CODE_OF: tuple[tuple[type[HeygemdError], int], ...] = (
    (NoDaemon, NO_DAEMON),
    (ConfigError, MISUSE),
    (SetupError, MISSING),
    (Cancelled, INTERRUPTED),
    (InputError, FAILED),
    (EngineError, FAILED),
    (WorkerDied, FAILED),
)

Act = Callable[[argparse.Namespace], int]


class Misuse(HeygemdError):
    """What was asked for makes no sense; nothing was done."""

    code = "misuse"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see ``EXIT_CODES``)."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = argparse.Namespace(json=False, debug="HEYGEMD_DEBUG" in os.environ)
    try:
        if words[:1] == ["train-lips"]:  # has options of its own
            return _train_lips(words[1:])
        _parser().parse_args(words, args)
        act: Act = args.act
        return act(args)
    except SystemExit as ending:  # argparse: help, version, or wrong use, which it has told
        return ending.code if isinstance(ending.code, int) else MISUSE
    except KeyboardInterrupt:
        print("heygemd: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except HeygemdError as error:
        return _tell(error, args)
    except Exception as error:  # noqa: BLE001 - the one place of this process
        return _tell_unexpected(error, args)


def _tell(error: HeygemdError, args: argparse.Namespace) -> int:
    """The fault as its sentence on stderr, and as JSON on stdout where that was asked for."""
    if args.debug:
        traceback.print_exception(error)
    print(f"heygemd: {error.message}", file=sys.stderr)
    for line in error.detail.splitlines():
        print(f"    {line}", file=sys.stderr)
    if args.json:
        told = {"code": error.code, "message": error.message, "detail": error.detail}
        told |= {"reason": error.reason} if isinstance(error, InputError) else {}
        faults = [{"where": f.where, "what": f.what} for f in error.faults] if isinstance(error, ConfigError) else []
        print(json.dumps({"ok": False, "error": told} | ({"faults": faults} if faults else {})))
    return exit_code(error)


def exit_code(error: HeygemdError) -> int:
    """The exit code that belongs to an error."""
    if isinstance(error, Misuse):
        return MISUSE
    return next((code for kind, code in _CODE_OF if isinstance(error, kind)), UNEXPECTED)


def _tell_unexpected(error: Exception, args: argparse.Namespace) -> int:
    """A fault of ours: the details go into the run log where there is one, to the terminal only on demand."""
    where = log.file()
    if where is not None:
        log.get().error("unexpected_error", exc_info=error)
    if args.debug:
        traceback.print_exception(error)
    hint = f"the details are in {where}" if where else "--debug shows the details"
    print(f"heygemd: unexpected error, {type(error).__name__}: {error} ({hint})", file=sys.stderr)
    if args.json:
        print(json.dumps({"ok": False, "error": {"code": "unexpected", "message": str(error), "detail": ""}}))
    return UNEXPECTED


# ---------------------------------------------------------------- the words


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog="heygemd",
        description="Watches folders and makes lip-synced films of what is dropped into them.",
        epilog=f"exit codes:\n{codes}\n\nThe configuration is --config, $HEYGEMD_CONFIG, ./config.toml or "
        "/etc/heygemd/config.toml, whichever comes first.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"heygemd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_making(commands)
    _add_looking(commands)
    _add_orders(commands)
    _add_models(commands)
    _add_bundle(commands)
    shells = _add(commands, "completion", _completion, "print completion for a shell", reports=False, config=False)
    shells.add_argument("shell", choices=("bash", "zsh", "fish"), help="such as: . <(heygemd completion bash)")
    commands.add_parser("train-lips", help="train the lips network anew from synthesized speech")
    return parser


def _add(commands: Any, name: str, act: Act, text: str, *, reports: bool = True, config: bool = True) -> Any:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(act=act)
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    if config:
        parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    if reports:
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    return parser


def _add_making(commands: Any) -> None:
    run = _add(commands, "run", _run, "watch the configured lines and make films", reports=False)
    run.add_argument("--once", action="store_true", help="do what is there, then end")
    run.add_argument("--quiet", action="store_true", help="write the run log only, nothing on stderr")

    render = _add(commands, "render", _render, "make one film, without a daemon")
    render.add_argument("--video", type=Path, required=True, metavar="V", help="whose mouth moves: film or still")
    render.add_argument("--audio", type=Path, required=True, metavar="A", help="what is said")
    render.add_argument("--out", type=Path, required=True, metavar="O.mp4", help="the film; its log goes beside it")
    render.add_argument("--force", action="store_true", help="replace a film and log that are there already")
    render.add_argument("--engine", choices=ENGINES)
    render.add_argument("--crf", type=int, choices=range(52), metavar="0-51", help="quality, lower is better")
    render.add_argument("--preset", choices=PRESETS, metavar="PRESET", help=f"{PRESETS[0]} … {PRESETS[-1]}")
    render.add_argument("--extend", choices=EXTENDS, help="what a template does that is shorter than the speech")
    render.add_argument("--face", choices=FACES, help="which face speaks")

    report = _add(commands, "report", _report, "measure a film, another tool's too: is it any good?")
    report.add_argument("film", type=Path, metavar="FILM", help="the film to be measured")
    report.add_argument("--video", type=Path, metavar="V", help="the template that it was made from")
    report.add_argument("--audio", type=Path, metavar="A", help="the sound that it should have")
    report.add_argument("--html", type=Path, metavar="OUT.html", help="write a page with pictures and curves, too")

    bench = _add(commands, "bench", _bench, "how fast films are made on this machine", config=False)
    bench.add_argument("--video", type=Path, metavar="V", help="your own template instead of the one that is made")
    engines = ("footage", "wav2lip")
    bench.add_argument("--engine", choices=engines, default="footage", help="wav2lip: with seeded random weights")
    bench.add_argument("--full", action="store_true", help="also 3 and 5 minutes of 1080p")
    demo = _add(commands, "demo", _demo, "show the whole line once, on a temporary one", config=False)
    demo.add_argument("--video", type=Path, metavar="V", help="your own film or still")
    demo.add_argument("--audio", type=Path, metavar="A", help="your own speech")
    demo.add_argument("--out", type=Path, metavar="DIR", help="where the three files go")
    prove = _add(commands, "selftest", _selftest, "have the running daemon make one film on a line of its own")
    prove.add_argument("--line", metavar="NAME", help="which line; without it the first")
    prove.add_argument("--out", type=Path, metavar="DIR", help="where film and log go, else here")


def _add_bundle(commands: Any) -> None:
    pack = _add(commands, "bundle", _bundle, "pack what a server without a network needs")
    pack.add_argument("out", type=Path, metavar="OUT.tar", help="the file to write")
    pack.add_argument("--python", default="", metavar="3.N", help="the server's Python, where it is another than here")
    pack.add_argument("--torch", default="", choices=("cpu", "cuda"), help="another build of torch than the one here")
    pack.add_argument("--model", action="append", default=[], metavar="NAME", help="an imported model; may be repeated")
    pack.add_argument("--debs", action="store_true", help="this distribution's ffmpeg and python3-venv packages too")


def _add_looking(commands: Any) -> None:
    check = _add(commands, "check", _check, "check the configuration and print what is in force")
    check.add_argument("--template", action="store_true", help="print the commented default configuration instead")
    _add(commands, "doctor", _doctor, "say what would work on this machine, and what is missing")
    _add(commands, "hook", _hook, "run one hook; what heygemd-hook@.service does", reports=False, config=False)
    purge = _add(commands, "purge", _purge, "forget what was learned of templates (it shows faces), or footage")
    purge.add_argument("--drop", metavar="NAME", help="inputs and films too, of this drop or every one with this file")
    purge.add_argument("--yes", action="store_true", help="really remove them; without, they are only listed")
    state = _add(commands, "status", _status, "say what the daemon is doing")
    state.add_argument("--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help="go on showing it, live")
    jobs = _add(commands, "jobs", _jobs, "list jobs, the newest first")
    jobs.add_argument(
        "--state", action="append", choices=[str(s) for s in JobState], metavar="STATE",
        help=f"only these; may be repeated: {', '.join(JobState)}",
    )  # fmt: skip
    jobs.add_argument("--failed", action="store_true", help="only those that failed or were cancelled")
    jobs.add_argument("--since", type=_span, metavar="SPAN", help="only of this time: 30m, 12h, 7d, 2w")
    jobs.add_argument(
        "--limit", type=_positive, metavar="N", help="at most so many (default 50; with --since all of that time)"
    )

    story = _add(commands, "log", _log, "say what the run log has of a job")
    story.add_argument("job", metavar="JOB", help="the job's id, as jobs lists it")


def _add_orders(commands: Any) -> None:
    for name, text in (
        ("retry", "try a failed or cancelled job again"),
        ("cancel", "cancel a queued or running job"),
    ):
        order = _add(commands, name, _order, text)
        order.set_defaults(cmd=name)
        order.add_argument("job", metavar="JOB", help="the job's id, as jobs lists it")
    again = _add(commands, "reload", _reload, "let the daemon read its configuration again")
    again.add_argument("--wait", action="store_true", help="come back when every line goes by it")
    for name, text in (("pause", "begin no further job"), ("resume", "go on after a pause")):
        _add(commands, name, _order, text).set_defaults(cmd=name, job=None)


def _add_models(commands: Any) -> None:
    text = "import model files, list, check and remove them; never fetches any"
    words = commands.add_parser("models", help=text, description=f"{text[0].upper()}{text[1:]}.")
    acts = words.add_subparsers(metavar="WORD", required=True)
    _add(acts, "list", _models, "list the imported models with their terms").set_defaults(word="list")
    bring = _add(acts, "import", _models, "import checkpoints, ONNX files or insightface packs")
    bring.set_defaults(word="import")
    bring.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, an archive or a folder")
    bring.add_argument("--name", default="", help="what to call it, where one is imported")
    bring.add_argument("--accept-licence", action="store_true", help="accept terms that forbid commercial use")
    _add(acts, "verify", _models, "compare every stored file with what was imported").set_defaults(word="verify")
    remove = _add(acts, "remove", _models, "delete an imported model")
    remove.set_defaults(word="remove")
    remove.add_argument("name", help="as list names it")


def _span(text: str) -> Any:
    from heygemd import joblog

    try:
        return joblog.span(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.2 <= number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.2 and 86400")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


# ---------------------------------------------------------------- what they do: each imports only what it needs


def _run(args: argparse.Namespace) -> int:
    from heygemd import config

    path = config.find(args.config)
    if path is None:
        raise Misuse(
            "No configuration was found. 'heygemd check --template > config.toml' writes a commented one; "
            "set name and root of its [[line]]."
        )
    checked = config.load(path)
    from heygemd import daemon

    return daemon.run(checked, once=args.once, terminal=not args.quiet)


def _render(args: argparse.Namespace) -> int:
    from heygemd import render

    options = JobOptions(engine=args.engine, crf=args.crf, preset=args.preset, extend=args.extend, face=args.face)
    order = render.Order(args.video, args.audio, args.out, options, replace=args.force)
    if fault := render.fault(order):
        raise Misuse(fault)
    render.tell(render.render(_settings(args), order), as_json=args.json)
    return OK


def _report(args: argparse.Namespace) -> int:
    from heygemd import measure

    told = measure.measure(_settings(args), args.film, args.video, args.audio, args.html)
    measure.tell(told, args.film, args.html, as_json=args.json)
    return OK if told["grade"] is not None else FAILED


def _bench(args: argparse.Namespace) -> int:
    from heygemd import bench

    return bench.run(args.video, full=args.full, as_json=args.json, engine=args.engine)


def _demo(args: argparse.Namespace) -> int:
    from heygemd import demo

    return demo.run(args.video, args.audio, args.out, args.json)


def _selftest(args: argparse.Namespace) -> int:
    from heygemd import selftest

    return selftest.run(_settings(args), args.line, args.out, as_json=args.json)


def _check(args: argparse.Namespace) -> int:
    from heygemd import config, reports

    if args.template:
        print(config.template(), end="")
        return OK
    path = config.find(args.config)
    if path is None:
        raise Misuse("No configuration was found: give --config, or write ./config.toml.")
    reports.check(config.load(path), as_json=args.json)
    return OK


def _doctor(args: argparse.Namespace) -> int:
    from heygemd import doctor

    checks = doctor.examine(_settings(args))
    doctor.tell(checks, as_json=args.json)
    return OK if doctor.would_work(checks) else MISSING


def _hook(_args: argparse.Namespace) -> int:
    from heygemd import config, hooks

    answer = hooks.serve(sys.stdin.buffer.readline(), config.load)
    print(json.dumps(answer))
    return OK if answer["ok"] else FAILED


def _purge(args: argparse.Namespace) -> int:
    from heygemd import purging

    config = _settings(args)
    if args.drop is None:
        count = purging.faces(config)
        what = f"{count} {'entry' if count == 1 else 'entries'} forgotten."
        print(json.dumps({"ok": True, "forgotten": count}) if args.json else what)
        return OK
    found = purging.find(config, args.drop)
    stayed = purging.remove(config, found) if args.yes else []
    told = {"ok": not stayed, "removed": args.yes, "drops": [one.to_json() for one in found], "stayed": stayed}
    if args.yes:
        told["forgotten"] = purging.faces(config)
    purging.tell(told, as_json=args.json)
    return OK if not stayed else FAILED


def _status(args: argparse.Namespace) -> int:
    from heygemd import reports

    reports.status(_settings(args), as_json=args.json, every=args.watch)
    return OK


def _jobs(args: argparse.Namespace) -> int:
    from heygemd import reports

    states = set(args.state or ()) | ({"failed", "cancelled"} if args.failed else set())
    reports.jobs(_settings(args), states or None, args.limit, as_json=args.json, ago=args.since)
    return OK


def _log(args: argparse.Namespace) -> int:
    from heygemd import reports

    return OK if reports.log(_settings(args), args.job, as_json=args.json) else FAILED


def _order(args: argparse.Namespace) -> int:
    from heygemd import control

    request = {"cmd": args.cmd} | ({"job": args.job} if args.job else {})
    try:
        # A retry moves a drop's files back on the share, which may be slow.
        reply = control.call(_settings(args).daemon.socket, request, timeout=120)
    except NoDaemon as nobody:
        raise NoDaemon(f"{nobody.message} {args.cmd!r} needs one that runs.") from nobody
    if not reply.get("ok"):
        raise Misuse(str(reply.get("error", "The daemon refused.")))
    who = reply.get("job") or "The daemon"
    done = {
        "retry": "is queued again", "cancel": "is cancelled",
        "pause": "begins no further job; 'heygemd resume' lets it go on", "resume": "goes on",
    }  # fmt: skip
    print(json.dumps(reply) if args.json else f"{who} {done[args.cmd]}.")
    return OK


def _reload(args: argparse.Namespace) -> int:
    from heygemd import control, reload

    # A faulty file is refused here already, with the same words as the daemon would.
    request = {"cmd": "reload", "wait": args.wait}
    try:
        reply = control.call(_settings(args).daemon.socket, request, timeout=110)
    except NoDaemon as nobody:
        raise NoDaemon(f"{nobody.message} 'reload' needs one that runs.") from nobody
    if not reply.get("ok"):
        raise Misuse(str(reply.get("error", "The daemon refused.")))
    reload.tell(reply, as_json=args.json)
    return OK


def _models(args: argparse.Namespace) -> int:
    from heygemd.models import Store, words

    store = Store(_settings(args).daemon.models_dir)
    if args.word == "import":
        done = words.importing(store, args.paths, args.name, accept=args.accept_licence, as_json=args.json)
    elif args.word == "verify":
        done = words.verifying(store, as_json=args.json)
    elif args.word == "remove":
        done = words.removing(store, args.name, as_json=args.json)
    else:
        done = words.listing(store, as_json=args.json)
    return OK if done else FAILED


def _bundle(args: argparse.Namespace) -> int:
    from heygemd import bundle

    models_dir = _settings(args).daemon.models_dir if args.model else Path()
    packed = bundle.build(
        bundle.Order(args.out, args.python, args.torch, tuple(dict.fromkeys(args.model)), models_dir, args.debs)
    )
    if args.json:
        print(json.dumps({"ok": True, "file": str(args.out), "packages": packed}))
    else:
        print(f"{args.out}: {', '.join(packed)}")
        print(f"On the server: tar xf {args.out.name}, then sudo ./install.sh in the folder that it makes.")
    return OK


def _completion(args: argparse.Namespace) -> int:
    from heygemd import completion, training

    print(completion.script(args.shell, _parser(), {"train-lips": training.parser()}), end="")
    return OK


def _train_lips(words: list[str]) -> int:
    from heygemd import training

    return training.main(words)


def _settings(args: argparse.Namespace) -> Any:
    """The configuration for a command that works without one, or without lines, too."""
    from heygemd import config

    path = config.find(args.config)
    return config.default_config() if path is None else config.load(path, need_lines=False)
