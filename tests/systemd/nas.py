"""Run inside the machine of ``nas.sh``: a line on a mounted share, watched while other people and the NAS do theirs."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from heygemd.contract import control  # noqa: E402

LINE, NAS = Path(os.environ["LINE"]), Path(os.environ["SHARE"]) / "heygem"
STATE = Path("/run/state")
FILM = 'ffmpeg -v error -y -nostdin -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac -shortest "$3"'
CONFIG = f"""
[daemon]
state_dir = "{STATE}"
[intake]
poll_seconds = 0.5
settle_readings = 2
settle_seconds = 0.5
share_seconds = 5
[render]
engine = "command"
[command]
argv = {json.dumps(["sh", "-c", FILM, "sh", "{video}", "{audio}", "{output}"])}
[quality]
report = "off"
[limits]
free_disk_mib = 1
free_ram_mib = 1
[guard]
lock_dir = "{STATE}"
[[line]]
name = "nas"
root = "{LINE}"
allowed_engines = ["command"]
"""


def status() -> dict[str, Any]:
    try:
        return control.call(STATE / "heygemd.sock", {"cmd": "status"}, timeout=5)
    except Exception as error:  # noqa: BLE001
        return {"ok": False, "lines": [{"state": str(error)}]}


def until(true: Callable[[], Any], what: str, seconds: float = 240) -> float:
    """Wait; how long it took.  Where it does not come true, everything is told and the test ends."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if true():
            print(f"SEEN {what}", flush=True)
            return time.monotonic() - began
        time.sleep(0.2)
    log = STATE / "heygemd.log"
    print(f"MISSED {what}\n{json.dumps(status())}\n{log.read_text()[-3000:] if log.exists() else ''}", flush=True)
    sys.exit(1)


def drop(name: str) -> None:
    """On the NAS's own side, as somebody else's machine would."""
    for source, suffix in (("voice", "wav"), ("film", "mp4")):
        target = NAS / "inbox" / f"{name}.{suffix}"
        shutil.copy(STATE / f"{source}.{suffix}", target)
        os.chmod(target, 0o666)


def main() -> None:
    user = pwd.getpwnam("heygemd")
    os.chown(STATE, user.pw_uid, user.pw_gid)
    sound = ["-f", "lavfi", "-i", "sine=330:duration=1", str(STATE / "voice.wav")]
    picture = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1", "-pix_fmt", "yuv420p"]
    for made in (sound, [*picture, str(STATE / "film.mp4")]):
        subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *made], check=True)
    (STATE / "config.toml").write_text(CONFIG)
    daemon = subprocess.Popen(
        ["setpriv", "--reuid=heygemd", "--regid=heygemd", "--init-groups", sys.executable, "-m", "heygemd", "run",
         "--config", str(STATE / "config.toml")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(STATE)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: status()["lines"][0]["state"] == "ok", "the line is open")
    print(f"WATCH {status()['lines'][0]['watch']}")
    drop("first")
    until(lambda: (NAS / "outbox" / "first.json").exists(), "a film for what others have dropped")
    until(lambda: (NAS / "done" / "first").is_dir(), "the inputs are filed")
    subprocess.run(["bash", "-c", os.environ["HEYGEMD_AWAY"]], check=True)
    until(lambda: status()["lines"][0]["state"] == "unavailable", "the line is called unavailable")
    began = time.monotonic()
    assert status()["ok"] and time.monotonic() - began < 5, "the daemon does not answer while the share is away"
    subprocess.run(["bash", "-c", os.environ["HEYGEMD_SERVE"]], check=True)
    drop("second")
    until(lambda: (NAS / "outbox" / "second.json").exists(), "a film after the share has returned")
    print(f"OUTBOX {sorted(p.name for p in (NAS / 'outbox').glob('*.mp4'))}")
    daemon.terminate()
    print(f"STOPPED {daemon.wait(60)}", flush=True)


if __name__ == "__main__":
    main()
