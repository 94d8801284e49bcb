"""Memory, processors, processes and disks of this machine, from ``/proc`` and the control groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

MIB = 1 << 20
_CGROUP = Path("/sys/fs/cgroup")
_SCRIPTS = {"/code/app_local.py": "Duix.Avatar container"}
"""Programs that are known by their script, where "python" would say nothing: what holds memory all the time."""


def process_name(pid: int) -> str:
    """What runs under ``pid``, by a telling name; empty where there is no such process here: it is another
    container's."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return ""
    return next((known for word in words[1:3] if (known := _SCRIPTS.get(word))), name)


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is ``ancestor`` or was started, directly or not, by it."""
    for _ in range(64):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        pid = _parent(pid)
    return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def tree_rss_mib(root: int, proc: Path = Path("/proc")) -> int:
    """Resident memory of a process and its descendants, in MiB; shared pages count several times."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it has just ended
                values = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(values[1]), []).append(int(entry.name))
                pages[int(entry.name)] = int(values[21])
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += pages.get(pid, 0)
        todo += children.get(pid, [])
    return total * os.sysconf("SC_PAGESIZE") // MIB


def memory_mib(proc: Path = Path("/proc"), cgroup: Path = _CGROUP) -> tuple[int, int]:
    """Total and available memory in MiB, within this control group's limit if there is one."""
    lines = (proc / "meminfo").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    total, available = kib.get("MemTotal", 0) << 10, kib.get("MemAvailable", kib.get("MemFree", 0)) << 10
    for limit, used in _cgroup_limits(proc, cgroup):
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return total // MIB, available // MIB


def _cgroup_limits(proc: Path, cgroup: Path) -> Iterable[tuple[int, int]]:
    """(limit, used) in bytes of our control group and those above it; page cache that can go is not used."""
    try:
        own = (proc / "self" / "cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return
    folder = cgroup / own
    while folder.is_relative_to(cgroup):
        with contextlib.suppress(OSError, ValueError):
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                current = int((folder / "memory.current").read_text())
                yield int(limit), max(current - int(stat.get("inactive_file", 0)), 0)
        folder = folder.parent


def cpu_count() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, or its architecture if the kernel gives no name."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def disk_free_mib(path: Path) -> int | None:
    """Free disk space for this user at ``path`` or its nearest existing parent, in MiB."""
    size = disk_mib(path)
    return size and size[0]


def disk_mib(path: Path) -> tuple[int, int] | None:
    """Free space for this user and size of the disk, in MiB; see ``disk_free_mib``."""
    for place in (path, *path.parents):
        try:
            stat = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return stat.f_bavail * stat.f_frsize // MIB, stat.f_blocks * stat.f_frsize // MIB
    return None
