"""Builds the bundle (``heygemd bundle OUT.tar``): all that a server without a network needs, from this environment.

    heygemd-VERSION/
      install.sh            run it as root on the server; again for an upgrade; --uninstall
      wheels/               heygemd and what it needs, in the very versions installed here
      systemd/ config.toml  the units and the commented configuration
      models/               imported models, where they were asked for
      debs/ distribution    the distribution's ffmpeg and python3-venv, where they were asked for, and which it is
      licences/ sbom.json   the licence texts, and a CycloneDX list of what is inside
      version python …      what it is, for which Python and processor, and what torch computes on
      SHA256SUMS            of everything else

Installed packages are packed into wheels again, so nothing is fetched and what was tried here is what arrives there.
Only for another Python, or another build of torch, are the packages with machine code fetched by pip.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from heygemd import __version__
from heygemd.bundle import debs, sbom
from heygemd.bundle.wheels import Find, closure, fetch, normal, pack
from heygemd.common.errors import SetupError
from heygemd.common.shipped import DATA
from heygemd.models.store import ModelStore, digest

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """Contents of a bundle.  ``python``: such as ``3.13``; ``torch``: one of ``wheels.TORCH``; empty: as here."""

    out: Path
    python: str = ""
    torch: str = ""
    models: tuple[str, ...] = ()
    models_dir: Path = Path()
    with_debs: bool = False


def build(order: BundleOrder, find: Find = metadata.distribution) -> list[str]:
    """Write the bundle; return ``name version`` of each packed package.

    ``find`` gives the installed distributions.  Raises ``SetupError`` where one that is needed is not installed,
    something cannot be fetched, or ``out`` is there already or cannot be written.
    """
    if order.out.exists():
        raise SetupError(f"{order.out} already exists; choose another name.")
    if order.python and not re.fullmatch(r"3\.\d{2}", order.python):
        raise SetupError(f"{order.python} is not a Python version such as 3.13.")
    packages = closure("heygemd", find)
    models = _chosen(order)
    try:
        with tempfile.TemporaryDirectory(prefix="heygemd-bundle-", dir=order.out.absolute().parent) as scratch:
            top = Path(scratch) / f"heygemd-{__version__}"
            contents = _fill(top, order, packages, models)
            part = Path(scratch) / "bundle.tar"
            with tarfile.open(part, "w") as tar:
                tar.add(top, top.name, filter=_as_root)
            part.rename(order.out)
    except OSError as error:
        raise SetupError(f"The bundle {order.out} cannot be written: {error.strerror or error}.") from error
    return contents


def _chosen(order: BundleOrder) -> list[Path]:
    """The folders of the models that were asked for, each as it was imported."""
    store = ModelStore(order.models_dir)
    imported = {model.name: model for model in store.all()}
    for name in order.models:
        if name not in imported:
            there = ", ".join(imported) or "none"
            raise SetupError(f"No imported model has the name {name!r}; imported in {store.folder}: {there}.")
        if faults := store.faults(imported[name]):
            raise SetupError(faults[0])
    return [store.folder / name for name in order.models]


def _fill(
    top: Path, order: BundleOrder, packages: Sequence[metadata.Distribution], models: Sequence[Path]
) -> list[str]:
    wheels = top / "wheels"
    wheels.mkdir(parents=True)
    if order.python in ("", HERE) and order.torch in ("", _torch_of(packages)):
        names = [package.metadata["Name"] for package in packages]
        for package in packages:
            pack(package, wheels, names)
    else:
        torch = order.torch or _torch_of(packages)
        fetch(packages, wheels, python=order.python or HERE, machine=platform.machine(), torch=torch)
    components = [sbom.of_wheel(wheel, top / "licences") for wheel in sorted(wheels.iterdir())]
    for model in models:
        shutil.copytree(model, top / "models" / model.name)
        components.append(sbom.of_model(top / "models" / model.name, top / "licences"))
    if order.with_debs:
        components += debs.fetch(top / "debs", top / "licences")
        (top / "distribution").write_text(f"{debs.distribution()}\n")
    shutil.copytree(DATA / "systemd", top / "systemd")
    shutil.copy(DATA / "config.toml", top)
    shutil.copy(DATA / "install.sh", top)
    (top / "install.sh").chmod(0o755)
    (top / "sbom.json").write_text(json.dumps(sbom.document(components), indent=1) + "\n")
    (top / "version").write_text(f"{__version__}\n")
    (top / "python").write_text(f"{order.python or HERE}\n")
    (top / "machine").write_text(f"{platform.machine()}\n")
    (top / "torch").write_text(f"{order.torch or _torch_of(packages)}\n")
    sums = [f"{digest(p)[0]}  {p.relative_to(top)}\n" for p in sorted(top.rglob("*")) if p.is_file()]
    (top / "SHA256SUMS").write_text("".join(sums))
    return [f"{component['name']} {component['version']}" for component in components]


def _torch_of(packages: Sequence[metadata.Distribution]) -> str:
    """What the installed torch computes on: torch's own indexes mark the build without CUDA, PyPI's has it."""
    version = next((p.version for p in packages if normal(p.metadata["Name"]) == "torch"), "")
    return "cpu" if version.endswith("+cpu") or platform.machine() != "x86_64" else "cuda"


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
