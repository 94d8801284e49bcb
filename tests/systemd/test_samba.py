"""The share on this very server: the shipped section of smb.conf, a real smbd, and a user with smbclient."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.site import ROOT
from tests.systemd.machine import Machine
from tests.systemd.service import Service

pytestmark = pytest.mark.systemd

EXAMPLE = ROOT / "systemd" / "examples" / "smb.conf"
GLOBAL = """[global]
   server role = standalone server
   disable netbios = yes
   smb ports = 445
   load printers = no
   interfaces = lo
"""


@pytest.mark.skipif(shutil.which("testparm") is None, reason="testparm (samba-common-bin) is not installed")
def test_samba_has_nothing_to_say_about_the_section(tmp_path: Path) -> None:
    file = tmp_path / "smb.conf"
    file.write_text(GLOBAL + EXAMPLE.read_text())
    done = subprocess.run(["testparm", "-s", file], capture_output=True, text=True)
    assert done.returncode == 0 and "Unknown parameter" not in done.stderr, done.stderr
    assert "[heygem]" in done.stdout and "Ignoring" not in done.stderr
    file.write_text(GLOBAL + EXAMPLE.read_text().replace("force group", "force groop"))
    assert "Unknown parameter" in subprocess.run(["testparm", "-s", file], capture_output=True, text=True).stderr


@pytest.fixture
def share(machine: Machine, service: Service) -> Service:
    """The line as a share, for alice; mallory has a password too and is in no group of ours."""
    if missing := [tool for tool in ("smbd", "smbclient", "smbpasswd", "ip") if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    machine.sh("ip", "link", "set", "lo", "up")
    machine.write("/etc/samba/smb.conf", GLOBAL + EXAMPLE.read_text())
    machine.sh("useradd", "mallory", check=False)
    for name in ("alice", "mallory"):
        machine.sh("smbpasswd", "-s", "-a", name, put="secret\nsecret\n")
    machine.ctl("stop", "smbd-test", check=False)
    machine.sh("mkdir", "-p", "/run/samba", "/var/log/samba", "/var/cache/samba")
    machine.sh("systemd-run", "--unit=smbd-test", "smbd", "--foreground", "--no-process-group")
    service.start()
    machine.until(lambda: "inbox" in client(machine, "ls"), "the share answers")
    return service


def client(machine: Machine, commands: str, user: str = "alice") -> str:
    """What smbclient says to the commands, refusals included."""
    return machine.sh("smbclient", "//127.0.0.1/heygem", "-U", f"{user}%secret", "-c", commands, check=False)


def test_a_user_drops_a_pair_over_the_share_and_collects_the_film(share: Service) -> None:
    machine = share.machine
    client(machine, "cd inbox; put /opt/media/voice.wav 课程.wav; put /opt/media/film.mp4 课程.mp4")
    share.wait_for_film("课程")
    machine.until(lambda: share.exists("/srv/heygem/done/课程"), "the inputs are filed")
    assert "NT_STATUS" not in client(machine, "cd outbox; get 课程.mp4 /tmp/film.mp4; get 课程.json /tmp/film.json")
    assert "Video: h264" in machine.sh("sh", "-c", "ffprobe /tmp/film.mp4 2>&1")
    assert "NT_STATUS" not in client(machine, "cd outbox; del 课程.mp4; del 课程.json")
    assert "NT_STATUS" not in client(machine, "cd done; deltree 课程")
    assert share.films() == [] and machine.sh("ls", "/srv/heygem/done") == ""


def test_a_user_can_neither_see_nor_touch_what_is_the_daemons(share: Service) -> None:
    machine = share.machine
    listed = client(machine, "ls")
    assert "outbox" in listed and "processing" not in listed
    for words in ("cd processing; ls", "put /opt/media/voice.wav processing/x.wav", "put /opt/media/voice.wav x.wav"):
        assert "NT_STATUS" in client(machine, words), words
    assert "NT_STATUS" in client(machine, "del inbox/.heygemd-line")
    assert "NT_STATUS" in client(machine, "rename inbox mine")
    assert share.exists("/srv/heygem/inbox/.heygemd-line")
    assert "NT_STATUS_ACCESS_DENIED" in client(machine, "ls", user="mallory")
