"""The command line as argparse reads it: commands, options, help.

A command names the function that runs it as ``module:function`` in this room; ``main.py`` imports that module alone,
so that each command starts fast.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from heygemd import __version__
from heygemd.common.exits import EXIT_CODES
from heygemd.common.request import ENGINES, EXTENDS, FACES, PRESETS
from heygemd.store.states import JobState

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    whole = argparse.ArgumentParser(
        prog="heygemd",
        description="Watches folders and makes lip-synced films from the files dropped into them.",
        epilog=f"exit codes:\n{codes}\n\nThe configuration is read from the first of --config, $HEYGEMD_CONFIG, "
        "./config.toml and /etc/heygemd/config.toml.",
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
    shells = _add(
        commands, "completion", "run:completion", "print the completion script for a shell", reports=False, config=False
    )
    shells.add_argument("shell", choices=("bash", "zsh", "fish"), help="example: . <(heygemd completion bash)")
    commands.add_parser("train-lips", help="train the lips network on synthesized speech")
    return whole


def _add(
    commands: Commands, name: str, act: str, text: str, *, reports: bool = True, config: bool = True
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(act=act)
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors")
    if config:
        parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
    if reports:
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object"
        )
    return parser


def _add_making(commands: Commands) -> None:
    run = _add(commands, "run", "run", "watch the configured lines and make films", reports=False)
    run.add_argument("--once", action="store_true", help="process the inboxes once, then exit")
    run.add_argument("--quiet", action="store_true", help="write to the run log only, not to stderr")

    render = _add(commands, "render", "render", "make one film without the daemon")
    render.add_argument(
        "--video", type=Path, required=True, metavar="V", help="template: a video or still picture of the speaker"
    )
    render.add_argument("--audio", type=Path, required=True, metavar="A", help="speech")
    render.add_argument(
        "--out", type=Path, required=True, metavar="O.mp4", help="film to write; its log is written next to it"
    )
    render.add_argument("--force", action="store_true", help="replace an existing film and log")
    render.add_argument("--engine", choices=ENGINES)
    render.add_argument("--crf", type=int, choices=range(52), metavar="0-51", help="video quality; lower is better")
    render.add_argument(
        "--preset", choices=PRESETS, metavar="PRESET", help=f"encoder preset, {PRESETS[0]} to {PRESETS[-1]}"
    )
    render.add_argument("--extend", choices=EXTENDS, help="how a template shorter than the speech is extended")
    render.add_argument("--face", choices=FACES, help="which of several faces speaks")

    report = _add(commands, "report", "report", "measure the quality of a film, made by heygemd or another tool")
    report.add_argument("film", type=Path, metavar="FILM", help="film to measure")
    report.add_argument("--video", type=Path, metavar="V", help="template that the film was made from")
    report.add_argument("--audio", type=Path, metavar="A", help="sound that the film was made for")
    report.add_argument(
        "--html", type=Path, metavar="OUT.html", help="also write a report page with pictures and curves"
    )

    bench = _add(commands, "bench", "run:bench", "measure how fast this machine makes films", config=False)
    bench.add_argument("--video", type=Path, metavar="V", help="your own template; default: a generated one")
    engines = ("footage", "wav2lip")
    bench.add_argument(
        "--engine", choices=engines, default="footage", help="engine to measure; wav2lip runs with random weights"
    )
    bench.add_argument("--full", action="store_true", help="also measure 3 and 5 minutes of 1080p")
    demo = _add(commands, "demo", "run:demo", "make one film end to end on a temporary line", config=False)
    demo.add_argument("--video", type=Path, metavar="V", help="your own video or still picture")
    demo.add_argument("--audio", type=Path, metavar="A", help="your own speech")
    demo.add_argument("--out", type=Path, metavar="DIR", help="folder for the three resulting files")
    prove = _add(
        commands, "selftest", "run:selftest", "make one test film with the running daemon, on one of its lines"
    )
    prove.add_argument("--line", metavar="NAME", help="line to test; default: the first")
    prove.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the film and its log; default: the current folder"
    )


def _add_bundle(commands: Commands) -> None:
    pack = _add(commands, "bundle", "run:bundle", "pack an installer for a server without a network")
    pack.add_argument("out", type=Path, metavar="OUT.tar", help="file to write")
    pack.add_argument("--python", default="", metavar="3.N", help="target Python version, if different")
    pack.add_argument("--torch", default="", choices=("cpu", "cuda"), help="torch build for the target, if different")
    pack.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="imported model to include; may be repeated"
    )
    pack.add_argument(
        "--debs", action="store_true", help="also include this distribution's ffmpeg and python3-venv packages"
    )


def _add_looking(commands: Commands) -> None:
    check = _add(commands, "check", "check", "check the configuration and print the settings in force")
    check.add_argument("--template", action="store_true", help="print the commented default configuration instead")
    _add(commands, "doctor", "run:doctor", "report what works on this machine and what is missing")
    _add(commands, "hook", "run:hook", "run one hook (used by heygemd-hook@.service)", reports=False, config=False)
    purge = _add(commands, "purge", "purge", "delete cached face data, or a drop's files with --drop")
    purge.add_argument(
        "--drop", metavar="NAME", help="inputs and films of this drop, or of each drop that contains this file"
    )
    purge.add_argument("--yes", action="store_true", help="delete the files; without it, they are only listed")
    state = _add(commands, "status", "status", "show what the daemon is doing")
    state.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="refresh the display every SECONDS (default 2)",
    )
    jobs = _add(commands, "jobs", "status:jobs", "list jobs, newest first")
    jobs.add_argument(
        "--state", action="append", choices=[str(s) for s in JobState], metavar="STATE",
        help=f"show only jobs in this state; may be repeated: {', '.join(JobState)}",
    )  # fmt: skip
    jobs.add_argument("--failed", action="store_true", help="show only failed and cancelled jobs")
    jobs.add_argument(
        "--since", type=_span, metavar="SPAN", help="show only jobs of the last 30m, 12h, 7d or 2w, for example"
    )
    jobs.add_argument("--limit", type=_positive, metavar="N", help="maximum rows (default 50; unlimited with --since)")

    story = _add(commands, "log", "status:log", "show a job's log")
    story.add_argument("job", metavar="JOB", help="job id, as listed by jobs")


def _add_orders(commands: Commands) -> None:
    for name, text in (
        ("retry", "retry a failed or cancelled job"),
        ("cancel", "cancel a queued or running job"),
    ):
        order = _add(commands, name, "orders", text)
        order.set_defaults(cmd=name)
        order.add_argument("job", metavar="JOB", help="job id, as listed by jobs")
    again = _add(commands, "reload", "orders:reload", "make the daemon reload its configuration")
    again.add_argument("--wait", action="store_true", help="return once every line uses the new settings")
    for name, text in (("pause", "stop starting jobs"), ("resume", "start jobs again")):
        _add(commands, name, "orders", text).set_defaults(cmd=name, job=None)


def _add_models(commands: Commands) -> None:
    text = "import, list, verify and remove model files; never downloads any"
    words = commands.add_parser("models", help=text, description=f"{text[0].upper()}{text[1:]}.")
    below = words.add_subparsers(metavar="WORD", required=True)
    _add(below, "list", "models", "list imported models with their terms").set_defaults(word="list")
    bring = _add(below, "import", "models", "import checkpoints, ONNX files or insightface packs")
    bring.set_defaults(word="import")
    bring.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="file, archive or folder to import")
    bring.add_argument("--name", default="", help="name of the model, if only one is imported")
    bring.add_argument("--accept-licence", action="store_true", help="accept terms that forbid commercial use")
    _add(below, "verify", "models", "compare each stored file with its checksum at import").set_defaults(word="verify")
    remove = _add(below, "remove", "models", "delete an imported model")
    remove.set_defaults(word="remove")
    remove.add_argument("name", help="name of the model, as shown by list")


def _add_docs(commands: Commands) -> None:
    pages = _add(commands, "docs", "docs", "read the documentation, offline", reports=False, config=False)
    pages.add_argument("page", nargs="?", metavar="PAGE", help="such as operate; without it the list of pages")
    pages.add_argument("--list", action="store_true", help="list the pages")
    reference = "print the page of all settings (Markdown) instead"
    commands.choices["check"].add_argument("--reference", action="store_true", help=reference)


def _span(text: str) -> timedelta:
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
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
