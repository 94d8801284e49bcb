"""Importing model files: every format that is told by its content, and everything that must be refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from heygemd.cli import main
from heygemd.common import exits
from heygemd.common.errors import InputError, SetupError
from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore, good_name
from heygemd.pipeline.engines.wav2lip import network
from heygemd.pipeline.importing import __main__, checkpoints
from tests.site import ROOT

DETECTOR = ROOT.parent / "shared" / "models" / "scrfd_2.5g_kps.onnx"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return network.random_weights(3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "wav2lip.pth"
    state = {f"module.{k}": v for k, v in weights.items()}
    torch.save({"state_dict": state, "optimizer": {"state": {}}, "global_step": 1, "global_epoch": 1}, path)
    return path


def opened(path: Path, target: Path) -> dict[str, object]:
    """What the child's own code makes of a file, without the child."""
    target.mkdir(exist_ok=True)
    return __main__.bring(path, path.name, target)


def refused(path: Path, tmp_path: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(InputError) as raised:
        opened(path, tmp_path / "out")
    message = raised.value.message
    assert path.name in message and message.count("\n") == 0 and len(message) < 400
    return message


# ---------------------------------------------------------------- what is taken


def test_a_checkpoint_is_imported_in_a_child_and_stored_as_safetensors(
    tmp_path: Path, checkpoint: Path, weights: dict[str, torch.Tensor]
) -> None:
    store = ModelStore(tmp_path / "models")
    model = import_model(store, checkpoint, accept=True)
    assert (model.name, model.kind, model.size, model.commercial) == ("wav2lip", "wav2lip", 96, None)
    stored = load_file(store.trusted(model)["weights"])
    assert all(torch.equal(stored[k], v) for k, v in weights.items() if not k.endswith("num_batches_tracked"))
    assert store.all() == [model] and store.one("wav2lip") == model
    assert sorted(p.name for p in store.folder.iterdir()) == ["wav2lip"]
    with pytest.raises(InputError, match="already imported"):
        import_model(store, checkpoint, accept=True)


def test_terms_must_be_accepted_and_are_told(tmp_path: Path, checkpoint: Path) -> None:
    store = ModelStore(tmp_path / "models")
    with pytest.raises(SetupError, match=r"terms must be accepted.*--accept-licence"):
        import_model(store, checkpoint, accept=False)
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("form", ["legacy", "bare", "safetensors", "half", "traced"])
def test_every_published_form_gives_the_same_weights(
    tmp_path: Path, weights: dict[str, torch.Tensor], form: str
) -> None:
    path = tmp_path / "some.file"
    if form == "legacy":
        torch.save({"state_dict": weights}, path, _use_new_zipfile_serialization=False)
    elif form == "bare":
        torch.save(weights, path)
    elif form == "safetensors":
        save_file(weights, path)
    elif form == "half":
        torch.save({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, path)
    else:
        net = network.from_weights(weights)
        torch.jit.save(torch.jit.trace(net, (torch.zeros(1, 1, 80, 16), torch.zeros(1, 6, 96, 96))), path)
    assert opened(path, tmp_path / "out")["size"] == 96
    stored = load_file(tmp_path / "out" / "weights.safetensors")
    close = 1e-2 if form == "half" else 0
    assert all(torch.allclose(v, weights[k], atol=close, rtol=close) for k, v in stored.items())
    assert len(stored) == len(network.shapes(96))


def test_the_256_px_variant_is_recognised(tmp_path: Path) -> None:
    torch.save(network.random_weights(1, 256), tmp_path / "w.pth")
    assert opened(tmp_path / "w.pth", tmp_path / "out")["size"] == 256


@pytest.mark.skipif(not DETECTOR.is_file(), reason="the detector in ../shared/models is not here")
def test_a_detector_alone_in_a_folder_or_in_a_zip_is_a_pack(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "det.onnx").write_bytes(DETECTOR.read_bytes())
    with zipfile.ZipFile(tmp_path / "pack.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(DETECTOR, "buffalo_x/det.onnx")
    for i, path in enumerate((DETECTOR, tmp_path / "pack", tmp_path / "pack.zip")):
        found = opened(path, tmp_path / f"out{i}")
        assert found["files"] == [{"name": "detector.onnx", "role": "detector"}]
        assert (tmp_path / f"out{i}" / "detector.onnx").read_bytes() == DETECTOR.read_bytes()


# ---------------------------------------------------------------- what is refused


def test_a_truncated_checkpoint_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:5_000_000])
    assert "truncated" in refused(tmp_path / "cut.pth", tmp_path)


def test_a_truncated_old_checkpoint_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "old.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    os.truncate(path, 4_000_000)
    assert "truncated" in refused(path, tmp_path)


def test_truncated_safetensors_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    os.truncate(path, 1_000_000)
    assert "truncated" in refused(path, tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({k: v for k, v in weights.items() if k != "output_block.1.bias"}, tmp_path / "w.pth")
    assert "lacks output_block.1.bias" in refused(tmp_path / "w.pth", tmp_path)


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3, 3)}, tmp_path / "w.pth")
    assert "unknown network (such as encoder.weight)" in refused(tmp_path / "w.pth", tmp_path)


