"""A stand-in for a Duix.Avatar container: its HTTP API and its shared folder as they are described, faults included.

No real container was at hand.  This one keeps to what is published of the API and to what its users report: one task
at a time, refusals that say success, ends that are told once, nothing remembered over a restart, nothing ever removed.
Its films are real: ffmpeg decodes the pictures that were sent, paints a white bar over the lower third while the sound
is loud, and encodes them again with the sound, two frames short.

    python -m tests.fakes.duix FOLDER PORT ['{"busy": 2}']
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

LOUD = 0.2  # of full scale: the bar is painted


@dataclass
class Faults:
    """How it misbehaves: numbers say how often, before it behaves."""

    busy: int = 0  # refuses with 10001 and success
    locked: int = 0  # … with 10003
    wrong: int = 0  # … with 10002
    broken: int = 0  # … with 9999
    http500: int = 0  # answers a submission by HTTP 500, not having heard it
    garbage: int = 0  # answers a submission by something that is no JSON
    mute: int = 0  # takes a submission and closes the connection without an answer
    fail: int = 0  # a task ends with status 3
    said: str = "任务执行失败，异常信息:[no final result]"  # … and this message
    lose: int = 0  # forgets a task, as a restart does
    forget_end: int = 0  # its end was told to somebody else: the film is there, the query says 10004
    late: float = 0.0  # seconds between the end being told and the film being there
    half: float = 0.0  # seconds for which only half of the film is there
    short: int = 2  # frames by which a film is shorter than what was sent
    empty: int = 0  # films of a few frames only
    foreign: int = 0  # films that show something else
    small: int = 0  # films of another size
    junk: int = 0  # films that are none
    hang: bool = False  # never ends
    link: str = ""  # the film is a link to this file
    result: str = ""  # the film is said to be here
    slow: float = 0.0  # seconds that a task takes at least
    query500: int = 0  # answers questions by HTTP 500
    query_garbage: int = 0

    def take(self, name: str) -> bool:
        """Whether it happens this time."""
        left = getattr(self, name)
        setattr(self, name, max(0, left - 1))
        return left > 0


@dataclass
class Duix:
    """The container: ``folder`` is what it has as ``/code/data``."""

    folder: Path
    faults: Faults = field(default_factory=Faults)
    plain: bool = False  #: its film is a copy of what was sent: for tests of the protocol alone
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)  #: every task that was accepted
    running: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def temp(self) -> Path:
        return self.folder / "temp"

    def submit(self, asked: dict[str, Any]) -> tuple[int, Any]:
        """(HTTP status, answer); an answer of bytes is sent as it is, ``None``: none at all."""
        faults = self.faults
        with self.lock:
            if faults.take("http500"):
                return 500, b"<html>Internal Server Error</html>"
            if faults.take("garbage"):
                return 200, b"\xff\xfe{{{"
            if self.running or faults.take("busy"):
                return 200, {"code": 10001, "data": {}, "msg": "忙碌中", "success": True}
            for name, code in (("locked", 10003), ("wrong", 10002), ("broken", 9999)):
                if faults.take(name):
                    return 200, {"code": code, "data": {}, "msg": f"{name} 参数缺失", "success": True}
            if "code" not in asked:
                return 500, b"KeyError"
            code = self.running = str(asked["code"])
            self.submitted.append(code)
            self.tasks[code] = {"code": code, "status": 1, "progress": 0, "result": "", "msg": "任务开始"}
            threading.Thread(target=self._work, args=(code, asked), daemon=True).start()
            if faults.take("mute"):
                return 200, None
            return 200, {"code": 10000, "data": {}, "msg": 10000, "success": True}

    def query(self, code: str) -> tuple[int, Any]:
        """As ``submit``.  An end is told once."""
        with self.lock:
            if self.faults.take("query500"):
                return 500, b"oops"
            if self.faults.take("query_garbage"):
                return 200, b'{"code": '
            task = self.tasks.get(code)
            if task is None:
                return 200, {"code": 10004, "data": {}, "msg": "任务不存在", "success": True}
            if task["status"] != 1:
                del self.tasks[code]
            return 200, {"code": 10000, "data": dict(task), "msg": "", "success": True}

    def _work(self, code: str, asked: dict[str, Any]) -> None:
        faults, task = self.faults, self.tasks[code]
        began = time.monotonic()
        task.update(progress=5, msg="文件下载完成")
        if faults.hang:
            return None
        if faults.take("lose"):
            with self.lock:
                self.tasks.pop(code, None)
                self.running = ""
            return None
        sound, pictures = self.temp / asked["audio_url"], self.temp / asked["video_url"]
        if not sound.is_file():
            return self._end(code, status=3, msg="三次获取音频时长失败")
        (self.temp / f"{code}_format.wav").write_bytes(sound.read_bytes())
        if not pictures.is_file():
            return self._end(code, status=3, msg="视频文件不存在")
        (self.temp / f"{code}_format.mp4").write_bytes(pictures.read_bytes())
        task.update(progress=20, msg="音频特征提取完成")
        if faults.take("fail"):
            return self._end(code, status=3, msg=faults.said)
        made = self.temp / f"{code}-t.mp4"
        try:
            self._make(sound, pictures, made)
        except (subprocess.CalledProcessError, OSError, EOFError, wave.Error) as error:
            return self._end(code, status=3, msg=f"任务执行失败，异常信息:[{error}]")
        time.sleep(max(0.0, faults.slow - (time.monotonic() - began)))
        film, whole = self.temp / f"{code}-r.mp4", made.read_bytes()
        if faults.link:
            film.symlink_to(faults.link)
        elif not faults.late and not faults.half:
            made.replace(film)
        if faults.take("forget_end"):
            with self.lock:
                self.tasks.pop(code, None)
                self.running = ""
            return None
        self._end(code, status=2, progress=100, result=faults.result or f"/{code}-r.mp4", msg="任务完成", cost=1)
        if faults.late or faults.half:
            time.sleep(faults.late)
            film.write_bytes(whole[: len(whole) // 2])
            time.sleep(faults.half)
            film.write_bytes(whole)
        return None

    def _end(self, code: str, **told: Any) -> None:
        with self.lock:
            if code in self.tasks:
                self.tasks[code].update(told)
            self.running = ""

    def _make(self, sound: Path, pictures: Path, film: Path) -> None:
        faults = self.faults
        if faults.take("junk"):
            film.write_bytes(b"\0" * 5000)
            return
        if self.plain:
            film.write_bytes(b"another" if faults.take("foreign") else pictures.read_bytes())
            return
        rate, count = _rate(pictures), _frames(pictures)
        keep = 3 if faults.take("empty") else max(1, min(count, _heard(sound, rate)) - faults.short)
        bars = [f"between(n,{a},{b})" for a, b in _loud(sound, rate)]
        painted = f"drawbox=y=ih*2/3:h=ih/3:c=white:t=fill:enable='{'+'.join(bars) or '0'}'"
        source = ["-i", str(pictures)]
        if faults.take("foreign"):
            painted = "negate,hflip"
        if faults.take("small"):
            painted = "scale=iw/2:-2"
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-nostdin", *source, "-i", str(sound), "-map", "0:v", "-map", "1:a",
             "-vf", painted, "-frames:v", str(keep), "-c:v", "libx264", "-preset", "ultrafast", "-crf", "15",
             "-c:a", "aac", "-ar", "48000", "-f", "mp4", str(film)],
            check=True, timeout=120,
        )  # fmt: skip


def _rate(film: Path) -> float:
    told = _probed(film, "stream=r_frame_rate").split("/")
    return int(told[0]) / int(told[1])


def _frames(film: Path) -> int:
    return int(_probed(film, "stream=nb_frames"))


def _probed(film: Path, entry: str) -> str:
    words = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", entry, "-of", "csv=p=0"]
    return subprocess.run([*words, str(film)], check=True, capture_output=True, text=True).stdout.strip()


def _heard(sound: Path, rate: float) -> int:
    with wave.open(str(sound)) as file:
        return round(file.getnframes() / file.getframerate() * rate)


def _loud(sound: Path, rate: float) -> Iterator[tuple[int, int]]:
    """Ranges of frames, ends included, in which the sound is loud."""
    with wave.open(str(sound)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        hop = file.getframerate() / rate
    loud = [bool(np.abs(samples[int(k * hop) : int((k + 1) * hop)]).max(initial=0) > LOUD)
            for k in range(int(len(samples) / hop))]  # fmt: skip
    begin = None
    for k, heard in enumerate([*loud, False]):
        if heard and begin is None:
            begin = k
        elif not heard and begin is not None:
            yield begin, k - 1
            begin = None


def _handler(duix: Duix) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "Werkzeug/2.0.3"
        sys_version = "Python/3.8.10"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path != "/easy/query":
                self.answer(404, b"not found")
            else:
                self.answer(*duix.query(parse_qs(asked.query).get("code", [""])[0]))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(*duix.submit(json.loads(body)))

        def answer(self, status: int, told: Any) -> None:
            if told is None:
                self.close_connection = True
                return
            data = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def serving(duix: Duix, port: int = 0) -> Iterator[str]:
    """Its address, while it serves in threads of this process."""
    duix.temp.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(duix))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until killed."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    faults = Faults(**json.loads(sys.argv[3])) if len(sys.argv) > 3 else Faults()
    with serving(Duix(folder, faults), port) as url:
        print(url, os.getpid(), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
