"""What goes to a server without a network: packed from what is installed, and installed again from that."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from heygemd import __version__, bundle
from heygemd.errors import SetupError

STUBS = {"torch", "opencv-python", "scipy", "numpy", "safetensors", "rich"}
"""Too large to be packed in a test; a package without content stands for each."""


def find(folder: Path) -> bundle.Find:
    """The installed distributions, with stand-ins for the large ones."""

    def distribution(name: str) -> metadata.Distribution:
        if name not in STUBS:
            return metadata.distribution(name)
        info = folder / f"{name.replace('-', '_')}-99.dist-info"
        version = {"torch": "2.13.0", "opencv-python": "4.99"}.get(name, "99")
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: BSD\n")
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/WHEEL,,\n{info.name}/RECORD,,\n")
        return metadata.Distribution.at(info)

    return distribution


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("bundle")
    bundle.build(folder / "out.tar", find(folder / "stubs"))
    assert sorted(p.name for p in folder.iterdir()) == ["out.tar", "stubs"]
    return folder / "out.tar"


@pytest.fixture(scope="module")
def top(tar: Path) -> Path:
    """The bundle, unpacked."""
    with tarfile.open(tar) as file:
        file.extractall(tar.parent / "unpacked", filter="data")
    return tar.parent / "unpacked" / f"heygemd-{__version__}"


def test_everything_in_it_is_summed(top: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=top, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    listed = {line.split("  ", 1)[1] for line in (top / "SHA256SUMS").read_text().splitlines()}
    assert listed == {str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert (top / "install.sh").stat().st_mode & 0o111


def test_the_list_of_what_is_inside_names_version_licence_and_hash_of_each(top: Path) -> None:
    sbom = json.loads((top / "sbom.json").read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "heygemd")
    components = {c["name"]: c for c in sbom["components"]}
    assert {"structlog", "tomli", "torch", "watchdog"} <= components.keys()
    assert len(components) == len(list((top / "wheels").iterdir())) - 1
    assert components["structlog"]["licenses"][0]["license"]["name"] != "unknown"
    assert len(components["torch"]["hashes"][0]["content"]) == 64
    assert list((top / "licences").glob("structlog-*/LICENSE*"))


def test_its_wheels_install_without_an_index_and_the_command_works(top: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-index", "--no-compile", "--find-links", top / "wheels", "heygemd"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    program = tmp_path / "venv" / "bin" / "heygemd"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert told == f"heygemd {__version__}\n"


def test_a_wheel_is_whole_and_the_same_each_time(tmp_path: Path) -> None:
    package = metadata.distribution("watchdog")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (bundle.pack(package, tmp_path / name) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as wheel:
        assert wheel.testzip() is None
        assert not [n for n in wheel.namelist() if "__pycache__" in n or n.startswith("..") or n.endswith("INSTALLER")]


def test_a_package_that_is_needed_and_not_there_is_named(tmp_path: Path) -> None:
    def nothing(name: str) -> metadata.Distribution:
        if name == "heygemd":
            return metadata.distribution(name)
        raise metadata.PackageNotFoundError(name)

    with pytest.raises(SetupError, match="is needed and not installed here"):
        bundle.build(tmp_path / "out.tar", nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.tar").touch()
    with pytest.raises(SetupError, match="is there already"):
        bundle.build(tmp_path / "out.tar")
