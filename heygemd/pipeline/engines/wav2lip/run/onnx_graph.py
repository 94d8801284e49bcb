"""The network as an ONNX graph, made in memory, so that onnxruntime can run weights that were imported as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from heygemd.pipeline.engines.wav2lip.network import MEL_BANDS, MEL_FRAMES, Conv, Up, Wav2LipNet

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

OPSET = 17


class _Builder:
    """Collects nodes and tensors; every method returns the name of its result."""

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def node(self, kind: str, inputs: list[str], **attributes: int | list[int]) -> str:
        name = f"{kind}{len(self.nodes)}"
        node = self._onnx.helper.make_node(kind, inputs, [name])
        node.attribute.extend(self._onnx.helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self.nodes.append(node)
        return name

    def tensor(self, value: Tensor) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(self._onnx.numpy_helper.from_array(value.detach().float().numpy(), name))
        return name

    def numbers(self, *values: int) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(self._onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def convolution(self, x: str, conv: nn.Conv2d | nn.ConvTranspose2d) -> str:
        assert conv.bias is not None
        inputs = [x, self.tensor(conv.weight), self.tensor(conv.bias)]
        shared = {"strides": list(conv.stride), "pads": [int(p) for p in conv.padding] * 2}
        if isinstance(conv, nn.ConvTranspose2d):
            return self.node("ConvTranspose", inputs, output_padding=list(conv.output_padding), **shared)
        return self.node("Conv", inputs, **shared)

    def block(self, x: str, block: nn.Module) -> str:
        if isinstance(block, nn.Sequential):
            for part in block:
                x = self.block(x, part)
            return x
        if isinstance(block, nn.Sigmoid):
            return self.node("Sigmoid", [x])
        if isinstance(block, nn.Conv2d):
            return self.convolution(x, block)
        assert isinstance(block, Conv | Up), block
        made = self.convolution(x, block.conv_block[0])  # type: ignore[arg-type]
        if isinstance(block, Conv) and block.residual:
            made = self.node("Add", [made, x])
        return self.node("Relu", [made])

    def below(self, x: str, row: int) -> str:
        """``x`` without the rows above ``row``."""
        if not row:
            return x
        return self.node("Slice", [x, *(self.numbers(n) for n in (row, 1 << 30, 2))])

    def finish(self, out: str, net: Wav2LipNet) -> bytes:
        onnx, size = self._onnx, net.size
        info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        inputs = [
            info("mel", kind, ["n", 1, MEL_BANDS, MEL_FRAMES]),
            info("face", kind, ["n", 6, size, size]),
        ]
        outputs = [info(out, kind, ["n", 3, size - net.top, size])]
        made = onnx.helper.make_graph(self.nodes, "wav2lip", inputs, outputs, self.tensors)
        opset = onnx.helper.make_opsetid("", OPSET)
        # Version 8 of the file format belongs to this opset; newer ones would shut out older onnxruntimes.
        model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=8)
        return bytes(model.SerializeToString())


def graph(net: Wav2LipNet) -> bytes:
    """An ONNX file: inputs ``mel`` (n, 1, 80, 16) and ``face`` (n, 6, size, size), one output (n, 3, size - top, size).

    ``net``: batch norms folded into its convolutions.  Needs the package ``onnx``.
    """
    builder = _Builder()
    seen = []
    x = "face"
    for block in net.face_encoder_blocks:
        x = builder.block(x, block)
        seen.append(x)
    x = builder.block("mel", net.audio_encoder)
    for block, (off, first) in zip(net.face_decoder_blocks, net.trims, strict=False):
        both = builder.below(builder.block(x, block), off), builder.below(seen.pop(), first)
        x = builder.node("Concat", list(both), axis=1)
    return builder.finish(builder.below(builder.block(x, net.output_block), net.trims[-1][0]), net)
