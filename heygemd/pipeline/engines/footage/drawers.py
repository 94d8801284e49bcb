"""The two renderers, each made ready for one film: what the sound asks, turned into one draw per output frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.compose import Area, Planes
from heygemd.pipeline.engines.footage import lines, person, select, target
from heygemd.pipeline.engines.footage.bank import PixelBank, remembered
from heygemd.pipeline.engines.footage.flow import COLUMNS, ROWS
from heygemd.pipeline.engines.footage.layers import Layers
from heygemd.pipeline.engines.footage.mouth import Mouth
from heygemd.pipeline.engines.footage.shapes import Shapes
from heygemd.pipeline.engines.footage.warp import Warp
from heygemd.pipeline.face import FaceTrack
from heygemd.pipeline.geometry import IO, Floats, Singles
from heygemd.pipeline.patches import Patches
from heygemd.pipeline.smoothing import smoothed

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip, Frame

_FAR = 1.5  # standard deviations; a target farther from its exemplar is drawn towards it


@dataclass(frozen=True, slots=True)
class Scene:
    """The template as analysed, and which of its frames lies under each output frame."""

    clip: Clip
    track: FaceTrack
    shapes: Shapes
    mouth: Mouth
    order: npt.NDArray[np.int64]
    shares: Floats
    """How much of the wanted mouth each output frame shows (``plan.shares``)."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames."""
        return self.clip.width, self.clip.height

    def usable(self, k: int) -> bool:
        """Whether output frame ``k`` has a face to edit."""
        return bool(self.shares[k] > 0)


class WarpDrawer:
    """Draws with ``warp``: gap and width per output frame; outside of speech nothing is touched."""

    def __init__(self, scene: Scene, want: target.Wanted) -> None:
        self._scene = scene
        self._scores = _steady(scene.shapes.scores)
        crops = scene.track.crops
        rows = np.flatnonzero(scene.track.usable[crops.index])
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(40, len(rows))).astype(int))]
        fields = np.array([self._field(int(crops.index[r])) for r in rows], np.float32)
        face = lines.hub_face(crops.y[rows], crops.u[rows], crops.v[rows], fields)
        found = lines.find(face, scene.mouth)
        self._warp = Warp(face, found)
        self._gap = found.gap + scene.shares * (target.gaps(want, found.gap, found.widest) - found.gap)
        self._width = scene.shares * want.gate * np.clip(want.width, -1, 1)
        self._still = want.gate * scene.shares <= 0
        self._known = known(scene, lambda i: self._warp.area(scene.track.transforms[i], *scene.size))
        self.facts: dict[str, Any] = {
            "teeth_at_rest": found.teeth,
            "rest_gap_io": round(found.gap / IO, 3),
            "opening_range_io": [round(float(v) / IO, 3) for v in (self._gap.min(), self._gap.max())],
        }

    def _field(self, i: int) -> Singles:
        shapes = self._scene.shapes
        result: Singles = (shapes.mean + self._scores[i] @ shapes.basis).reshape(ROWS, COLUMNS, 2)
        return result

    def area(self, k: int) -> Area | None:
        """See ``plan.Drawer``."""
        if self._still[k] or not self._scene.usable(k):
            return None
        return self._warp.area(self._scene.track.transforms[self._scene.order[k]], *self._scene.size)

    def at_hand(self, k: int) -> bool:
        """See ``plan.Drawer``."""
        return _at_hand(self._known, int(self._scene.order[k]), self.area(k))

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """See ``plan.Drawer``."""
        return _pixels(self._known, int(self._scene.order[k]), self.area(k))

    def draw(self, k: int, frame: Frame) -> None:
        """See ``plan.Drawer``."""
        if self._still[k] or not self._scene.usable(k):
            return
        i = int(self._scene.order[k])
        transform = self._scene.track.transforms[i]
        self._warp.draw(frame, transform, self._field(i), float(self._gap[k]), float(self._width[k]))


def known(scene: Scene, area: Callable[[int], Area | None]) -> Patches | None:
    """The template's pixels in ``area`` of each of its kept, usable frames, seen now or kept from an earlier film."""
    track = scene.track
    usable = track.crops.index[track.usable[track.crops.index]]
    areas = {i: found for i in usable.tolist() if (found := area(i)) is not None} if track.patches else {}
    return remembered(track.memory, track.patches, areas)


