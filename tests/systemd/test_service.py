"""The shipped unit in a real systemd: started, watched, stopped, reloaded, shut in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heygemd.common.log import journald
from tests.systemd.service import FILM, GATED, PYTHON, UNIT, Service

pytestmark = pytest.mark.systemd


def test_it_starts_as_shipped_and_is_started_only_once_the_line_has_been_looked_at(service: Service) -> None:
    service.start()
    assert service.show("ActiveState") == "active" and service.show("NRestarts") == "0"
    assert service.status()["lines"][0]["state"] == "ok"
    assert service.show("StatusText") in ("idle, 0 delivered", "running, 0 queued")
    service.machine.until(lambda: service.show("StatusText") == "idle, 0 delivered", "STATUS tells of idleness")
    assert service.machine.journal("-u", UNIT, f"MESSAGE_ID={journald.message_id('daemon_ready')}")


def test_ready_is_said_after_the_guard_has_spoken_and_the_lines_are_watched(service: Service) -> None:
    service.start()
    told = [
        entry["HEYGEMD_EVENT"] for entry in service.machine.until(lambda: _ready(service), "READY is in the journal")
    ]
    assert told.index("device_chosen") < told.index("daemon_ready")
    assert told.index("line_open") < told.index("daemon_ready")


def _ready(service: Service) -> list[dict[str, Any]]:
    asked = f"_SYSTEMD_INVOCATION_ID={service.show('InvocationID')}"
    entries = [e for e in service.machine.journal(asked) if "HEYGEMD_EVENT" in e]
    return entries if any(e["HEYGEMD_EVENT"] == "daemon_ready" for e in entries) else []


def test_a_line_that_is_not_there_does_not_keep_it_from_starting(service: Service) -> None:
    service.configure(more='[[line]]\nname = "nas"\nroot = "/mnt/nas/heygem"\nallowed_engines = ["command"]\n')
    service.start()
    service.machine.until(lambda: "line nas unavailable" in service.show("StatusText"), "STATUS names the line")
    service.drop()
    service.wait_for_film()


def test_what_a_user_drops_comes_out_as_a_film_that_the_group_owns(service: Service) -> None:
    service.configure(f"sleep 3; {FILM}")
    service.start()
    service.drop("课程 1")
    told = "job 1 of 1: \\u8bfe\\u7a0b 1 "
    service.machine.until(lambda: service.show("StatusText").startswith(told), "STATUS names the job", 5)
    service.wait_for_film("课程 1")
    owner = service.machine.sh(
        "stat", "-c", "%a %U %G", "/srv/heygem/outbox/课程 1.mp4", "/srv/heygem/outbox/课程 1.json"
    )
    assert owner.split("\n")[:2] == ["660 heygemd heygemd-users"] * 2
    as_alice = ("runuser", "-u", "alice", "--")
    service.machine.until(lambda: service.exists("/srv/heygem/done/课程 1"), "the inputs are filed")
    service.machine.sh(*as_alice, "mv", "/srv/heygem/outbox/课程 1.mp4", "/srv/heygem/done/课程 1/mine.mp4")
    assert "Permission denied" in service.machine.sh(*as_alice, "ls", "/srv/heygem/processing", check=False)
    assert "Permission denied" in service.machine.sh(*as_alice, "ls", "/var/lib/heygemd", check=False)


def test_the_journal_finds_everything_about_a_job(service: Service) -> None:
    service.start()
    service.drop()
    service.wait_for_film()
    asked = (f"_PID={service.show('MainPID')}", f"MESSAGE_ID={journald.message_id('film_delivered')}")
    (entry,) = service.machine.until(lambda: service.machine.journal("-u", UNIT, *asked), "the event is there")
    assert (entry["HEYGEMD_EVENT"], entry["HEYGEMD_LINE"], entry["PRIORITY"]) == ("film_delivered", "main", "6")
    assert entry["HEYGEMD_JOB"] == f"{entry['HEYGEMD_DROP']}.1" and entry["_SYSTEMD_UNIT"] == "heygemd.service"
    events = [e["HEYGEMD_EVENT"] for e in service.machine.journal(f"HEYGEMD_JOB={entry['HEYGEMD_JOB']}")]
    assert "job_state" in events and events[-1] == "film_delivered"


PROBE = """
import ctypes, json, mmap, os, socket
def tried(act):
    try:
        act()
        return "may"
    except OSError as error:
        return os.strerror(error.errno)
