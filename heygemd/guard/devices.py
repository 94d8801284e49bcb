"""Chooses where each engine runs, the processor or CUDA: once, at start, and logged; never changed later.

The daemon does not import torch; how torch was built is read from the file in which it says so.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from heygemd.common import log
from heygemd.common.errors import SetupError
from heygemd.config.load import Config
from heygemd.config.tables import CommandConfig
from heygemd.guard import needs
from heygemd.guard.readings import Readings
from heygemd.models import store


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """How the installed torch was built: ``cuda`` is the version that it was built for, empty where for none."""

    version: str
    cuda: str


def torch_build(folder: Path | None = None) -> TorchBuild | None:
    """The installed torch, by its ``version.py``; ``None`` where there is none or it holds no version.

    ``folder``: that of the package, where it is not to be looked for.
    """
    if folder is None:
        spec = importlib.util.find_spec("torch")  # imports nothing
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
    try:
        text = (folder / "version.py").read_text(errors="replace")
    except OSError:
        return None
    values = dict(re.findall(r"^(\w+)(?::[^=\n]+)? *= *(.*)$", text, re.MULTILINE))
    if "__version__" not in values or "cuda" not in values:
        return None
    cuda = values["cuda"].strip("'\"")
    return TorchBuild(values["__version__"].strip("'\""), "" if cuda == "None" else cuda)


def onnxruntime_cuda(folder: Path | None = None) -> bool:
    """Whether the installed onnxruntime was built for CUDA, by what it says of its own build; ``folder`` as above."""
    if folder is None:
        spec = importlib.util.find_spec("onnxruntime")
        if spec is None or spec.origin is None:
            return False
        folder = Path(spec.origin).parent
    try:
        text = (folder / "capi" / "build_and_package_info.py").read_text(errors="replace")
    except OSError:
        return False
    return re.search(r"^package_name *= *['\"]onnxruntime-gpu['\"]", text, re.MULTILINE) is not None


def obstacle(engine: str, config: Config, torch: TorchBuild | None) -> str:
    """Why an engine of ours could not use a GPU even if one were free, as a clause with its cure; empty: it could."""
    if engine != "wav2lip":
        return ""
    model = wav2lip_model(config)
    if model is not None and any(file.role == "onnx" for file in model.files) and not onnxruntime_cuda():
        return (
            f"the model {model.name} is an ONNX file and this onnxruntime has no CUDA: see heygemd doctor, or "
            "import its .pth"
        )
    if torch is not None and not torch.cuda:
        return f"torch {torch.version} is a build without CUDA; install torch's CUDA build"
    return ""


def wav2lip_model(config: Config) -> store.Model | None:
    """The checkpoint that the engine would use; ``None`` if there is none (the renderer reports it)."""
    try:
        return store.ModelStore(config.daemon.models_dir).one("wav2lip", config.wav2lip.model)
    except SetupError:
        return None


class Devices:
    """Where each engine in use runs, whether films may be encoded on a GPU, and why."""

    def __init__(self, config: Config, torch: TorchBuild | None) -> None:
        self._config, self._torch = config, torch
        self._engines = sorted(
            {config.render.engine, *(name for line in config.lines for name in line.allowed_engines)}
        )
        self.chosen: dict[str, dict[str, str]] = {}  #: by engine: ``device`` and ``reason``
        self.nvenc = False  #: whether the films of engines on the processor may be encoded on a GPU
        self._log = log.get()

    @property
    def gpu_matters(self) -> bool:
        """Whether anything here could use one, so that the driver is worth asking."""
        ours = [engine for engine in self._engines if engine != "command"]
        return (bool(ours) and self._config.render.encoder != "libx264") or any(
            needs.ENGINE_NEEDS[e].ways for e in ours
        )

    @property
    def some_cuda(self) -> bool:
        """Whether some engine runs on CUDA."""
        return any(choice["device"] == "cuda" for choice in self.chosen.values())

    def choose(self, start: Readings) -> None:
        """Decide, and log each decision."""
        render = self._config.render
        for engine in self._engines:
            why_not = obstacle(engine, self._config, self._torch)
            device, why = device_of(engine, render.device, self._config.command, start, why_not)
            self.chosen[engine] = {"device": device, "reason": why}
            self._log.info("device_chosen", engine=engine, device=device, reason=why)
        self.nvenc = render.encoder == "auto" and bool(start.gpus)
        if self.gpu_matters:
            self._log.info("encoder_chosen", encoder=render.encoder, nvenc=self.nvenc or render.encoder == "h264_nvenc")

    def of(self, engine: str) -> str:
        """``cpu`` or ``cuda``."""
        return self.chosen[engine]["device"] if engine in self.chosen else "cpu"

    def may_use_gpu(self, engine: str) -> bool:
        """Whether a job of this engine is a reason to ask the driver."""
        encodes = self.nvenc or self._config.render.encoder == "h264_nvenc"
        return self.of(engine) == "cuda" or (encodes and engine != "command")

    def asked(self, engine: str, frame: str) -> needs.Asked:
        """A job of this engine, as far as it is known before it runs."""
        device, encoder = self.of(engine), self._config.render.encoder
        if engine != "wav2lip":
            return needs.Asked(engine, device, frame=frame, nvenc=encoder == "h264_nvenc")
        model, batch = wav2lip_model(self._config), self._config.wav2lip.batch
        nvenc = encoder == "h264_nvenc" or (encoder == "auto" and device == "cuda")
        why_not = obstacle(engine, self._config, self._torch) if device == "cuda" else ""
        return needs.Asked(engine, device, model.name if model else "", frame, batch, nvenc, why_not)


def device_of(engine: str, asked: str, command: CommandConfig, start: Readings, obstacle: str = "") -> tuple[str, str]:
    """Where an engine runs, ``cpu`` or ``cuda``, and why: what ``auto`` means here, decided once, at start.

    A GPU that is there and does not answer is waited for: the processor is not taken in its place unasked.  One that
    the engine could not use if it did answer (``obstacle`` says why) is no reason to wait.
    """
    engine_needs = needs.ENGINE_NEEDS.get(engine, needs.EngineNeeds(0))
    if engine == "command":
        need_mib = command.gpu_need_mib
        declared = f"{need_mib} MiB of GPU memory" if need_mib else "no GPU memory"
        return ("cuda" if need_mib else "cpu"), f"[command] declares {declared}"
    if engine == "duix":
        return "cpu", "its container uses its own GPU; jobs do not wait for it"
    if asked != "auto":
        return asked, f'device = "{asked}"'
    if not engine_needs.ways:
        return "cpu", engine_needs.no_gpu
    if start.gpu_missing:
        return "cpu", str(start.gpu_problem)
    if obstacle:
        return "cpu", f"{start.gpus[0].name} was found, but {obstacle}" if start.gpus else obstacle
    if start.gpus:
        return "cuda", f"{start.gpus[0].name} was found"
    return "cuda", f'{start.gpu_problem}; to render on the CPU, set device = "cpu"'
