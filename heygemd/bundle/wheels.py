"""Makes the wheels of a bundle: packed again from what is installed here, or fetched for another Python or torch.

``pack`` makes a wheel of an installed distribution, so that what was tried here is what arrives there.  ``fetch`` lets
pip choose and download what must be another: the packages with machine code, for the target's Python and processor.
"""

from __future__ import annotations

import base64
import hashlib
import re
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from heygemd.common.errors import SetupError
from heygemd.common.shipped import PACKAGE

Find = Callable[[str], metadata.Distribution]

TORCH = {"cpu": "https://download.pytorch.org/whl/cpu", "cuda": None}
"""Index of each torch build; the CUDA build is on PyPI."""
INSTEAD = {"opencv-python": ("opencv-python-headless",), "onnxruntime": ("onnxruntime-gpu",)}
"""What does as well: the same without windows, which a server has no use for; the same with CUDA."""
OLDEST_GLIBC, NEWEST_GLIBC = 17, 36
"""Wheels are taken for glibc 2.17 up to Debian 12's 2.36."""
FETCH_SECONDS = 7200.0
_NOT_PACKED = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def closure(name: str, find: Find) -> list[metadata.Distribution]:
    """The distribution and all that it needs, sorted by name.

    What is needed only under a condition (another system, an older Python) counts where it is installed.  Raises
    ``SetupError`` where something that is needed is not.
    """
    needed: dict[str, metadata.Distribution] = {}
    open_ = [(name, "")]
    while open_:
        wanted, condition = open_.pop()
        if normal(wanted) in needed or "extra ==" in condition:
            continue
        package = _installed(wanted, find)
        if package is None:
            if condition:
                continue
            raise SetupError(
                f"{wanted} is required but not installed here; install heygemd with all its dependencies first."
            )
        if normal(package.metadata["Name"]) in needed:
            continue
        needed[normal(package.metadata["Name"])] = package
        for line in package.requires or ():
            match = re.match(r"[A-Za-z0-9._-]+", line)
            if match:
                open_.append((match[0], line.partition(";")[2]))
    return [needed[key] for key in sorted(needed)]


def _installed(name: str, find: Find) -> metadata.Distribution | None:
    for choice in (name, *INSTEAD.get(normal(name), ())):
        try:
            return find(choice)
        except metadata.PackageNotFoundError:
            continue
    return None


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ---------------------------------------------------------------- from what is installed


def pack(package: metadata.Distribution, folder: Path, instead: Sequence[str] = ()) -> Path:
    """The installed distribution as a wheel in ``folder``; its programs are made again from its entry points.

    ``instead`` names distributions that stand in for others (``INSTEAD``): what asks for those asks for these then.
    """
    name = re.sub(r"[-_.]+", "_", package.metadata["Name"])
    info = f"{name}-{package.version}.dist-info"
    own = normal(name) == "heygemd"
    content = dict(_own_files(package, info) if own else _files(package, info))
    if (kind := content.get(f"{info}/WHEEL")) is None:
        raise SetupError(f"{package.metadata['Name']} was not installed from a wheel; reinstall it with pip.")
    about = f"{info}/METADATA"
    content[about] = _asking(_bytes(content[about]), instead)
    path = folder / f"{name}-{package.version}-{_tags(_bytes(kind).decode())}.whl"
    rows = []
    with zipfile.ZipFile(path, "w") as wheel:  # stored, not deflated: a tar of gigabytes is packed once, not twice
        for target in sorted(content):
            data, entry = _bytes(content[target]), zipfile.ZipInfo(target, _EPOCH)
            entry.external_attr = _mode(content[target]) << 16
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{_quoted(target)},sha256={digest},{len(data)}\n")
            wheel.writestr(entry, data)
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", _EPOCH), "".join([*rows, f"{info}/RECORD,,\n"]))
    return path


def _bytes(content: Path | bytes) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _mode(content: Path | bytes) -> int:
    """A program among the files stays one."""
    return content.stat().st_mode if isinstance(content, Path) else stat.S_IFREG | 0o644


def _files(package: metadata.Distribution, info: str) -> Iterator[tuple[str, Path | bytes]]:
    """Files unpacked into site-packages; ``info`` is the name of the wheel's metadata folder."""
    for file in package.files or ():
        first, *rest = file.parts
        if first == ".." or "__pycache__" in file.parts:
            continue
        if first.endswith(".dist-info"):
            if rest[-1] in _NOT_PACKED:
                continue
            first = info
        yield "/".join([first, *rest]), Path(str(package.locate_file(file)))


