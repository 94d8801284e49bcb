"""The two renderers, each made ready for one film: what the sound asks, turned into one draw per output frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage import select, target
from heygemd.pipeline.engines.footage.analysis import lip_edges, speaker
from heygemd.pipeline.engines.footage.analysis.mouth import Mouth
from heygemd.pipeline.engines.footage.analysis.mouth_flow import COLUMNS, ROWS
from heygemd.pipeline.engines.footage.analysis.shapes import Shapes
from heygemd.pipeline.engines.footage.drawing.exemplars import PixelBank, remembered
from heygemd.pipeline.engines.footage.drawing.two_layer import Layers
from heygemd.pipeline.engines.footage.drawing.warp import Warp
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.compose import Area, Planes
from heygemd.pipeline.image.geometry import IO, Floats, Singles
from heygemd.pipeline.image.patches import Patches
from heygemd.pipeline.image.smoothing import smoothed

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
    def frames(self) -> Frames:
        """What is needed of all this once everything is decided."""
        size = self.clip.width, self.clip.height
        return Frames(self.order, self.shares, self.track.transforms, size)


@dataclass(frozen=True, slots=True)
class Frames:
    """Of each output frame: template frame ``order`` and ``shares`` (see ``Scene``); ``transforms`` of the template's
    frames, and their ``size``."""

    order: npt.NDArray[np.int64]
    shares: Floats
    transforms: Floats
    size: tuple[int, int]

    def usable(self, k: int) -> bool:
        """Whether output frame ``k`` has a face to edit."""
        return bool(self.shares[k] > 0)


@dataclass(frozen=True, slots=True)
class WarpChoice:
    """What was decided for ``WarpDrawer``.

    Per output frame: ``gap`` (canonical px), ``width``, and whether nothing moves.  Of the template: its mean ``face``,
    the ``lines`` of its mouth, and what fields are made of.
    """

    face: lip_edges.HubFace
    lines: lip_edges.Lines
    mean: Singles
    basis: Singles
    scores: Singles
    gap: Floats
    width: Floats
    still: npt.NDArray[np.bool_]

    def field(self, i: int) -> Singles:
        """The field ``(ROWS, COLUMNS, 2)`` of template frame ``i``."""
        result: Singles = (self.mean + self.scores[i] @ self.basis).reshape(ROWS, COLUMNS, 2)
        return result


def choose_gaps(scene: Scene, want: target.Wanted) -> WarpChoice:
    """How far the lips part in each output frame."""
    shapes, scores = scene.shapes, _steady(scene.shapes.scores)
    crops = scene.track.crops
    rows = np.flatnonzero(scene.track.usable[crops.index])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(40, len(rows))).astype(int))]
    fields = [(shapes.mean + scores[i] @ shapes.basis).reshape(ROWS, COLUMNS, 2) for i in crops.index[rows]]
    face = lip_edges.hub_face(crops.y[rows], crops.u[rows], crops.v[rows], np.array(fields, np.float32))
    found = lip_edges.find(face, scene.mouth)
    gap = found.gap + scene.shares * (target.gaps(want, found.gap, found.widest) - found.gap)
    width = scene.shares * want.gate * np.clip(want.width, -1, 1)
    return WarpChoice(face, found, shapes.mean, shapes.basis, scores, gap, width, want.gate * scene.shares <= 0)


class WarpDrawer:
    """Draws with ``warp``: gap and width per output frame; outside of speech nothing is touched."""

    def __init__(self, frames: Frames, choice: WarpChoice, patches: Patches | None) -> None:
        """``patches``: the template's pixels, as far as they are known."""
        self.frames, self.choice, self.known = frames, choice, patches
        self._warp = Warp(choice.face, choice.lines)

    @staticmethod
    def decided(scene: Scene, want: target.Wanted) -> WarpDrawer:
        """Ready to draw what the sound wants."""
        drawer = WarpDrawer(scene.frames, choose_gaps(scene, want), None)
        size = scene.frames.size
        drawer.known = known(scene, lambda i: drawer._warp.area(scene.track.transforms[i], *size))
        return drawer

    @property
    def facts(self) -> dict[str, Any]:
        """For the log."""
        found, gap = self.choice.lines, self.choice.gap
        return {
            "teeth_at_rest": found.teeth,
            "rest_gap_io": round(found.gap / IO, 3),
            "opening_range_io": [round(float(v) / IO, 3) for v in (gap.min(), gap.max())],
        }

    def area(self, k: int) -> Area | None:
        """See ``plan.Drawer``."""
        if self.choice.still[k] or not self.frames.usable(k):
            return None
        return self._warp.area(self.frames.transforms[self.frames.order[k]], *self.frames.size)

    def at_hand(self, k: int) -> bool:
        """See ``plan.Drawer``."""
        return _at_hand(self.known, int(self.frames.order[k]), self.area(k))

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """See ``plan.Drawer``."""
        return _pixels(self.known, int(self.frames.order[k]), self.area(k))

    def draw(self, k: int, frame: Frame) -> None:
        """See ``plan.Drawer``."""
        choice = self.choice
        if choice.still[k] or not self.frames.usable(k):
            return
        i = int(self.frames.order[k])
        transform = self.frames.transforms[i]
        self._warp.draw(frame, transform, choice.field(i), float(choice.gap[k]), float(choice.width[k]))


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


