"""Frame rates are fractions.  Which constant rate a stream is used at, decided from what its container
tells."""

from __future__ import annotations

from fractions import Fraction

from heygemd.pipeline.media.json_fields import Json, fraction

FASTEST = 120  # frames a second; more is slow motion material or nonsense
_ROUNDED = Fraction(1, 100_000)  # Matroska tells 60000/1001 as 19001/317
STANDARD = tuple(
    Fraction(n, d)
    for n, d in (
        (5, 1), (10, 1), (12, 1), (25, 2), (15, 1), (20, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001),
        (30, 1), (48, 1), (50, 1), (60000, 1001), (60, 1), (90, 1), (100, 1), (120000, 1001), (120, 1),
    )
)  # fmt: skip


def frame_rate(told: Json) -> tuple[Fraction, bool] | None:
    """``(rate, varies)`` from ffprobe's ``r_frame_rate`` (the grid all time stamps fit on) and
    ``avg_frame_rate``.

    The grid is taken where it is believable: at most 120 and between once and twice the average.  Exactly
    twice is how interlaced streams count fields, there the average is the rate.  Else the standard rate
    nearest to the average.  ``None``: the stream tells neither.
    """
    grid, average = (max(fraction(told.get(key)), Fraction(0)) for key in ("r_frame_rate", "avg_frame_rate"))
    if not grid and not average:
        return None
    grid, average = grid or average, average or grid
    ratio = grid / average
    varies = not Fraction(99, 100) <= ratio <= Fraction(101, 100)
    if abs(ratio - 2) < Fraction(2, 100):
        return _tidy(average), False
    if grid <= FASTEST and Fraction(99, 100) <= ratio <= Fraction(21, 10):
        return _tidy(grid, _ROUNDED), varies
    return nearest_standard(average), varies


def nearest_standard(rate: Fraction) -> Fraction:
    """The standard rate with the smallest relative distance."""
    return min(STANDARD, key=lambda standard: max(standard / rate, rate / standard))


def _tidy(rate: Fraction, nearness: Fraction = Fraction(1, 500)) -> Fraction:
    """An average such as 2997003/100000 is measured, not meant: within ``nearness`` of a standard rate it is that
    rate."""
    near = nearest_standard(rate)
    return near if abs(near - rate) / near < nearness else min(rate, Fraction(FASTEST))
