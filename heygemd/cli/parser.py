"""The command line as argparse reads it: commands, options, help.

A command names the function that runs it as ``module:function`` in this room; ``main.py`` imports that module alone,
so that each command starts fast.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from heygemd import __version__
from heygemd.common.exits import EXIT_CODES
from heygemd.common.request import EXTENDS, FACES, PRESETS
from heygemd.config.load import ENGINES
from heygemd.store.states import JobState


def parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    whole = argparse.ArgumentParser(
        prog="heygemd",
        description="Watches folders and makes lip-synced films of what is dropped into them.",
        epilog=f"exit codes:\n{codes}\n\nThe configuration is --config, $HEYGEMD_CONFIG, ./config.toml or "
        "/etc/heygemd/config.toml, whichever comes first.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"heygemd {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    _add_making(commands)
    _add_looking(commands)
    _add_docs(commands)
    _add_orders(commands)
    _add_models(commands)
    _add_bundle(commands)
    shells = _add(commands, "completion", "run:completion", "print completion for a shell", reports=False, config=False)
    shells.add_argument("shell", choices=("bash", "zsh", "fish"), help="such as: . <(heygemd completion bash)")
    commands.add_parser("train-lips", help="train the lips network anew from synthesized speech")
    return whole


def _add(commands: Any, name: str, act: str, text: str, *, reports: bool = True, config: bool = True) -> Any:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(act=act)
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    if config:
        parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    if reports:
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    return parser


def _add_making(commands: Any) -> None:
    run = _add(commands, "run", "run", "watch the configured lines and make films", reports=False)
    run.add_argument("--once", action="store_true", help="do what is there, then end")
    run.add_argument("--quiet", action="store_true", help="write the run log only, nothing on stderr")

    render = _add(commands, "render", "render", "make one film, without a daemon")
    render.add_argument("--video", type=Path, required=True, metavar="V", help="whose mouth moves: film or still")
    render.add_argument("--audio", type=Path, required=True, metavar="A", help="what is said")
    render.add_argument("--out", type=Path, required=True, metavar="O.mp4", help="the film; its log goes beside it")
    render.add_argument("--force", action="store_true", help="replace a film and log that are there already")
    render.add_argument("--engine", choices=ENGINES)
    render.add_argument("--crf", type=int, choices=range(52), metavar="0-51", help="quality, lower is better")
    render.add_argument("--preset", choices=PRESETS, metavar="PRESET", help=f"{PRESETS[0]} … {PRESETS[-1]}")
    render.add_argument("--extend", choices=EXTENDS, help="what a template does that is shorter than the speech")
    render.add_argument("--face", choices=FACES, help="which face speaks")

    report = _add(commands, "report", "report", "measure a film, another tool's too: is it any good?")
    report.add_argument("film", type=Path, metavar="FILM", help="the film to be measured")
    report.add_argument("--video", type=Path, metavar="V", help="the template that it was made from")
    report.add_argument("--audio", type=Path, metavar="A", help="the sound that it should have")
    report.add_argument("--html", type=Path, metavar="OUT.html", help="write a page with pictures and curves, too")

    bench = _add(commands, "bench", "run:bench", "how fast films are made on this machine", config=False)
    bench.add_argument("--video", type=Path, metavar="V", help="your own template instead of the one that is made")
    engines = ("footage", "wav2lip")
    bench.add_argument("--engine", choices=engines, default="footage", help="wav2lip: with seeded random weights")
    bench.add_argument("--full", action="store_true", help="also 3 and 5 minutes of 1080p")
    demo = _add(commands, "demo", "run:demo", "show the whole line once, on a temporary one", config=False)
    demo.add_argument("--video", type=Path, metavar="V", help="your own film or still")
    demo.add_argument("--audio", type=Path, metavar="A", help="your own speech")
    demo.add_argument("--out", type=Path, metavar="DIR", help="where the three files go")
    prove = _add(commands, "selftest", "run:selftest", "have the running daemon make one film on a line of its own")
    prove.add_argument("--line", metavar="NAME", help="which line; without it the first")
    prove.add_argument("--out", type=Path, metavar="DIR", help="where film and log go, else here")


def _add_bundle(commands: Any) -> None:
    pack = _add(commands, "bundle", "run:bundle", "pack what a server without a network needs")
    pack.add_argument("out", type=Path, metavar="OUT.tar", help="the file to write")
    pack.add_argument("--python", default="", metavar="3.N", help="the server's Python, where it is another than here")
    pack.add_argument("--torch", default="", choices=("cpu", "cuda"), help="another build of torch than the one here")
    pack.add_argument("--model", action="append", default=[], metavar="NAME", help="an imported model; may be repeated")
    pack.add_argument("--debs", action="store_true", help="this distribution's ffmpeg and python3-venv packages too")


def _add_looking(commands: Any) -> None:
    check = _add(commands, "check", "check", "check the configuration and print what is in force")
    check.add_argument("--template", action="store_true", help="print the commented default configuration instead")
    _add(commands, "doctor", "run:doctor", "say what would work on this machine, and what is missing")
    _add(commands, "hook", "run:hook", "run one hook; what heygemd-hook@.service does", reports=False, config=False)
    purge = _add(commands, "purge", "purge", "forget what was learned of templates (it shows faces), or footage")
    purge.add_argument("--drop", metavar="NAME", help="inputs and films too, of this drop or every one with this file")
    purge.add_argument("--yes", action="store_true", help="really remove them; without, they are only listed")
    state = _add(commands, "status", "status", "say what the daemon is doing")
    state.add_argument("--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help="go on showing it, live")
    jobs = _add(commands, "jobs", "status:jobs", "list jobs, the newest first")
    jobs.add_argument(
        "--state", action="append", choices=[str(s) for s in JobState], metavar="STATE",
        help=f"only these; may be repeated: {', '.join(JobState)}",
    )  # fmt: skip
    jobs.add_argument("--failed", action="store_true", help="only those that failed or were cancelled")
    jobs.add_argument("--since", type=_span, metavar="SPAN", help="only of this time: 30m, 12h, 7d, 2w")
    jobs.add_argument(
        "--limit", type=_positive, metavar="N", help="at most so many (default 50; with --since all of that time)"
    )

    story = _add(commands, "log", "status:log", "say what the run log has of a job")
    story.add_argument("job", metavar="JOB", help="the job's id, as jobs lists it")


def _add_orders(commands: Any) -> None:
    for name, text in (
        ("retry", "try a failed or cancelled job again"),
        ("cancel", "cancel a queued or running job"),
    ):
        order = _add(commands, name, "orders", text)
        order.set_defaults(cmd=name)
        order.add_argument("job", metavar="JOB", help="the job's id, as jobs lists it")
    again = _add(commands, "reload", "orders:reload", "let the daemon read its configuration again")
    again.add_argument("--wait", action="store_true", help="come back when every line goes by it")
    for name, text in (("pause", "begin no further job"), ("resume", "go on after a pause")):
        _add(commands, name, "orders", text).set_defaults(cmd=name, job=None)


def _add_models(commands: Any) -> None:
    text = "import model files, list, check and remove them; never fetches any"
    words = commands.add_parser("models", help=text, description=f"{text[0].upper()}{text[1:]}.")
    below = words.add_subparsers(metavar="WORD", required=True)
    _add(below, "list", "models", "list the imported models with their terms").set_defaults(word="list")
    bring = _add(below, "import", "models", "import checkpoints, ONNX files or insightface packs")
    bring.set_defaults(word="import")
    bring.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, an archive or a folder")
    bring.add_argument("--name", default="", help="what to call it, where one is imported")
    bring.add_argument("--accept-licence", action="store_true", help="accept terms that forbid commercial use")
    _add(below, "verify", "models", "compare every stored file with what was imported").set_defaults(word="verify")
    remove = _add(below, "remove", "models", "delete an imported model")
    remove.set_defaults(word="remove")
    remove.add_argument("name", help="as list names it")


def _add_docs(commands: Any) -> None:
    pages = _add(commands, "docs", "docs", "read the documentation, offline", reports=False, config=False)
    pages.add_argument("page", nargs="?", metavar="PAGE", help="such as operate; without it the list of pages")
    pages.add_argument("--list", action="store_true", help="list the pages")
    reference = "print the page of all settings (Markdown) instead"
    commands.choices["check"].add_argument("--reference", action="store_true", help=reference)


def _span(text: str) -> Any:
    from heygemd.status import job_log

    try:
        return job_log.span(text)
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
