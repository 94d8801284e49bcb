"""What goes to a server without a network: packed from what is installed, and installed again from that."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from heygemd import __version__
from heygemd.bundle import build as bundle_build
from heygemd.bundle import debs, sbom, wheels
from heygemd.bundle.build import BundleOrder
from heygemd.common.errors import SetupError
from heygemd.models.store import File, Model, digest

STUBS = {
    "torch", "opencv-python", "opencv-python-headless", "scipy", "numpy", "safetensors", "rich",
    "insightface", "onnx", "onnxruntime", "onnxruntime-gpu",
}  # fmt: skip
"""Too large to be packed in a test; a package without content stands for each."""


def find(folder: Path, stubs: set[str] = STUBS) -> wheels.Find:
    """The installed distributions, with stand-ins for the large ones."""

    def distribution(name: str) -> metadata.Distribution:
        if name not in stubs:
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
    bundle_build.build(BundleOrder(folder / "out.tar"), find(folder / "stubs"))
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


def test_the_list_of_components_is_valid_cyclonedx(top: Path) -> None:
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str((top / "sbom.json").read_text())
    assert error is None, error


def test_a_licence_that_stands_in_the_description_alone_is_told_in_its_words(tmp_path: Path) -> None:
    said = "The code is under the **MIT License**, for all.\nModels are not.\n"
    told = f"## Use\n\nAs you like.\n\n## License\n\n{said}\n# End\n"
    for name, text in (("silent", "# Licensed to no-one\n"), ("telling", told)):
        with zipfile.ZipFile(tmp_path / f"{name}-1.whl", "w") as wheel:
            about = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n\n{text}"
            wheel.writestr(f"{name}-1.dist-info/METADATA", about)
    telling, silent = (sbom.of_wheel(tmp_path / f"{name}-1.whl", tmp_path / "l") for name in ("telling", "silent"))
    assert telling["licenses"][0]["license"]["name"] == "The code is under the MIT License, for all."
    assert silent["licenses"][0]["license"]["name"] == "unknown"
    (kept,) = (path for path in (tmp_path / "l").rglob("*") if path.is_file())
    assert kept.parent.name == "telling-1"
    assert kept.read_text() == said


def test_no_package_that_comes_along_leaves_its_licence_unsaid() -> None:
    packages = wheels.closure("heygemd", metadata.distribution)
    assert [p.metadata["Name"] for p in packages if sbom.licence_of(p.metadata) == "unknown"] == []


def test_its_wheels_install_without_an_index_and_the_command_works(top: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The checkout on PYTHONPATH would count as installed.
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*pip, "--no-index", "--no-compile", "--find-links", top / "wheels", "heygemd"],
        capture_output=True, text=True, cwd=tmp_path, env=alone,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    program = tmp_path / "venv" / "bin" / "heygemd"
    told = subprocess.run(
        [program, "--version"], capture_output=True, text=True, cwd=tmp_path, check=True, env=alone
    ).stdout
    assert told == f"heygemd {__version__}\n"


def test_a_wheel_is_whole_and_the_same_each_time(tmp_path: Path) -> None:
    package = metadata.distribution("watchdog")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (wheels.pack(package, tmp_path / name) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as wheel:
        assert wheel.testzip() is None
        assert not [n for n in wheel.namelist() if "__pycache__" in n or n.startswith("..") or n.endswith("INSTALLER")]


def test_a_package_that_is_needed_and_not_there_is_named(tmp_path: Path) -> None:
    def nothing(name: str) -> metadata.Distribution:
        if name == "heygemd":
            return metadata.distribution(name)
        raise metadata.PackageNotFoundError(name)

    with pytest.raises(SetupError, match="is required but not installed here"):
        bundle_build.build(BundleOrder(tmp_path / "out.tar"), nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.tar").touch()
    with pytest.raises(SetupError, match="already exists"):
        bundle_build.build(BundleOrder(tmp_path / "out.tar"))


def test_opencv_without_windows_does_as_well_and_the_packed_program_asks_for_it(tmp_path: Path) -> None:
    stubs = find(tmp_path / "stubs")

    def headless(name: str) -> metadata.Distribution:
        if name == "opencv-python":
            raise metadata.PackageNotFoundError(name)
        return stubs(name)

    packages = {p.metadata["Name"]: p for p in wheels.closure("heygemd", headless)}
    assert "opencv-python-headless" in packages and "opencv-python" not in packages
    with zipfile.ZipFile(wheels.pack(packages["heygemd"], tmp_path, list(packages))) as wheel:
        about = wheel.read(f"heygemd-{__version__}.dist-info/METADATA").decode()
    assert "Requires-Dist: opencv-python-headless" in about and "Requires-Dist: opencv-python<" not in about


def test_onnxruntime_with_cuda_does_as_well_and_insightface_asks_for_it(tmp_path: Path) -> None:
    stubs = find(tmp_path / "stubs", STUBS | {"onnxruntime-extensions"})
    about = tmp_path / "insightface-99.dist-info"
    shutil.copytree(stubs("insightface").locate_file("insightface-99.dist-info"), about)
    with (about / "METADATA").open("a") as file:
        file.write("Requires-Dist: onnx\nRequires-Dist: onnxruntime\nRequires-Dist: onnxruntime-extensions\n")

    def with_cuda(name: str) -> metadata.Distribution:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return metadata.Distribution.at(about) if name == "insightface" else stubs(name)

    packages = {p.metadata["Name"]: p for p in wheels.closure("heygemd", with_cuda)}
    assert {"insightface", "onnx", "onnxruntime-gpu"} <= set(packages) and "onnxruntime" not in packages
    for name in ("heygemd", "insightface"):
        with zipfile.ZipFile(wheels.pack(packages[name], tmp_path, list(packages))) as wheel:
            (told,) = (wheel.read(n).decode() for n in wheel.namelist() if n.endswith("/METADATA"))
        asked = {re.split(r"[>=;]", line)[0].strip() for line in told.splitlines() if line.startswith("Requires-Dist")}
        assert "Requires-Dist: onnxruntime-gpu" in asked and "Requires-Dist: onnxruntime" not in asked
    assert "Requires-Dist: onnxruntime-extensions" in told and "Requires-Dist: onnx" in asked


# ---------------------------------------------------------------- another target


def stand_in(folder: Path, name: str, version: str, tag: str) -> None:
    """A wheel without content, as an index would have it."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip finds in place of an index: the packages with machine code, for Python 3.13."""
    folder = tmp_path / "index"
    folder.mkdir()
    machine = os.uname().machine
    for name in ("markupsafe", "tomli", "watchdog"):
        stand_in(folder, name, metadata.version(name), f"cp313-cp313-manylinux_2_17_{machine}")
    for build in ("2.13.0", "2.13.0+cpu"):
        stand_in(folder, "torch", build, f"cp313-cp313-manylinux_2_28_{machine}")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize(("torch", "version"), [("cpu", "2.13.0+cpu"), ("cuda", "2.13.0")])
