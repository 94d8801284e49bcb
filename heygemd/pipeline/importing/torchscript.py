"""The tensors of a TorchScript archive, read without TorchScript: nothing of the archive's code is loaded.

The archive is a zip: ``<root>/data.pkl`` is a pickle of the module, whose classes are names under ``__torch__``;
``<root>/data/<n>`` are the tensors' bytes.  Every class becomes an empty shell that keeps its attributes.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
}
_DEEPEST = 20


class Shell:
    """Stands for an object of a class that is not loaded."""

    def __init__(self, *_: object) -> None:
        self.state: object = {}

    def __setstate__(self, state: object) -> None:
        self.state = state


def _rebuilt(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: object, *_: object) -> object:
    return value


class _Reader(pickle.Unpickler):
    """Knows tensors, dicts, lists and shells; refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> object:
        if module == "__torch__" or module.startswith("__torch__."):
            return Shell
        if module == "torch.jit._pickle":  # lists of numbers, and marks of an object's type
            return _first
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("collections", "OrderedDict"): OrderedDict,
            **{("torch", kind): kind for kind in _DTYPES},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: tuple[str, str, str, str, int]) -> Tensor:
        _, kind, key, _, count = pid
        data = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        found = torch.frombuffer(data, dtype=_DTYPES[kind]) if data else torch.empty(0, dtype=_DTYPES[kind])
        if len(found) < count:
            raise ValueError(f"tensor {key} is truncated")
        return found


def tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of the archived module by its dotted name.

    Raises pickle.UnpicklingError where the archive names anything but tensors and modules, ValueError, KeyError,
    zipfile.BadZipFile and the like where it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")).split("/")[0]
        module = _Reader(archive, root).load()
    out: dict[str, Tensor] = {}
    _collect(module, "", out, _DEEPEST)
    return out


def _collect(value: object, name: str, out: dict[str, Tensor], depth: int) -> None:
    if isinstance(value, Tensor):
        out[name] = value
        return
    inner = value.state if isinstance(value, Shell) else value
    if not isinstance(inner, Mapping) or not depth:
        return
    for key, part in inner.items():
        _collect(part, f"{name}.{key}" if name else str(key), out, depth - 1)
