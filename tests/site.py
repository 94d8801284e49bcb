"""A line, its folders and its daemon, for tests: real files, a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heygemd.contract import control

TURBO = """
[intake]
poll_seconds = 0.1
rescan_seconds = 0.3
settle_readings = 2
settle_seconds = 0.1
folder_seconds = 0.3
incomplete_seconds = 0.5
partner_minutes = 60
"""
ROOT = Path(__file__).resolve().parent.parent
HURRY = ROOT / "tests" / "fakes" / "hurry"
DEATHS = ROOT / "tests" / "fakes" / "deaths"
LOOKS: dict[str, dict[str, float]] = {
    "heygemd.common.aio": {
        "Pace.turn": 0.1, "Pace.retry": 0.3, "Pace.queue_first": 0.1, "Pace.queue_longest": 0.3, "Pace.sample": 0.2,
        "Pace.free_space": 0.5, "Pace.status_page": 0.3, "Pace.metrics": 0.3,
    },
    "heygemd.guard.machine": {"_CACHE_SECONDS": 0.05},
    "heygemd.guard.history": {"RETURN_SECONDS": 2.0},
}  # fmt: skip
"""Seconds between two looks at the same thing, a tenth of what a daemon takes: by module, see fakes/hurry."""


def ffmpeg(*args: object) -> None:
    """Run ffmpeg on generated media; its words appear where it fails."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, args)], check=True, timeout=120)


def make_wav(path: Path, seconds: float = 1.0) -> Path:
    """A tone as 16 kHz mono WAV."""
    ffmpeg("-f", "lavfi", "-i", f"sine=330:duration={seconds}", "-ar", 16000, "-ac", 1, path)
    return path


def make_film(path: Path, seconds: float = 1.0, size: str = "64x48", fps: int = 25) -> Path:
    """A small test film without sound."""
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc=size={size}:rate={fps}:duration={seconds}", "-c:v", "libx264",
        "-preset", "ultrafast", "-pix_fmt", "yuv420p", path,
    )  # fmt: skip
    return path


@dataclass
class Site:
    """One line under ``root`` with the ``command`` engine, and a daemon for it."""

    root: Path
    intake: str = TURBO
    extra: str = ""
    report: str = "off"  # of test cards, in which there is no face to be measured
    status_page: str = "off"
    argv: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    hurry: dict[str, dict[str, float]] = field(default_factory=lambda: LOOKS)  # module -> waits that are shorter
    of_bytes: bool = False  # films are of bytes (fakes/deaths), for what is not about media: in a tenth of the time
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.line = self.root / "line"
        self.line.mkdir(exist_ok=True)
        self.state = self.root / "state"
        (self.line / "inbox").mkdir(exist_ok=True)
        self.write_config()

    def __getattr__(self, name: str) -> Path:
        if name in ("inbox", "processing", "outbox", "done", "failed"):
            return self.line / name
        raise AttributeError(name)

    def write_config(self) -> None:
        """The configuration file, from the parts."""
        argv = self.argv or [
            "ffmpeg", "-v", "error", "-y", "-nostdin", "-i", "{video}", "-i", "{audio}", "-map", "0:v", "-map", "1:a",
            "-shortest", "-c:v", "copy", "-c:a", "aac", "{output}",
        ]  # fmt: skip
        self.config = self.root / "config.toml"
        self.config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nstop_seconds = 5\n{self.intake}\n'
            f'[render]\nengine = "command"\n[command]\nargv = {json.dumps(argv)}\n'
            f'[quality]\nreport = "{self.report}"\n'
            f"[limits]\nfree_disk_mib = 1\nfree_ram_mib = 1\n{self.extra}\n"
            f'[[line]]\nname = "main"\nroot = "{self.line}"\nallowed_engines = ["command", "footage"]\n'
            f'status_page = "{self.status_page}"\n'
        )

    def command(self, *args: str, **environment: str) -> list[str]:
        """The argv of a heygemd command on this configuration."""
        return [sys.executable, "-m", "heygemd", *args, "--config", str(self.config)]

    def env(self, **more: str) -> dict[str, str]:
        """The environment of the daemon."""
        fakes = [DEATHS] if self.of_bytes else [HURRY] if self.hurry else []
        own = {"PYTHONPATH": os.pathsep.join(map(str, [*fakes, ROOT])), "HURRY": json.dumps(self.hurry)}
        if self.of_bytes:
            own |= {"DEATHS_FILE": str(self.root / "operations"), "DEATHS_UNCOUNTED": "1"}
        return {**os.environ, **own, **self.environment, **more}

    def once(self, timeout: float = 60, **environment: str) -> int:
        """``run --once``; its exit status (negative: killed by that signal)."""
        done = subprocess.run(
            self.command("run", "--once"), env=self.env(**environment), timeout=timeout, start_new_session=True,
            capture_output=True,
        )  # fmt: skip
        if done.returncode not in (0, 3, -signal.SIGKILL):
            raise AssertionError(done.stderr.decode())
        return done.returncode

    def start(self, **environment: str) -> None:
        """Start the daemon and wait until it answers."""
        self.process = subprocess.Popen(
            self.command("run"), env=self.env(**environment), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=(self.root / "stderr").open("ab"),
        )  # fmt: skip
        self.until(lambda: self.status()["ok"], "the daemon answers")

    def status(self) -> dict[str, Any]:
        """The daemon's status; ``{"ok": False}`` while it does not answer."""
        try:
            return control.call(self.state / "heygemd.sock", {"cmd": "status"})
        except Exception:  # noqa: BLE001
            return {"ok": False}

    def ask(self, **request: Any) -> dict[str, Any]:
        """Any request to the daemon."""
        return control.call(self.state / "heygemd.sock", request)

    def until(self, true: Callable[[], Any], what: str, timeout: float = 30) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if true():
                return
            time.sleep(0.05)
        log = self.state / "heygemd.log"
        tail = log.read_text()[-3000:] if log.exists() else ""
        raise AssertionError(f"not within {timeout} s: {what}\n{(self.root / 'stderr').read_text()[-2000:]}\n{tail}")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process is None:
            return 0
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL to the daemon and everything in its group."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def tree(self, name: str) -> list[str]:
        """All files below one of the line's folders, without our markers, the README for people and request records."""
        folder = self.line / name
        return sorted(
            str(p.relative_to(folder))
            for p in folder.rglob("*")
            if not p.is_dir() and p.name not in (".heygemd-line", ".heygemd-owner", "README.txt", "request.json")
        )

    def events(self) -> list[dict[str, Any]]:
        """The run log."""
        return [json.loads(line) for line in (self.state / "heygemd.log").read_text().splitlines()]
