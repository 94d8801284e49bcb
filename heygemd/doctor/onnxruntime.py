"""Judges how onnxruntime is installed here: for the processor, with CUDA, or as a mixture of both.

Imports nothing heavy; a child is asked.

PyPI has it twice, ``onnxruntime`` for the processor and ``onnxruntime-gpu`` with CUDA, which unpack into one folder.
insightface asks for the first by name, so that on a CUDA host the one that was unpacked last decides, and an upgrade
of either leaves a mixture of both.
"""

from __future__ import annotations

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.doctor.finding import Finding

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
"""A program that prints the facts as one line of JSON."""
CUDA_CURE = (
    "pip uninstall -y onnxruntime onnxruntime-gpu && pip install --no-deps onnxruntime-gpu (pip check "
    "then reports onnxruntime as missing, which is harmless)"
)
CPU_CURE = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime"


def judge(facts: Row | str, *, gpu: bool) -> list[Finding]:
    """The finding from what ``QUESTION`` printed, or from its last line on stderr; ``gpu``: whether one is here."""
    name = "onnxruntime"
    if isinstance(facts, str):
        problem = f"onnxruntime or insightface cannot be used: {facts}; the built-in face detector needs neither"
        return [Finding(name, "warn", problem, "install heygemd again in its virtual environment")]
    cuda, packages = facts.get("cuda") is True, checked.texts(facts, "packages")
    installed = f"{checked.text(facts, 'version')}, {'with' if cuda else 'without'} CUDA"
    installed = f"{installed}; insightface {checked.text(facts, 'insightface')}"
    if len(packages) > 1:
        problem = (
            f"{installed}; onnxruntime and onnxruntime-gpu are both installed and have overwritten each other's files"
        )
        return [Finding(name, "warn", problem, CUDA_CURE if gpu else CPU_CURE)]
    if gpu and not cuda:
        problem = f"{installed}: a Wav2Lip imported as ONNX runs on the CPU"
        return [Finding(name, "ok", problem, f"to run it on the GPU: {CUDA_CURE}")]
    return [Finding(name, "ok", installed)]
