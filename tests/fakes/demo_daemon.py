"""A daemon that only the demo's tests meet: it answers at the socket and delivers, fails, dies or never ends.

``python demo_daemon.py HOW --config FILE``; what it does it leaves as the real one does: films in
``outbox/``, reasons in ``failed/``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from heygemd.contract import control

HOW, CONFIG = sys.argv[1], Path(sys.argv[3])


def main() -> None:
    if HOW == "does_not_start":
        sys.exit("There is no such thing as a line without a folder.")
    settings = tomllib.loads(CONFIG.read_text())
    asyncio.run(serve(Path(settings["daemon"]["socket"]), Path(settings["line"][0]["root"])))


async def serve(socket: Path, root: Path) -> None:
    for name in ("inbox", "outbox", "failed"):
        (root / name).mkdir(parents=True, exist_ok=True)
    state = {"polls": 0}

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["cmd"] == "ping":
            return {}
        state["polls"] += 1
        return status(root, state["polls"])

    async with control.serve(socket, answer):
        if note := os.environ.get("DEMO_TEST_NOTE"):
            Path(note).write_text(str(os.getpid()))
        await asyncio.sleep(120)


def status(root: Path, polls: int) -> dict[str, Any]:
    reply: dict[str, Any] = {"running": [], "queue": [], "waiting": [], "recent": []}
    files = sorted((root / "inbox").iterdir())
    job = {"state": "running", "stage": "mouth", "frame": polls * 10, "of": 40, "fps": 12.5, "reason": None}
    if len(files) < 2 or HOW == "never_ends":
        reply["waiting"] = [{"path": file.name, "reason": "its partner is not here"} for file in files]
    elif HOW == "dies" and polls > 2:
        os.abort()
    elif polls <= 3:
        reply["running"] = [job]
    else:
        reply["recent"] = [end(root, files, job)]
    time.sleep(0.02)
    return reply


def end(root: Path, files: list[Path], job: dict[str, Any]) -> dict[str, Any]:
    if HOW == "fails":
        folder = root / "failed" / "drop"
        folder.mkdir()
        (folder / "reason.txt").write_text("The face in template.mp4 is 31 pixels wide.\n")
        return job | {"state": "failed", "reason": "face_too_small"}
    video = next(file for file in files if file.suffix == ".mp4")
    shutil.copyfile(video, root / "outbox" / video.name)
    (root / "outbox" / f"{video.stem}.json").write_text("{}\n")
    return job | {"state": "delivered", "film": video.stem}


main()
