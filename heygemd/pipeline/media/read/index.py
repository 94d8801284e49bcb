"""What one whole pass over a template finds out: when each picture is shown, and what it looks like."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import numpy as np

from heygemd.pipeline.media.frame import fingerprint
from heygemd.pipeline.media.read.decoder import MICRO, Shown
from heygemd.pipeline.template_cache import Arrays

_TYPES = {"times": "i8", "prints": "u8", "keys": "i8", "ticks": "i8"}


@dataclass(slots=True)
class Index:
    """What one whole pass found out.  Source pictures are numbered in the order in which they are shown."""

    fps: Fraction
    times: array[int] = field(default_factory=lambda: array("q"))  # microseconds, by source picture
    prints: array[int] = field(default_factory=lambda: array("Q"))  # fingerprints, by source picture
    keys: array[int] = field(default_factory=lambda: array("q"))  # source pictures at which decoding can start
    ticks: array[int] = field(default_factory=lambda: array("q"))  # source picture shown at each tick
    timed: bool = True  # False: pictures without a time; they follow one another by the frame rate
    first: int | None = None  # the time of tick 0
    whole: bool = False  # the pass reached the end
    faults: int = 0  # lines in which ffmpeg reported damage

    def add(self, shown: Shown) -> int:
        """Note the next source picture; how many ticks lie between its predecessor's first and its own.

        Tick ``k`` shows the last picture whose time, rounded to the nearest tick, is not after ``k``.
        """
        source = len(self.times)
        time = shown.time
        if time is None:
            self.timed = False
            time = self.times[-1] + round(MICRO / self.fps) if source else 0
        if self.first is None:
            self.first = time
        self.times.append(time)
        self.prints.append(fingerprint(shown.frame))
        if shown.key:
            self.keys.append(source)
        if source == 0:
            return 0
        tick = (Fraction(time - self.first, MICRO) * self.fps + Fraction(1, 2)).__floor__()
        missing = max(0, tick - len(self.ticks))
        self.ticks.extend([source - 1] * missing)
        return missing

    KEPT: ClassVar = ("told", "times", "prints", "keys", "ticks")

    def arrays(self) -> Arrays:
        """All of a whole pass's index, to be kept; ``recalled`` reads it back."""
        facts = {"timed": self.timed, "first": self.first, "faults": self.faults}
        lists = {name: np.array(getattr(self, name), _TYPES[name]) for name in _TYPES}
        return {"told": np.array(json.dumps(facts)), **lists}

    @staticmethod
    def recalled(fps: Fraction, arrays: Arrays) -> Index:
        """The inverse of ``arrays``."""
        index = Index(fps, whole=True, **json.loads(str(arrays["told"])))
        for name in _TYPES:
            getattr(index, name).extend(arrays[name].tolist())
        return index
