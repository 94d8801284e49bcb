"""Paths and bytes of the files that are shipped in the package, in ``heygemd/data``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from heygemd.common.names import display

if TYPE_CHECKING:
    from jinja2 import Template

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder ``heygemd``."""
DATA = PACKAGE / "data"


def shipped(name: str) -> bytes:
    """The bytes of one file of the package's ``data`` folder."""
    return (DATA / name).read_bytes()


def filled(template: str, **values: object) -> str:
    """A page of HTML from a template of ``data/templates``; every text among ``values`` is escaped."""
    return _template(template).render(values)


@functools.cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a daemon without pages needs none of it

    places = FileSystemLoader(DATA / "templates")
    made = Environment(autoescape=True, loader=places, undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["display"] = display
    return made.get_template(name)
