"""Paths and bytes of the files that are shipped in the package, in ``heygemd/data``."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder ``heygemd``."""
DATA = PACKAGE / "data"


def shipped(name: str) -> bytes:
    """The bytes of one file of the package's ``data`` folder."""
    return (DATA / name).read_bytes()
