"""A plan as arrays and files of pixels: written once for each film, read by whoever draws it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heygemd.pipeline.engines.footage.analysis.lip_edges import HubFace, Lines
from heygemd.pipeline.engines.footage.analysis.shapes import Shapes
from heygemd.pipeline.engines.footage.analysis.speaker import Person
from heygemd.pipeline.engines.footage.drawing.drawers import Frames, LayersChoice, LayersDrawer, WarpChoice, WarpDrawer
from heygemd.pipeline.engines.footage.drawing.exemplars import PixelBank
from heygemd.pipeline.engines.footage.drawing.plan import Drawer, Plan
from heygemd.pipeline.image.compose import Area
from heygemd.pipeline.image.patches import Patches

if TYPE_CHECKING:
    from heygemd.pipeline.template_cache import Arrays

_SHAPES = ("mean", "basis", "scores", "pose", "look", "reads")
_PERSON = ("codes", "scores", "modes", "mask", "ring", "fade", "bank")
_WARP = ("mean", "basis", "scores", "gap", "width", "still")
KNOWN, MORE = "plan-known.pixels", "plan-more.pixels"


def pack(plan: Plan, folder: Path) -> Arrays:
    """All of a plan: small arrays, and pixels in files in ``folder``.  Raises ``OSError``."""
    drawer = plan.drawer
    assert isinstance(drawer, LayersDrawer | WarpDrawer)
    frames = drawer.frames
    told: dict[str, Any] = {"facts": plan.facts, "passed_through": plan.passed_through, "size": frames.size}
    arrays = {"order": frames.order, "shares": frames.shares, "transforms": frames.transforms}
    if isinstance(drawer, LayersDrawer):
        who, choice = drawer.choice.who, drawer.choice
        told |= {"hub": who.shapes.hub, "centre": who.centre}
        arrays |= _named("shapes", who.shapes, _SHAPES) | _named("person", who, _PERSON)
        arrays |= {"codes": choice.codes, "chosen": choice.chosen}
        bounds = [area.bounds for area in drawer.bank.areas.values()]
        arrays |= {"bank": np.array(list(drawer.bank.areas), np.int64)}
        arrays |= {"bank_areas": np.array(bounds, np.int64).reshape(-1, 4)}
        arrays |= _prefixed("more", drawer.bank.more.lay(folder / MORE))
    else:
        told |= {"lines": asdict(drawer.choice.lines)}
        arrays |= _named("warp", drawer.choice, _WARP) | _named("face", drawer.choice.face, ("y", "u", "v"))
    if drawer.known is not None:
        arrays |= _prefixed("known", drawer.known.lay(folder / KNOWN))
    return {"told": np.array(json.dumps(told, default=lambda value: value.item())), **arrays}


def unpack(arrays: Mapping[str, Any], folder: Path) -> Plan:
    """The inverse of ``pack``.  Raises ``OSError``, ``ValueError`` or ``KeyError`` where a file is not whole."""
    told = json.loads(str(arrays["told"]))
    frames = Frames(arrays["order"], arrays["shares"], arrays["transforms"], tuple(told["size"]))
    known = Patches.laid(folder / KNOWN, _taken("known", arrays)) if "known.at" in arrays else None
    drawer: Drawer
    if "chosen" in arrays:
        shapes = Shapes(**_taken("shapes", arrays), hub=told["hub"])
        who = Person(shapes=shapes, **_taken("person", arrays), centre=tuple(told["centre"]))
        areas = zip(arrays["bank"].tolist(), arrays["bank_areas"].tolist(), strict=True)
        more = Patches.laid(folder / MORE, _taken("more", arrays))
        bank = PixelBank({i: Area(*bounds) for i, bounds in areas}, known, more)
        drawer = LayersDrawer(frames, LayersChoice(who, arrays["codes"], arrays["chosen"]), known, bank)
    else:
        face = HubFace(**_taken("face", arrays))
        drawer = WarpDrawer(frames, WarpChoice(face, Lines(**told["lines"]), **_taken("warp", arrays)), known)
    return Plan(drawer, told["facts"], [(first, last) for first, last in told["passed_through"]])


def _named(prefix: str, whole: Any, names: tuple[str, ...]) -> Arrays:
    return _prefixed(prefix, {name: getattr(whole, name) for name in names})


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}.{name}": value for name, value in arrays.items()}


def _taken(prefix: str, arrays: Mapping[str, Any]) -> Arrays:
    begins = f"{prefix}."
    return {name.removeprefix(begins): value for name, value in arrays.items() if name.startswith(begins)}
