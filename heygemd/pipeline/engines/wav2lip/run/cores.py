"""A batch on several cores, each of which makes a part of it by itself.

Sixty small layers give the threads that share each of them sixty occasions to wait for one another, busily: with other
work on the machine two threads took 1.4 times the processor time for one batch that they take for a half each.  The
pictures are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from heygemd.pipeline.image.geometry import Bytes, Singles

if TYPE_CHECKING:
    from heygemd.pipeline.engines.wav2lip.run.runner import Runner

LEAST = 4
"""Frames of a part: of fewer each costs more (measured: 33.7 ms of a core at 2, 31.1 at 4, 29.1 at 8)."""


class SplitRunner:
    """A ``Runner`` that gives each of its workers a part of the batch."""

    def __init__(self, make: Callable[[int], Runner], cores: int, batch: int) -> None:
        """``make`` gives the runner that all workers use, from how many threads each run of it may have; ``batch``:
        the frames at a time that cores are shared out for."""
        self._workers = min(cores, max(1, batch // LEAST))
        self._one = make(max(1, cores // self._workers))
        self.size, self.top, self.batch, self.on_gpu = self._one.size, self._one.top, self._one.batch, False
        self.facts = self._one.facts
        self._pool = ThreadPoolExecutor(self._workers, "part")

    def __call__(self, sounds: Singles, faces: Bytes) -> Bytes:
        """See ``Runner``."""
        parts = min(self._workers, max(1, len(faces) // LEAST))
        bounds = [len(faces) * part // parts for part in range(parts + 1)]
        made = self._pool.map(lambda rows: self._one(sounds[slice(*rows)], faces[slice(*rows)]), pairwise(bounds))
        return np.concatenate(list(made))
