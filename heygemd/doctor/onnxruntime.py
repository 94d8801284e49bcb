"""How onnxruntime is installed here: for ``doctor``.  Imports nothing heavy; asks in a child.

PyPI has it twice, ``onnxruntime`` for the processor and ``onnxruntime-gpu`` with CUDA, which unpack into one folder.
insightface asks for the first by name, so that on a CUDA host the one that was unpacked last decides, and an upgrade
of either leaves a mixture of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heygemd.doctor.check import Check

QUESTION = """
import json, onnxruntime, insightface
from importlib import metadata
names = [str(d.metadata["Name"]).lower() for d in metadata.distributions()]
print(json.dumps({
    "version": onnxruntime.__version__, "cuda": "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    "insightface": insightface.__version__,
    "packages": sorted({n for n in names if n in ("onnxruntime", "onnxruntime-gpu")}),
}))
"""
"""A program that tells it in one line of JSON."""
CUDA_CURE = (
    "pip uninstall -y onnxruntime onnxruntime-gpu && pip install --no-deps onnxruntime-gpu (pip check "
    "then reports onnxruntime as missing, which is harmless)"
)
CPU_CURE = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime"


def judge(facts: Mapping[str, Any] | str, *, gpu: bool) -> list[Check]:
    """What ``QUESTION`` answered, or its complaint, in doctor's words; ``gpu``: whether there is one here."""
    name = "onnxruntime"
    if isinstance(facts, str):
        said = f"onnxruntime or insightface cannot be used: {facts}; the built-in face detector needs neither"
        return [Check(name, "warn", said, "install heygemd again in its virtual environment")]
    said = f"{facts['version']}, {'with' if facts['cuda'] else 'without'} CUDA; insightface {facts['insightface']}"
    if len(facts["packages"]) > 1:
        said = f"{said}; onnxruntime and onnxruntime-gpu are both installed and have overwritten each other's files"
        return [Check(name, "warn", said, CUDA_CURE if gpu else CPU_CURE)]
    if gpu and not facts["cuda"]:
        said = f"{said}: a Wav2Lip imported as ONNX runs on the CPU"
        return [Check(name, "ok", said, f"to run it on the GPU: {CUDA_CURE}")]
    return [Check(name, "ok", said)]