def test_wheels_for_another_python_and_either_torch_are_fetched(
    tmp_path: Path, index: Path, torch: str, version: str
) -> None:
    if torch == "cuda":
        next(index.glob("torch-*+cpu-*")).unlink()
    told = bundle_build.build(BundleOrder(tmp_path / "out.tar", python="3.13", torch=torch), find(tmp_path / "stubs"))
    assert f"torch {version}" in told
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = [name.split("/", 1)[1] for name in tar.getnames() if "/" in name]
        words = {w: tar.extractfile(f"heygemd-{__version__}/{w}").read() for w in ("python", "torch")}  # type: ignore[union-attr]
    assert words == {"python": b"3.13\n", "torch": f"{torch}\n".encode()}
    packed = [name for name in names if name.endswith(".whl")]
    assert any(name.startswith("wheels/tomli-") and "-cp313-cp313-" in name for name in packed)
    assert f"wheels/heygemd-{__version__}-py3-none-any.whl" in packed
    assert any(name.startswith("wheels/sdnotify-") for name in packed)  # has no wheel on any index
    assert not [name for name in packed if "cp311" in name]


def test_what_pip_cannot_find_is_told_in_its_own_words(tmp_path: Path, index: Path) -> None:
    next(index.glob("tomli-*")).unlink()
    with pytest.raises(SetupError, match=r"Python 3\.13") as raised:
        bundle_build.build(BundleOrder(tmp_path / "out.tar", python="3.13"), find(tmp_path / "stubs"))
    assert "tomli" in raised.value.detail and not (tmp_path / "out.tar").exists()


