"""An insightface pack made by hand, of the right shapes and with answers that are known: no real one may be shipped.

The detector sees one face, always at the same place.  The landmark model's mouth opens with the light of the picture's
middle.  The recognition model tells bright faces from dark ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore

STRIDES, ANCHORS, SIDE = (8, 16, 32), 2, 640
OPENS = 20.0  # px of the 192 that the lower lip goes down between black and white


def _write(
    path: Path, nodes: list[onnx.NodeProto], given: list[int], made: dict[str, list[int]], **tensors: np.ndarray
) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "by hand",
        [info("data", TensorProto.FLOAT, given)],
        [info(name, TensorProto.FLOAT, shape) for name, shape in made.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def detector(path: Path, points: np.ndarray, width: int, height: int) -> None:
    """Always the face whose five ``points`` ``(5, 2)`` these are in a picture of that size."""
    shrink = SIDE / max(width, height)
    points = points * shrink
    middle, reach = points.mean(0), 2.2 * float(np.hypot(*(points[1] - points[0])))
    made: dict[str, list[int]] = {}
    tensors: dict[str, np.ndarray] = {}
    nodes = []
    for kind, size in (("score", 1), ("box", 4), ("points", 10)):
        for stride in STRIDES:
            cells = SIDE // stride
            value = np.zeros((cells * cells * ANCHORS, size), np.float32)
            if stride == 16:
                column, row = (round(float(v) / stride) for v in middle)
                centre = np.array([column, row]) * stride
                edges = [*(centre - middle + reach), *(middle + reach - centre)]
                answers = {
                    "score": [0.9],
                    "box": np.array(edges) / stride,
                    "points": (points - centre).ravel() / stride,
                }
                value[(row * cells + column) * ANCHORS] = answers[kind]
            name = f"{kind}{stride}"
            tensors[f"c_{name}"], made[name] = value, list(value.shape)
            nodes.append(helper.make_node("Identity", [f"c_{name}"], [name]))
    _write(path, nodes, [1, 3, SIDE, SIDE], made, **tensors)


def landmarks(path: Path, points: np.ndarray, opens: float = OPENS) -> None:
    """``points`` ``(106, 2)`` in the 192 px that the model reads; its lower lip goes down with the
    light in the middle."""
    towards = np.zeros((106, 2), np.float32)
    towards[57:60, 1] = opens / 2
    nodes = [
        helper.make_node("AveragePool", ["data"], ["light"], "pool", kernel_shape=[192, 192]),
        helper.make_node("Flatten", ["light"], ["three"]),
        helper.make_node("MatMul", ["three", "towards"], ["moved"]),
        helper.make_node("Add", ["moved", "rest"], ["fc1"]),
    ]
    rest = ((points + towards) / 96 - 1).reshape(1, 212)
    by_light = np.tile((towards / 96).reshape(1, 212), (3, 1)) / 3
    _write(path, nodes, [1, 3, 192, 192], {"fc1": [1, 212]}, towards=by_light, rest=rest)


def identity(path: Path) -> None:
    """A code ``(1, 512)`` that points one way for a bright face and the other way for a dark one."""
    way = np.random.default_rng(0).normal(0, 1, (3, 512)).astype(np.float32)
    way[:] = way[:1]
    nodes = [
        helper.make_node("AveragePool", ["data"], ["light"], "pool", kernel_shape=[112, 112]),
        helper.make_node("Flatten", ["light"], ["three"]),
        helper.make_node("MatMul", ["three", "way"], ["code"]),
    ]
    _write(path, nodes, [1, 3, 112, 112], {"code": [1, 512]}, way=way)


def imported(folder: Path, points: np.ndarray, width: int, height: int, marks: np.ndarray) -> Path:
    """A store in ``folder`` with the whole pack, imported as an operator would."""
    pack = folder / "pack"
    pack.mkdir()
    detector(pack / "det.onnx", points, width, height)
    landmarks(pack / "2d106.onnx", marks)
    identity(pack / "w600k.onnx")
    import_model(ModelStore(folder / "store"), pack, accept=True)
    return folder / "store"