def own(path):
    open(path, "w").close()
    os.unlink(path)
def run():
    with open("/var/cache/heygemd/probe", "w") as file:
        file.write("#!/bin/sh\\n")
    os.chmod("/var/cache/heygemd/probe", 0o700)
    os.posix_spawn("/var/cache/heygemd/probe", ["probe"], {})
def unshare():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x20000):
        raise OSError(ctypes.get_errno(), "")
def map_code():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
places = ("/etc/x", "/usr/x", "/opt/heygemd/x", "/srv/x", "/srv/heygem/x", "/tmp/x")
found = {path: tried(lambda: own(path)) for path in places}
found |= {
    "home": tried(lambda: os.listdir("/root")), "others": os.listdir("/tmp"),
    "inet": tried(lambda: socket.socket(socket.AF_INET)), "net": os.listdir("/sys/class/net"),
    "fuse": tried(lambda: os.open("/dev/fuse", os.O_RDWR)), "null": tried(lambda: open("/dev/null").close()),
    "init": open("/proc/1/comm").read().strip(), "meminfo": tried(lambda: open("/proc/meminfo").close()),
    "namespaces": tried(unshare), "code": tried(map_code), "cache": tried(run),
    "affinity": tried(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))),
    "caps": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0],
}
json.dump(found, open("/srv/heygem/found.json", "w"))
"""


def test_the_sandbox_holds_from_the_inside_and_lets_through_what_rendering_needs(service: Service) -> None:
    service.machine.write("/opt/heygemd/probe.py", PROBE)
    service.configure(f"{PYTHON} /opt/heygemd/probe.py || exit 9; {FILM}")
    service.start()
    service.drop()
    service.wait_for_film()
    found = json.loads(service.machine.sh("cat", "/srv/heygem/found.json"))
    others, net = found.pop("others"), found.pop("net")
    assert "media" not in others and net in ([], ["lo"])
    read_only, refused = "Read-only file system", "Operation not permitted"
    assert found == {
        "/etc/x": read_only, "/usr/x": read_only, "/opt/heygemd/x": read_only, "/srv/x": read_only,
        "/srv/heygem/x": "may", "/tmp/x": "may", "home": "Permission denied",
        "inet": "Address family not supported by protocol", "fuse": refused, "null": "may",
        "init": "systemd", "meminfo": "may", "namespaces": refused, "code": "may", "cache": "may", "affinity": "may",
        "caps": "0000000000000000",
    }  # fmt: skip


def test_a_loop_that_hangs_is_ended_and_the_job_goes_on_after_the_restart(service: Service) -> None:
    service.configure(GATED)
    service.dropin("[Service]\nWatchdogSec=3\nRestartSec=0.2\n")
    service.start()
    service.drop()
    service.wait_until_running()
    service.machine.sh("kill", "-STOP", service.show("MainPID"))
    service.machine.until(
        lambda: service.show("NRestarts") == "1" and service.show("ActiveState") == "active", "restart"
    )
    told = " ".join(str(e.get("MESSAGE")) for e in service.machine.journal("-u", UNIT))
    assert "Watchdog timeout" in told
    service.machine.sh("touch", "/srv/heygem/go")
    service.wait_for_film()
    assert service.films() == ["lesson.json", "lesson.mp4"]


def test_a_stop_lets_the_job_end_even_where_that_takes_longer_than_systemd_would_wait(service: Service) -> None:
    service.configure(f"touch /srv/heygem/begun; sleep 5; {FILM}", stop_seconds=60)
    service.dropin("[Service]\nTimeoutStopSec=2\n")
    service.start()
    service.drop()
    service.wait_until_running()
    service.machine.ctl("stop", UNIT)
    assert service.show("Result") == "success"
    assert service.exists("/srv/heygem/outbox/lesson.json")


def test_a_job_that_a_stop_has_interrupted_is_made_after_the_start(service: Service) -> None:
    service.configure(GATED, stop_seconds=0.2)
    service.start()
    service.drop()
    service.wait_until_running()
    service.machine.ctl("stop", UNIT)
    assert service.show("Result") == "success"
    assert service.films() == []
    service.machine.sh("touch", "/srv/heygem/go")
    service.start()
    service.wait_for_film()
    service.drop("undisturbed")
    service.wait_for_film("undisturbed")
    service.machine.sh("cmp", "/srv/heygem/outbox/lesson.mp4", "/srv/heygem/outbox/undisturbed.mp4")


def test_several_daemons_stand_side_by_side(service: Service) -> None:
    machine = service.machine
    machine.sh("cp", "/opt/heygemd-source/systemd/heygemd@.service", "/etc/systemd/system/")
    text = machine.sh("cat", "/etc/heygemd/config.toml").replace("/srv/heygem", "/srv/heygem/second")
    text = text.replace("[daemon]", '[daemon]\nstate_dir = "/var/lib/heygemd-second"')
    machine.write("/etc/heygemd/second.toml", text)
    service.start()
    machine.ctl("start", "heygemd@second")
    assert machine.show("heygemd@second", "ActiveState") == "active"
    service.drop()
    for kind, name in (("voice", "wav"), ("film", "mp4")):
        machine.sh("cp", f"/opt/media/{kind}.{name}", f"/srv/heygem/second/inbox/other.{name}")
    service.wait_for_film()
    machine.until(lambda: service.exists("/srv/heygem/second/outbox/other.json"), "the second daemon delivers", 30)
    machine.ctl("stop", "heygemd@second")
    assert service.show("ActiveState") == "active"


def test_a_new_configuration_is_in_force_when_reload_comes_back_and_a_faulty_one_never(service: Service) -> None:
    service.start()
    second = '[[line]]\nname = "second"\nroot = "/srv/heygem/second"\nallowed_engines = ["command"]\n'
    service.configure(more=second.replace("allowed_engines", "allowed_engine"))
    refused = service.machine.ctl("reload", UNIT, check=False)
    assert "failed" in refused and service.show("ActiveState") == "active"
    assert [line["name"] for line in service.status()["lines"]] == ["main"]
    assert any("did you mean" in str(e.get("MESSAGE")) for e in service.machine.journal("-u", UNIT))
    service.configure(more=second)
    service.machine.ctl("reload", UNIT)
    lines = service.status()["lines"]
    assert [(line["name"], line["state"]) for line in lines] == [("main", "ok"), ("second", "ok")]
    service.machine.sh("sh", "-c", "cp /opt/media/voice.wav /srv/heygem/second/inbox/a.wav")
    service.machine.sh("sh", "-c", "cp /opt/media/film.mp4 /srv/heygem/second/inbox/a.mp4")
    service.machine.until(lambda: service.exists("/srv/heygem/second/outbox/a.json"), "the new line works", 30)


def test_a_faulty_configuration_is_not_started_again_and_again(service: Service) -> None:
    service.machine.write("/etc/heygemd/config.toml", "[daemon]\nstop_second = 5\n")
    service.dropin("[Service]\nRestartSec=0.1\n")
    assert "failed" in service.machine.ctl("start", UNIT, check=False)
    service.machine.until(lambda: service.show("ActiveState") == "failed", "it has failed for good", 5)
    assert service.show("NRestarts") == "0" and service.show("ExecMainStatus") == "2"


def test_whatever_else_fails_is_tried_for_ever(service: Service) -> None:
    service.machine.sh("sh", "-c", "mkdir -p /var/lib/heygemd && mkdir /var/lib/heygemd/heygemd.log")
    service.dropin("[Service]\nRestartSec=0.1\n")
    service.machine.ctl("start", "--no-block", UNIT)
    service.machine.until(lambda: int(service.show("NRestarts")) > 6, "more often than the default limit allows", 30)
    service.machine.sh("rmdir", "/var/lib/heygemd/heygemd.log")
    service.machine.until(lambda: service.show("ActiveState") == "active", "it runs as soon as it can")
