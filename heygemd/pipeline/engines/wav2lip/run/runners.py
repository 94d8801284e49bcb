"""Running the network: on CUDA in half precision, on the processor by whatever is fastest there and honest.

Measured on a processor with AVX-512 BF16, processor time of one core for a frame, at 8 and at 16 frames at a time: the
plain float32 module 88 and 92 ms.  Whole pictures: batch norm folded into the convolutions and channels last 1.05 times
as fast; with fused layers (``onednn``) 1.1 and 1.3 times; onnxruntime 1.2 times, all in float32 and within rounding;
bfloat16 2.1 and 2.6 times, with fused layers 36 ms, at most one grey level off.  All large layers then run at 105 to
130 billion multiplications a second, which is what that core can do.  Only the rows that are shown
(``box.first_row``): 27 ms.  Parts of the batch side by side (``cores``): on two quiet cores 64 frames a second, the
plain module 18 and 20.  The choice depends on the machine alone, never on a measurement, so that a film comes out the
same twice.  CUDA has been written and not been run.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from heygemd.common.errors import SetupError
from heygemd.contract.job import Quiet, Tell
from heygemd.pipeline.engines.wav2lip import box
from heygemd.pipeline.engines.wav2lip.network import MEL_BANDS, MEL_FRAMES, Wav2LipNet, from_weights
from heygemd.pipeline.engines.wav2lip.run import onednn
from heygemd.pipeline.engines.wav2lip.run.cores import SplitRunner
from heygemd.pipeline.engines.wav2lip.run.cuda_graph import CudaGraphCall
from heygemd.pipeline.engines.wav2lip.run.runner import Runner, cores
from heygemd.pipeline.image.geometry import Bytes, Singles

CPU_BATCH = 16
CUDA_BATCH = 64
"""Frames at a time; larger ones were no faster on a processor."""
_CUDA = "CUDAExecutionProvider"
BACKENDS = ("torch-bf16", "onnxruntime", "torch", "plain")


def masked(faces: Tensor) -> Tensor:
    """(n, 3, size, size) in 0..1 -> the network's input (n, 6, size, size): lower half blanked, then whole."""
    blank = faces.clone()
    blank[:, :, faces.shape[2] // 2 :] = 0
    return torch.cat((blank, faces), 1)


def folded(net: Wav2LipNet) -> Wav2LipNet:
    """A copy that makes only what is shown, and in which every batch norm is part of the convolution before it."""
    net = copy.deepcopy(net)
    net.begin_at(box.first_row(net.size))
    for module in net.modules():
        block = getattr(module, "conv_block", None)
        if isinstance(block, nn.Sequential) and len(block) == 2:
            conv, norm = block
            assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
            turned = isinstance(conv, nn.ConvTranspose2d)
            module.conv_block = nn.Sequential(fuse_conv_bn_eval(conv, norm, transpose=turned))
    return net


class TorchRunner:
    """torch, on a processor or on CUDA."""

    def __init__(
        self, net: Wav2LipNet, device: str, dtype: torch.dtype, *, fold: bool = True, threads: int = 0,
        tell: Tell | None = None,
    ) -> None:  # fmt: skip
        """``fold``: unless the plain module is wanted; ``threads``: of the processor; 0 = all cores."""
        self.size, self.batch = net.size, CUDA_BATCH if device == "cuda" else CPU_BATCH
        self.on_gpu = device == "cuda"
        self._device, self._dtype, self._threads = torch.device(device), dtype, threads
        self._layout = torch.channels_last if fold else torch.contiguous_format
        ready = folded(net) if fold else copy.deepcopy(net)
        self.top = ready.top
        placed: Any = ready.to(self._device, dtype)  # torch does not declare the keyword below
        self._net = placed.to(memory_format=self._layout)
        fuses = fold and device == "cpu" and onednn.available()
        if fuses:
            onednn.fuse(self._net)
        self._draw: Callable[..., Tensor] = CudaGraphCall(self._drawn, tell or Quiet()) if self.on_gpu else self._drawn
        self.facts = {
            "backend": "torch, fused" if fuses else "torch" if fold else "torch, plain",
            "precision": str(dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        }

    def __call__(self, sounds: Singles, faces: Bytes) -> Bytes:
        """See ``Runner``."""
        with torch.inference_mode(), _threads(self._threads):
            made = self._draw(self._there(torch.from_numpy(sounds)[:, None]), self._there(torch.from_numpy(faces)))
            out: Bytes = self._back(made).numpy()
        return out if not self.top else np.concatenate((faces[:, : self.top], out), 1)

    def _drawn(self, mel: Tensor, faces: Tensor) -> Tensor:
        """On the device: float32 (n, 1, 80, 16), uint8 (n, size, size, 3) -> uint8 (n, size - top, size, 3)."""
        seen = faces.permute(0, 3, 1, 2).to(self._dtype) / 255
        made: Tensor = self._net(mel.to(self._dtype), masked(seen).contiguous(memory_format=self._layout))
        return (made.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _there(self, values: Tensor) -> Tensor:
        return values.pin_memory().to(self._device, non_blocking=True) if self.on_gpu else values

    def _back(self, made: Tensor) -> Tensor:
        if not self.on_gpu:
            return made
        out = torch.empty(made.shape, dtype=made.dtype, pin_memory=True).copy_(made, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return out


class OnnxRunner:
    """onnxruntime, float32; runs imported ONNX files, and on the processor graphs made of other weights."""

    def __init__(self, model: Path | bytes, size: int, threads: int = 0, *, cuda: bool = False, top: int = 0) -> None:
        """``model``: a file, or its bytes; ``top``: the first row that it makes.  Raises SetupError where ``cuda`` is
        asked for and cannot be had: onnxruntime by itself would fall back to the processor without a word."""
        import onnxruntime

        if cuda:
            # Its libraries are those that torch has brought along.
            getattr(onnxruntime, "preload_dlls", lambda: None)()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=_providers(cuda)
        )
        if cuda and self._session.get_providers()[0] != _CUDA:
            raise SetupError(
                'device = "cuda", but onnxruntime cannot use CUDA here, and the imported Wav2LipNet is an ONNX file.  '
                'Cure: heygemd doctor; or import its .pth; or set device = "auto" or "cpu".'
            )
        inputs = self._session.get_inputs()
        self._sound, self._face = sorted((i.name for i in inputs), key=lambda n: _is_face(inputs, n))
        self._one = isinstance(inputs[[i.name for i in inputs].index(self._sound)].shape[0], int)
        self.size, self.top, self.batch, self.on_gpu = size, top, CUDA_BATCH if cuda else CPU_BATCH, cuda
        self.facts = {
            "backend": f"onnxruntime {onnxruntime.__version__}",
            "precision": "float32",
            "device": torch.cuda.get_device_name() if cuda else "cpu",
        }

    def __call__(self, sounds: Singles, faces: Bytes) -> Bytes:
        """See ``Runner``.  A graph that was exported for one sound at a time is run so."""
        seen = masked(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255).contiguous().numpy()
        step = 1 if self._one else len(sounds)
        made = [
            self._session.run(None, {self._sound: sounds[i : i + step, None], self._face: seen[i : i + step]})[0]
            for i in range(0, len(sounds), step)
        ]
        out: Bytes = np.rint(np.concatenate(made) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return out if not self.top else np.concatenate((faces[:, : self.top], out), 1)


class _Input(Protocol):
    """What onnxruntime says of an input of a graph."""

    name: str
    shape: Sequence[int | str]


def _providers(cuda: bool) -> list[str | tuple[str, dict[str, str]]]:
    """Memory on a GPU grows by what is asked for: onnxruntime's own habit is to double it, past any estimate."""
    sparing = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    return [*([(_CUDA, sparing)] if cuda else []), "CPUExecutionProvider"]


def _is_face(inputs: Sequence[_Input], name: str) -> bool:
    return any(i.name == name and i.shape[1] == 6 for i in inputs)


def load(
    files: dict[str, Path], size: int, device: str, threads: int = 0, batch: int = 0, tell: Tell | None = None
) -> Runner:
    """The fastest honest way to run the stored model ``files`` (by role) here.

    ``device``: auto, cpu or cuda; the daemon has always decided which by then.  Raises SetupError where cuda is asked
    for and not there, or onnxruntime cannot use it and the model is an ONNX file.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise SetupError('device = "cuda", but torch finds no GPU here.  Cure: heygemd doctor; or set device = "auto".')
    runner: Runner
    if "onnx" in files:
        path = files["onnx"]
        if device == "cuda":
            runner = OnnxRunner(path, size, cuda=True)
        else:
            runner = SplitRunner(lambda each: OnnxRunner(path, size, each), cores(threads), batch or CPU_BATCH)
    else:
        net = from_weights(load_file(files["weights"]))
        runner = on_cuda(net, tell) if cuda and device != "cpu" else on_cpu(net, threads, batch=batch)
    runner.batch = batch or runner.batch
    return runner


def on_cuda(net: Wav2LipNet, tell: Tell | None = None) -> Runner:
    """Half precision: bfloat16 where the GPU has it, else float16."""
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return TorchRunner(net, "cuda", half, tell=tell)


def on_cpu(net: Wav2LipNet, threads: int = 0, backend: str = "", batch: int = 0) -> Runner:
    """bfloat16 where the processor multiplies it, else onnxruntime where it is installed, else torch in float32;
    or the one of ``BACKENDS`` that is asked for.  ``batch``: frames at a time, where they are known.

    Raises SetupError where bfloat16 is asked for and this processor cannot run it.
    """
    backend = backend or best_backend()
    if backend == "torch-bf16" and not runs_bf16():
        raise SetupError("torch cannot run the network in bfloat16 on this processor: it lacks AVX-512 (BW, VL, DQ).")
    if backend == "plain":
        return TorchRunner(net, "cpu", torch.float32, fold=False, threads=threads)

    def one(each: int) -> Runner:
        if backend == "onnxruntime":
            from heygemd.pipeline.engines.wav2lip.run.onnx_graph import graph

            ready = folded(net)
            return OnnxRunner(graph(ready), net.size, each, top=ready.top)
        return TorchRunner(net, "cpu", torch.bfloat16 if backend == "torch-bf16" else torch.float32, threads=each)

    return SplitRunner(one, cores(threads), batch or CPU_BATCH)


def best_backend() -> str:
    """Which of ``BACKENDS`` this processor and installation call for."""
    if _multiplies_bf16() and runs_bf16():
        return "torch-bf16"
    return "onnxruntime" if _has("onnxruntime") and _has("onnx") else "torch"


def _multiplies_bf16() -> bool:
    """Whether bfloat16 is native to the processor: emulated, it would be slower than float32."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


def runs_bf16() -> bool:
    """Whether torch's own layers run in bfloat16 on this processor; where they do not, the first frame would fail."""
    supported: Callable[[], bool] | None = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def given(count: int, size: int) -> tuple[Singles, Bytes]:
    """Seeded sounds and faces for ``count`` frames, as a ``Runner`` takes them; speed does not depend on them."""
    rng = np.random.default_rng(0)
    sounds = rng.uniform(-4, 4, (count, MEL_BANDS, MEL_FRAMES)).astype(np.float32)
    return sounds, rng.integers(0, 256, (count, size, size, 3), np.uint8)


def compared(net: Wav2LipNet, runner: Runner, threads: int = 0, rounds: int = 5) -> dict[str, object]:
    """The network alone: ``runner`` against the plain float32 module on the processor, turn and turn about.

    ``{"plain", "chosen"}``, each ``fps`` (the best of ``rounds``) and ``cpu_ms`` (processor time of a frame, likewise)
    at ``batch`` frames at a time, the plain module at its own best as well (``best``); ``ratio`` of the two at the same
    batch, ``cpu_ratio`` likewise, ``error``: the largest difference in grey levels in the rows that ``runner`` makes
    (``rows``: its first, and all), and ``psnr_db``.
    """
    plain = TorchRunner(net, "cpu", torch.float32, fold=False, threads=threads)
    batch = runner.batch
    ways: dict[str, tuple[Runner, int]] = {"chosen": (runner, batch), "plain": (plain, batch), "best": (plain, 8)}
    sounds, faces = given(batch, net.size)
    off = (runner(sounds, faces).astype(np.float64) - plain(sounds, faces))[:, runner.top :]
    best = {name: [float("inf")] * 2 for name in ways}
    for _ in range(rounds):
        for name, (one, count) in ways.items():
            before = time.perf_counter(), time.process_time()
            one(sounds[:count], faces[:count])
            spent = time.perf_counter() - before[0], time.process_time() - before[1]
            best[name] = [min(a, b / min(count, batch)) for a, b in zip(best[name], spent, strict=True)]
    told = {n: {"fps": round(1 / a, 2), "cpu_ms": round(1000 * b, 2)} for n, (a, b) in best.items()}
    return {
        "plain": told["plain"] | {"batch": batch, "best": told["best"] | {"batch": min(8, batch)}},
        "chosen": told["chosen"] | {"batch": batch, **runner.facts},
        "rows": [runner.top, net.size],
        "ratio": round(best["plain"][0] / best["chosen"][0], 2),
        "cpu_ratio": round(best["plain"][1] / best["chosen"][1], 2),
        "error": int(np.abs(off).max()),
        "psnr_db": round(float(10 * np.log10(255**2 / max(1e-6, float((off**2).mean())))), 1),
    }
