"""Step 4: the default engine, which needs nothing but the template itself.

Two renderers, one chosen per template and named in the facts: ``two-layer`` where the template speaks, so that it has
mouths to show, ``warp`` where it never does (stills too).

May import: contract, pipeline.engines, pipeline.face, pipeline.ffmpeg, pipeline.image, pipeline.media, pipeline.speech,
pipeline.template_cache.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.pipeline.engines.footage import heard, target
from heygemd.pipeline.engines.footage.analysis import landmarks, mouth, speaker
from heygemd.pipeline.engines.footage.analysis.shapes import measure
from heygemd.pipeline.engines.footage.drawing.layers_plan import LayersPlan, pixels_of
from heygemd.pipeline.engines.footage.drawing.plan import FootagePlan, Scene, shares
from heygemd.pipeline.engines.footage.drawing.warp_plan import WarpPlan
from heygemd.pipeline.face.crops import kept
from heygemd.pipeline.face.follow import runs
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.ffmpeg import cores
from heygemd.pipeline.image.geometry import IO, Floats, Singles

if TYPE_CHECKING:
    from heygemd.contract.job import Settings, Tell
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.media import Clip
    from heygemd.pipeline.speech.lips import LipTrack
    from heygemd.pipeline.template_cache import Arrays

__all__ = ["Footage", "FootagePlan"]

SPEAKS_FROM = 0.06
"""5-95 % range of the chin, in io, from which a template counts as speaking: talkers had .10 to .27, idlers .015."""
BANK_SECONDS = 3.0
"""Least usable footage for a bank of mouths; 3 s gave opening r .59 to .91."""
BANK_MAX = 1500


class Footage:
    """The engine; holds nothing between films."""

    name = "footage"
    in_parallel = True

    def plan(
        self,
        clip: Clip,
        track: FaceTrack,
        lip: LipTrack,
        samples: Singles,  # noqa: ARG002 - part of the engine contract; lips.speak has made ``lip`` of it
        order: npt.NDArray[np.int64],
        settings: Settings,
        template_audio: Singles | None,
        tell: Tell,
    ) -> FootagePlan:
        """Decide what every output frame shows.

        ``lip`` is the driving sound's LipTrack; ``order`` ``(N,)`` says which template frame is under output frame k;
        ``template_audio`` is the template's own sound, 16 kHz mono, where it has one.
        """
        order = np.asarray(order, np.int64)
        points = landmarks.seen(track)
        if points is None:
            where = mouth.locate(track.crops)
        else:
            where = landmarks.place(points, track.usable[track.crops.index])
        shapes, known = measure(clip, track, where, np.unique(order).tolist(), tell, cores(settings.threads), points)
        scene = Scene(clip, track, shapes, where, order, shares(track.usable[order]))
        usable = track.crops.index[track.usable[track.crops.index]]
        bank = usable[kept(len(usable), BANK_MAX)]
        amplitude, seconds = _chin_range(shapes.reads[bank, 1]), len(usable) / float(clip.fps)
        renderer, why = _renderer(amplitude, seconds)
        times = (np.arange(len(order)) + 0.5) / float(clip.fps)
        want = target.wanted(lip, times)
        plan: FootagePlan
        if renderer == "two-layer":
            who = speaker.learn(shapes, where, bank)
            with ThreadPoolExecutor(1, "seen") as beside:
                seen = beside.submit(pixels_of, scene, who)
                codes, of_sound = _codes(
                    who,
                    lip,
                    want,
                    times,
                    _own_voice(template_audio, track, settings.ears),
                    clip,
                    heard.USUAL[settings.ears],
                )
                plan = LayersPlan.decided(scene, who, codes, seen.result(), tell)
            plan.facts = of_sound | plan.facts
        else:
            plan = WarpPlan.decided(scene, want)
        plan.passed_through = runs(~track.usable[order])
        plan.facts = {
            "renderer": renderer,
            "reasons": [why],
            "template_analysis": "cached" if track.recalled and known else "made",
            **_track_facts(track),
            "speaks_io": round(amplitude, 3),
            "usable_seconds": round(seconds, 2),
            "mouth_confidence": round(where.confidence, 2),
            "mouth_code": "flow" if points is None else "landmarks",
            "spoken_share": round(float((want.gate > 0).mean()), 2) if len(order) else 0.0,
            **plan.facts,
        }
        return plan

    def unpack(self, arrays: Arrays, folder: Path) -> FootagePlan:
        """See ``engines.DrawingEngine``."""
        return (LayersPlan if "chosen" in arrays else WarpPlan).unpack(arrays, folder)


def _track_facts(track: FaceTrack) -> Facts:
    return {
        "eye_px": round(track.eye_px, 1),
        "support": round(track.support, 2),
        "faces_seen": track.faces_seen,
        "mouth_covered": [list(frames) for frames in track.covered],
        "track_quality": round(float(np.median(track.quality)), 2),
    }


def _renderer(amplitude: float, seconds: float) -> tuple[str, str]:
    """Which one, and why."""
    if amplitude < SPEAKS_FROM:
        return "warp", (
            f"the template does not speak: its chin moves by {amplitude:.3f} of the eye distance; at least "
            f"{SPEAKS_FROM} is needed"
        )
    if seconds < BANK_SECONDS:
        return "warp", f"only {seconds:.1f} s of the template are usable; a mouth bank needs {BANK_SECONDS:.0f} s"
    return "two-layer", (
        f"the template speaks: its chin moves by {amplitude:.3f} of the eye distance in {seconds:.1f} usable seconds"
    )


def _chin_range(drops: Floats) -> float:
    """5-95 % range of the chin's drop, in io."""
    return float(np.percentile(drops, 95) - np.percentile(drops, 5)) / IO if len(drops) > 1 else 0.0


def _codes(
    who: speaker.Speaker,
    lip: LipTrack,
    want: target.Wanted,
    times: Floats,
    own: LipTrack | None,
    clip: Clip,
    usual: Floats,
) -> tuple[Floats, Facts]:
    """The code of every output frame ``(N, 2)``, and facts on how the sound was read."""
    own_codes = who.codes[who.bank]
    own_times = (who.bank + 0.5) / float(clip.fps)
    if own is None:
        curve, own_gate = heard.general(lip, times, usual), None
    else:
        curve = heard.personal(lip, times, own, own_times, own_codes, usual)
        own_gate = target.wanted(own, own_times + curve.lag).gate
    own_range = target.range_of(own_codes, own_gate)
    return target.codes(curve.values, curve.usual, want, own_range, float(clip.fps)), curve.facts


def _own_voice(samples: Singles | None, track: FaceTrack, name: str) -> LipTrack | None:
    """The LipTrack of the template's own sound; None if it has none or nobody speaks in it."""
    if samples is None or not len(samples):
        return None
    from heygemd.pipeline.speech import ears, lips

    names = lips.LipTrack.__slots__
    basis = (samples.tobytes(), name.encode(), *(path.read_bytes() for path in ears.FILES[name]))
    memory = track.memory.about("voice", *(hashlib.sha256(data).hexdigest() for data in basis))
    known = memory.recall(*names)
    if known is None:
        own = ears.named(name)(samples, None)
        memory.keep(**{name: getattr(own, name) for name in names})
    else:
        own = lips.LipTrack(**known)
    return own if float((own.voice > 0.5).mean()) > 0.05 else None
