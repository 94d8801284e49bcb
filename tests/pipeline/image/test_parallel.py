from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from heygemd.pipeline.image import parallel


def test_what_is_made_ahead_comes_in_order_from_another_thread() -> None:
    makers = set()

    def make() -> Iterator[int]:
        for k in range(20):
            makers.add(threading.current_thread())
            yield k

    assert list(parallel.ahead(make(), 3)) == list(range(20))
    assert len(makers) == 1 and threading.current_thread() not in makers


def test_no_more_is_made_ahead_than_was_said_and_nothing_after_the_end() -> None:
    made = []

    def make() -> Iterator[int]:
        for k in range(100):
            made.append(k)
            yield k

    for k in parallel.ahead(make(), 3):
        assert len(made) <= k + 4
        if k == 10:
            break
    assert len(made) <= 14


def test_an_error_of_the_maker_is_raised_where_the_items_are_used() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = parallel.ahead(make(), 5)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 170])
def test_every_piece_of_work_is_done_once(count: int) -> None:
    done: list[int] = []
    parallel.every(done.append, count, 3)
    assert sorted(done) == list(range(count))


def test_a_piece_of_work_that_fails_is_not_passed_over() -> None:
    def fail(i: int) -> None:
        assert i != 70

    with pytest.raises(AssertionError):
        parallel.every(fail, 100, 2)
