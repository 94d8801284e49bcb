"""The command ``heygemd``: runs one command, prints errors, returns the exit code.

Results go to stdout (as one JSON object with ``--json``), everything else to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from heygemd.cli.parser import parser
from heygemd.common import log
from heygemd.common.errors import ConfigError, HeygemdError, InputError
from heygemd.common.exits import INTERRUPTED, MISUSE, OK, UNEXPECTED, exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see ``common/exits.py``)."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = argparse.Namespace(json=False, debug="HEYGEMD_DEBUG" in os.environ)
    try:
        if words[:1] == ["train-lips"]:  # has options of its own
            return _train_lips(words[1:])
        parser().parse_args(words, args)
        return _command(args.act)(args)
    except SystemExit as ending:  # argparse: help, version, or wrong use, which it has printed
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
    """Print an error's sentence on stderr and, with ``--json``, an object on stdout."""
    if args.debug:
        traceback.print_exception(error)
    print(f"heygemd: {error.message}", file=sys.stderr)
    for line in error.detail.splitlines():
        print(f"    {line}", file=sys.stderr)
    if args.json:
        facts = {"code": error.code, "message": error.message, "detail": error.detail}
        facts |= {"reason": error.reason} if isinstance(error, InputError) else {}
        faults = [{"where": f.where, "what": f.what} for f in error.faults] if isinstance(error, ConfigError) else []
        print(json.dumps({"ok": False, "error": facts} | ({"faults": faults} if faults else {})))
    return exit_code(error)


def _tell_unexpected(error: Exception, args: argparse.Namespace) -> int:
    """Report an unexpected error: details go to the run log if there is one, else to the terminal with ``--debug``."""
    where = log.file()
    if where is not None:
        log.get().error("unexpected_error", exc_info=error)
    if args.debug:
        traceback.print_exception(error)
    hint = f"details are in {where}" if where else "--debug shows the details"
    print(f"heygemd: unexpected error, {type(error).__name__}: {error} ({hint})", file=sys.stderr)
    if args.json:
        print(json.dumps({"ok": False, "error": {"code": "unexpected", "message": str(error), "detail": ""}}))
    return UNEXPECTED


def _command(act: str) -> Callable[[argparse.Namespace], int]:
    """The function that ``parser.py`` names as ``module:function``, of this room."""
    module, _, function = act.partition(":")
    command: Callable[[argparse.Namespace], int] = getattr(
        importlib.import_module(f"heygemd.cli.{module}"), function or "command"
    )
    return command


def _train_lips(words: list[str]) -> int:
    from heygemd import training

    return training.main(words)
