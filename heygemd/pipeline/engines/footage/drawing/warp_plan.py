"""A plan by the warp renderer, for templates that never speak: how far the lips part in each output frame."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage import target
from heygemd.pipeline.engines.footage.analysis import lip_edges
from heygemd.pipeline.engines.footage.analysis.mouth_flow import COLUMNS, ROWS
from heygemd.pipeline.engines.footage.drawing.plan import FootagePlan, Frames, Scene, frames_of
from heygemd.pipeline.engines.footage.drawing.plan_arrays import named, taken
from heygemd.pipeline.engines.footage.drawing.warp import Warp
from heygemd.pipeline.image.compose import Area
from heygemd.pipeline.image.geometry import IO, Floats, Singles
from heygemd.pipeline.image.patches import Patches
from heygemd.pipeline.image.smoothing import smoothed

if TYPE_CHECKING:
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.media import Frame
    from heygemd.pipeline.template_cache import Arrays

_ARRAYS = ("mean", "basis", "scores", "gap", "width", "still")


@dataclass(frozen=True, slots=True)
class WarpChoice:
    """What was decided for ``WarpPlan``.

    Per output frame: ``gap`` (canonical px), ``width``, and whether nothing moves.  Of the template: its mean ``face``,
    the ``lines`` of its mouth, and what fields are made of.
    """

    face: lip_edges.HubFace
    lines: lip_edges.LipLines
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

    @property
    def facts(self) -> Facts:
        """For the log."""
        return {
            "teeth_at_rest": self.lines.teeth,
            "rest_gap_io": round(self.lines.gap / IO, 3),
            "opening_range_io": [round(float(v) / IO, 3) for v in (self.gap.min(), self.gap.max())],
        }


def choose_gaps(scene: Scene, want: target.Wanted) -> WarpChoice:
    """How far the lips part in each output frame."""
    shapes, scores = scene.shapes, _steady(scene.shapes.scores)
    crops = scene.track.crops
    rows = np.flatnonzero(scene.track.usable[crops.index])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(40, len(rows))).astype(int))]
    fields = [(shapes.mean + scores[i] @ shapes.basis).reshape(ROWS, COLUMNS, 2) for i in crops.index[rows]]
    face = lip_edges.hub_face(crops.y[rows], crops.u[rows], crops.v[rows], np.array(fields, np.float32))
    lines = lip_edges.find(face, scene.mouth)
    gap = lines.gap + scene.shares * (target.gaps(want, lines.gap, lines.widest) - lines.gap)
    width = scene.shares * want.gate * np.clip(want.width, -1, 1)
    return WarpChoice(face, lines, shapes.mean, shapes.basis, scores, gap, width, want.gate * scene.shares <= 0)


class WarpPlan(FootagePlan):
    """Draws with ``Warp``: gap and width per output frame; outside of speech nothing is touched."""

    def __init__(self, frames: Frames, choice: WarpChoice, known: Patches | None) -> None:
        """``known``: see ``FootagePlan``."""
        super().__init__(frames, known, choice.facts)
        self.choice = choice
        self._warp = Warp(choice.face, choice.lines)

    @staticmethod
    def decided(scene: Scene, want: target.Wanted) -> WarpPlan:
        """Ready to draw what the sound wants."""
        plan = WarpPlan(scene.frames, choose_gaps(scene, want), None)
        size = scene.frames.size
        plan.known = scene.pixels_in(lambda i: plan._warp.area(scene.track.transforms[i], *size))
        return plan

    def area(self, k: int) -> Area | None:
        """See ``FootagePlan``."""
        if self.choice.still[k] or not self.frames.usable(k):
            return None
        return self._warp.area(self.frames.transforms[self.frames.order[k]], *self.frames.size)

    def draw(self, k: int, frame: Frame) -> None:
        """See ``FootagePlan``."""
        choice = self.choice
        if choice.still[k] or not self.frames.usable(k):
            return
        i = int(self.frames.order[k])
        transform = self.frames.transforms[i]
        self._warp.draw(frame, transform, choice.field(i), float(choice.gap[k]), float(choice.width[k]))

    def own_arrays(self, folder: Path) -> tuple[Facts, Arrays]:  # noqa: ARG002 - it has no pixels of its own
        """See ``FootagePlan``."""
        arrays = named("warp", self.choice, _ARRAYS) | named("face", self.choice.face, ("y", "u", "v"))
        return {"lines": asdict(self.choice.lines)}, arrays

    @staticmethod
    def unpack(arrays: Arrays, folder: Path) -> WarpPlan:
        """The inverse of ``pack``.  Raises as ``frames_of``."""
        frames, known = frames_of(arrays, folder)
        lines = lip_edges.LipLines(**json.loads(str(arrays["told"]))["lines"])
        choice = WarpChoice(lip_edges.HubFace(**taken("face", arrays)), lines, **taken("warp", arrays))
        plan = WarpPlan(frames, choice, known)
        plan.take_facts(arrays)
        return plan


def _steady(scores: Singles) -> Singles:
    """Scores smoothed in time (sigma 2 frames): nothing speaks here, what moves is slow expression and noise."""
    known = np.flatnonzero(~np.isnan(scores[:, 0]))
    if len(known) < 5:
        return scores
    frames = np.arange(len(scores))
    full = np.stack([np.interp(frames, known, scores[known, j]) for j in range(scores.shape[1])], 1)
    result: Singles = smoothed(full, 2.0).astype(np.float32)
    return result