def _at_hand(patches: Patches | None, i: int, area: Area | None) -> bool:
    return area is None or (patches is not None and patches.covers(i, area))


def _pixels(patches: Patches | None, i: int, area: Area | None) -> tuple[Area, Planes] | None:
    if patches is None or area is None or not patches.covers(i, area):
        return None
    return area, patches.part(i, area)


def _steady(scores: Singles) -> Singles:
    """Scores smoothed in time (sigma 2 frames): nothing speaks here, what moves is slow expression and noise."""
    known = np.flatnonzero(~np.isnan(scores[:, 0]))
    if len(known) < 5:
        return scores
    frames = np.arange(len(scores))
    full = np.stack([np.interp(frames, known, scores[known, j]) for j in range(scores.shape[1])], 1)
    result: Singles = smoothed(full, 2.0).astype(np.float32)
    return result


class LayersDrawer:
    """Draws with ``layers``: a code and an exemplar per output frame."""

    def __init__(self, scene: Scene, who: person.Person, codes: Floats, tell: Any) -> None:
        self._scene, order = scene, scene.order
        views = select.Views(
            who.codes,
            scene.shapes.pose,
            scene.shapes.look,
            person.ring_colours(who, scene.track.crops, len(scene.track.transforms)),
        )
        self._chosen = select.choose(views, who.bank, order, codes, tell)
        self._codes = _within_reach(codes, who.codes[self._chosen])
        self._layers = Layers(who, scene.track.transforms, scene.size)
        self._known = known(scene, self._layers.needed_area)
        shown = np.unique(self._chosen[scene.shares > 0]).tolist()
        areas = {i: area for i in shown if (area := self._layers.exemplar_area(i)) is not None}
        self._bank = PixelBank(scene.clip, areas, self._known, tell)
        self.facts: dict[str, Any] = {"bank_frames": len(who.bank), **_choice(codes, who, self._chosen, scene)}

    def area(self, k: int) -> Area | None:
        """See ``plan.Drawer``."""
        return self._layers.area(int(self._scene.order[k])) if self._scene.usable(k) else None

    def at_hand(self, k: int) -> bool:
        """See ``plan.Drawer``."""
        return _at_hand(self._known, int(self._scene.order[k]), self.area(k))

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """See ``plan.Drawer``."""
        return _pixels(self._known, int(self._scene.order[k]), self.area(k))

    def draw(self, k: int, frame: Frame) -> None:
        """See ``plan.Drawer``."""
        if self._scene.usable(k):
            i, share = int(self._scene.order[k]), float(self._scene.shares[k])
            self._layers.draw(frame, i, self._codes[k], int(self._chosen[k]), self._bank, self._before(k), share)

    def _before(self, k: int) -> int | None:
        """Where the choice jumps: the exemplar that was shown last, or the frame after it."""
        if k == 0 or abs(int(self._chosen[k]) - int(self._chosen[k - 1])) <= 2:
            return None
        last = int(self._chosen[k - 1])
        return last + 1 if last + 1 in self._bank else last


def _within_reach(wanted: Floats, found: Floats) -> Floats:
    """``wanted``, drawn towards the exemplars' codes where they are more than ``_FAR`` away."""
    off = wanted - found
    far = np.linalg.norm(off, axis=1, keepdims=True)
    result: Floats = found + off * np.minimum(1, _FAR / np.maximum(far, 1e-6))
    return result


def _choice(codes: Floats, who: person.Person, chosen: npt.NDArray[np.int64], scene: Scene) -> dict[str, Any]:
    """How the choice went: asked against found, jumps and holds a minute."""
    minutes = max(len(chosen) / float(scene.clip.fps) / 60, 1e-9)
    step = np.diff(chosen)
    found = who.codes[chosen]

    def agreement(j: int) -> float | None:
        if len(chosen) < 3 or codes[:, j].std() < 1e-6 or found[:, j].std() < 1e-6:
            return None
        return round(float(np.corrcoef(codes[:, j], found[:, j])[0, 1]), 3)

    return {
        "asked_chosen_r": agreement(0),
        "asked_chosen_width_r": agreement(1),
        "jumps_per_minute": round(float((np.abs(step) > 2).sum() / minutes), 1),
        "holds_per_minute": round(float((step == 0).sum() / minutes), 1),
    }
