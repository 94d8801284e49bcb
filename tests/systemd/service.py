"""The shipped service in a booted machine, and what one does with it."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.systemd.machine import Machine

PYTHON = f"/opt/heygemd-python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
RUN = f"""#!/bin/sh
export PYTHONPATH=/opt/heygemd-source:/opt/heygemd-packages
export LD_LIBRARY_PATH=/opt/heygemd-python/lib  # a shared build must not find the machine's own libpython
exec {PYTHON} -m heygemd "$@"
"""
FILM = 'ffmpeg -v error -y -nostdin -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac -shortest "$3"'
CONFIG = """
[daemon]
stop_seconds = {stop_seconds}
[intake]
settle_readings = 2
settle_seconds = 0.1
poll_seconds = 0.1
rescan_seconds = 0.3
[render]
engine = "command"
[command]
argv = {argv}
[quality]
report = "off"
[limits]
free_disk_mib = 1
free_ram_mib = 1
[[line]]
name = "main"
root = "/srv/heygem"
allowed_engines = ["command"]
"""
UNIT = "heygemd"
GATED = f"touch /srv/heygem/begun; while [ ! -e /srv/heygem/go ]; do sleep 0.1; done; {FILM}"


class Service:
    """The service in the machine, and what one does with it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def configure(self, script: str = FILM, stop_seconds: float = 5, more: str = "") -> None:
        """Write the configuration with ``script`` as the program behind the engine ``command``."""
        argv = json.dumps(["sh", "-c", script, "sh", "{video}", "{audio}", "{output}"])
        text = CONFIG.format(argv=argv, stop_seconds=stop_seconds) + more
        self.machine.write("/etc/heygemd/config.toml", text)

    def dropin(self, text: str) -> None:
        """Settings over the shipped ones; the next ``fresh`` takes them away."""
        self.machine.write("/etc/systemd/system/heygemd.service.d/test.conf", text)
        self.machine.ctl("daemon-reload")

    def fresh(self) -> None:
        """As just installed."""
        machine = self.machine
        machine.ctl("stop", UNIT, "heygemd-hook.socket", check=False)
        machine.ctl("reset-failed", UNIT, check=False)
        machine.sh("rm", "-rf", "/srv/heygem", "/var/lib/heygemd", "/etc/systemd/system/heygemd.service.d")
        machine.sh("systemd-tmpfiles", "--create", "/opt/heygemd-source/systemd/heygemd.tmpfiles")
        for unit in ("heygemd.service", "heygemd-hook.socket", "heygemd-hook@.service"):
            machine.sh("cp", f"/opt/heygemd-source/systemd/{unit}", "/etc/systemd/system/")
        machine.ctl("daemon-reload")
        self.configure()

    def start(self) -> None:
        self.machine.ctl("start", UNIT)

    def show(self, name: str) -> str:
        return self.machine.show(UNIT, name)

    def drop(self, name: str = "lesson") -> None:
        """Put a pair into the inbox, as one of the share's users."""
        copies = (f'cp /opt/media/{file} "{name}.{file[-3:]}"' for file in ("voice.wav", "film.mp4"))
        script = "; ".join(["umask 0007; cd /srv/heygem/inbox", *copies])
        self.machine.sh("runuser", "-u", "alice", "--", "sh", "-c", script)

    def wait_for_film(self, name: str = "lesson") -> None:
        self.machine.until(lambda: self.exists(f"/srv/heygem/outbox/{name}.json"), f"{name} is delivered", 30)

    def films(self) -> list[str]:
        """What lies in the outbox under the names of drops; the status page is not among it."""
        names = self.machine.sh("ls", "/srv/heygem/outbox").split()
        return [name for name in names if name.endswith((".mp4", ".json")) and name != "status.json"]

    def exists(self, path: str) -> bool:
        return self.machine.sh("sh", "-c", f'[ -e "{path}" ] && echo yes || true').strip() == "yes"

    def status(self) -> dict[str, Any]:
        """What the daemon says, whatever the configuration file now holds."""
        ask = "from heygemd.contract import control; import json, pathlib; "
        ask += "print(json.dumps(control.call(pathlib.Path('/var/lib/heygemd/heygemd.sock'), {'cmd': 'status'})))"
        status: dict[str, Any] = json.loads(
            self.machine.sh("env", "PYTHONPATH=/opt/heygemd-source:/opt/heygemd-packages", PYTHON, "-c", ask)
        )
        return status

    def events(self, name: str, *words: str) -> list[dict[str, Any]]:
        """What the journal has of one event since the service was started last."""
        started = self.show("InvocationID")
        asked = (f"_SYSTEMD_INVOCATION_ID={started}", f"HEYGEMD_EVENT={name}", *words)
        return self.machine.journal(*asked)

    def wait_until_running(self) -> None:
        self.machine.until(lambda: self.exists("/srv/heygem/begun"), "the job runs")
