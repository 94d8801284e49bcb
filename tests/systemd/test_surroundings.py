"""The shipped unit and what is around it: a full disk, a share that goes away, a GPU that others hold, hooks."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site import ROOT
from tests.systemd.machine import Machine
from tests.systemd.service import FILM, GATED, PYTHON, UNIT, Service

pytestmark = pytest.mark.systemd

OUTBOX = "/srv/heygem/outbox"


@pytest.fixture
def mounted(machine: Machine) -> Iterator[list[str]]:
    """Places that are unmounted afterwards, the last first."""
    places: list[str] = []
    yield places
    machine.ctl("stop", UNIT, check=False)
    for place in reversed(places):
        machine.sh("umount", "-l", place, check=False)


def test_a_disk_that_fills_up_in_the_middle_of_a_job_costs_time_and_no_film(
    service: Service, mounted: list[str]
) -> None:
    machine = service.machine
    options = "size=40m,mode=2770,uid=heygemd,gid=heygemd-users"
    machine.sh("mount", "-t", "tmpfs", "-o", options, "tmpfs", OUTBOX)
    mounted.append(OUTBOX)
    service.configure(GATED)
    service.start()
    service.drop()
    service.wait_until_running()
    machine.sh("sh", "-c", f"head -c 50M /dev/zero >{OUTBOX}/filler 2>/dev/null || true")
    machine.sh("touch", "/srv/heygem/go")
    machine.until(lambda: service.status()["lines"][0]["state"] == "full", "the line is full")
    assert service.films() == [] and service.show("ActiveState") == "active"
    machine.sh("rm", f"{OUTBOX}/filler")
    service.wait_for_film()
    assert service.films() == ["lesson.json", "lesson.mp4"]
    assert service.events("line_has_room") and service.show("NRestarts") == "0"


def test_a_share_that_goes_away_is_waited_for_and_nothing_is_written_below_it(
    service: Service, mounted: list[str]
) -> None:
    machine = service.machine
    machine.sh("mkdir", "-p", "/mnt/store", "/mnt/nas/heygem")
    machine.sh("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/mnt/store")
    machine.sh("install", "-d", "-o", "heygemd", "-g", "heygemd-users", "-m", "2770", "/mnt/store/line")
    machine.sh("chown", "heygemd", "/mnt/nas/heygem")  # the empty folder below could be written: that is the trap
    machine.sh("mount", "--bind", "/mnt/store/line", "/mnt/nas/heygem")
    mounted += ["/mnt/store", "/mnt/nas/heygem"]
    shipped = (ROOT / "systemd" / "examples" / "nas.conf").read_text()
    service.dropin(shipped)
    service.configure(more='[[line]]\nname = "nas"\nroot = "/mnt/nas/heygem"\nallowed_engines = ["command"]\n')
    service.start()
    lines = {line["name"]: line["state"] for line in service.status()["lines"]}
    assert lines == {"main": "ok", "nas": "ok"}

    machine.sh("umount", "-l", "/mnt/nas/heygem")
    machine.until(lambda: "line nas unavailable" in service.show("StatusText"), "STATUS names the line")
    assert machine.sh("ls", "-A", "/mnt/nas/heygem") == ""
    service.drop()
    service.wait_for_film()  # the other line goes on
    assert machine.sh("ls", "-A", "/mnt/nas/heygem") == "" and service.show("ActiveState") == "active"

    machine.sh("mount", "--bind", "/mnt/store/line", "/mnt/nas/heygem")
    for kind, name in (("voice", "wav"), ("film", "mp4")):
        machine.sh("cp", f"/opt/media/{kind}.{name}", f"/mnt/nas/heygem/inbox/back.{name}")
    machine.until(lambda: service.exists("/mnt/store/line/outbox/back.json"), "the line works again", 30)


@pytest.fixture
def gpu(machine: Machine, tmp_path: Path) -> None:
    """A driver's library in the machine, for a GPU of 24000 MiB."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "systemd" / "nvml.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", library, source], check=True)
    folder = machine.sh("sh", "-c", "echo /usr/lib/*-linux-gnu").split()[0]
    put = ["nsenter", "-t", str(machine.pid), "-m", "-r", "-w", "sh", "-c", f"cat >{folder}/libnvidia-ml.so.1"]
    subprocess.run(put, input=library.read_bytes(), check=True)


def test_from_inside_the_sandbox_the_guard_names_who_holds_the_gpu(service: Service, gpu: None) -> None:
    machine = service.machine
    machine.sh("cp", "/bin/sleep", "/usr/local/bin/trainer")
    machine.ctl("stop", "trainer", check=False)
    machine.sh("systemd-run", "--unit=trainer", "--uid=alice", "/usr/local/bin/trainer", "1000")
    holder = machine.show("trainer", "MainPID")
    machine.write("/run/nvml", f"20000 {holder}")
    service.configure()
    machine.sh("sed", "-i", "s/^\\[command\\]/[command]\\ngpu_need_mib = 8000/", "/etc/heygemd/config.toml")
    service.start()
    service.drop()
    told = machine.until(lambda: _waiting(service), "the job waits for the GPU")
    assert "trainer" in told and holder in told
    machine.until(lambda: service.show("StatusText").startswith("1 waiting since "), "STATUS says so")
    assert "trainer" in service.show("StatusText")
    machine.write("/run/nvml", f"100 {holder}")
    service.wait_for_film()
    machine.ctl("stop", "trainer")


