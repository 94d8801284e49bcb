"""What the child says of its own needs, and of failures that no module foresaw."""

from __future__ import annotations

import resource
from types import SimpleNamespace
from typing import Any

import pytest

from heygemd.common.errors import EngineError, GpuMemoryError, WorkerDied
from heygemd.pipeline import __main__ as child


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), GpuMemoryError, "gpu_memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), WorkerDied, "worker"),
        (ValueError("x"), EngineError, "engine"),
    ],
)
def test_out_of_gpu_memory_and_a_cuda_error_are_no_defects_of_the_job(
    error: Exception, kind: type[Exception], code: str
) -> None:
    told = child._unforeseen(error)
    assert type(told) is kind and told.code == code and "\n" not in told.message


def test_the_peak_is_this_tasks_and_not_that_of_one_before() -> None:
    large = bytearray(200 << 20)
    large[:: resource.getpagesize()] = b"x" * len(large[:: resource.getpagesize()])
    before = child._peak()["ram_mib"]
    del large
    child._forget_peak()
    after = child._peak()["ram_mib"]
    assert before is not None and after is not None and before >= 200 and after < before - 100


def test_memory_of_a_gpu_is_told_only_where_one_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def torch(used: bool) -> Any:
        cuda = SimpleNamespace(is_initialized=lambda: used, max_memory_reserved=lambda: 3 << 30)
        return SimpleNamespace(cuda=cuda)

    monkeypatch.setitem(child.sys.modules, "torch", torch(False))
    assert child._peak()["vram_mib"] is None
    monkeypatch.setitem(child.sys.modules, "torch", torch(True))
    assert child._peak()["vram_mib"] == 3 * 1024 + child._CONTEXT_MIB
