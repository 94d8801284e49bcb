"""Tensors out of model files of every format, without running anything that the file says; only the importer's child
uses this.

``.pth`` and ``.pt`` of ``torch.save`` are read with torch's weights-only unpickler.  A TorchScript archive is read as
what it is, a zip of tensors with a pickle that names them, by an unpickler that knows a dozen harmless names; the
code in it is never looked at.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from heygemd.common.errors import InputError
from heygemd.contract.model_import import OpenedModel
from heygemd.pipeline.engines.wav2lip import network
from heygemd.pipeline.importing import torchscript

FORMAT = "heygemd wav2lip 1"
_PREFIX = "module."  # of torch's DataParallel, which the reference trained with
_ENTRIES = 10_000
_LARGEST_HEADER = 100 << 20
_BROKEN = (RuntimeError, ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError, zipfile.BadZipFile,
           NotImplementedError, struct.error, UnicodeDecodeError, AssertionError)  # fmt: skip


def bad(sentence: str) -> InputError:
    """A refusal."""
    return InputError(sentence, reason="bad_model")


def format_of(path: Path, name: str) -> str:
    """``torch``, ``script``, ``safetensors``, ``onnx`` or ``pack`` (a zip with ONNX files), by content."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04":
        return _zip_format(path, name)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LARGEST_HEADER:
        return "safetensors"
    if head[:1] == b"\x80" and head[1] in (2, 3, 4, 5):
        return "torch"  # written before torch 1.6: pickles one after the other
    if head[:1] == b"\x08":
        return "onnx"
    raise bad(f"{name} is not a supported model file: it is neither PyTorch, safetensors, ONNX nor a zip of them.")


def _zip_format(path: Path, name: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _BROKEN as error:
        raise bad(f"{name} is a damaged or truncated archive ({error}).") from error
    names = [e.filename for e in entries]
    size, inside = path.stat().st_size, sum(e.file_size for e in entries)
    pickled = any(n.count("/") == 1 and n.endswith("/data.pkl") for n in names)
    if len(entries) > _ENTRIES or inside > (2 if pickled else 10) * size + (1 << 20):
        raise bad(
            f"{name} has {size} bytes and would unpack to {inside} bytes in {len(entries)} files; no model does that."
        )
    if not pickled:
        if any(n.endswith(".onnx") for n in names):
            return "pack"
        raise bad(f"{name} is an archive without PyTorch weights or ONNX files.")
    return "script" if any("/code/" in n for n in names) else "torch"


def bring(path: Path, kind: str, name: str, target: Path) -> OpenedModel:
    """Read the weights in ``path``, see what network they are of, write them to ``target`` as safetensors."""
    reader = {"torch": _torch, "script": _script, "safetensors": _safetensors}[kind]
    weights = _flat(reader(path, name), name)
    size = _recognised(weights, name)
    _refuse_broken_numbers(weights, name)
    plain = {k: v.detach().to(torch.float32).contiguous().clone() for k, v in weights.items()}
    save_file(plain, str(target / "weights.safetensors"), {"format": FORMAT})
    return {"kind": "wav2lip", "size": size, "files": [{"name": "weights.safetensors", "role": "weights"}]}


def _torch(path: Path, name: str) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) or "Unsupported" in str(error):
            raise bad(
                f"{name} is a pickle that contains more than tensors; it was not executed and is not imported."
            ) from error
        raise bad(f"{name} is damaged or truncated: its pickle cannot be read.") from error
    except _BROKEN as error:
        raise bad(f"{name} is damaged or truncated: {_first_line(error)}") from error


def _script(path: Path, name: str) -> object:
    try:
        return torchscript.tensors(path)
    except pickle.UnpicklingError as error:
        raise bad(
            f"{name} is a TorchScript archive that contains more than weights ({error}); it is not imported."
        ) from error
    except _BROKEN as error:
        raise bad(f"{name} is a damaged TorchScript archive: {_first_line(error)}") from error


def _safetensors(path: Path, name: str) -> object:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, *_BROKEN) as error:
        raise bad(f"{name} is damaged or truncated: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{(text[0] if text else type(error).__name__)[:200].rstrip('.')}."


def _flat(loaded: object, name: str) -> dict[str, Tensor]:
    """The weights by plain name, whatever they were wrapped in; batch counters are left out."""
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise bad(f"{name} contains no named weights.")
    named = {str(k).removeprefix(_PREFIX): v for k, v in loaded.items() if isinstance(v, Tensor)}
    return {k: v for k, v in named.items() if not k.endswith("num_batches_tracked")}


def _recognised(weights: Mapping[str, Tensor], name: str) -> int:
    """The size of the Wav2Lip whose weights these are.  Raises InputError where they are of anything else."""
    if any(key.startswith("sam.") for key in weights):
        raise bad(f"{name} belongs to a 192, 288 or 384 px fork of Wav2Lip; heygemd supports 96 and 256 px.")
    if not any(key.startswith("face_encoder_blocks.") for key in weights):
        few = ", ".join(sorted(weights)[:2])
        raise bad(f"{name} contains weights of an unknown network (such as {few}).")
    size = network.size_of(weights)
    wanted = network.shapes(size)
    for said, keys in (("lacks", wanted.keys() - weights.keys()), ("has besides", weights.keys() - wanted.keys())):
        if keys:
            raise bad(f"{name} is not a Wav2Lip with {size} px: it {said} {min(keys)}, and {len(keys) - 1} more.")
    for key, shape in wanted.items():
        if tuple(weights[key].shape) != shape:
            is_, should = (" x ".join(map(str, s)) for s in (weights[key].shape, shape))
            raise bad(f"{name} is not a Wav2Lip with {size} px: {key} is {is_}, but must be {should}.")
    return size


def _refuse_broken_numbers(weights: Mapping[str, Tensor], name: str) -> None:
    for key, value in weights.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise bad(f"{name}: {key} contains values that are not finite numbers.")
