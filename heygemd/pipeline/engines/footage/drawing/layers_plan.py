"""A plan by the two-layer renderer, for templates that speak: a mouth code and an exemplar per output frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage import select
from heygemd.pipeline.engines.footage.analysis import speaker
from heygemd.pipeline.engines.footage.analysis.shapes import Shapes
from heygemd.pipeline.engines.footage.drawing.exemplars import PixelBank
from heygemd.pipeline.engines.footage.drawing.plan import FootagePlan, Frames, Scene, frames_of
from heygemd.pipeline.engines.footage.drawing.plan_arrays import MORE, named, prefixed, taken
from heygemd.pipeline.engines.footage.drawing.two_layer import Layers
from heygemd.pipeline.image.compose import Area
from heygemd.pipeline.image.geometry import Floats, Singles
from heygemd.pipeline.image.patches import Patches

if TYPE_CHECKING:
    from heygemd.contract.job import Tell
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.media import Frame
    from heygemd.pipeline.template_cache import Arrays

_FAR = 1.5  # standard deviations; a target farther from its exemplar is drawn towards it
_SHAPES = ("mean", "basis", "scores", "pose", "look", "reads")
_SPEAKER = ("codes", "scores", "modes", "mask", "ring", "fade", "bank")


@dataclass(frozen=True, slots=True)
class LayersChoice:
    """What was decided for ``LayersPlan``, per output frame: its code ``(N, 2)``, and the frame whose mouth is shown,
    ``(N,)``."""

    who: speaker.Speaker
    codes: Floats
    chosen: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TemplatePixels:
    """What choosing and drawing mouths takes of the template, whatever it is to say: colour of the skin around each
    mouth (``speaker.ring_colours``), and the pixels that are known."""

    layers: Layers
    rings: Singles
    patches: Patches | None


def pixels_of(scene: Scene, who: speaker.Speaker) -> TemplatePixels:
    """Look them up."""
    rings = speaker.ring_colours(who, scene.track.crops, len(scene.track.transforms))
    layers = Layers(who, scene.track.transforms, scene.frames.size)
    return TemplatePixels(layers, rings, scene.pixels_in(layers.needed_area))


class LayersPlan(FootagePlan):
    """Draws with ``Layers``: a code and an exemplar per output frame."""

    def __init__(self, frames: Frames, choice: LayersChoice, known: Patches | None, bank: PixelBank) -> None:
        """``known``: see ``FootagePlan``; ``bank``: the exemplars' pixels."""
        super().__init__(frames, known)
        self.choice, self.bank = choice, bank
        self._layers = Layers(choice.who, frames.transforms, frames.size)

    @staticmethod
    def decided(scene: Scene, who: speaker.Speaker, codes: Floats, seen: TemplatePixels, tell: Tell) -> LayersPlan:
        """Ready to draw these codes."""
        features = select.FrameFeatures(who.codes, scene.shapes.pose, scene.shapes.look, seen.rings)
        chosen = select.choose(features, who.bank, scene.order, codes, tell)
        layers, patches = seen.layers, seen.patches
        shown = np.unique(chosen[scene.shares > 0]).tolist()
        areas = {i: area for i in shown if (area := layers.exemplar_area(i)) is not None}
        bank = PixelBank.read(scene.clip, areas, patches, tell)
        choice = LayersChoice(who, _within_reach(codes, who.codes[chosen]), chosen)
        plan = LayersPlan(scene.frames, choice, patches, bank)
        plan.facts = how_it_went(codes, choice, float(scene.clip.fps))
        return plan

    def area(self, k: int) -> Area | None:
        """See ``FootagePlan``."""
        return self._layers.area(int(self.frames.order[k])) if self.frames.usable(k) else None

    def draw(self, k: int, frame: Frame) -> None:
        """See ``FootagePlan``."""
        if self.frames.usable(k):
            i, share = int(self.frames.order[k]), float(self.frames.shares[k])
            exemplar = int(self.choice.chosen[k])
            self._layers.draw(frame, i, self.choice.codes[k], exemplar, self.bank, self._before(k), share)

    def _before(self, k: int) -> int | None:
        """Where the choice jumps: the exemplar that was shown last, or the frame after it."""
        chosen = self.choice.chosen
        if k == 0 or abs(int(chosen[k]) - int(chosen[k - 1])) <= 2:
            return None
        last = int(chosen[k - 1])
        return last + 1 if last + 1 in self.bank else last

    def own_arrays(self, folder: Path) -> tuple[Facts, Arrays]:
        """See ``FootagePlan``."""
        who, choice = self.choice.who, self.choice
        arrays = named("shapes", who.shapes, _SHAPES) | named("person", who, _SPEAKER)
        arrays |= {"codes": choice.codes, "chosen": choice.chosen}
        bounds = [area.bounds for area in self.bank.areas.values()]
        arrays |= {"bank": np.array(list(self.bank.areas), np.int64)}
        arrays |= {"bank_areas": np.array(bounds, np.int64).reshape(-1, 4)}
        arrays |= prefixed("more", self.bank.more.lay(folder / MORE))
        return {"hub": who.shapes.hub, "centre": who.centre}, arrays

    @staticmethod
    def unpack(arrays: Arrays, folder: Path) -> LayersPlan:
        """The inverse of ``pack``.  Raises as ``frames_of``."""
        told = json.loads(str(arrays["told"]))
        frames, known = frames_of(arrays, folder)
        shapes = Shapes(**taken("shapes", arrays), hub=told["hub"])
        who = speaker.Speaker(shapes=shapes, **taken("person", arrays), centre=tuple(told["centre"]))
        areas = zip(arrays["bank"].tolist(), arrays["bank_areas"].tolist(), strict=True)
        more = Patches.laid(folder / MORE, taken("more", arrays))
        bank = PixelBank({i: Area(*bounds) for i, bounds in areas}, known, more)
        plan = LayersPlan(frames, LayersChoice(who, arrays["codes"], arrays["chosen"]), known, bank)
        plan.take_facts(arrays)
        return plan


def _within_reach(wanted: Floats, found: Floats) -> Floats:
    """``wanted``, drawn towards the exemplars' codes where they are more than ``_FAR`` away."""
    off = wanted - found
    far = np.linalg.norm(off, axis=1, keepdims=True)
    result: Floats = found + off * np.minimum(1, _FAR / np.maximum(far, 1e-6))
    return result


def how_it_went(codes: Floats, choice: LayersChoice, fps: float) -> Facts:
    """For the log: the codes ``(N, 2)`` that were asked for against those found, jumps and holds a minute."""
    who, chosen = choice.who, choice.chosen
    minutes = max(len(chosen) / fps / 60, 1e-9)
    step = np.diff(chosen)
    own = who.codes[chosen]

    def agreement(j: int) -> float | None:
        if len(chosen) < 3 or codes[:, j].std() < 1e-6 or own[:, j].std() < 1e-6:
            return None
        return round(float(np.corrcoef(codes[:, j], own[:, j])[0, 1]), 3)

    return {
        "bank_frames": len(who.bank),
        "asked_chosen_r": agreement(0),
        "asked_chosen_width_r": agreement(1),
        "jumps_per_minute": round(float((np.abs(step) > 2).sum() / minutes), 1),
        "holds_per_minute": round(float((step == 0).sum() / minutes), 1),
    }
