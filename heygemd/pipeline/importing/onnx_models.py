"""ONNX files for import: insightface packs (folder, zip or one detector) and exported Wav2Lips.

Only the importer's child uses this.  A file is kept as it is, once its graph was checked: no tensor may live in
another file, and no operator may come from outside of ONNX.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from heygemd.common.errors import InputError
from heygemd.contract.model_import import ImportedModel, OpenedModel, StoredFile

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_LARGEST_ENTRY = 2 << 30  # bytes: protobuf cannot hold more
Dims = tuple[int | None, ...]


def _bad(sentence: str) -> InputError:
    return InputError(sentence, reason="bad_model")


def single(path: Path, name: str, target: Path) -> OpenedModel:
    """One ONNX file: a face detector by itself, or a Wav2Lip."""
    role = role_of(path, name)
    if role == "wav2lip":
        shutil.copyfile(path, target / "model.onnx")
        return {"kind": "wav2lip", "size": 96, "files": [{"name": "model.onnx", "role": "onnx"}]}
    if role != "detector":
        raise _bad(f"{name} is a {role} model; as a single file heygemd can use only a face detector or a Wav2Lip.")
    shutil.copyfile(path, target / "detector.onnx")
    return {"kind": "faces", "size": 0, "files": [{"name": "detector.onnx", "role": "detector"}]}


def pack(folder: Path, name: str, target: Path) -> ImportedModel:
    """An insightface pack in a folder; its hash is that of the sorted list of its files' hashes."""
    paths = sorted(p for p in folder.glob("**/*.onnx") if p.is_file() and not p.is_symlink())
    if not paths:
        raise _bad(f"{name} is a folder without any .onnx file.")
    hashes = []
    for path in paths:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    sha256 = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
    return {**_gather(paths, name, target), "sha256": sha256}


def zipped_pack(path: Path, name: str, target: Path) -> OpenedModel:
    """An insightface pack as the zip that it comes in."""
    inside = target / "unpacked"
    inside.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            paths = [_unpack(archive, e, inside / f"{i}.onnx", name) for i, e in enumerate(_entries(archive))]
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise _bad(f"{name} is a damaged archive: {error}.") from error
    opened = _gather(paths, name, target)
    shutil.rmtree(inside)
    return opened


def _entries(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    return (e for e in archive.infolist() if e.filename.endswith(".onnx") and not e.is_dir())


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, out: Path, name: str) -> Path:
    """Unpack one entry under a name of our own, and not one byte more than it says."""
    if entry.file_size > _LARGEST_ENTRY:
        raise _bad(f"{name}: {entry.filename} is larger than an ONNX file can be.")
    with archive.open(entry) as source, out.open("wb") as sink:
        left = entry.file_size
        while left > 0 and (piece := source.read(min(1 << 20, left))):
            sink.write(piece)
            left -= len(piece)
    return out


def _gather(paths: Sequence[Path], name: str, target: Path) -> OpenedModel:
    """Copy the files whose role is known, one a role; a detector must be among them."""
    files: list[StoredFile] = []
    roles: set[str] = set()
    for path in paths:
        role = role_of(path, name)
        if role in roles or role == "wav2lip":
            continue
        roles.add(role)
        shutil.copyfile(path, target / f"{role}.onnx")
        files.append({"name": f"{role}.onnx", "role": role})
    if "detector" not in roles:
        raise _bad(
            f"{name} contains no face detector with five landmarks (det_*.onnx), only {', '.join(sorted(roles))}."
        )
    return {"kind": "faces", "size": 0, "files": files}


def role_of(path: Path, name: str) -> str:
    """What a checked ONNX file does: detector, landmarks106, landmarks68, identity, attributes or wav2lip.

    Told by the shapes of its inputs and outputs, as insightface's own loader does.
    """
    model = _checked(path, name)
    fed = {t.name for t in model.graph.initializer}
    inputs = [_dims(v) for v in model.graph.input if v.name not in fed]
    outputs = [_dims(v) for v in model.graph.output]
    if len(inputs) == 2 and {d[-3:] for d in inputs} == {(1, 80, 16), (6, 96, 96)}:
        return "wav2lip"
    if len(inputs) == 1 and len(inputs[0]) == 4 and inputs[0][1] == 3:
        if len(outputs) in (9, 15):
            return "detector"
        by_side = {112: "identity", 192: "landmarks106", 96: "attributes"}
        side = inputs[0][2]
        if side in by_side and len(outputs) == 1:
            if side == 192 and outputs[0] and (outputs[0][-1] or 0) > 1000:
                return "landmarks68"
            return by_side[side]
    shown = "; ".join(" x ".join(str(n or "?") for n in d) for d in inputs)
    raise _bad(f"{name} contains an unknown ONNX model: inputs {shown}, {len(outputs)} outputs.")


def _dims(value: onnx.ValueInfoProto) -> Dims:
    return tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)


def _checked(path: Path, name: str) -> onnx.ModelProto:
    """The parsed model.  Raises InputError where it is damaged or reaches outside of its file."""
    if not path.stat().st_size:
        raise _bad(f"{name} is empty or contains an empty ONNX file.")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise _bad(f"{name} is a damaged or truncated ONNX file.") from error
    if not model.graph.node or not model.graph.input:
        raise _bad(f"{name} is a damaged ONNX file: it has no graph.")
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in _tensors(model)):
        raise _bad(f"{name} keeps its weights in another file; heygemd imports only weights inside the file.")
    strange = {n.domain for n in _nodes(model)} - _DOMAINS
    if strange:
        raise _bad(f"{name} needs operators outside the ONNX standard ({min(strange)}).")
    return model


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    todo = [model.graph]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
