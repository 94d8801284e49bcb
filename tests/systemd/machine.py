"""A real systemd for a test: booted as process 1 of namespaces of its own, on a throw-away overlay of this machine
or of another root."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = Path("/lib/systemd/systemd")


def lacking() -> str | None:
    """Why no systemd can be booted here, or ``None``."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    missing = [tool for tool in ("unshare", "nsenter", "systemctl", "journalctl") if shutil.which(tool) is None]
    if missing or not SYSTEMD.exists():
        return f"{', '.join(missing) or SYSTEMD} is not installed"
    if _cgroups() is None:
        return "no cgroup2 is mounted"
    trial = ["unshare", "--fork", "--pid", "--mount", "--ipc", "--uts", "--net", "--cgroup", "mount", "-t", "tmpfs"]
    if subprocess.run([*trial, "tmpfs", "/mnt"], capture_output=True).returncode:
        return "namespaces with mounts of their own are not allowed here"
    return None


def _cgroups() -> Path | None:
    rows = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((Path(row[1]) for row in rows if row[2] == "cgroup2"), None)


class Machine:
    """One booted systemd; ends with its block, and everything in it."""

    def __init__(self, binds: dict[Path, str], root: Path = Path("/"), size: str = "1g") -> None:
        """``binds``: folders of this machine and where they appear, read only, in the new one.

        ``root`` is what the new one sees, and ``size`` how much RAM there is for what is changed in it.
        """
        top = _cgroups()
        assert top is not None
        self._name = f"heygemd-test-{secrets.token_hex(4)}"
        self._folder = Path(tempfile.mkdtemp(prefix=self._name))
        self._leaf = top / self._name
        self._leaf.mkdir()
        self._log = self._folder.with_suffix(".log")
        pairs = [f"{source}:{target}" for source, target in binds.items()]
        with self._log.open("wb") as log:
            self._boot = subprocess.Popen(
                [str(HERE / "boot.sh"), str(self._folder), str(self._leaf), str(root), size, *pairs],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": PATH, "LANG": "C.UTF-8"},
            )  # fmt: skip
        self.pid = 0
        try:
            self.until(self._up, "systemd is up", 30)
        except BaseException:
            self.close()
            raise

    def _up(self) -> bool:
        if self._boot.poll() is not None:
            raise RuntimeError(self._log.read_text())
        with contextlib.suppress(OSError, IndexError):
            boot = self._boot.pid
            self.pid = int(Path(f"/proc/{boot}/task/{boot}/children").read_text().split()[0])
            if Path(f"/proc/{self.pid}/comm").read_text().strip() != "systemd":
                return False
            return self.ctl("is-system-running", check=False).strip() in ("running", "degraded")
        return False

    def sh(self, *argv: str, check: bool = True, put: str | None = None, timeout: float = 60) -> str:
        """Run a program in the machine, as root; its stdout."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-n", "-C", "-r", "-w"]
        done = subprocess.run(
            [*enter, *argv], capture_output=True, text=True, input=put, timeout=timeout,
            env={"PATH": PATH, "LANG": "C.UTF-8"},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def ctl(self, *words: str, check: bool = True) -> str:
        """``systemctl``."""
        return self.sh("systemctl", "--no-pager", *words, check=check)

    def write(self, path: str, text: str) -> None:
        """A file in the machine."""
        self.sh("sh", "-c", f'mkdir -p "$(dirname "{path}")" && cat >"{path}"', put=text)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.ctl("show", unit, "-p", name, "--value").strip()

    def journal(self, *words: str) -> list[dict[str, Any]]:
        """Entries of the journal."""
        text = self.sh("journalctl", "--no-pager", "-q", "--all", "-o", "json", *words)
        return [json.loads(line) for line in text.splitlines()]

    def until(self, true: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        """Wait for something to become true; its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := true():
                return value
            time.sleep(0.1)
        told = self.sh("journalctl", "--no-pager", "-q", "-n", "40", check=False) if self.pid else self._log.read_text()
        raise AssertionError(f"not within {seconds} s: {what}\n{told}")

    def close(self) -> None:
        """End everything in it and leave nothing behind."""
        with contextlib.suppress(OSError):
            (self._leaf / "cgroup.kill").write_text("1")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._boot.pid, signal.SIGKILL)
        self._boot.wait()
        for _ in range(100):
            for folder, _, _ in os.walk(self._leaf, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if not self._leaf.exists():
                break
            time.sleep(0.05)
        self._log.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
