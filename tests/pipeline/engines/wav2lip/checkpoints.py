"""A checkpoint of the right shape with seeded random weights: what is drawn means nothing, how it is drawn does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore
from heygemd.pipeline.engines.wav2lip import network
from heygemd.pipeline.engines.wav2lip.run import runners


def store_with_random_checkpoint(folder: Path) -> Path:
    """A store in ``folder`` with the checkpoint, imported as an operator would."""
    torch.save(network.random_weights(5), folder / "random.pth")
    import_model(ModelStore(folder / "store"), folder / "random.pth", accept=True)
    return folder / "store"


def skip_without_bf16(backend: str) -> None:
    """Torch fails where oneDNN has no bfloat16; no film asks for it there."""
    if backend == "torch-bf16" and not runners.runs_bf16():
        pytest.skip("this processor lacks AVX-512 (BW, VL, DQ), without which torch runs nothing in bfloat16")
