"""What runs the network: the interface, and the number of cores."""

from __future__ import annotations

import os
from typing import Protocol

from heygemd.pipeline.image.geometry import Bytes, Singles


class Runner(Protocol):
    """A network that is ready to run; ``facts`` says how it runs."""

    size: int
    top: int
    batch: int
    on_gpu: bool
    facts: dict[str, str]

    def __call__(self, sounds: Singles, faces: Bytes) -> Bytes:
        """sounds (n, 80, 16) float32, faces (n, size, size, 3) uint8 BGR -> the same faces saying it, uint8 BGR; rows
        above ``top``, which no film shows, as they were."""


def cores(threads: int) -> int:
    """How many cores that is; 0: all that this process may use."""
    return threads or len(os.sched_getaffinity(0))