def test_a_python_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is not a Python version"):
        bundle_build.build(BundleOrder(tmp_path / "out.tar", python="py313"))


# ---------------------------------------------------------------- models and the distribution's packages


def a_model(models_dir: Path) -> Model:
    """An imported model."""
    folder = models_dir / "mouths"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    sha256, size = digest(folder / "weights.safetensors")
    file = File("weights.safetensors", sha256, size, "weights")
    model = Model(
        "mouths", "wav2lip", 96, (file,), "mouths.pth", "ab" * 32, None, "research only", "Not for sale.", False, "2026"
    )
    (folder / "model.json").write_text(json.dumps(model.to_json()))
    return model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """An imported model in ``models``."""
    return a_model(tmp_path / "models")


def test_models_travel_with_their_terms(tmp_path: Path, model: Model) -> None:
    order = BundleOrder(tmp_path / "out.tar", models=("mouths",), models_dir=tmp_path / "models")
    assert "mouths abababababab" in bundle_build.build(order, find(tmp_path / "stubs"))
    with tarfile.open(tmp_path / "out.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    top = tmp_path / f"heygemd-{__version__}"
    assert (top / "models" / "mouths" / "weights.safetensors").read_bytes() == b"weights"
    assert "Not for sale." in (top / "licences" / "model-mouths" / "terms.txt").read_text()
    components = {c["name"]: c for c in json.loads((top / "sbom.json").read_text())["components"]}
    assert components["mouths"]["type"] == "machine-learning-model"
    assert components["mouths"]["hashes"][0]["content"] == model.files[0].sha256


def test_a_model_that_is_not_there_or_not_what_was_imported_is_refused(tmp_path: Path, model: Model) -> None:
    order = BundleOrder(tmp_path / "out.tar", models=("ears",), models_dir=tmp_path / "models")
    with pytest.raises(SetupError, match=r"imported in .*: mouths"):
        bundle_build.build(order, find(tmp_path / "stubs"))
    (tmp_path / "models" / "mouths" / "weights.safetensors").write_bytes(b"altered")
    with pytest.raises(SetupError, match="SHA-256 differs"):
        bundle_build.build(BundleOrder(tmp_path / "b.tar", models=(model.name,), models_dir=tmp_path / "models"))


def a_deb(folder: Path) -> Path:
    """A package of its own, with a copyright file."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share/doc/small").mkdir(parents=True)
    (tree / "usr/share/doc/small/copyright").write_text("Free as the wind.\n")
    about = "Package: small\nVersion: 1:2.0+b1\nArchitecture: all\nMaintainer: M <m@example.org>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(about)
    subprocess.run(["dpkg-deb", "--build", tree, folder / "small.deb"], check=True, capture_output=True)
    return folder / "small.deb"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_the_distributions_packages_become_a_repository_that_apt_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deb = a_deb(tmp_path)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "apt-get"
    words = 'case "$w" in *archives=*) cp "$DEB" "${w##*=}";; esac'
    fake.write_text(f'#!/bin/sh\nfor w in "$@"; do {words}; done\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DEB", str(deb))
    (component,) = debs.fetch(tmp_path / "debs", tmp_path / "licences")
    assert component["purl"].endswith("/small@1%3A2.0%2Bb1")
    assert (tmp_path / "licences" / "debs" / "small.txt").read_text() == "Free as the wind.\n"
    listed = (tmp_path / "debs" / "Packages").read_text()
    assert f"SHA256: {digest(deb)[0]}\n" in listed and "Filename: ./small.deb\n" in listed
    assert sorted(p.name for p in (tmp_path / "debs").iterdir()) == ["Packages", "small.deb"]


def test_a_machine_says_which_distribution_it_is(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
    assert debs.distribution(tmp_path / "os-release") == "debian 12"
    with pytest.raises(SetupError, match="does not name the distribution"):
        debs.distribution(tmp_path / "none")
