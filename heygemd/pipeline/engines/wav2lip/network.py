"""The network of Wav2Lip (Prajwal et al., 2020) in our own words, under the names of the published weights.

Two encoders (the face with its lower half blanked beside the whole face; 0.2 s of mel spectrogram) meet in a decoder
that takes up the face encoder's features again at every size.  ``SIZES``: 96 px as published, and the 256 px variant
that LiveTalking uses, which goes one step deeper.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

SIZES = (96, 256)
MEL_BANDS, MEL_FRAMES = 80, 16


class Conv(nn.Module):
    """Convolution, batch norm, the input added where ``residual``, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int | tuple[int, int] = 1,
        padding: int = 0,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, outputs, h / stride, w / stride)."""
        out: Tensor = self.conv_block(x)
        return torch.relu(out + x if self.residual else out)


class Up(nn.Module):
    """Transposed convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        extra = 1 if stride == 2 else 0
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, extra), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, outputs, 2 h, 2 w), or from 1 x 1 to ``kernel`` x ``kernel``."""
        out: Tensor = torch.relu(self.conv_block(x))
        return out


def _kept(channels: int, count: int) -> list[nn.Module]:
    return [Conv(channels, channels, 3, 1, 1, residual=True) for _ in range(count)]


def _down(inputs: int, outputs: int, residuals: int) -> nn.Sequential:
    return nn.Sequential(Conv(inputs, outputs, 3, 2, 1), *_kept(outputs, residuals))


def _up(inputs: int, outputs: int, residuals: int) -> nn.Sequential:
    return nn.Sequential(Up(inputs, outputs), *_kept(outputs, residuals))


def _point(kernel: int) -> nn.Sequential:
    return nn.Sequential(Conv(512, 512, kernel, 1, 0), Conv(512, 512, 1, 1, 0))


def _face_encoder(size: int) -> nn.ModuleList:
    shared = [
        nn.Sequential(Conv(6, 16, 7, 1, 3)),
        _down(16, 32, 2),
        _down(32, 64, 3),
        _down(64, 128, 2),
        _down(128, 256, 2),
        _down(256, 512, 1),
    ]
    return nn.ModuleList([*shared, _point(3)] if size == 96 else [*shared, _down(512, 512, 1), _point(4)])


def _face_decoder(size: int) -> nn.ModuleList:
    first = nn.Sequential(Conv(512, 512, 1, 1, 0))
    if size == 96:
        deep = [nn.Sequential(Up(1024, 512, 3, 1, 0), *_kept(512, 1)), _up(1024, 512, 2)]
    else:
        deep = [nn.Sequential(Up(1024, 512, 4, 1, 0), *_kept(512, 1)), _up(1024, 512, 1), _up(1024, 512, 2)]
    return nn.ModuleList([first, *deep, _up(768, 384, 2), _up(512, 256, 2), _up(320, 128, 2), _up(160, 64, 2)])


def _audio_encoder() -> nn.Sequential:
    return nn.Sequential(
        Conv(1, 32, 3, 1, 1),
        *_kept(32, 2),
        Conv(32, 64, 3, (3, 1), 1),
        *_kept(64, 2),
        Conv(64, 128, 3, 3, 1),
        *_kept(128, 2),
        Conv(128, 256, 3, (3, 2), 1),
        *_kept(256, 1),
        Conv(256, 512, 3, 1, 0),
        Conv(512, 512, 1, 1, 0),
    )


class Wav2LipNet(nn.Module):
    """36.3 M parameters at 96 px.  Seeds nothing and loads nothing by itself."""

    def __init__(self, size: int = 96) -> None:
        """``size``: the side of the face pictures, one of ``SIZES``."""
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"a Wav2Lip with {size} px is not supported")
        self.size = size
        self.face_encoder_blocks = _face_encoder(size)
        self.audio_encoder = _audio_encoder()
        self.face_decoder_blocks = _face_decoder(size)
        self.output_block = nn.Sequential(Conv(80, 32, 3, 1, 1), nn.Conv2d(32, 3, 1), nn.Sigmoid())
        self.top = 0
        self.trims: list[tuple[int, int]] = [(0, 0)] * (len(self.face_decoder_blocks) + 1)

    def begin_at(self, row: int) -> None:
        """Make no row of the picture above this one.

        Each decoder block then gets only the rows that those below depend on; what it makes of the rows next to such an
        edge, where it takes zeros for pixels that are missing, is cut off again.  The rows that are made stay what they
        were.  ``trims``: for each block, then the output, (rows to cut off of what it made, first row of the encoder's
        features that go with the rest); of the output only the former.
        """
        self.top, first = row, max(0, row - 1)  # the output's own convolution reaches one row further
        begin = [first]
        for block in reversed(self.face_decoder_blocks):
            assert isinstance(block, nn.Sequential)
            turned = isinstance(block[0], Up) and block[0].conv_block[0].stride == (2, 2)
            first = max(0, first - (len(block) - 1)) // 2 if turned else 0
            begin.insert(0, first)
        self.trims = [(after - 2 * before, after) for before, after in pairwise(begin)] + [(row - begin[-1], row)]

    def forward(self, mel: Tensor, face: Tensor) -> Tensor:
        """mel (N, 1, 80, 16) in -4..4, face (N, 6, size, size) in 0..1: BGR with its lower half 0, then BGR whole ->
        BGR (N, 3, size - top, size) in 0..1."""
        seen = []
        x = face
        for block in self.face_encoder_blocks:
            x = block(x)
            seen.append(x)
        x = self.audio_encoder(mel)
        for block, (off, first) in zip(self.face_decoder_blocks, self.trims, strict=False):
            x = torch.cat((block(x)[:, :, off:], seen.pop()[:, :, first:]), 1)
        out: Tensor = self.output_block(x)[:, :, self.trims[-1][0] :]
        return out


def size_of(keys: Mapping[str, Tensor]) -> int:
    """Which of ``SIZES`` a state dict belongs to: the larger one has an eighth encoder block."""
    return 256 if any(key.startswith("face_encoder_blocks.7.") for key in keys) else 96


def shapes(size: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the network needs, batch counters left out."""
    with torch.device("meta"):
        net = Wav2LipNet(size)
    return {k: tuple(v.shape) for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}


def random_weights(seed: int, size: int = 96) -> dict[str, Tensor]:
    """Weights that anyone can make again, float32, by name: for tests and for measuring speed, not for mouths.

    Each tensor, in alphabetical order of names, from a generator of its own; scaled so that signals neither die nor
    explode on their way.
    """
    with torch.device("meta"):
        empty = Wav2LipNet(size).state_dict()
    return {key: _random(key, tuple(empty[key].shape), seed * 100003 + i) for i, key in enumerate(sorted(empty))}


def _random(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if key.endswith("running_var"):
        return 1 + 0.1 * drawn.abs()
    if key.endswith("running_mean"):
        return 0.1 * drawn
    if len(shape) == 4:
        return drawn * float((shape[1] * shape[2] * shape[3]) ** -0.5)
    return 1 + 0.1 * drawn if key.endswith("conv_block.1.weight") else 0.05 * drawn


def from_weights(weights: Mapping[str, Tensor]) -> Wav2LipNet:
    """The network with these weights, in evaluation mode.  Raises RuntimeError where names or shapes do not fit."""
    net = Wav2LipNet(size_of(weights))
    missing = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
    net.load_state_dict({**missing, **weights})
    net.eval()
    return net