@pytest.mark.slow
def test_a_driver_that_hangs_costs_neither_the_running_job_nor_the_daemon(service: Service, gpu: None) -> None:
    machine = service.machine
    machine.write("/run/nvml", "100 1")
    service.configure(GATED)
    machine.sh("sed", "-i", "s/^\\[command\\]/[command]\\ngpu_need_mib = 8000/", "/etc/heygemd/config.toml")
    service.dropin("[Service]\nWatchdogSec=8\n")
    service.start()
    service.drop()
    service.wait_until_running()
    machine.write("/run/nvml", "100 1 20")
    service.drop("next")
    time.sleep(18)  # more than two watchdog times, in which the driver answers nobody
    assert service.show("NRestarts") == "0" and service.status()["running"]
    machine.write("/run/nvml", "100 1")
    machine.sh("touch", "/srv/heygem/go")
    service.wait_for_film()
    service.wait_for_film("next")
    assert service.show("NRestarts") == "0"


def _waiting(service: Service) -> str:
    entries = service.events("job_deferred")
    return str(entries[0]["MESSAGE"]) if entries else ""


REPORT = "{ cat; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; } >$0"


def test_a_hook_runs_outside_the_sandbox_and_one_that_fails_is_logged(service: Service) -> None:
    machine = service.machine
    machine.ctl("start", "heygemd-hook.socket")
    machine.sh("install", "-d", "-o", "heygemd", "/var/hooks")
    done = json.dumps(["sh", "-c", REPORT, "/var/hooks/done"])
    failed = json.dumps(["sh", "-c", "echo ticket system is away >&2; exit 4"])
    probe = "touch /var/hooks/from-inside 2>/srv/heygem/refused || true"
    service.configure(f"{probe}; {FILM}", more=f"[hooks]\non_done = {done}\n")
    service.start()
    service.drop("课 1")
    service.wait_for_film("课 1")
    machine.until(lambda: service.events("hook_ran"), "the hook has run")
    told, *facts = machine.sh("cat", "/var/hooks/done").splitlines()
    notice = json.loads(told)
    assert (notice["event"], notice["film"]) == ("on_done", f"{OUTBOX}/课 1.mp4")
    assert {fact.split(":")[0]: fact.split()[1] for fact in facts} == {"NoNewPrivs": "0", "Seccomp": "0"}
    assert "Read-only" in machine.sh("cat", "/srv/heygem/refused")  # where the renderer may not write
    assert service.events("hook_ran")[0]["HEYGEMD_BY"] == "service"

    service.configure("exit 1", more=f"[hooks]\non_failed = {failed}\n")
    machine.ctl("reload", UNIT)
    service.drop("bad")
    (entry,) = machine.until(lambda: service.events("hook_failed"), "the failure is logged")
    assert "exited with code 4: ticket system is away" in entry["MESSAGE"]
    assert service.show("ActiveState") == "active"
    left = machine.ctl("list-units", "--all", "--plain", "--no-legend", "heygemd-hook@*")
    assert "failed" not in left


def test_what_anybody_else_asks_of_the_hooks_socket_is_refused(service: Service) -> None:
    machine = service.machine
    machine.ctl("start", "heygemd-hook.socket")
    service.configure(more='[hooks]\non_done = ["touch", "/var/tmp/hooked"]\n')
    ask = "import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/heygemd-hook.sock'); "
    ask += "s.sendall(json.dumps({'config': sys.argv[1], 'notice': {'event': 'on_done'}}).encode() + b'\\n'); "
    ask += "print(s.makefile().readline())"
    as_ = ("runuser", "-u")
    refused = machine.sh(*as_, "alice", "--", PYTHON, "-c", ask, "/etc/heygemd/config.toml", check=False)
    assert "Permission denied" in refused
    machine.sh("install", "-o", "heygemd", "/etc/heygemd/config.toml", "/srv/heygem/own.toml")
    own = machine.sh(*as_, "heygemd", "--", PYTHON, "-c", ask, "/srv/heygem/own.toml")
    assert "users other than root" in json.loads(own)["problem"]
    good = machine.sh(*as_, "heygemd", "--", PYTHON, "-c", ask, "/etc/heygemd/config.toml")
    assert json.loads(good) == {"ok": True, "problem": None}


def test_figures_leave_the_sandbox_only_by_the_drop_ins_for_them(service: Service) -> None:
    machine, folder, port = service.machine, "/var/lib/prometheus/node-exporter", 9777
    machine.sh("install", "-d", "-o", "heygemd", folder)  # what setfacl does where the folder is another user's
    service.configure(more=f'[metrics]\ntextfile = "{folder}/heygemd.prom"\nport = {port}\n')
    service.start()
    (refused,) = machine.until(lambda: service.events("metrics_port_refused"), "the port is refused")
    assert "localhost-network.conf" in refused["MESSAGE"]
    (unwritten,) = machine.until(lambda: service.events("metrics_not_written"), "the file is refused")
    assert "Read-only" in unwritten["MESSAGE"]

    for name in ("localhost-network.conf", "prometheus.conf"):
        text = (ROOT / "systemd" / "examples" / name).read_text()
        machine.write(f"/etc/systemd/system/heygemd.service.d/{name}", text)
    machine.ctl("daemon-reload")
    machine.ctl("restart", UNIT)
    ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics', timeout=9).read().decode())"
    machine.sh("ip", "link", "set", "lo", "up", check=False)
    reachable = 'heygemd_line_reachable{line="main"} 1'
    machine.until(lambda: reachable in machine.sh(PYTHON, "-c", ask, check=False), "the port answers")
    assert "heygemd_up 1" in machine.sh("runuser", "-u", "nobody", "--", "cat", f"{folder}/heygemd.prom")
    machine.ctl("stop", UNIT)
    assert "heygemd_up 0" in machine.sh("cat", f"{folder}/heygemd.prom")
