"""Where engines run: decided once, by what is there and what can use it, and never changed on the quiet."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.config.line import LineConfig
from heygemd.config.tables import CommandConfig, DaemonConfig, RenderConfig, Wav2LipConfig
from heygemd.config.whole import Config
from heygemd.guard import devices, needs
from heygemd.guard.devices import Devices, TorchBuild, device_of, obstacle, torch_build
from heygemd.guard.readings import Gpu, Readings
from heygemd.models.store import File, Model, ModelStore

HERE = Readings(ram_total_mib=16_000, ram_available_mib=8000, gpu_missing=True, gpu_problem="no driver")
GPU_HERE = Readings((Gpu("GPU-a", 0, "NVIDIA Fake", 24_000, 0, 24_000),), ram_total_mib=16_000)
CPU_BUILD, CUDA_BUILD = TorchBuild("2.13.0+cpu", ""), TorchBuild("2.13.0", "12.8")


def config(folder: Path, **render: str) -> Config:
    line = LineConfig("main", folder, allowed_engines=("footage", "wav2lip", "command"))
    return Config(daemon=DaemonConfig(state_dir=folder), render=replace(RenderConfig(), **render), lines=(line,))


def imported(folder: Path, name: str, role: str) -> None:
    store = ModelStore(config(folder).daemon.models_dir)
    model = Model(name, "wav2lip", 96, (File("f", "0", 1, role),), "f", "0", None, "?", "?", None, "2026-01-01")
    (store.folder / name).mkdir(parents=True)
    import json

    (store.folder / name / "model.json").write_text(json.dumps(model.to_json()))


@pytest.mark.parametrize(
    ("asked", "start", "device", "said"),
    [
        ("auto", GPU_HERE, "cuda", "NVIDIA Fake was found"),
        ("auto", Readings(gpu_problem="no driver", gpu_missing=True), "cpu", "no driver"),
        ("auto", Readings(gpu_problem="the driver was updated"), "cuda", 'set device = "cpu"'),
        ("cpu", GPU_HERE, "cpu", 'device = "cpu"'),
        ("cuda", Readings(gpu_problem="no driver", gpu_missing=True), "cuda", 'device = "cuda"'),
    ],
)
def test_auto_is_decided_by_what_is_there_and_a_broken_gpu_is_not_swapped_for_the_processor(
    asked: str, start: Readings, device: str, said: str
) -> None:
    chosen, why = device_of("wav2lip", asked, CommandConfig(), start)
    assert chosen == device and said in why


def test_an_engine_without_a_gpu_path_runs_on_the_processor_and_a_command_where_it_declares() -> None:
    assert device_of("footage", "auto", CommandConfig(), GPU_HERE)[0] == "cpu"
    assert device_of("command", "auto", CommandConfig(gpu_need_mib=1), HERE)[0] == "cuda"


def test_a_gpu_that_torch_cannot_use_is_named_and_the_processor_is_chosen(tmp_path: Path) -> None:
    chosen = Devices(config(tmp_path), CPU_BUILD)
    chosen.choose(GPU_HERE)
    told = chosen.chosen["wav2lip"]
    assert told["device"] == "cpu"
    assert "NVIDIA Fake was found, but torch 2.13.0+cpu is a build without CUDA; install" in told["reason"]
    able = Devices(config(tmp_path), CUDA_BUILD)
    able.choose(GPU_HERE)
    assert able.chosen["wav2lip"]["device"] == "cuda"


def test_who_asks_for_cuda_where_torch_has_none_is_told_so_and_does_not_crawl_on_the_processor(tmp_path: Path) -> None:
    chosen = Devices(config(tmp_path, device="cuda"), CPU_BUILD)
    chosen.choose(GPU_HERE)
    asked = chosen.asked("wav2lip", "720p")
    assert asked.device == "cuda"
    need = needs.need(asked, CommandConfig(), [], GPU_HERE, 1024, {})
    assert need.impossible is not None and "torch 2.13.0+cpu is a build without CUDA" in need.impossible


@pytest.mark.parametrize(("package", "cuda"), [("onnxruntime", False), ("onnxruntime-gpu", True), (None, False)])
def test_how_onnxruntime_was_built_is_read_not_imported(tmp_path: Path, package: str | None, cuda: bool) -> None:
    (tmp_path / "capi").mkdir()
    if package:
        (tmp_path / "capi" / "build_and_package_info.py").write_text(f"package_name = '{package}'\n__version__ = '1'\n")
    assert devices.onnxruntime_cuda(tmp_path) is cuda


def test_an_onnx_checkpoint_is_no_obstacle_where_onnxruntime_has_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(tmp_path, "graph", "onnx")
    assert "no CUDA" in obstacle("wav2lip", config(tmp_path), CUDA_BUILD)
    monkeypatch.setattr(devices, "onnxruntime_cuda", lambda: True)
    assert obstacle("wav2lip", config(tmp_path), CUDA_BUILD) == ""


def test_an_onnx_checkpoint_runs_on_the_processor_and_that_is_said(tmp_path: Path) -> None:
    imported(tmp_path, "graph", "onnx")
    chosen = Devices(config(tmp_path), CUDA_BUILD)
    chosen.choose(GPU_HERE)
    assert chosen.of("wav2lip") == "cpu" and "graph is an ONNX file" in chosen.chosen["wav2lip"]["reason"]
    assert chosen.asked("wav2lip", "").model == "graph"


def test_a_model_that_is_not_there_is_left_to_the_renderer_to_tell(tmp_path: Path) -> None:
    assert obstacle("wav2lip", config(tmp_path), CUDA_BUILD) == ""
    named = replace(config(tmp_path), wav2lip=Wav2LipConfig(model="missing"))
    assert devices.wav2lip_model(named) is None


@pytest.mark.parametrize(
    ("encoder", "start", "nvenc", "matters"),
    [("auto", GPU_HERE, True, True), ("auto", HERE, False, True), ("libx264", GPU_HERE, False, True)],
)
def test_films_of_the_processor_may_be_encoded_on_a_gpu_that_was_there_at_start(
    tmp_path: Path, encoder: str, start: Readings, nvenc: bool, matters: bool
) -> None:
    chosen = Devices(config(tmp_path, encoder=encoder), CPU_BUILD)
    chosen.choose(start)
    assert (chosen.nvenc, chosen.gpu_matters, chosen.may_use_gpu("footage")) == (nvenc, matters, nvenc)
    assert not chosen.asked("footage", "720p").nvenc, "it does not wait for that"
    assert not chosen.may_use_gpu("command")


def test_nvenc_that_was_asked_for_is_waited_for(tmp_path: Path) -> None:
    chosen = Devices(config(tmp_path, encoder="h264_nvenc"), CPU_BUILD)
    chosen.choose(HERE)
    assert chosen.asked("footage", "720p").nvenc and chosen.may_use_gpu("footage") and not chosen.nvenc


def test_how_torch_was_built_is_read_without_importing_it(tmp_path: Path) -> None:
    version = tmp_path / "version.py"
    version.write_text("from typing import Optional\n__version__ = '2.13.0+cu128'\ncuda: Optional[str] = '12.8'\n")
    assert torch_build(tmp_path) == TorchBuild("2.13.0+cu128", "12.8")
    version.write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    assert torch_build(tmp_path) == CPU_BUILD
    version.write_text("nothing of the kind")
    assert torch_build(tmp_path) is None
    before = "torch" in sys.modules
    assert torch_build() is not None and ("torch" in sys.modules) == before
