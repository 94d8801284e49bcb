"""A network on a GPU as a CUDA graph: its hundred small kernels are started by one call instead of one by one.

A graph belongs to one batch size, and reads and writes the memory that it was captured with.  Written from torch's
documentation and tested against a stand-in; it has not met a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, cuda

from heygemd.contract.job import Tell

WARM_UP = 3  # runs before a capture, in which libraries choose their kernels and take their memory


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: cuda.CUDAGraph
    given: tuple[Tensor, ...]
    made: Tensor


class CudaGraphCall:
    """``run`` replayed; where capturing fails it is run as it is from then on, and the log says so once.

    A batch size is captured when it comes for the second time: the last batch of a film, which is smaller, does not pay
    for a graph.
    """

    def __init__(self, run: Callable[..., Tensor], tell: Tell) -> None:
        """``run`` takes tensors on the GPU, whose first dimension is the batch, and gives one; it neither waits for the
        GPU nor looks at values."""
        self._run, self._tell = run, tell
        self._met: set[int] = set()
        self._graphs: dict[int, _Graph] = {}
        self._works = True

    def __call__(self, *given: Tensor) -> Tensor:
        """What ``run`` gives, valid until the next call."""
        count = len(given[0])
        if not self._works or count not in self._met:
            self._met.add(count)
            return self._run(*given)
        if count not in self._graphs and not self._capture(count, given):
            return self._run(*given)
        found = self._graphs[count]
        for own, new in zip(found.given, given, strict=True):
            own.copy_(new, non_blocking=True)
        found.graph.replay()
        return found.made

    def _capture(self, count: int, given: tuple[Tensor, ...]) -> bool:
        """Whether there is a graph for this batch size now.  It takes memory of its own; torch gives back first what
        earlier runs keep in store."""
        try:
            own = tuple(tensor.clone() for tensor in given)
            side: cuda.Stream = cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                for _ in range(WARM_UP):
                    self._run(*own)
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            # "thread_local": what other threads do on the GPU meanwhile does not spoil it.
            with cuda.graph(graph, capture_error_mode="thread_local"):
                made = self._run(*own)
        except RuntimeError as error:  # torch.OutOfMemoryError is one: without a graph there may be room
            self._works = False
            self._graphs.clear()
            self._tell.event("cuda_graph_failed", level="warning", batch=count, problem=str(error).splitlines()[0])
            return False
        self._graphs[count] = _Graph(graph, own, made)
        return True
