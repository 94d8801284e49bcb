"""``heygemd doctor``: examines whether heygemd would work on this machine, with the cure for what would not.

Each check says ok, warn (something optional is missing) or fail (the engine ``footage`` would not work).  Heavy
libraries are tried in children with a deadline, never imported here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.common.errors import SetupError
from heygemd.common.names import display
from heygemd.common.shipped import DATA
from heygemd.config.load import Config
from heygemd.doctor import duix, onnxruntime, server
from heygemd.doctor.finding import Finding
from heygemd.guard import devices, host, machine, needs, readings
from heygemd.models.store import Model, ModelStore
from heygemd.store.journal import Journal

OLDEST_FFMPEG = 5
TOOL_SECONDS = 30.0
LIBRARY_SECONDS = 120.0
"""The first import of torch on a cold disk takes the best part of a minute."""
DISK_SECONDS = 5.0
LIPS = (DATA / "lips.safetensors", DATA / "ears.safetensors")
CASCADES = ("haarcascade_frontalface_alt2.xml", "haarcascade_eye.xml")

_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
device = torch.cuda.get_device_name(0) if cuda else None
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "device": device}))
"""
_FACES = """
import json, sys
from pathlib import Path
import cv2
folder = Path(cv2.data.haarcascades)
missing = [n for n in sys.argv[1:] if not (folder / n).is_file()]
print(json.dumps({"version": cv2.__version__, "missing": missing}))
"""


def examine(config: Config) -> list[Finding]:
    """Every finding, in the order of the report.  Takes some seconds: torch is really imported, in a child."""
    checks = [*_ffmpeg(config), *_machine(config), _torch(config), *_faces(config), *_onnxruntime(), _lips()]
    return [*checks, *server.examine(config), *_engines(config, checks)]


def would_work(checks: Iterable[Finding]) -> bool:
    """Whether the daemon would run and the engine ``footage`` would work."""
    return not any(check.verdict == "fail" for check in checks)


def print_findings(checks: Sequence[Finding], *, as_json: bool) -> None:
    """Print the findings."""
    if as_json:
        print(json.dumps({"ok": would_work(checks), "checks": [asdict(check) for check in checks]}))
        return
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.verdict:<4}  {check.name:<{width}}  {display(check.said)}")
        if check.cure:
            print(f"{'':<4}  {'':<{width}}  → {check.cure}")
    print("\nfootage works here" if would_work(checks) else "\nfootage does not work here")


# ---------------------------------------------------------------- ffmpeg


def _ffmpeg(config: Config) -> list[Finding]:
    checks = [_tool("ffmpeg"), _tool("ffprobe")]
    if checks[0].verdict == "fail":
        return checks
    encoders = _output_of(["ffmpeg", "-hide_banner", "-encoders"]) or ""
    checks += [_encoder("libx264", encoders), _encoder("aac", encoders), _nvenc(encoders, config.render.encoder)]
    return checks if config.mark.label == "off" else [*checks, _lettering()]


def _lettering() -> Finding:
    """The ffmpeg filter that draws the visible label."""
    if re.search(r"\bdrawtext\b", _output_of(["ffmpeg", "-hide_banner", "-filters"]) or ""):
        return Finding("label", "ok", "ffmpeg can draw text")
    cure = 'install the distribution\'s ffmpeg, or set label = "off" in [mark]'
    return Finding("label", "fail", "this ffmpeg lacks the filter drawtext (libfreetype)", cure)


def _tool(name: str) -> Finding:
    path = shutil.which(name)
    cure = "install ffmpeg 5 or later: apt-get install ffmpeg"
    if path is None:
        return Finding(name, "fail", "not installed or not on PATH", cure)
    version = version_of(_output_of([path, "-version"]) or "")
    if version is None:
        return Finding(name, "fail", f"{path} does not report a version", cure)
    if version[0] is not None and version[0] < OLDEST_FFMPEG:
        return Finding(name, "fail", f"{version[1]} at {path} is too old", cure)
    return Finding(name, "ok", f"{version[1]} at {path}")


