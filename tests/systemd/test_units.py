"""The unit files as text: valid, hardened, explained, and the same in the wheel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.site import ROOT

UNITS = ROOT / "systemd"
SHIPPED = ROOT / "heygemd" / "data" / "systemd"
SERVICES = ("heygemd.service", "heygemd@.service")
HOOKS = ("heygemd-hook.socket", "heygemd-hook@.service")
EXAMPLES = sorted(path.name for path in (UNITS / "examples").glob("*.conf") if path.name != "smb.conf")

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def tree(tmp_path: Path, dropin: str | None = None) -> Path:
    """A root with the units installed in it, for ``systemd-analyze --root``."""
    root = tmp_path / "root"
    units = root / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for name in (*SERVICES, *HOOKS):
        shutil.copy(UNITS / name, units / name)
    program = root / "opt" / "heygemd" / "bin" / "heygemd"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    if dropin:
        (units / "heygemd.service.d").mkdir()
        shutil.copy(UNITS / "examples" / dropin, units / "heygemd.service.d")
    targets = ("sysinit.target", "basic.target", "shutdown.target", "sockets.target")
    for name in (*targets, "system-heygemd\\x2dhook.slice", "system.slice", "-.slice"):
        (units / name).write_text("[Unit]\nDefaultDependencies=no\n")
    return root


def verify(root: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """``systemd-analyze verify`` such that an unknown key is a fault, which by itself it is not."""
    command = ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", f"--root={root}", *names]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["heygemd.service", "heygemd@a.service", "heygemd-hook.socket"])
@analyze
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path, name: str) -> None:
    done = verify(tree(tmp_path), name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("example", EXAMPLES)
@analyze
def test_systemd_has_nothing_to_say_about_the_example_drop_ins(tmp_path: Path, example: str) -> None:
    done = verify(tree(tmp_path, example), "heygemd.service")
    assert (done.returncode, done.stderr) == (0, "")


@analyze
def test_a_mistyped_key_would_be_noticed(tmp_path: Path) -> None:
    root = tree(tmp_path)
    unit = root / "etc" / "systemd" / "system" / "heygemd.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert verify(root, "heygemd.service").returncode != 0


@pytest.mark.parametrize("name", SERVICES)
@analyze
def test_the_exposure_that_systemd_reckons_is_at_most_one(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=10", "--no-pager", str(UNITS / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_wheel_carries_the_same_units() -> None:
    def all_of(folder: Path) -> dict[str, str]:
        return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}

    assert all_of(UNITS) == all_of(SHIPPED)


def test_the_template_is_the_service_with_a_name_in_its_paths() -> None:
    text = (UNITS / "heygemd.service").read_text()
    for plain, named in (
        ("/var/lib/heygemd", "/var/lib/heygemd-%i"), ("/var/cache/heygemd", "/var/cache/heygemd-%i"),
        ("StateDirectory=heygemd\n", "StateDirectory=heygemd-%i\n"),
        ("CacheDirectory=heygemd\n", "CacheDirectory=heygemd-%i\n"),
        ("config.toml", "%i.toml"), ("Description=heygemd,", "Description=heygemd %i,"),
    ):  # fmt: skip
        text = text.replace(plain, named)
    body = "[Unit]" + text.partition("[Unit]")[2]
    assert "[Unit]" + (UNITS / "heygemd@.service").read_text().partition("[Unit]")[2] == body