def _asking(about: bytes, instead: Sequence[str]) -> bytes:
    """A wheel's METADATA that asks for what stands in for others."""
    there = {normal(name) for name in instead}
    for name, others in INSTEAD.items():
        for other in there.intersection(others) if name not in there else ():
            about = re.sub(rb"(?m)^(Requires-Dist: )%s\b(?!-)" % name.encode(), rb"\g<1>%s" % other.encode(), about)
    return about


def _own_files(package: metadata.Distribution, info: str) -> Iterator[tuple[str, Path | bytes]]:
    """heygemd itself, which may run from its source tree."""
    home = PACKAGE
    for path in sorted(home.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"heygemd/{path.relative_to(home)}", path
    about = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
    yield f"{info}/METADATA", about.encode()
    yield f"{info}/entry_points.txt", b"[console_scripts]\nheygemd = heygemd.cli.main:main\n"
    yield f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: heygemd\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    licence = home.parent / "LICENSE"
    kept = [Path(str(package.locate_file(file))) for file in package.files or () if file.name == "LICENSE"]
    for text in [path for path in (*kept, licence) if path.is_file()][:1]:
        yield f"{info}/licenses/LICENSE", text


def _tags(text: str) -> str:
    """``cp311-cp311-manylinux_2_28_x86_64`` from the tags in a wheel's own words."""
    triples = [tag.split("-") for tag in HeaderParser().parsestr(text).get_all("Tag") or ["py3-none-any"]]
    return "-".join(".".join(dict.fromkeys(triple[part] for triple in triples)) for part in range(3))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


# ---------------------------------------------------------------- for another target


def fetch(
    packages: Sequence[metadata.Distribution], folder: Path, *, python: str, machine: str, torch: str | None
) -> None:
    """Fill ``folder`` with the wheels for another Python (``3.13``), processor or torch build (``TORCH``).

    Pure packages are packed from here, with heygemd; pip fetches the rest in the versions installed here, from the
    indexes that it is configured with.  Raises ``SetupError`` with pip's words.
    """
    instead = [package.metadata["Name"] for package in packages]
    versions = {normal(p.metadata["Name"]): p.version.partition("+")[0] for p in packages}
    with tempfile.TemporaryDirectory(prefix="pure-", dir=folder.parent) as scratch:
        pure = Path(scratch)
        for package in packages:
            if normal(package.metadata["Name"]) == "heygemd" or _is_pure(package):
                pack(package, pure, instead)
        pins = pure / "pins.txt"
        local = "+cpu" if torch == "cpu" else ""
        lines = [f"{name}=={version}{local if name == 'torch' else ''}\n" for name, version in versions.items()]
        pins.write_text("".join(lines))
        index = TORCH[torch] if torch else None
        _pip_download(folder, pure, pins, python, machine, index)
    if torch == "cuda" and any("+cpu" in wheel.name for wheel in folder.glob("torch-*")):
        raise SetupError("pip's indexes provided torch's CPU build; restrict pip to pypi.org (PIP_CONFIG_FILE).")


def _is_pure(package: metadata.Distribution) -> bool:
    return "-none-any" in (package.read_text("WHEEL") or "")


def _pip_download(folder: Path, pure: Path, pins: Path, python: str, machine: str, index: str | None) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--dest", str(folder)]
    argv += ["--only-binary=:all:", "--find-links", str(pure), "--constraint", str(pins)]
    argv += ["--implementation", "cp", "--python-version", python]
    argv += [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1)]
    argv += [f"--platform=manylinux2014_{machine}", f"--platform=linux_{machine}"]
    if index is not None:
        argv += ["--extra-index-url", index]
    try:
        done = subprocess.run([*argv, "heygemd"], capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise SetupError(f"pip did not fetch everything within {FETCH_SECONDS / 3600:.0f} h.") from None
    if done.returncode:
        output = f"{done.stdout.strip()[-1500:]}\n{done.stderr.strip()[-1500:]}"
        raise SetupError(f"pip could not fetch the packages for Python {python} on {machine}.", detail=output)