@dataclass(frozen=True, slots=True)
class LayersChoice:
    """What was decided for ``LayersDrawer``, per output frame: its code ``(N, 2)``, and the frame whose mouth is shown,
    ``(N,)``."""

    who: speaker.Person
    codes: Floats
    chosen: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """What choosing and drawing mouths takes of the template, whatever it is to say: colour of the skin around each
    mouth (``person.ring_colours``), and the pixels that are known."""

    layers: Layers
    rings: Singles
    patches: Patches | None


def seen_of(scene: Scene, who: speaker.Person) -> Seen:
    """Look it up."""
    rings = speaker.ring_colours(who, scene.track.crops, len(scene.track.transforms))
    layers = Layers(who, scene.track.transforms, scene.frames.size)
    return Seen(layers, rings, known(scene, layers.needed_area))


class LayersDrawer:
    """Draws with ``layers``: a code and an exemplar per output frame."""

    def __init__(self, frames: Frames, choice: LayersChoice, patches: Patches | None, bank: PixelBank) -> None:
        """``patches``: the template's pixels, as far as they are known; ``bank``: those of the exemplars."""
        self.frames, self.choice, self.known, self.bank = frames, choice, patches, bank
        self._layers = Layers(choice.who, frames.transforms, frames.size)

    @staticmethod
    def decided(scene: Scene, who: speaker.Person, codes: Floats, seen: Seen, tell: Any) -> LayersDrawer:
        """Ready to draw these codes."""
        views = select.Views(who.codes, scene.shapes.pose, scene.shapes.look, seen.rings)
        chosen = select.choose(views, who.bank, scene.order, codes, tell)
        layers, patches = seen.layers, seen.patches
        shown = np.unique(chosen[scene.shares > 0]).tolist()
        areas = {i: area for i in shown if (area := layers.exemplar_area(i)) is not None}
        bank = PixelBank.read(scene.clip, areas, patches, tell)
        choice = LayersChoice(who, _within_reach(codes, who.codes[chosen]), chosen)
        return LayersDrawer(scene.frames, choice, patches, bank)

    def area(self, k: int) -> Area | None:
        """See ``plan.Drawer``."""
        return self._layers.area(int(self.frames.order[k])) if self.frames.usable(k) else None

    def at_hand(self, k: int) -> bool:
        """See ``plan.Drawer``."""
        return _at_hand(self.known, int(self.frames.order[k]), self.area(k))

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """See ``plan.Drawer``."""
        return _pixels(self.known, int(self.frames.order[k]), self.area(k))

    def draw(self, k: int, frame: Frame) -> None:
        """See ``plan.Drawer``."""
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


def _within_reach(wanted: Floats, found: Floats) -> Floats:
    """``wanted``, drawn towards the exemplars' codes where they are more than ``_FAR`` away."""
    off = wanted - found
    far = np.linalg.norm(off, axis=1, keepdims=True)
    result: Floats = found + off * np.minimum(1, _FAR / np.maximum(far, 1e-6))
    return result


def how_it_went(codes: Floats, drawer: LayersDrawer, fps: float) -> dict[str, Any]:
    """For the log: the codes ``(N, 2)`` that were asked for against those found, jumps and holds a minute."""
    who, chosen = drawer.choice.who, drawer.choice.chosen
    minutes = max(len(chosen) / fps / 60, 1e-9)
    step = np.diff(chosen)
    found = who.codes[chosen]

    def agreement(j: int) -> float | None:
        if len(chosen) < 3 or codes[:, j].std() < 1e-6 or found[:, j].std() < 1e-6:
            return None
        return round(float(np.corrcoef(codes[:, j], found[:, j])[0, 1]), 3)

    return {
        "bank_frames": len(who.bank),
        "asked_chosen_r": agreement(0),
        "asked_chosen_width_r": agreement(1),
        "jumps_per_minute": round(float((np.abs(step) > 2).sum() / minutes), 1),
        "holds_per_minute": round(float((step == 0).sum() / minutes), 1),
    }
