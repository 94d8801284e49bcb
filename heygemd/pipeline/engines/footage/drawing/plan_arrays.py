"""How a plan is written: arrays by name, and files of pixels beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heygemd.pipeline.template_cache import Arrays

KNOWN, MORE = "plan-known.pixels", "plan-more.pixels"
"""Files of pixels: of the template's mouths, and of exemplars beside those."""


def named(prefix: str, whole: object, names: tuple[str, ...]) -> Arrays:
    """Attributes of ``whole``, all arrays, as ``prefix.name``."""
    return prefixed(prefix, {name: getattr(whole, name) for name in names})


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    """``arrays`` as ``prefix.name``."""
    return {f"{prefix}.{name}": value for name, value in arrays.items()}


def taken(prefix: str, arrays: Arrays) -> Arrays:
    """The inverse of ``prefixed``; arrays of other prefixes are left out."""
    begins = f"{prefix}."
    return {name.removeprefix(begins): value for name, value in arrays.items() if name.startswith(begins)}
