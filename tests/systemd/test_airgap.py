"""The real thing: a bundle with everything in it, installed on a minimal Debian that has no network interface.

The service's own default engine makes the films.  The Debian root is made once by debootstrap and kept in
``$HEYGEMD_TEST_ROOT`` (``/var/tmp/heygemd-test-root``), which takes some minutes and a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from heygemd import __version__
from heygemd.bundle import build, debs
from heygemd.common.errors import SetupError
from heygemd.trials import portrait_film
from tests.bundle.test_build import find
from tests.systemd.machine import Machine, lacking

pytestmark = [pytest.mark.systemd, pytest.mark.slow]

KEPT = Path(os.environ.get("HEYGEMD_TEST_ROOT", "/var/tmp/heygemd-test-root"))
PACKAGES = "systemd,python3,python3-venv,ffmpeg"
PYTHON_OF = {"3.11": "bookworm", "3.13": "trixie"}
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
STOPPED = "stopped"
STOP_RENDERER = f"""
for p in $(cat /sys/fs/cgroup/system.slice/heygemd.service/cgroup.procs); do
  if grep -q heygemd.pipeline /proc/$p/cmdline; then kill -STOP $p; echo {STOPPED}; fi
done"""
"""So that the job cannot end, in whatever time the new version is unpacked beside the old one."""
OLD, NEW = "/root/old/heygemd-" + __version__, "/root/new/heygemd-99.0"


def debian(packages: str = PACKAGES, name: str = "") -> Path:
    """A minimal Debian of the release with this machine's Python; skips with the reason where none can be had.

    ``name`` tells roots with other ``packages`` apart.
    """
    if why := lacking():
        pytest.skip(why)
    if HERE not in PYTHON_OF:
        pytest.skip(f"no Debian release has Python {HERE}")
    root = KEPT / f"{PYTHON_OF[HERE]}{name}"
    if (root / "lib/systemd/systemd").exists():
        return root
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed")
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    argv = ["debootstrap", "--variant=minbase", f"--include={packages}", PYTHON_OF[HERE], str(part)]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"debootstrap could not make a Debian root (no network?): {done.stdout[-300:]}")
    part.rename(root)
    return root


def as_version(top: Path, version: str) -> Path:
    """The unpacked bundle as it would be of another version of heygemd; its new place."""
    target = top.parent / f"heygemd-{version}"
    shutil.copytree(top, target, copy_function=os.link)
    (old,) = (target / "wheels").glob("heygemd-*.whl")
    new = old.with_name(old.name.replace(__version__, version))
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as wheel:
        for name in source.namelist():
            data = source.read(name)
            if name == "heygemd/__init__.py":
                data = data.replace(__version__.encode(), version.encode())
            elif name.endswith(".dist-info/METADATA"):
                data = re.sub(rb"(?m)^Version: .*$", b"Version: " + version.encode(), data)
            elif name.endswith(".dist-info/RECORD"):
                data = re.sub(rb"(?m)^(.*?),sha256=[^,]*,\d+$", rb"\1,,", data)
                data = data.replace(__version__.encode() + b".dist-info", version.encode() + b".dist-info")
            wheel.writestr(name.replace(f"{__version__}.dist-info", f"{version}.dist-info"), data)
    old.unlink()
    (target / "version").unlink()
    (target / "version").write_text(f"{version}\n")
    (target / "SHA256SUMS").unlink()
    files = sorted(path for path in target.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(target)}\n" for p in files]
    (target / "SHA256SUMS").write_text("".join(sums))
    return target


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The minimal Debian, booted, with two bundles unpacked: this version and a later one."""
    root, folder = debian(), tmp_path_factory.mktemp("airgap")
    try:
        build.build(build.BundleOrder(folder / "out.tar"))
    except SetupError as error:
        pytest.skip(f"no bundle can be made from this environment: {error.message}")
    (folder / "old").mkdir()
    (folder / "new").mkdir()
    subprocess.run(["tar", "-C", str(folder / "old"), "-xf", str(folder / "out.tar")], check=True)
    as_version(folder / "old" / f"heygemd-{__version__}", "99.0").rename(folder / "new" / "heygemd-99.0")
    portrait_film.write_speech(folder / "speech.flac")
    portrait_film.make_portrait_film(folder / "film.mp4")
    binds = {folder / "old": "/root/old", folder / "new": "/root/new", folder: "/mnt/media"}
    with Machine(binds, root, "4g") as machine:
        yield machine
    shutil.rmtree(folder)


