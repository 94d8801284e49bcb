"""Which template picture each output frame shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heygemd.pipeline import cache
from heygemd.pipeline.media.clip import Clip, open_clip
from heygemd.pipeline.media.probe import Media
from heygemd.pipeline.settings import Settings, Tell

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
    path: Path, media: Media, settings: Settings, name: str, seconds: float, tell: Tell
) -> tuple[Clip, npt.NDArray[np.int64]]:
    """The template, counted, and which of its pictures each frame of ``seconds`` of film shows.

    Of a template longer than the film, ``FOOTAGE_SECONDS`` are looked at: what an engine can learn from.
    """
    assert media.video is not None
    wanted = wanted_frames(seconds, media.video.fps)
    limit = max(wanted, wanted_frames(FOOTAGE_SECONDS, media.video.fps))
    clip = open_clip(path, media.video, settings, name, media.start, limit)
    clip.recall(cache.of(path, settings, tell), tell)
    return clip, output_order(clip.count, wanted, settings.extend)


def wanted_frames(seconds: float, fps: Fraction) -> int:
    """Output frames for ``seconds`` of sound: the nearest whole number, at least one."""
    return max(1, round(seconds * float(fps)))
