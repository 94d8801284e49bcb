"""A renderer that makes films of bytes, so that a life takes a second: the child's protocol, and nothing of media.

A film is a pure function of its template (``film_of``).  A template that begins with ``bad`` makes a film that does
not pass the verification.
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import time

PIECES = 2000
REPLIES = {
    "look": {"audio": {}, "video": {}, "frame": [640, 480]},
    "plan": {"planned": False},
    "warm": None,
}
FACTS = {
    "engine": {"name": "command"}, "face_finder": None, "stages": [], "warnings": [], "passed_through": [],
    "quality": None, "inputs": {}, "output": {}, "verified": True, "versions": {},
    "peak": {"ram_mib": 9, "vram_mib": None},
}  # fmt: skip


def film_of(template: bytes) -> bytes:
    """The film that is made of a template, whole; 130 kB, more than any buffer on the way."""
    return f"{hashlib.sha256(template).hexdigest()}\n".encode() * PIECES


def serve() -> None:
    """One request a line until standard input ends; then nothing of this process is left."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    for line in sys.stdin:
        request = json.loads(line)
        task = request["task"]
        answer = _render(request) if task == "render" else {"type": "done", "result": REPLIES[task]}
        print(json.dumps({"id": request["id"], **answer}), flush=True)
        if os.environ.get("DEATHS_MUTATION") == "publish_before_verify" and request["task"] == "render":
            time.sleep(0.5)
            _finish(request["job"]["work"])
    os._exit(0)


def _render(request: dict) -> dict:
    work, template = request["job"]["work"], request["job"]["video"]
    with open(template, "rb") as file:
        film = film_of(file.read())
    if os.path.exists(os.environ["DEATHS_FILE"] + ".refuse"):
        return _failed("The test refuses it.")
    whole = len(film) if os.environ.get("DEATHS_MUTATION") != "publish_before_verify" else len(film) // 2
    with open(f"{work}/command.mp4", "wb") as file:
        file.write(film[:whole])
    with open(template, "rb") as file:
        if file.read(3) == b"bad":
            return _failed("The film is no film.")
    os.rename(f"{work}/command.mp4", f"{work}/film.mp4")
    return {"type": "done", "result": {**FACTS, "film": f"{work}/film.mp4"}}


def _finish(work: str) -> None:
    with open(f"{work}/video.mp4", "rb") as file:
        film = film_of(file.read())
    with open(f"{work}/film.mp4", "wb") as file:
        file.write(film)


def _failed(message: str) -> dict:
    return {"type": "failed", "error": {"code": "engine", "message": message, "detail": ""}}


if __name__ == "__main__":
    serve()
