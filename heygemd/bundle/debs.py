"""Packs the distribution's ffmpeg and python3-venv with all that they need, for a server that has no mirror.

They are in the bundle as a small repository, from which the server's own apt takes what is missing there.  It must be
the same release of the same distribution: packages of another are never mixed in.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from heygemd.bundle import sbom
from heygemd.common.errors import SetupError
from heygemd.models.store import digest

WANTED = ("ffmpeg", "python3", "python3-venv")
FETCH_SECONDS = 3600.0
OS_RELEASE = Path("/etc/os-release")


def distribution(file: Path = OS_RELEASE) -> str:
    """Distribution and release, such as ``debian 12``.  Raises ``SetupError`` if unknown."""
    try:
        rows = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        return f"{rows['ID']} {rows['VERSION_ID']}".replace('"', "")
    except (OSError, KeyError) as error:
        raise SetupError(f"{file} does not name the distribution and its release.") from error


def fetch(folder: Path, licences: Path) -> list[sbom.Component]:
    """Fill ``folder`` with packages and their index; the components for the list of what is inside.

    apt resolves the dependencies as if nothing were installed, from the lists that it has.
    """
    if shutil.which("apt-get") is None:
        raise SetupError("apt-get is not installed here; the packages can be fetched only on Debian or Ubuntu.")
    (folder / "partial").mkdir(parents=True)
    status = folder / "partial" / "status"
    status.touch()
    options = [
        f"Dir::State::status={status}", f"Dir::Cache::archives={folder}", f"Dir::Cache::pkgcache={status}.p",
        f"Dir::Cache::srcpkgcache={status}.s", "Debug::NoLocking=1", "APT::Sandbox::User=root",
        "Acquire::Languages=none",
    ]  # fmt: skip
    argv = ["apt-get", *(f"-o{option}" for option in options), "--yes", "--quiet", "--download-only"]
    _output_of([*argv, "--no-install-recommends", "install", *WANTED])
    shutil.rmtree(folder / "partial")
    (folder / "lock").unlink(missing_ok=True)
    packages = sorted(folder.glob("*.deb"))
    (folder / "Packages").write_text("\n".join(map(_entry, packages)))
    return [_component(package, licences) for package in packages]


def _entry(package: Path) -> str:
    """A package's own fields and what apt must know of the file."""
    control_fields = _output_of(["dpkg-deb", "--field", str(package)]).strip()
    sha256, size = digest(package)
    return f"{control_fields}\nFilename: ./{package.name}\nSize: {size}\nSHA256: {sha256}\n"


def _component(package: Path, licences: Path) -> sbom.Component:
    name, version = _output_of(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(package)]).split()
    text = _copyright(package, name)
    if text:
        target = licences / "debs" / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)
    where = f"pkg:deb/{distribution().split()[0]}/{name}"
    return sbom.component("library", name, version, where, f"licences/debs/{name}.txt" if text else "", package)


def _copyright(package: Path, name: str) -> bytes:
    """The copyright file of a package; empty if it links to another package's."""
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    member = f"./usr/share/doc/{name}/copyright"
    done = subprocess.run(["tar", "-xOf", "-", member], stdin=unpack.stdout, capture_output=True)
    if unpack.stdout is not None:
        unpack.stdout.close()
    unpack.wait()
    return done.stdout if done.returncode == 0 else b""


def _output_of(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{argv[0]} failed: {error}") from error
    if done.returncode:
        raise SetupError(f"{argv[0]} could not fetch or read the packages.", detail=done.stderr.strip()[-2000:])
    return done.stdout
