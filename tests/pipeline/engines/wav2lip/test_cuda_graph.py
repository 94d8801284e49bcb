"""CUDA graphs: which batches are captured, what is replayed, and what happens where that cannot be.

The stand-in for torch's graphs keeps to their two rules: a graph reads and writes the memory that it was captured with,
and replaying it runs no Python of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heygemd.contract.job import Quiet
from heygemd.pipeline.engines.wav2lip import network
from heygemd.pipeline.engines.wav2lip.run import cuda_graph, runners
from heygemd.pipeline.engines.wav2lip.run.cuda_graph import WARM_UP, CudaGraphCall


class Heard(Quiet):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """Kept."""
        self.events.append((name, fields))


class Gpu:
    """``torch.cuda`` as far as it is used, and a network that doubles its input."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.replays: list[int] = []
        self.capturing = False
        self.problem: Exception | None = None
        self._last: tuple[Tensor, Tensor] | None = None

    def run(self, values: Tensor) -> Tensor:
        self.runs.append(len(values))
        if self.capturing and self.problem:
            raise self.problem
        self._last = (values, values * 2)
        return self._last[1]

    class Stream:
        def wait_stream(self, other: Any) -> None:
            """Nothing runs beside."""

    def current_stream(self) -> Any:
        return self.Stream()

    def stream(self, stream: Any) -> Any:
        return nullcontext()

    def CUDAGraph(self) -> Any:
        return SimpleNamespace(replay=None)

    @contextmanager
    def graph(self, graph: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False
        assert self._last is not None
        given, made = self._last
        made.zero_()  # capturing computes nothing

        def replay() -> None:
            self.replays.append(len(given))
            made.copy_(given * 2)

        graph.replay = replay


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(cuda_graph, "cuda", gpu)
    return gpu


def batch(count: int, value: float) -> Tensor:
    return torch.full((count, 3), value)


def test_a_batch_size_is_captured_the_second_time_and_replayed_from_then_on(gpu: Gpu) -> None:
    made = CudaGraphCall(gpu.run, heard := Heard())
    for value in (1.0, 2.0, 3.0, 4.0):
        assert made(batch(8, value)).tolist() == [[2 * value] * 3] * 8
    assert gpu.replays == [8, 8, 8] and len(gpu.runs) == 1 + WARM_UP + 1
    assert heard.events == []


def test_each_batch_size_has_its_own_graph_and_one_that_comes_once_has_none(gpu: Gpu) -> None:
    made = CudaGraphCall(gpu.run, Heard())
    for count in (8, 8, 3, 8, 4, 4, 8):
        assert made(batch(count, count)).tolist() == [[2.0 * count] * 3] * count
    assert gpu.replays == [8, 8, 4, 8] and gpu.runs.count(3) == 1


@pytest.mark.parametrize(
    "problem", [RuntimeError("operation not permitted\nwhen capturing"), torch.OutOfMemoryError("full")]
)
def test_where_capturing_fails_it_runs_as_before_and_that_is_said_once(gpu: Gpu, problem: Exception) -> None:
    made, gpu.problem = CudaGraphCall(gpu.run, heard := Heard()), problem
    for value in (1.0, 2.0, 3.0):
        assert made(batch(8, value)).tolist() == [[2 * value] * 3] * 8
    assert made(batch(4, 1)).tolist() == made(batch(4, 1)).tolist() == [[2.0] * 3] * 4
    assert gpu.replays == []
    said = "full" if isinstance(problem, torch.OutOfMemoryError) else "operation not permitted"
    assert heard.events == [("cuda_graph_failed", {"batch": 8, "problem": said})]


def test_what_fails_without_a_graph_as_well_is_not_hidden(gpu: Gpu) -> None:
    def full(values: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        CudaGraphCall(full, Heard())(batch(8, 1))


@pytest.mark.gpu
def test_graphs_on_a_gpu_give_the_pictures_that_it_gives_without() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    net, heard = network.from_weights(network.random_weights(1)), Heard()
    runner = runners.on_cuda(net, heard)
    sounds, faces = runners.given(12, 96)
    first = runner(sounds, faces)  # without a graph
    other = runner(sounds[::-1].copy(), faces)
    assert (runner(sounds, faces) == first).all() and (other != first).any()
    assert heard.events == []
    plain = runners.TorchRunner(net, "cpu", torch.float32, fold=False)(sounds, faces)
    off = first[:, runner.top :].astype(np.float64) - plain[:, runner.top :]
    assert 10 * np.log10(255**2 / (off**2).mean()) >= 45
