"""``heygemd docs``: the pages of ``data/docs``, which every installation has."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from heygemd.common.errors import Misuse
from heygemd.common.exits import OK
from heygemd.common.shipped import DATA
from heygemd.config.toml_schema import guess

PAGES = DATA / "docs"
WIDEST = 100  # columns; longer lines are hard to read


def command(args: argparse.Namespace) -> int:
    """The list of pages, or one page: in a pager on a terminal, as plain Markdown elsewhere."""
    pages = {path.stem: path for path in sorted(PAGES.glob("*.md"))}
    if args.list or args.page is None:
        width = max(map(len, pages))
        print("\n".join(f"{name:{width}}  {summary(path)}" for name, path in pages.items()))
        return OK
    if args.page not in pages:
        hint = guess(args.page, pages) or "."
        raise Misuse(f"There is no page {args.page!r}{hint} The pages are {', '.join(pages)}.")
    text = pages[args.page].read_text(encoding="utf-8")
    if sys.stdout.isatty():
        show(rendered(text))
    else:
        print(text, end="")
    return OK


def summary(page: Path) -> str:
    """The page's first heading, without its mark."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def rendered(text: str) -> str:
    """Markdown as a terminal shows it, with colours."""
    from rich.console import Console
    from rich.markdown import Markdown

    out = io.StringIO()
    width = min(shutil.get_terminal_size().columns, WIDEST)
    Console(file=out, force_terminal=True, width=width).print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
    return out.getvalue()


def show(text: str) -> None:
    """Hand the text to ``$PAGER``, else to ``less``; print it where there is neither, as git does."""
    pager = os.environ.get("PAGER", "less -R" if shutil.which("less") else "")
    if pager in ("", "cat"):
        print(text, end="")
        return
    # less: end at once if the text fits on the screen, keep colours, leave the text on the screen
    environment = {"LESS": "FRX", **os.environ}
    subprocess.run(pager, shell=True, input=text, encoding="utf-8", env=environment, check=False)
