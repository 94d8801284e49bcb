"""Which template picture each output frame shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heygemd.contract.job import Settings, Tell
from heygemd.pipeline import template_cache
from heygemd.pipeline.media.info import Media
from heygemd.pipeline.media.read.clip import Clip, open_clip
from heygemd.pipeline.template_cache import Memory

FOOTAGE_SECONDS = 120.0  # of a template at most, unless the film is longer: analysis must end in reasonable time


def output_order(count: int, wanted: int, extend: str) -> npt.NDArray[np.int64]:
    """Template picture numbers, int64 (wanted,), for a template of ``count`` pictures.

    ``bounce``: forward, backward, forward …, without showing an end picture twice; ``loop``: from the start
    again; ``hold``: the last picture stays.  A shorter film ends early in each case.
    """
    ticks = np.arange(wanted, dtype=np.int64)
    if extend == "hold" or count == 1:
        return np.minimum(ticks, count - 1)
    if extend == "loop":
        return ticks % count
    assert extend == "bounce", extend
    phase = ticks % (2 * count - 2)
    return np.minimum(phase, 2 * count - 2 - phase)


def template(
    path: Path, media: Media, settings: Settings, name: str, seconds: float, tell: Tell, memory: Memory | None = None
) -> Clip:
    """The template of a film of ``seconds``, with what is known of it from earlier films (``memory``, if that was
    looked for already).

    Of a template longer than the film, ``FOOTAGE_SECONDS`` are looked at: what an engine can learn from.
    """
    assert media.video is not None
    limit = max(wanted_frames(s, media.video.fps) for s in (seconds, FOOTAGE_SECONDS))
    clip = open_clip(path, media.video, settings, name, media.start, limit)
    clip.recall(memory or template_cache.of(path, settings, tell))
    return clip


def shown(clip: Clip, seconds: float, extend: str) -> npt.NDArray[np.int64]:
    """Which picture of a counted template each frame of ``seconds`` of film shows; see ``output_order``."""
    return output_order(clip.count, wanted_frames(seconds, clip.fps), extend)


def wanted_frames(seconds: float, fps: Fraction) -> int:
    """Output frames for ``seconds`` of sound: the nearest whole number, at least one."""
    return max(1, round(seconds * float(fps)))
