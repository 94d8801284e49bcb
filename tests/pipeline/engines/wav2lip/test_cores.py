"""A batch in parts: how it is shared out, and that nothing of it shows."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from heygemd.pipeline.engines.wav2lip import network
from heygemd.pipeline.engines.wav2lip.run import runners
from heygemd.pipeline.engines.wav2lip.run.cores import LEAST, SplitRunner
from tests.pipeline.engines.wav2lip.checkpoints import skip_without_bf16


class Counting:
    """Gives back what it is given, and notes how much that was and by whom it was asked."""

    size, top, batch, on_gpu = 96, 0, 16, False

    def __init__(self, threads: int = 1, together: int = 1) -> None:
        self.threads, self.facts = threads, {"backend": "none"}
        self.asked: list[tuple[int, int]] = []
        self._meet = threading.Barrier(together)

    def __call__(self, sounds: Any, faces: Any) -> Any:
        self._meet.wait(20)  # none goes on before all of them run
        self.asked.append((len(faces), threading.get_ident()))
        assert (sounds[:, 0, 0] == faces[:, 0, 0, 0]).all()
        return faces


def given(count: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(count)
    sounds = np.zeros((count, 80, 16), np.float32) + numbers[:, None, None]
    return sounds, np.zeros((count, 96, 96, 3), np.uint8) + numbers[:, None, None, None].astype(np.uint8)


@pytest.mark.parametrize(
    ("cores", "count", "parts"), [(1, 16, [16]), (2, 16, [8, 8]), (3, 16, [5, 5, 6]), (16, 16, [4] * 4), (2, 7, [7])]
)
def test_the_parts_run_at_the_same_time_and_come_back_in_order(cores: int, count: int, parts: list[int]) -> None:
    one = Counting(together=len(parts))
    abreast = SplitRunner(lambda each: one, cores, 16)
    sounds, faces = given(count)
    assert (abreast(sounds, faces) == faces).all()
    assert sorted(size for size, _ in one.asked) == parts and len({who for _, who in one.asked}) == len(parts)
    assert abreast.facts == {"backend": "none"} and abreast.batch == 16


@pytest.mark.parametrize(("cores", "batch", "each"), [(1, 16, 1), (2, 16, 1), (16, 16, 4), (8, LEAST - 1, 8)])
def test_cores_that_get_no_part_of_their_own_help_the_others(cores: int, batch: int, each: int) -> None:
    made: list[Counting] = []

    def make(threads: int) -> Counting:
        made.append(Counting(threads))
        return made[-1]

    SplitRunner(make, cores, batch)
    assert [one.threads for one in made] == [each]


def test_what_goes_wrong_in_a_part_is_raised() -> None:
    class Broken(Counting):
        def __call__(self, sounds: Any, faces: Any) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        SplitRunner(lambda each: Broken(), 2, 16)(*given(16))


@pytest.mark.parametrize("backend", ["torch-bf16", "onnxruntime"])
def test_two_cores_make_the_pictures_of_one(backend: str) -> None:
    skip_without_bf16(backend)
    net = network.from_weights(network.random_weights(1))
    sounds, faces = runners.given(2 * LEAST, 96)
    one, two = (runners.on_cpu(net, cores, backend)(sounds, faces) for cores in (1, 2))
    assert np.abs(one.astype(int) - two).max() <= 1
