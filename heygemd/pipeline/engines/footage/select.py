"""Which of the template's own mouths is shown in each output frame: dynamic programming over a bank of frames.

Costs, in squared standard deviations: distance of the codes, of the head pose, of the skin around the mouth; and from
one output frame to the next, how far the exemplar jumps in appearance and that it jumps at all.  Weights from ten
clips; a higher cost for holding a frame was tried and made r worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from heygemd.pipeline.image import parallel
from heygemd.pipeline.image.geometry import Floats, Singles

if TYPE_CHECKING:
    from heygemd.contract.job import Tell

_CODE, _WIDTH, _POSE, _RING, _LOOK = 6.0, 0.5, 2.0, 1.0, 0.8
_JUMP, _NEAR = 2.6, 0.15
CANDIDATES = 50
_CARRIED = 10  # continuations of the best paths, always among the candidates
_BLOCK = 50  # output frames whose costs are worked out together


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Per frame, indexed by frame number: ``codes`` (n, 2), ``pose`` (n, 5), ``look`` (n, 6), ``ring`` (n, d) with
    nan rows where it is not known."""

    codes: Floats
    pose: Singles
    look: Singles
    ring: Singles


def choose(
    features: FrameFeatures, bank: npt.NDArray[np.int64], base: npt.NDArray[np.int64], wanted: Floats, tell: Tell
) -> npt.NDArray[np.int64]:
    """Frame numbers ``(N,)`` of the exemplars for output frames over template frames ``base`` ``(N,)`` that want the
    codes ``wanted`` ``(N, 2)``."""
    costs = _Costs(features, bank)
    count = min(CANDIDATES, len(bank))
    paths: list[npt.NDArray[np.int64]] = []
    links: list[npt.NDArray[np.int64]] = []
    total = np.zeros(0)
    for k, alone in enumerate(_one_by_one(costs, base, wanted)):
        if k % _BLOCK == 0:
            tell.progress("choose", k, len(base))
        rows = np.argpartition(alone, count - 1)[:count]
        if k:
            best = paths[-1][np.argsort(total, kind="stable")[:_CARRIED]]
            rows = np.concatenate([rows, best, best + 1])
        rows = np.unique(rows[rows < len(bank)])
        if k:
            reach = total[:, None] + costs.between(paths[-1], rows)
            back = reach.argmin(0)
            links.append(back)
            total = reach[back, np.arange(len(rows))] + alone[rows]
        else:
            total = alone[rows]
        paths.append(rows)
    return bank[_traced(paths, links, int(total.argmin()))] if paths else np.zeros(0, np.int64)


def _one_by_one(costs: _Costs, base: npt.NDArray[np.int64], wanted: Floats) -> Iterator[Floats]:
    """``costs.alone`` of each output frame; a block is worked out while the one before it is used."""
    blocks = (costs.alone(base[k : k + _BLOCK], wanted[k : k + _BLOCK]) for k in range(0, len(base), _BLOCK))
    for block in parallel.ahead(blocks, 1):
        yield from block


def _traced(paths: list[npt.NDArray[np.int64]], links: list[npt.NDArray[np.int64]], last: int) -> npt.NDArray[np.int64]:
    out = [last]
    for back in reversed(links):
        out.append(int(back[out[-1]]))
    return np.array([rows[j] for rows, j in zip(paths, reversed(out), strict=True)], np.int64)


class _Costs:
    def __init__(self, features: FrameFeatures, bank: npt.NDArray[np.int64]) -> None:
        self._features, self._bank = features, bank
        self._codes, self._pose = features.codes[bank], features.pose[bank]
        self._ring = features.ring[bank].astype(np.float32)
        look = np.concatenate([features.look[bank], features.codes[bank]], 1)
        self._look = look
        after = np.minimum(np.arange(len(bank)) + 1, len(bank) - 1)
        follows = bank[after] == bank + 1
        self._next = np.where(follows[:, None], look[after], look)
        self._look_square, self._next_square = ((a * a).sum(1) for a in (self._look, self._next))
        self._usual_ring = self._typical_ring()

    def _typical_ring(self) -> float:
        some = self._ring[:: max(1, len(self._ring) // 60)]
        apart = np.abs(some[:, None] - some[None]).mean(2)
        known = apart[np.isfinite(apart) & (apart > 0)]
        return float(np.median(known)) if len(known) else 1.0

    def alone(self, base: npt.NDArray[np.int64], wanted: Floats) -> Floats:
        """Cost ``(k, rows of the bank)`` of every bank row for each of ``k`` output frames: over the template frames
        ``base`` ``(k,)``, with the codes ``wanted`` ``(k, 2)``."""
        scale = np.sqrt(_CODE * np.array([1.0, _WIDTH]))
        cost = cdist(wanted * scale, self._codes * scale, "sqeuclidean")
        cost += cdist(self._features.pose[base], self._pose, "sqeuclidean") * (_POSE / self._pose.shape[1])
        ring = self._features.ring[base].astype(np.float32)
        known = np.isfinite(ring).all(1)
        apart = cdist(ring[known], self._ring, "cityblock") / (ring.shape[1] * self._usual_ring)
        cost[known] += _RING * apart**2
        result: Floats = cost
        return result

    def between(self, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> Floats:
        """Cost of going from each row of ``before`` to each of ``after``."""
        product = self._next[before] @ self._look[after].T
        look = (self._next_square[before][:, None] + self._look_square[after] - 2 * product) / self._look.shape[1]
        step = np.abs(self._bank[after] - self._bank[before][:, None])
        jump = np.where(step <= 2, _NEAR, _JUMP)
        jump[(self._bank[before][:, None] + 1) == self._bank[after]] = 0.0
        result: Floats = _LOOK * look + jump
        return result
