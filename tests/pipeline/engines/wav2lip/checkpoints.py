"""A checkpoint of the right shape with seeded random weights: what is drawn means nothing, how it is drawn does."""

from __future__ import annotations

from pathlib import Path

import torch

from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore
from heygemd.pipeline.engines.wav2lip import network


def store_with_random_checkpoint(folder: Path) -> Path:
    """A store in ``folder`` with the checkpoint, imported as an operator would."""
    torch.save(network.random_weights(5), folder / "random.pth")
    import_model(ModelStore(folder / "store"), folder / "random.pth", accept=True)
    return folder / "store"
