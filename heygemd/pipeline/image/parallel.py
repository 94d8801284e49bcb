"""Work on many small pictures, shared out to threads picture by picture.

OpenCV's own threads share out one picture, which costs more than it gives where a picture takes a millisecond: with
them the analysis of a clip took twice the processor time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import cv2

T = TypeVar("T")
R = TypeVar("R")


def alone() -> None:
    """Let OpenCV use the calling thread only."""
    cv2.setNumThreads(1)


def each(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """``function`` of each of ``items``, in their order; at most ``threads`` are worked on at a time."""
    with ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="picture") as pool:
        yield from pool.map(function, items)


def every(function: Callable[[int], None], count: int, threads: int) -> None:
    """``function`` of each of 0 to ``count - 1``, in runs: what takes so little that handing it over would count."""

    def some(first: int) -> None:
        for i in range(first, min(first + _RUN, count)):
            function(i)

    for _ in each(some, range(0, count, _RUN), threads):
        pass


def ahead(items: Iterator[T], most: int) -> Iterator[T]:
    """``items``, made by a thread of its own, at most ``most`` before they are asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as one:
        coming = deque(one.submit(next, items, _END) for _ in range(most))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(one.submit(next, items, _END))
                yield cast(T, item)
        finally:
            for later in coming:
                later.cancel()


_END = object()
_RUN = 50  # of small pieces of work that a thread does at a time
