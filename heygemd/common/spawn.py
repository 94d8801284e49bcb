"""How Python children are started (this very code, nothing of the current folder), and how they end with us."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from heygemd.common.shipped import PACKAGE

PR_SET_PDEATHSIG = 1
"""prctl(2), linux/prctl.h."""


def python(module: str) -> list[str]:
    """The argv of ``module`` in a child.  ``-P`` keeps the current folder off the import path."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Our environment, with the folder of this package on the child's import path."""
    home = str(PACKAGE.parent)
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies.  Called by a child, before anything else."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