def version_of(banner: str) -> tuple[int | None, str] | None:
    """(major, whole) of ffmpeg's first line; the major is ``None`` for a build from git, which is taken as new."""
    match = re.match(r"ff\w+ version (\S+)", banner)
    if match is None:
        return None
    major = re.match(r"n?(\d+)\.", match[1])
    return int(major[1]) if major else None, match[1]


def _encoder(name: str, encoders: str) -> Finding:
    if f" {name} " in encoders:
        return Finding(f"encoder {name}", "ok", "known to ffmpeg")
    return Finding(f"encoder {name}", "fail", "unknown to this ffmpeg", "install Debian's or Ubuntu's own ffmpeg")


def _nvenc(encoders: str, asked: str) -> Finding:
    """NVENC is only missed where nobody asked for it: ``auto`` takes libx264 then, ``h264_nvenc`` takes nothing."""
    name, must = "encoder h264_nvenc", asked == "h264_nvenc"
    verdict: Literal["warn", "fail"] = "fail" if must else "warn"
    cure = 'set encoder in [render] to "auto", or install an ffmpeg with NVENC and the NVIDIA driver' if must else ""
    instead = "but [render] requires it" if must else "films are encoded with libx264"
    if " h264_nvenc " not in encoders:
        return Finding(name, verdict, f"unknown to this ffmpeg; {instead}", cure)
    source = ["-f", "lavfi", "-i", "color=black:s=256x256:r=25"]
    trial = ["ffmpeg", "-nostdin", "-v", "error", *source, "-frames:v", "1", "-c:v", "h264_nvenc", "-f", "null", "-"]
    if _output_of(trial) is None:
        return Finding(name, verdict, f"a test of one frame failed, as it does without an NVIDIA GPU; {instead}", cure)
    return Finding(name, "ok", "a test of one frame worked")


