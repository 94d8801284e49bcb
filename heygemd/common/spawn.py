"""How children that are Python are started: this very code, and nothing that lies about in the current folder."""

from __future__ import annotations

import os
import sys

from heygemd.common.shipped import PACKAGE


def python(module: str) -> list[str]:
    """The argv of ``module`` in a child.  ``-P`` keeps the current folder off the import path."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Our environment, with the folder that this package lies in on the child's import path."""
    home = str(PACKAGE.parent)
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
