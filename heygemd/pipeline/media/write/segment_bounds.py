"""Where the segments of a film begin.

A segment begins with a search in the template, and all pictures from the one where decoding can start to its first
one are decoded for nothing: up to ten seconds of an ordinary H.264 file.  So bounds are moved to such places, where
that does not make one core wait for another at the end.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise, product

_DECODE = 0.16  # of what a picture of the film takes in all, goes into decoding one of the template
_LOST = 1.02  # what a death may cost at most, against segments that are all alike
_TRIED = 5  # bounds at the end whose places are chosen together; those before are worked off by whoever is free


def begins(frames: int, length: int, at_a_time: int, easy: list[int]) -> list[int]:
    """First frames of the segments of a film of ``frames``, usually ``length`` long, ``at_a_time`` made at a time.

    ``easy``: frames, rising, of which the template's picture can be decoded without others.
    """
    ideal = list(range(0, frames, length))
    places = [_places(bound, length, easy) for bound in ideal[1:]]
    early, late = places[:-_TRIED], places[-_TRIED:]
    best, (earliest, lost) = ideal, _course(ideal, frames, at_a_time, easy)
    for choice in product(*(options[-1:] for options in early), *late):
        bounds = [0, *choice]
        if any(after <= before for before, after in pairwise(bounds)):
            continue
        end, costs = _course(bounds, frames, at_a_time, easy)
        if costs <= _LOST * max(lost, at_a_time * length) and end < earliest - 1e-9:
            best, earliest = bounds, end
    return best


def _places(bound: int, length: int, easy: list[int]) -> list[int]:
    """The bound, and the easy frames around it if it is not easy itself, the nearest last."""
    at = bisect_left(easy, bound)
    if easy[at : at + 1] == [bound]:
        return [bound]
    near = [e for e in easy[max(0, at - 1) : at + 1] if 0 < abs(e - bound) < length // 2]
    return [bound, *sorted(near, key=lambda e: -abs(e - bound))]


def _course(bounds: Sequence[int], frames: int, at_a_time: int, easy: list[int]) -> tuple[float, float]:
    """When the last segment is made, each begun by whoever is free first, and the most that a death would cost on the
    way: in pictures' time."""
    free, lost = [(0.0, 0.0)] * at_a_time, 0.0  # of each hand: when it will be free, when it began
    for first, end in zip(bounds, [*bounds[1:], frames], strict=True):
        now = free[0][0]
        lost = max(lost, sum(now - began for until, began in free if until > now or began < until == now))
        at = bisect_right(easy, first)
        run_up = first - easy[at - 1] if at else 0
        heapq.heapreplace(free, (now + end - first + _DECODE * run_up, now))
    for now, _ in sorted(free):
        lost = max(lost, sum(now - began for until, began in free if until >= now))
    return max(free)[0], lost
