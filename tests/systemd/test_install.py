"""The bundle's install.sh on a machine without any network: installed, run again, uninstalled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heygemd import __version__
from heygemd.bundle import build
from tests.bundle.test_build import a_model, find
from tests.systemd.machine import Machine, lacking

pytestmark = pytest.mark.systemd

PYTHON = f"/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
FOLDER = f"/root/heygemd-{__version__}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the bundle unpacked in it."""
    if why := lacking():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("bundle")
    a_model(folder / "models")
    order = build.BundleOrder(folder / "out.tar", models=("mouths",), models_dir=folder / "models")
    build.build(order, find(folder / "stubs"))
    with Machine({folder: "/opt/bundle", Path(sys.base_prefix): "/opt/python"}) as machine:
        machine.sh("tar", "-C", "/root", "-xf", "/opt/bundle/out.tar")
        yield machine


def install(machine: Machine, *words: str, check: bool = True) -> str:
    """Run install.sh; the self-test needs what the stand-ins for the large packages cannot do."""
    return machine.sh("env", f"PYTHON={PYTHON}", f"{FOLDER}/install.sh", *words, check=check, timeout=180)


def test_a_damaged_bundle_is_refused_before_anything_is_done(machine: Machine) -> None:
    machine.sh("cp", "-r", FOLDER, "/root/damaged")
    machine.sh("sh", "-c", "echo '#' >>/root/damaged/config.toml")
    told = machine.sh("env", f"PYTHON={PYTHON}", "/root/damaged/install.sh", check=False)
    assert "the bundle is damaged" in told
    assert "no such user" in machine.sh("id", "heygemd", check=False)


def test_it_installs_runs_stays_and_goes(machine: Machine) -> None:
    assert machine.sh("ls", "/sys/class/net").split() in ([], ["lo"])
    told = install(machine, "--no-self-test")
    assert "== checking this machine" in told and "Active: active (running)" in told
    assert machine.show("heygemd", "UnitFileState") == "enabled"
    assert machine.sh("stat", "-c", "%a %U %G", "/etc/heygemd/config.toml").strip() == "640 root heygemd"
    machine.until(lambda: machine.show("heygemd", "StatusText") == "idle, 0 delivered", "it serves its line")
    machine.sh("test", "-e", "/srv/heygem/inbox/README.txt")

    machine.sh("sh", "-c", "echo '# ours' >>/etc/heygemd/config.toml; touch /srv/heygem/done/film.mp4")
    before = machine.show("heygemd", "MainPID")
    install(machine, "--no-self-test")
    assert machine.show("heygemd", "ActiveState") == "active" and machine.show("heygemd", "MainPID") != before
    assert "# ours" in machine.sh("cat", "/etc/heygemd/config.toml")

    assert machine.sh("stat", "-c", "%U %a", "/opt/heygemd-models/mouths/weights.safetensors").strip() == "root 644"
    assert "mouths" in machine.sh("/opt/heygemd/bin/heygemd", "models", "list")

    assert "uninstalled; kept:" in install(machine, "--uninstall")
    assert machine.show("heygemd", "LoadState") == "not-found"
    machine.sh("test", "!", "-e", "/opt/heygemd")
    for kept in (
        "/srv/heygem/done/film.mp4",
        "/etc/heygemd/config.toml",
        "/var/lib/heygemd/journal.sqlite",
        "/opt/heygemd-models/mouths",
    ):
        machine.sh("test", "-e", kept)


@pytest.mark.slow
def test_an_upgrade_that_would_not_run_leaves_what_runs(machine: Machine) -> None:
    machine.sh("rm", "-rf", "/etc/heygemd")
    install(machine, "--no-self-test")
    before = machine.show("heygemd", "MainPID")
    machine.sh("sh", "-c", "cp /etc/heygemd/config.toml /root/good; echo 'new_key = 1' >>/etc/heygemd/config.toml")
    told = install(machine, "--no-self-test", check=False)
    assert "refuses /etc/heygemd/config.toml" in told and "unknown key" in told
    assert machine.show("heygemd", "MainPID") == before  # the installed one goes on, untouched
    assert len(machine.sh("ls", "/opt/heygemd.d").split()) == 1
    machine.sh("cp", "/root/good", "/etc/heygemd/config.toml")

    # Nothing starts where the log cannot be written: stands for a version that does not start.
    machine.sh("sh", "-c", "cd /var/lib/heygemd && mv heygemd.log log && mkdir heygemd.log")
    home = machine.sh("readlink", "/opt/heygemd")
    told = install(machine, "--no-self-test", check=False)
    assert "the previous version was restored" in told and machine.sh("readlink", "/opt/heygemd") == home
    machine.sh("rmdir", "/var/lib/heygemd/heygemd.log")
    machine.until(lambda: machine.show("heygemd", "ActiveState") == "active", "the one before runs again", 40)
