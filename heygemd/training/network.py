"""The lips network as torch trains it; ``heygemd.pipeline.speech.lips`` runs the same network without torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from heygemd.pipeline.speech import lips, mel
from heygemd.pipeline.speech.lips import CHANNELS, DILATIONS, VISEMES


class Block(nn.Module):
    """Residual block: depthwise convolution in time, then a two-layer mix of channels."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.time = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation, groups=channels)
        self.norm = nn.BatchNorm1d(channels)
        self.widen = nn.Conv1d(channels, 2 * channels, 1)
        self.narrow = nn.Conv1d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> the same."""
        mixed: Tensor = self.narrow(functional.relu(self.widen(self.norm(self.time(x)))))
        return x + mixed


class LipsNet(nn.Module):
    """404,500 parameters.  ``usual`` is the training data's average spectrum, which ``audio.reference`` needs."""

    usual: Tensor

    def __init__(self, dropout: float = 0.05) -> None:
        super().__init__()
        self.stem = nn.Conv1d(mel.BANDS, CHANNELS, 5, padding=2)
        self.stem_norm = nn.BatchNorm1d(CHANNELS)
        self.halve = nn.Conv1d(CHANNELS, CHANNELS, 5, stride=2)
        self.halve_norm = nn.BatchNorm1d(CHANNELS)
        self.blocks = nn.ModuleList(Block(CHANNELS, dilation) for dilation in DILATIONS)
        self.last_norm = nn.BatchNorm1d(CHANNELS)
        self.head = nn.Conv1d(CHANNELS, 5 + len(VISEMES), 1)
        self.dropout = dropout
        self.register_buffer("usual", torch.zeros(mel.BANDS))

    def embed(self, features: Tensor) -> Tensor:
        """Normalised log-mel (B, 2T, 80) -> (B, 128, T).  Output t looks at inputs around 2t + 1."""
        x = functional.relu(self.stem_norm(self.stem(features.transpose(1, 2))))
        x = functional.relu(self.halve_norm(self.halve(functional.pad(x, (1, 3)))))
        for block in self.blocks:
            x = functional.dropout(block(x), self.dropout, self.training)
        return functional.relu(self.last_norm(x))

    def forward(self, features: Tensor) -> Tensor:
        """Normalised log-mel (B, 2T, 80) -> (B, T, 20): opening, width, logits of closure, labiodental, voice, and of
        the visemes."""
        scores: Tensor = self.head(self.embed(features))
        return scores.transpose(1, 2)

    def tensors(self) -> dict[str, Tensor]:
        """What a file of weights holds."""
        state = self.state_dict()
        return {name: state[name].contiguous() for name in state if not name.endswith("num_batches_tracked")}


def trained(net: LipsNet) -> lips.Network:
    """The network with its present weights, as films use it."""
    return lips.Network({name: tensor.detach().numpy() for name, tensor in net.tensors().items()})
