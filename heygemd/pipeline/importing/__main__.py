"""The child that opens a model file for ``heygemd models import``: ``python -m heygemd.pipeline.importing.__main__``.

It reads one request from stdin, ``{"path", "name", "target"}``, gives up the network and sets itself limits, looks
what the file holds (never at its name), writes safetensors or plain ONNX into the folder ``target`` and answers in
one line: ``{"kind", "size", "sha256", "files": [{"name", "role"}], "sandbox"}``, or ``{"refused": sentence}``, or
``{"missing": sentence}`` where this machine lacks something.  Then it ends, whatever the file has done to it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heygemd.common.errors import HeygemdError, InputError, SetupError
from heygemd.common.spawn import end_with_parent

if TYPE_CHECKING:
    from heygemd.contract.model_import import ImportedModel

_GIB = 1 << 30
LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_CPU: 600,  # seconds
    resource.RLIMIT_AS: 24 * _GIB,  # torch alone reserves up to 12 where it is built for CUDA
    resource.RLIMIT_FSIZE: 4 * _GIB,
    resource.RLIMIT_NPROC: 4096,
}
LARGEST = 8 * _GIB
"""Bytes of the largest file that is looked at."""
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000  # linux/sched.h


def confine() -> str:
    """Give up what opening a model does not need; ``"no network"``, or ``"limits only"`` where the kernel lets nobody
    give up the network.  Before any thread is started."""
    end_with_parent()
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for which, value in LIMITS.items():
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))
    alone = libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    return "no network" if alone else "limits only"


def bring(path: Path, name: str, target: Path) -> ImportedModel:
    """Look into ``path``, write what is worth keeping into ``target``, and say what it is.

    Raises InputError in one sentence where it is no model that heygemd can use.
    """
    from heygemd.pipeline.importing import checkpoints

    if path.is_dir():
        from heygemd.pipeline.importing import onnx_models

        return onnx_models.pack(path, name, target)
    size = path.stat().st_size
    if not size:
        raise InputError(f"{name} is empty.", reason="bad_model")
    if size > LARGEST:
        raise InputError(
            f"{name} is larger than {LARGEST // _GIB} GiB; no supported model is that large.", reason="bad_model"
        )
    sha256 = _digest(path)
    _refuse_unused(sha256, name)
    kind = checkpoints.format_of(path, name)
    if kind in ("pack", "onnx"):
        from heygemd.pipeline.importing import onnx_models

        opened = onnx_models.zipped_pack if kind == "pack" else onnx_models.single
        return {**opened(path, name, target), "sha256": sha256}
    return {**checkpoints.bring(path, kind, name, target), "sha256": sha256}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_unused(sha256: str, name: str) -> None:
    from heygemd.models.terms import UNUSED

    if sha256 in UNUSED:
        raise InputError(f"{name} is {UNUSED[sha256]}, which this version of heygemd does not use.")


def main() -> None:
    """Answer the one request."""
    request = json.loads(sys.stdin.readline())
    sandbox = confine()
    path, name = Path(request["path"]), str(request["name"])
    answer: dict[str, object]
    try:
        answer = {**bring(path, name, Path(request["target"])), "sandbox": sandbox}
    except SetupError as error:
        answer = {"missing": error.message}
    except HeygemdError as error:
        answer = {"refused": error.message}
    except OSError as error:
        answer = {"refused": f"{name} cannot be read: {error.strerror or error}."}
    except (MemoryError, RecursionError):
        answer = {"refused": f"{name} needs more memory than any supported model; it may be malicious."}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