def test_a_wrong_shape_is_named(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({**weights, "output_block.1.bias": torch.zeros(4)}, tmp_path / "w.pth")
    assert "output_block.1.bias is 4, but must be 3" in refused(tmp_path / "w.pth", tmp_path)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({**weights, "output_block.1.bias": torch.full((3,), float("nan"))}, tmp_path / "w.pth")
    assert "not finite numbers" in refused(tmp_path / "w.pth", tmp_path)


class Harmful:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, new: bool) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "harm"
    torch.save({"state_dict": {"x": Harmful(f"touch {mark}")}}, path, _use_new_zipfile_serialization=new)
    assert "was not executed" in refused(path, tmp_path)
    assert not mark.exists()


def test_a_plain_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "harm"
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Harmful(f"touch {mark}")))
    refused(tmp_path / "w.pth", tmp_path)
    assert not mark.exists()


def test_a_torchscript_archive_that_names_anything_else_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "harm"
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Harmful(f"touch {mark}")))
        archive.writestr("w/code/__torch__.py", "raise SystemExit")
    assert "contains more than weights" in refused(tmp_path / "w.pt", tmp_path)
    assert not mark.exists()


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    for inner in ("w/data.pkl", "det.onnx"):
        path = tmp_path / f"{Path(inner).name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(inner, bytes(50_000_000))
        assert "no model does that" in refused(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, I am no model", bytes(1000), b"PK\x03\x04 broken"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    refused(tmp_path / "model.onnx", tmp_path)


def test_onnx_files_that_reach_outside_or_hold_nothing_are_refused(tmp_path: Path) -> None:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    shape = [1, 3, 640, 640]
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    made = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    node = onnx.helper.make_node("Mul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [given], [made], [tensor])
    model = onnx.helper.make_model(graph)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert "unknown ONNX model: inputs 1 x 3 x 640 x 640" in refused(path, tmp_path)
    graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    assert "in another file" in refused(path, tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    refused(path, tmp_path)


# ---------------------------------------------------------------- the child and the store


def test_the_child_has_no_network_and_cannot_write_huge_files(tmp_path: Path) -> None:
    code = (
        "import resource, socket\n"
        "from heygemd.pipeline.importing.__main__ import confine\n"
        "said = confine()\n"
        "print(said, len(socket.if_nameindex()), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    if words[:2] == ["limits", "only"]:
        pytest.skip("this kernel lets nobody give up the network")
    assert words == ["no", "network", "1", "0"]  # lo, which is down


def test_an_altered_file_is_told_and_never_used(tmp_path: Path, checkpoint: Path) -> None:
    store = ModelStore(tmp_path / "models")
    model = import_model(store, checkpoint, accept=True, name="mine")
    path = store.path(model, model.files[0])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "differs" in store.faults(model)[0]
    with pytest.raises(SetupError, match="Import mine again"):
        store.trusted(model)
    path.unlink()
    assert "cannot be read" in store.faults(model)[0]
    assert store.remove("mine") == model and store.all() == []
    with pytest.raises(SetupError, match="No imported model"):
        store.remove("mine")


def test_the_words_list_import_verify_and_remove(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[daemon]\nstate_dir = "{tmp_path}"\n')
    with_config = ["--config", str(config)]
    assert main.main(["models", "list", *with_config]) == 0
    assert "No models are imported" in capsys.readouterr().out
    assert main.main(["models", "import", str(checkpoint), *with_config]) == exits.MISSING
    assert "--accept-licence" in capsys.readouterr().err
    assert main.main(["models", "import", "--accept-licence", str(checkpoint), *with_config]) == 0
    assert "not in any list" in capsys.readouterr().out
    assert main.main(["models", "verify", "--json", *with_config]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "models": {"wav2lip": []}}
    assert main.main(["models", "remove", "wav2lip", *with_config]) == 0
    assert main.main(["models", "remove", "wav2lip", *with_config]) == exits.MISSING
    assert main.main(["models", "import", str(tmp_path / "none"), *with_config]) == exits.FAILED


def test_names_are_made_safe() -> None:
    assert good_name("../..") == "model"
    assert good_name("Wav2Lip SD (GAN)") == "Wav2Lip-SD-GAN"


def test_formats_are_told_by_content_alone(tmp_path: Path, checkpoint: Path) -> None:
    disguised = tmp_path / "holiday.onnx"
    disguised.symlink_to(checkpoint)
    assert checkpoints.format_of(disguised, disguised.name) == "torch"
