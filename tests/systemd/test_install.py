"""The bundle's install.sh on a machine without any network: installed, run again, uninstalled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heygemd import __version__, bundle
from tests.systemd.machine import Machine, lacking
from tests.test_bundle import find

pytestmark = pytest.mark.systemd

PYTHON = f"/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
FOLDER = f"/root/heygemd-{__version__}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the bundle unpacked in it."""
    if why := lacking():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("bundle")
    bundle.build(bundle.Order(folder / "out.tar"), find(folder / "stubs"))
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
    assert "== what works here" in told and "Active: active (running)" in told
    assert machine.show("heygemd", "UnitFileState") == "enabled"
    assert machine.sh("stat", "-c", "%a %U %G", "/etc/heygemd/config.toml").strip() == "640 root heygemd"
    machine.until(lambda: machine.show("heygemd", "StatusText") == "idle, 0 delivered", "it serves its line")
    machine.sh("test", "-e", "/srv/heygem/inbox/README.txt")

    machine.sh("sh", "-c", "echo '# ours' >>/etc/heygemd/config.toml; touch /srv/heygem/done/film.mp4")
    before = machine.show("heygemd", "MainPID")
    install(machine, "--no-self-test")
    assert machine.show("heygemd", "ActiveState") == "active" and machine.show("heygemd", "MainPID") != before
    assert "# ours" in machine.sh("cat", "/etc/heygemd/config.toml")

    assert "left as they are" in install(machine, "--uninstall")
    assert machine.show("heygemd", "LoadState") == "not-found"
    machine.sh("test", "!", "-e", "/opt/heygemd")
    for kept in ("/srv/heygem/done/film.mp4", "/etc/heygemd/config.toml", "/var/lib/heygemd/journal.sqlite"):
        machine.sh("test", "-e", kept)