def _output_of(argv: Sequence[str], seconds: float = TOOL_SECONDS) -> str | None:
    """A program's output; ``None`` if it failed, is missing or took too long."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


# ---------------------------------------------------------------- the machine


def _machine(config: Config) -> list[Finding]:
    readings = machine.read()
    cpu = Finding("processor", "ok", f"{readings.cpu_model}, {readings.cpu_count} usable")
    peaks = _peaks(config)
    learned = [Finding("learned needs", "ok", line) for line in needs.table(peaks)]
    return [cpu, _memory(readings, config, peaks), *learned, *_disks(config), *_gpus(readings)]


def _peaks(config: Config) -> list[needs.Peak]:
    """Measured needs of finished jobs from the journal; empty if it is missing or not readable."""
    try:
        journal = Journal.read_only(config.daemon.state_dir / "journal.sqlite")
    except (SetupError, PermissionError):
        return []
    try:
        return journal.peaks()
    finally:
        journal.close()


def _memory(readings: readings.Readings, config: Config, peaks: Sequence[needs.Peak] = ()) -> Finding:
    total, available = readings.ram_total_mib, readings.ram_available_mib
    free = f"{available} MiB available of {total} MiB"
    asked = needs.Asked("footage")
    need = needs.need(asked, config.command, peaks, readings, config.limits.free_ram_mib, {}).ram_mib
    keep = config.limits.free_ram_mib
    need_text = f"a film needs {need} MiB, and {keep} MiB must stay free"
    if need + keep > total:
        return Finding("memory", "fail", f"{free}; {need_text}", "lower free_ram_mib in [limits], or add memory")
    if need + keep > available:
        return Finding(
            "memory", "warn", f"{free}; {need_text}: jobs would have to wait now", "stop programs that use the memory"
        )
    return Finding("memory", "ok", free)


def _disks(config: Config) -> list[Finding]:
    places = [("state_dir", config.daemon.state_dir), ("work_dir", config.daemon.work_dir)]
    places += [(f"line {line.name}", line.root) for line in config.lines]
    return [_disk(name, path, config.limits.free_disk_mib) for name, path in places]


def _disk(name: str, path: Path, keep: int) -> Finding:
    name = f"disk of {name}"
    free = _free_mib(path)
    if free is None:
        cure = "is the share mounted and reachable?"
        return Finding(name, "warn", f"{path} did not report its free space within {DISK_SECONDS:g} s", cure)
    if free < keep:
        return Finding(
            name,
            "warn",
            f"{path}: {free} MiB free, but {keep} MiB must stay free: jobs would have to wait",
            "make room",
        )
    return Finding(name, "ok", f"{path}: {free} MiB free")


def _free_mib(path: Path) -> int | None:
    """As ``machine.disk_free_mib``, for a path on a share that may hang."""
    answer: list[int | None] = []
    asking = threading.Thread(target=lambda: answer.append(host.disk_free_mib(path)), daemon=True)
    asking.start()
    asking.join(DISK_SECONDS)
    return answer[0] if answer else None


def _gpus(readings: readings.Readings) -> list[Finding]:
    if not readings.gpus:
        return [Finding("GPU", "warn", f"none usable: {readings.gpu_problem}; footage needs none")]
    lost = [Finding("GPU", "warn", readings.gpu_problem)] if readings.gpu_problem else []
    return [*(_gpu(gpu) for gpu in readings.gpus), *lost]


def _gpu(gpu: readings.Gpu) -> Finding:
    shared = " shared with the CPU" if gpu.shared else ""
    held = f"; used by {', '.join(map(str, gpu.processes))}" if gpu.processes else ""
    memory = f"{gpu.used_mib} of {gpu.total_mib} MiB{shared} used"
    state = "".join(
        f", {value} {unit}" for value, unit in ((gpu.utilisation, "% busy"), (gpu.celsius, "°C")) if value is not None
    )
    name = f"{gpu.name}, a MIG instance" if gpu.mig else gpu.name
    return Finding(f"GPU {gpu.index}", "ok", f"{name}, {memory}{state}, driver {gpu.driver}, {gpu.uuid}{held}")


# ---------------------------------------------------------------- the libraries


def _torch(config: Config) -> Finding:
    facts = _try(_TORCH)
    if isinstance(facts, str):
        return Finding("torch", "fail", f"cannot be used: {facts}", "reinstall heygemd in its virtual environment")
    version, cuda, device = (checked.text(facts, key) for key in ("version", "cuda", "device"))
    if device:
        return Finding("torch", "ok", f"{version}, CUDA {cuda} on {device}")
    if not cuda and config.render.device != "cuda":
        return Finding("torch", "ok", f"{version}, on the CPU")
    verdict: Literal["warn", "fail"] = "fail" if config.render.device == "cuda" else "warn"
    if not cuda:
        cure = "install torch's CUDA build, or set device in [render] to auto"
        return Finding("torch", verdict, f"{version} is a build without CUDA, but [render] requires cuda", cure)
    if machine.read().gpus:
        cure = "install a driver that supports this CUDA version; restart the machine after a driver update"
        return Finding("torch", verdict, f"{version} is built for CUDA {cuda} but cannot use this machine's GPU", cure)
    cure = "this is fine if a GPU will be added later; otherwise torch's CPU build is gigabytes smaller"
    return Finding("torch", verdict, f"{version} is built for CUDA {cuda}, but this machine has no GPU", cure)


def _faces(config: Config) -> list[Finding]:
    facts = _try(_FACES, *CASCADES)
    if isinstance(facts, str):
        cure = "install the libraries that opencv-python needs: apt-get install libgl1 libglib2.0-0"
        return [Finding("OpenCV", "fail", f"cannot be used: {facts}", cure)]
    version, missing = checked.text(facts, "version"), checked.texts(facts, "missing")
    if missing:
        problem = f"OpenCV {version} lacks {', '.join(missing)}"
        return [Finding("face finder", "fail", problem, "install opencv-python 4.x; version 5 dropped the cascades")]
    return [Finding("OpenCV", "ok", version), _finder(config)]


def _onnxruntime() -> list[Finding]:
    return onnxruntime.judge(_try(onnxruntime.QUESTION), gpu=bool(machine.read().gpus))


def _finder(config: Config) -> Finding:
    name, store, wanted = "face finder", ModelStore(config.daemon.models_dir), config.render.finder
    model = store.one("faces")
    if model is not None and wanted != "haar":
        if faults := store.faults(model):
            return Finding(name, "fail", faults[0], f"run heygemd models remove {model.name}, then import it again")
        return Finding(name, "ok", f"insightface with {model.name}. {model.terms}")
    imported = f"{f'the model {model.name}' if model else 'no face model'} is imported"
    if wanted == "insightface":
        cure = "run heygemd models import PACK"
        return Finding(name, "fail", f'finder = "insightface" in [render], but {imported}', cure)
    return Finding(name, "ok", f"the built-in Haar cascade; {imported}")


def _try(code: str, *args: str) -> Row | str:
    """What ``code`` prints as JSON in a Python of its own, or the last line of its stderr."""
    argv = [sys.executable, "-c", code, *args]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIBRARY_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {LIBRARY_SECONDS:g} s"
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        return complaint[-1] if complaint else f"it exited with code {done.returncode}"
    facts: Row = json.loads(done.stdout)
    return facts


def _lips() -> Finding:
    missing = [path for path in LIPS if not path.is_file() or not path.stat().st_size]
    if missing:
        paths = ", ".join(map(str, missing))
        return Finding("lips weights", "fail", f"missing: {paths}", "reinstall heygemd; the package contains the files")
    sizes = ", ".join(f"{path.name} {path.stat().st_size >> 10} KiB" for path in LIPS)
    return Finding("lips weights", "ok", f"{sizes}; ears: Whisper tiny.en, MIT licence, Copyright (c) 2022 OpenAI")


# ---------------------------------------------------------------- the engines


def _engines(config: Config, checks: Sequence[Finding]) -> list[Finding]:
    lacks = [check.name for check in checks if check.verdict == "fail"]
    if lacks:
        footage = Finding("engine footage", "fail", f"lacks {', '.join(lacks)}", "see above")
    else:
        footage = Finding("engine footage", "ok", "needs only the template")
    wanted = "duix" in {config.render.engine, *(name for line in config.lines for name in line.allowed_engines)}
    return [footage, _wav2lip(config), *duix.examine(config.duix, wanted), _command(config)]


def _wav2lip(config: Config) -> Finding:
    name, store = "engine wav2lip", ModelStore(config.daemon.models_dir)
    try:
        model = store.one("wav2lip", config.wav2lip.model)
    except SetupError as error:
        return Finding(name, "warn", error.message, "correct model in [wav2lip]")
    if model is None:
        return Finding(name, "warn", "no checkpoint is imported", "if you have one: heygemd models import FILE")
    if faults := store.faults(model):
        return Finding(name, "warn", faults[0], f"run heygemd models remove {model.name}, then import it again")
    if any(file.role == "onnx" for file in model.files):
        return _onnx(name, model, config.render.device)
    return Finding(name, "ok", f"{model.name}, {model.size} px. {model.terms}")


def _onnx(name: str, model: Model, device: str) -> Finding:
    """An ONNX file is run by onnxruntime, on a GPU only where that is built for it."""
    able = devices.onnxruntime_cuda()
    if device == "cuda" and not able:
        problem = f"{model.name} is an ONNX file and this onnxruntime has no CUDA, but [render] requires cuda"
        cure = f"{onnxruntime.CUDA_CURE}; or import its .pth, or set device in [render] to auto"
        return Finding(name, "warn", f"{problem}: its jobs fail", cure)
    where = "by onnxruntime" if able else "on the CPU with onnxruntime"
    return Finding(name, "ok", f"{model.name}, {model.size} px, {where}. {model.terms}")


def _command(config: Config) -> Finding:
    name, argv = "engine command", config.command.argv
    if not argv:
        return Finding(name, "warn", "is not configured", "to use a program of your own, set argv in [command]")
    if shutil.which(argv[0]) is None:
        return Finding(
            name, "warn", f"{argv[0]} is not a program that this user can execute", "correct argv in [command]"
        )
    need = (
        f", needs {config.command.gpu_need_mib} MiB of GPU memory (gpu_need_mib)" if config.command.gpu_need_mib else ""
    )
    return Finding(name, "ok", f"{shutil.which(argv[0])}{need}")
