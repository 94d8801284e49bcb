"""The network in oneDNN's own layout: weights laid out once, addition and ReLU done inside of the convolution.

torch's plain modules reorder weights at each call and walk over each result two times more.  The operators are
those that torch's own compiler emits for a processor; they carry an underscore, so they are used only where they are
there and ``heygemd`` names the version of torch that it was tried with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def available() -> bool:
    """Whether this torch has the operators."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    names = ("_convolution_pointwise", "_convolution_transpose_pointwise", "_reorder_convolution_weight",
             "_reorder_convolution_transpose_weight")  # fmt: skip
    return all(hasattr(torch.ops.mkldnn, name) for name in names)


class _Layer(nn.Module):
    """A convolution with its bias, the input added where ``residual``, ReLU."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, *, residual: bool) -> None:
        super().__init__()
        self._ops = torch.ops.mkldnn
        self._turned, self._residual = isinstance(conv, nn.ConvTranspose2d), residual
        padding, stride, dilation = ([int(n) for n in v] for v in (conv.padding, conv.stride, conv.dilation))
        extra = [[int(n) for n in conv.output_padding]] if self._turned else []
        self._how = [padding, *extra, stride, dilation, conv.groups]
        lay = self._ops._reorder_convolution_transpose_weight if self._turned else self._ops._reorder_convolution_weight
        assert conv.bias is not None
        self._weight, self._bias = lay(conv.weight.detach().contiguous(), *self._how, None), conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """As ``network.Conv`` or ``network.Up`` of the same convolution."""
        if self._residual:
            given = (x, x, self._weight, self._bias, *self._how, "add", 1.0, "relu", [], "")
            out: Tensor = self._ops._convolution_pointwise.binary(*given)
            return out
        apply = self._ops._convolution_transpose_pointwise if self._turned else self._ops._convolution_pointwise
        made: Tensor = apply(x, self._weight, self._bias, *self._how, "relu", [], "")
        return made


def fuse(module: nn.Module) -> None:
    """Put fused layers in the place of a folded network's blocks, whose batch norms are gone (``runners.folded``)."""
    for name, child in module.named_children():
        block = getattr(child, "conv_block", None)
        if block is None:
            fuse(child)
        else:
            setattr(module, name, _Layer(block[0], residual=getattr(child, "residual", False)))
