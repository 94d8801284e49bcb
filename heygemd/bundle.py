"""``heygemd bundle OUT.tar``: all that a server without a network needs, taken from the environment that runs here.

    heygemd-VERSION/
      install.sh           run it as root on the server; again for an upgrade; --uninstall
      wheels/              heygemd and what it needs, in the very versions installed here
      systemd/ config.toml the units and the commented configuration
      licences/ sbom.json  the licence texts, and a CycloneDX list of what is inside
      python machine       for which Python and processor it is
      SHA256SUMS           of everything else

Installed packages are packed into wheels again, so nothing is fetched and what was tried here is what arrives there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

from heygemd import __version__
from heygemd.errors import SetupError

DATA = Path(__file__).parent / "data"
_NOT_PACKED = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}
_EPOCH = (1980, 1, 1, 0, 0, 0)

Find = Callable[[str], metadata.Distribution]


def build(out: Path, find: Find = metadata.distribution) -> list[str]:
    """Write the bundle; return ``name version`` of what is in it.

    ``find`` gives the installed distributions.  Raises ``SetupError`` where one that is needed is not installed, or
    ``out`` is there already or cannot be written.
    """
    if out.exists():
        raise SetupError(f"{out} is there already; give another name.")
    packages = closure("heygemd", find)
    try:
        with tempfile.TemporaryDirectory(prefix="heygemd-bundle-", dir=out.absolute().parent) as scratch:
            top = Path(scratch) / f"heygemd-{__version__}"
            _fill(top, packages)
            part = Path(scratch) / "bundle.tar"
            with tarfile.open(part, "w") as tar:
                tar.add(top, top.name, filter=_as_root)
            part.rename(out)
    except OSError as error:
        raise SetupError(f"The bundle {out} cannot be written: {error.strerror or error}.") from error
    return [f"{p.metadata['Name']} {p.version}" for p in packages]


def closure(name: str, find: Find) -> list[metadata.Distribution]:
    """The distribution and all that it needs, sorted by name.

    What is needed only under a condition (another system, an older Python) counts where it is installed.
    """
    found: dict[str, metadata.Distribution] = {}
    open_ = [(name, "")]
    while open_:
        wanted, condition = open_.pop()
        key = _normal(wanted)
        if key in found or "extra ==" in condition:
            continue
        try:
            found[key] = find(wanted)
        except metadata.PackageNotFoundError:
            if condition:
                continue
            raise SetupError(f"{wanted} is needed and not installed here; install heygemd whole first.") from None
        for line in found[key].requires or ():
            needed = re.match(r"[A-Za-z0-9._-]+", line)
            if needed:
                open_.append((needed[0], line.partition(";")[2]))
    return [found[key] for key in sorted(found)]


def _fill(top: Path, packages: list[metadata.Distribution]) -> None:
    wheels = top / "wheels"
    wheels.mkdir(parents=True)
    components = []
    for package in packages:
        wheel = pack(package, wheels)
        components.append(_component(package, wheel))
        _copy_licences(package, top / "licences" / f"{package.metadata['Name']}-{package.version}")
    shutil.copytree(DATA / "systemd", top / "systemd")
    shutil.copy(DATA / "config.toml", top)
    shutil.copy(DATA / "install.sh", top)
    (top / "install.sh").chmod(0o755)
    (top / "sbom.json").write_text(json.dumps(_sbom(components), indent=1) + "\n")
    (top / "python").write_text(f"{sys.version_info[0]}.{sys.version_info[1]}\n")
    (top / "machine").write_text(f"{platform.machine()}\n")
    sums = [f"{_sha256(p)}  {p.relative_to(top)}\n" for p in sorted(top.rglob("*")) if p.is_file()]
    (top / "SHA256SUMS").write_text("".join(sums))


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


# ---------------------------------------------------------------- wheels


def pack(package: metadata.Distribution, folder: Path) -> Path:
    """The installed distribution as a wheel in ``folder``; programs are made anew from its entry points."""
    name = re.sub(r"[-_.]+", "_", package.metadata["Name"])
    info = f"{name}-{package.version}.dist-info"
    own = _normal(name) == "heygemd"
    content = dict(_own_files(package, info) if own else _files(package, info))
    if (about := content.get(f"{info}/WHEEL")) is None:
        raise SetupError(f"{package.metadata['Name']} was not installed from a wheel; install it again with pip.")
    path = folder / f"{name}-{package.version}-{_tags(_bytes(about).decode())}.whl"
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
    """What was unpacked into site-packages; ``info`` is how the wheel calls the folder of its own data."""
    for file in package.files or ():
        first, *rest = file.parts
        if first == ".." or "__pycache__" in file.parts:
            continue
        if first.endswith(".dist-info"):
            if rest[-1] in _NOT_PACKED:
                continue
            first = info
        yield "/".join([first, *rest]), Path(str(package.locate_file(file)))


def _own_files(package: metadata.Distribution, info: str) -> Iterator[tuple[str, Path | bytes]]:
    """heygemd itself, which may run from its source tree."""
    home = Path(__file__).parent
    for path in sorted(home.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"heygemd/{path.relative_to(home)}", path
    yield f"{info}/METADATA", (package.read_text("METADATA") or package.read_text("PKG-INFO") or "").encode()
    yield f"{info}/entry_points.txt", b"[console_scripts]\nheygemd = heygemd.cli:main\n"
    yield f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: heygemd\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _tags(text: str) -> str:
    """``cp311-cp311-manylinux_2_28_x86_64`` from the tags in a wheel's own words."""
    triples = [tag.split("-") for tag in HeaderParser().parsestr(text).get_all("Tag") or ["py3-none-any"]]
    return "-".join(".".join(dict.fromkeys(triple[part] for triple in triples)) for part in range(3))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ---------------------------------------------------------------- what is inside


def _copy_licences(package: metadata.Distribution, folder: Path) -> None:
    for file in package.files or ():
        if re.match(r"(licen[cs]e|copying|notice)", file.name, re.IGNORECASE) and ".dist-info" in str(file):
            target = folder / "-".join(part for part in file.parts[1:] if part != "licenses")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(package.locate_file(file)), target)


def _component(package: metadata.Distribution, wheel: Path) -> dict[str, Any]:
    about: Any = package.metadata  # an email.message.Message, of which the typing knows only a part
    classified = "; ".join(_classified(about.get_all("Classifier")))
    licence = about.get("License-Expression") or about.get("License") or classified
    name = _normal(about["Name"])
    return {
        "type": "application" if name == "heygemd" else "library",
        "bom-ref": f"pkg:pypi/{name}@{package.version}", "purl": f"pkg:pypi/{name}@{package.version}",
        "name": about["Name"], "version": package.version,
        "licenses": [{"license": {"name": (licence or "unknown").splitlines()[0][:200]}}],
        "hashes": [{"alg": "SHA-256", "content": _sha256(wheel)}],
    }  # fmt: skip


def _classified(classifiers: Iterable[str] | None) -> list[str]:
    return [c.rpartition(" :: ")[2] for c in classifiers or () if c.startswith("License ::")]


def _sbom(components: list[dict[str, Any]]) -> dict[str, Any]:
    """CycloneDX 1.5; its serial number follows from what is inside."""
    told = json.dumps(components, sort_keys=True)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, told)}",
        "metadata": {"component": next(c for c in components if c["type"] == "application")},
        "components": [c for c in components if c["type"] != "application"],
    }  # fmt: skip


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
