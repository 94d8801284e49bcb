"""The driver's library of a machine of one's choice, for real processes: ``nvml_stub.c``, compiled and fed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml_stub.c")
GIB = 1 << 30


def compiled(folder: Path) -> Path:
    """The folder in which ``libnvidia-ml.so.1`` lies; skips the test where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the stand-in for the NVIDIA driver cannot be compiled")
    library = folder / "libnvidia-ml.so.1"
    flags = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE)], check=True, timeout=120)
    return folder


class Driver:
    """The stub's text file; what is written is in force at once."""

    def __init__(self, library: Path, file: Path) -> None:
        self.file = file
        self.environment = {"LD_LIBRARY_PATH": str(library), "NVML_STUB": str(file)}
        self.write(count=1)

    def write(self, **values: object) -> None:
        """The whole machine anew; ``gpu0_used`` stands for ``gpu0.used``, ``fail_nvmlInit`` for ``fail.nvmlInit``."""
        part = self.file.with_suffix(".part")
        names = {key: key.replace("_", ".", 1) if key.startswith(("gpu", "fail")) else key for key in values}
        part.write_text("".join(f"{names[key]}={value}\n" for key, value in values.items()))
        part.rename(self.file)


def holder(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """A process of that name that does nothing."""
    program = folder / name
    shutil.copy("/bin/sleep", program)
    return subprocess.Popen([str(program), "120"], preexec_fn=os.setsid)
