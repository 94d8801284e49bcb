"""A CUDA that is none, and that runs out of memory when a test wants it.  Found by Python through PYTHONPATH, in tests
only; nothing in heygemd knows of this.

The daemon takes torch for a CUDA build; in the renderer's child the engine wav2lip runs on what it takes for a GPU and
is the processor, in float32.  ``$FAKE_CUDA`` is a folder: while ``limit`` lies in it, "<batch> <number>", the
numberth whole batch larger than that of a process raises torch's own OutOfMemoryError.  ``diary`` gets a line for each
batch: the process, the batch size, how many frames it has, ``out`` where it failed.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path

_FOLDER = os.environ.get("FAKE_CUDA")


def _devices(module):
    module.torch_build = lambda folder=None: module.TorchBuild("2.13.0", "12.8")


def _runtime(module):
    class Limited(module.TorchRunner):
        calls = 0

        def __call__(self, sounds, faces):
            whole = len(sounds) == self.batch
            self.calls += whole
            limit = Path(_FOLDER, "limit")
            batch, number = map(int, limit.read_text().split()) if limit.exists() else (1 << 30, 0)
            out = whole and self.batch > batch and self.calls >= number
            with Path(_FOLDER, "diary").open("a") as diary:
                diary.write(f"{os.getpid()} {self.batch} {len(sounds)} {'out' if out else 'made'}\n")
            if out:
                raise module.torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return super().__call__(sounds, faces)

    module.torch.cuda.is_available = lambda: True
    module.on_cuda = lambda net, tell=None: Limited(net, "cpu", module.torch.float32, threads=1)


_CHANGED = {"heygemd.guard.devices": _devices, "heygemd.pipeline.engines.wav2lip.run.runners": _runtime}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in _CHANGED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def changed(module):
            load(module)
            _CHANGED[name](module)

        spec.loader.exec_module = changed
        return spec


if _FOLDER:
    sys.meta_path.insert(0, _Finder())
