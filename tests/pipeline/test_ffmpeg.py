"""The one runner: limits, life signs, last words, and no child left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heygemd.common.errors import EngineError, SetupError
from heygemd.pipeline import ffmpeg
from heygemd.pipeline.ffmpeg import UNTRUSTED, Child, Limits, run


def test_answer_code_and_last_words_come_back() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", "err")


def test_what_is_fed_is_read() -> None:
    assert run(["cat"], feed=b"x" * 300_000, stall=20).stdout == b"x" * 300_000


def test_a_silent_child_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"sleep made no progress for 0\.3 seconds"):
        run(["sleep", "60"], stall=0.3)
    assert time.monotonic() - began < 10


def test_a_child_that_stops_reading_is_ended() -> None:
    child = Child(["sleep", "60"], stall=0.3, feed=True)
    with pytest.raises(EngineError, match="made no progress"):
        child.write(memoryview(bytes(4 << 20)))  # more than the pipe holds
    assert not Path(f"/proc/{child.pid}").exists()


def test_writing_to_a_child_that_has_ended_is_told() -> None:
    child = Child(["true"], feed=True)
    time.sleep(0.3)
    assert child.write(memoryview(bytes(1 << 20))) is False
    assert child.finish() == 0


def test_a_missing_program_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg.require.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match=r"ffmpeg is not installed.*apt-get install ffmpeg"):
        run(["ffmpeg", "-version"])
    ffmpeg.require.cache_clear()


def test_limits_hold(tmp_path: Path) -> None:
    target = tmp_path / "file"
    assert run(["sh", "-c", f"echo x > {target}"], limits=UNTRUSTED).code != 0
    assert not target.exists() or target.stat().st_size == 0
    assert run(["sh", "-c", "ulimit -c; ulimit -v"], limits=Limits(memory=1 << 30)).stdout == b"0\n1048576\n"


@pytest.mark.parametrize("asked", [True, False])
def test_an_ffmpeg_that_only_writes_a_file_is_asked_how_far_it_is(tmp_path: Path, asked: bool) -> None:
    """It goes on for longer than the patience with which silence is borne."""
    frames: list[int] = []
    slow = ["-re", "-f", "lavfi", "-i", "color=s=16x16:r=10", "-t", "6", "-c:v", "mpeg4", str(tmp_path / "a.mp4")]
    argv = ["ffmpeg", "-nostdin", "-nostats", "-loglevel", "error", *slow]
    if asked:
        assert run(argv, stall=4, on_frames=frames.append).code == 0
        assert frames[-1] == 60 and frames == sorted(frames) and len(frames) > 3
    else:
        with pytest.raises(EngineError, match="made no progress for 4 seconds"):
            run(argv, stall=4)


def test_a_child_dies_with_its_parent() -> None:
    code = (
        "import sys, time\n"
        "from heygemd.pipeline.ffmpeg import Child\n"
        "child = Child(['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)  # until the tether is tied
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _await_end(pid)


def _await_end(pid: int) -> None:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the child outlived its parent")


def test_ffmpeg_is_described() -> None:
    facts = ffmpeg.ffmpeg_facts()
    assert facts["encoders"]["libx264"] is True
    assert facts["encoders"]["aac"] is True
    assert facts["version"][0].isdigit()
