"""Where a film is cut into segments.

A segment begins with a search in the template, and what lies between the place where decoding can start and its first
picture is decoded for nothing: up to ten seconds of an ordinary H.264 file.  So cuts are moved to such places, where
that does not make one core wait for another at the end.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import product

_DECODE = 0.16  # of what a picture of the film takes in all, goes into decoding one of the template
_LONGEST = 1.34  # a segment's length against the usual: what a death costs
_TRIED = 5  # cuts at the end whose places are chosen together; those before are worked off by whoever is free


def begins(frames: int, length: int, abreast: int, easy: Sequence[int]) -> list[int]:
    """First frames of the segments of a film of ``frames``, usually ``length`` long, ``abreast`` made at a time.

    ``easy``: frames, rising, of which the template's picture can be decoded without others.
    """
    ideal = list(range(0, frames, length))
    places = [_places(cut, length, easy) for cut in ideal[1:]]
    early, late = places[:-_TRIED], places[-_TRIED:]
    best = ideal
    for choice in product(*(options[-1:] for options in early), *late):
        found = [0, *choice]
        if _allowed(found, frames, length) and _earlier(found, best, frames, abreast, easy):
            best = found
    return best


def _places(cut: int, length: int, easy: Sequence[int]) -> list[int]:
    """The cut, and the easy frames around it, the nearest last."""
    at = bisect_left(easy, cut)
    near = [e for e in easy[max(0, at - 1) : at + 1] if 0 < abs(e - cut) < length // 2]
    return [cut, *sorted(near, key=lambda e: -abs(e - cut))]


def _allowed(cuts: Sequence[int], frames: int, length: int) -> bool:
    ends = [*cuts[1:], frames]
    return all(0 < end - first <= _LONGEST * length for first, end in zip(cuts, ends, strict=True))


def _earlier(found: Sequence[int], best: Sequence[int], frames: int, abreast: int, easy: Sequence[int]) -> bool:
    """Whether ``found`` is done clearly earlier than ``best``."""
    return _end(found, frames, abreast, easy) < _end(best, frames, abreast, easy) - 1e-9


def _end(cuts: Sequence[int], frames: int, abreast: int, easy: Sequence[int]) -> float:
    """When the last segment is made: in pictures' time, each begun by whoever is free first."""
    free = [0.0] * abreast
    for first, end in zip(cuts, [*cuts[1:], frames], strict=True):
        at = bisect_right(easy, first)
        run_up = first - easy[at - 1] if at else 0
        heapq.heapreplace(free, free[0] + end - first + _DECODE * run_up)
    return max(free)