def test_a_server_without_ffmpeg_and_python_takes_both_from_the_bundle(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root, folder = debian("systemd", "-bare"), tmp_path_factory.mktemp("debs")
    if (root / "etc/debian_version").read_text().split(".")[0] not in debs.distribution().split()[1:]:
        pytest.skip(f"this machine is {debs.distribution()}, whose packages do not fit {root.name}")
    try:
        build.build(build.BundleOrder(folder / "out.tar", with_debs=True), find(folder / "stubs"))
    except SetupError as error:
        pytest.skip(f"the distribution's packages cannot be fetched (no network?): {error.message}")
    subprocess.run(["tar", "-C", str(folder), "-xf", str(folder / "out.tar")], check=True)
    with Machine({folder / f"heygemd-{__version__}": "/root/bundle"}, root, "3g") as machine:
        assert "not found" in machine.sh("sh", "-c", "ffmpeg; python3", check=False)
        told = machine.sh("/root/bundle/install.sh", "--no-self-test", timeout=1200)
        assert "installed: heygemd" in told and "Active: active (running)" in told
        assert "ffmpeg version" in machine.sh("ffmpeg", "-version")
        machine.sh("test", "-e", "/srv/heygem/inbox/README.txt")
        machine.sh("sh", "-c", "apt-get check")
    shutil.rmtree(folder)


def test_installed_upgraded_in_the_middle_of_a_job_and_uninstalled(machine: Machine) -> None:
    assert machine.sh("sh", "-c", "ls /sys/class/net; tail -n +2 /proc/net/route").split() in (["lo"], [])
    installed(machine)
    again(machine)
    upgraded(machine)
    gone(machine)


def installed(machine: Machine) -> None:
    """Installed; the self-test's film was made by the service with the default engine."""
    told = machine.sh(f"{OLD}/install.sh", timeout=1200)
    print(told)
    assert "footage works here" in told and "Active: active (running)" in told
    film = re.search(r"Line main delivered a film in \d+ s: (\S+\.mp4)", told)
    assert film is not None
    log = json.loads(machine.sh("cat", film[1].replace(".mp4", ".json")))
    assert log["engine"]["name"] == "footage" and log["verified"] and log["versions"]["heygemd"] == __version__
    assert "Video: h264" in machine.sh("sh", "-c", f"ffprobe {film[1]} 2>&1")
    assert machine.sh("ls", "/srv/heygem/outbox", "/srv/heygem/failed", "/srv/heygem/processing").count("selftest") == 0
    owners = machine.sh("stat", "-c", "%U %a", "/opt/heygemd-models", "/opt/heygemd/bin/heygemd", "/etc/heygemd")
    assert owners.split("\n")[:3] == ["root 755", "root 755", "root 755"]


def again(machine: Machine) -> None:
    """A second time: nothing that was there is touched."""
    machine.sh("sh", "-c", "echo '# ours' >>/etc/heygemd/config.toml; touch /opt/heygemd-models/mine")
    told = machine.sh(f"{OLD}/install.sh", "--no-self-test", timeout=1200)
    assert "installed: heygemd" in told
    assert "# ours" in machine.sh("cat", "/etc/heygemd/config.toml")
    machine.sh("test", "-e", "/opt/heygemd-models/mine")
    assert len(machine.sh("ls", "/opt/heygemd.d").split()) == 1


def upgraded(machine: Machine) -> None:
    """A job that an upgrade interrupts is finished by the new version, once."""
    machine.sh("sed", "-i", "s/^#stop_seconds = .*/stop_seconds = 0.5/", "/etc/heygemd/config.toml")
    machine.sh("systemctl", "reload", "heygemd")
    machine.sh("sh", "-c", "cp /mnt/media/film.mp4 /srv/heygem/inbox/lesson.mp4")
    machine.sh("sh", "-c", "cp /mnt/media/speech.flac /srv/heygem/inbox/lesson.flac")
    machine.until(lambda: re.match(r"job 1 of 1: lesson", machine.show("heygemd", "StatusText")), "the job runs", 60)
    machine.until(lambda: STOPPED in machine.sh("sh", "-c", STOP_RENDERER), "its renderer is held", 60)
    told = machine.sh(f"{NEW}/install.sh", "--no-self-test", timeout=1200)
    assert "installed: heygemd 99.0" in told
    machine.until(lambda: "lesson.json" in machine.sh("ls", "/srv/heygem/outbox"), "the film is delivered", 600)
    log = json.loads(machine.sh("cat", "/srv/heygem/outbox/lesson.json"))
    assert log["versions"]["heygemd"] == "99.0" and log["engine"]["name"] == "footage"
    assert machine.sh("sh", "-c", "cd /srv/heygem/outbox; ls *.mp4 lesson*.json").split() == [
        "lesson.json", "lesson.mp4",
    ]  # fmt: skip
    jobs = json.loads(machine.sh("heygemd", "jobs", "--json"))["jobs"]
    assert [job["name"].split("-")[0] for job in jobs] == ["lesson", "heygemd"]  # the self-test's is remembered
    assert "# ours" in machine.sh("cat", "/etc/heygemd/config.toml")
    machine.sh("test", "-e", "/opt/heygemd-models/mine")


def gone(machine: Machine) -> None:
    """Uninstalled: the program goes, what people made stays."""
    machine.sh(f"{NEW}/install.sh", "--uninstall")
    for path in ("/opt/heygemd", "/opt/heygemd.d", "/usr/local/bin/heygemd", "/etc/systemd/system/heygemd.service"):
        machine.sh("test", "!", "-e", path)
    machine.until(lambda: "lesson" in machine.sh("ls", "/srv/heygem/done"), "the inputs were filed", 1)
    for kept in ("outbox/lesson.mp4", "outbox/lesson.json", "done/lesson/lesson.mp4", "done/lesson/lesson.flac"):
        machine.sh("test", "-e", f"/srv/heygem/{kept}")
    for kept in ("/etc/heygemd/config.toml", "/var/lib/heygemd/journal.sqlite", "/opt/heygemd-models/mine"):
        machine.sh("test", "-e", kept)
