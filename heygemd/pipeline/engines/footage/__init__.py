"""Step 4: the default engine, which needs nothing but the template itself.

Two renderers, one chosen per template and named in the facts: ``two-layer`` where the template speaks, so that it has
mouths to show, ``warp`` where it never does (stills too).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from heygemd.pipeline.compose import Area
from heygemd.pipeline.engines.footage import lines, mouth, target
from heygemd.pipeline.engines.footage.flow import reader
from heygemd.pipeline.engines.footage.mouth import Mouth
from heygemd.pipeline.engines.footage.plan import Plan
from heygemd.pipeline.engines.footage.shapes import Shapes, measure
from heygemd.pipeline.engines.footage.warp import GAP_MAX, Warp
from heygemd.pipeline.face import FaceTrack, runs
from heygemd.pipeline.geometry import IO, Floats, Singles

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip, Frame

__all__ = ["Footage", "Plan"]

SPEAKS_FROM = 0.06
"""5-95 % range of the chin, in io, from which a template counts as speaking: talkers had .10 to .27, idlers .015."""
BANK_SECONDS = 3.0
"""Least usable footage for a bank of mouths; 3 s gave opening r .59 to .91."""


class Footage:
    """The engine; holds nothing between films."""

    name = "footage"

    def plan(
        self,
        clip: Clip,
        track: FaceTrack,
        lip: Any,
        samples: Singles,  # noqa: ARG002 - part of the engine contract; this engine takes what lips.speak made of it
        order: npt.NDArray[np.int64],
        settings: Any,  # noqa: ARG002
        template_audio: Singles | None,
        tell: Any,
    ) -> Plan:
        """Decide what every output frame shows.

        ``order`` ``(N,)`` says which template frame is under output frame k; ``template_audio`` is the template's own
        sound, 16 kHz mono, where it has one.
        """
        order = np.asarray(order, np.int64)
        shapes = measure(clip, track, np.unique(order).tolist(), tell)
        where = mouth.locate(track.crops)
        amplitude = _chin_range(shapes, track, where)
        seconds = float(track.usable[track.crops.index].sum() / clip.fps)
        facts: dict[str, Any] = {
            "renderer": "warp",
            "reasons": _reasons(amplitude, seconds),
            "eye_px": round(track.eye_px, 1),
            "support": round(track.support, 2),
            "faces_seen": track.faces_seen,
            "track_quality": round(float(np.median(track.quality)), 2),
            "speaks_io": round(amplitude, 3),
            "usable_seconds": round(seconds, 2),
            "mouth_confidence": round(where.confidence, 2),
        }
        times = (np.arange(len(order)) + 0.5) / float(clip.fps)
        want = target.wanted(lip, times)
        lost = ~track.usable[order]
        drawer = _WarpDrawer(clip, track, shapes, where, want, order)
        facts |= drawer.facts
        _ = template_audio
        facts["passed_through"] = runs(lost)
        return Plan(drawer, facts, runs(lost), list(track.warnings))

    def apply(self, plan: Plan, k: int, frame: Frame) -> None:
        """Edit output frame ``k``, a decoded copy of template frame ``order[k]``, in place."""
        plan.drawer.draw(k, frame)


def _reasons(amplitude: float, seconds: float) -> list[str]:
    if amplitude < SPEAKS_FROM:
        return [f"the template does not speak: its chin moves {amplitude:.3f} io, {SPEAKS_FROM} are needed"]
    if seconds < BANK_SECONDS:
        return [
            f"only {seconds:.1f} s of usable footage, {BANK_SECONDS:.0f} s are needed for a bank of mouths"
        ]
    return [f"the template speaks: its chin moves {amplitude:.3f} io over {seconds:.1f} s"]


def _chin_range(shapes: Shapes, track: FaceTrack, where: Mouth) -> float:
    """5-95 % range of the chin's drop over the usable kept frames, in io."""
    read = reader(where)
    chin = np.array([read(f)[1] for f in shapes.raw[track.usable[track.crops.index]]])
    if len(chin) < 2:
        return 0.0
    return float(np.percentile(chin, 95) - np.percentile(chin, 5)) / IO


class _WarpDrawer:
    """Draws with ``warp``: gap and width per output frame."""

    def __init__(
        self, clip: Clip, track: FaceTrack, shapes: Shapes, where: Mouth, want: target.Wanted, order: Floats
    ) -> None:
        self._size = (clip.width, clip.height)
        self._order, self._transforms, self._usable = order, track.transforms, track.usable
        self._shapes = shapes
        # Nothing speaks here: what the fields show is slow expression and noise.
        self._scores = _steady(shapes.scores)
        rows = np.flatnonzero(track.usable[track.crops.index])
        rows = (
            rows[np.unique(np.linspace(0, len(rows) - 1, min(40, len(rows))).astype(int))]
            if len(rows)
            else rows
        )
        rows = rows if len(rows) else np.zeros(1, int)
        crops = track.crops
        fields = np.array([self._field(int(crops.index[r])) for r in rows], np.float32)
        face = lines.hub_face(crops.y[rows], crops.u[rows], crops.v[rows], fields)
        found = lines.find(face, where)
        self._warp = Warp(face, found)
        self._gap = target.gaps(want, found.gap, GAP_MAX)
        self._width = want.gate * np.clip(want.width, -1, 1)
        self._still = want.gate <= 0
        self.facts = {
            "teeth_at_rest": found.teeth,
            "rest_gap_io": round(found.gap / IO, 3),
            "opening_range_io": [round(float(v) / IO, 3) for v in (self._gap.min(), self._gap.max())],
        }

    def _field(self, i: int) -> Singles:
        s = self._shapes
        return (s.mean + self._scores[i] @ s.basis).reshape(s.raw.shape[1:])

    def area(self, k: int) -> Area | None:
        i = self._order[k]
        if self._still[k] or not self._usable[i]:
            return None
        return self._warp.area(self._transforms[i], *self._size)

    def draw(self, k: int, frame: Frame) -> None:
        i = int(self._order[k])
        if self._still[k] or not self._usable[i]:
            return
        self._warp.draw(
            frame, self._transforms[i], self._field(i), float(self._gap[k]), float(self._width[k])
        )


def _steady(scores: Singles) -> Singles:
    """Scores smoothed in time over measured frames (sigma 2 frames)."""
    known = np.flatnonzero(~np.isnan(scores[:, 0]))
    out = scores.copy()
    if len(known) > 4:
        full = np.stack(
            [np.interp(np.arange(len(scores)), known, scores[known, j]) for j in range(scores.shape[1])], 1
        )
        out = gaussian_filter1d(full, 2.0, axis=0).astype(np.float32)
    return out
