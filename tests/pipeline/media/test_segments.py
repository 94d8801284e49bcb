"""Films in segments: joined without loss, kept over a death, never taken for another job's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.contract.job import Settings, Task, Wav2LipSettings
from heygemd.pipeline import media
from heygemd.pipeline.media.write.segments import key_of
from tests.site import ROOT, ffmpeg, make_film, make_wav


def task_in(folder: Path, seconds: float = 1.0) -> Task:
    """A task on generated media; nothing of it is rendered here."""
    folder.mkdir(exist_ok=True)
    wav, film = make_wav(folder / "audio.wav"), make_film(folder / "video.mp4", 3.0)
    return Task(wav, film, folder, "a.wav", "v.mp4", Settings(crf=0, preset="ultrafast", segment_seconds=seconds))


def frames_md5(path: Path) -> list[str]:
    """A checksum of each decoded picture."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-f", "framemd5", "-"], capture_output=True, text=True
    )
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


def test_segments_cover_every_frame_once(tmp_path: Path) -> None:
    task = task_in(tmp_path / "work")
    segments = media.segments_of(task, "plan", 70, media.probe(task.video, "v", task.settings).video.fps)
    assert [(s.first, s.stop) for s in segments] == [(0, 25), (25, 50), (50, 70)]


def test_joined_segments_hold_the_very_pictures_of_the_source(tmp_path: Path) -> None:
    task = task_in(tmp_path / "work")
    info = media.probe(task.video, "v", task.settings).video
    clip = media.open_clip(task.video, info, task.settings)
    segments = media.segments_of(task, "plan", 75, clip.fps)
    for segment in segments:
        with media.FilmWriter(segment.path, clip, task.settings) as writer:
            for frame in clip.walk(range(segment.first, segment.stop)):
                writer.write(frame)
        segment.finish()
    media.join(segments, task.work / "silent.mp4", task.settings)
    assert frames_md5(task.work / "silent.mp4") == frames_md5(task.video)
    assert not (task.work / "silent.txt").exists()


def test_a_segment_counts_as_done_only_whole_and_under_its_own_key(tmp_path: Path) -> None:
    task = task_in(tmp_path / "work")
    (segment,) = media.segments_of(replace(task, settings=replace(task.settings, segment_seconds=10)), "plan", 75, 25)
    assert not segment.done()
    segment.path.write_bytes(b"pictures")
    assert not segment.done()  # no receipt: the encoder was still at it
    segment.finish()
    assert segment.done()
    assert not replace(segment, key="of other settings").done()
    assert not replace(segment, stop=76).done()
    segment.path.write_bytes(b"pic")
    assert not segment.done()


@pytest.mark.parametrize("change", ["plan", "settings", "frames", "tools"])
def test_the_key_changes_with_everything_that_decides_a_picture(change: str) -> None:
    whole = {"settings": Settings(), "plan": "a", "frames": 75, "tools": ("libx264",)}
    other = {"settings": Settings(crf=1), "plan": "b", "frames": 76, "tools": ("h264_nvenc",)}
    assert key_of(**whole) != key_of(**whole | {change: other[change]})
    assert key_of(**whole) == key_of(
        **whole | {"settings": Settings(wav2lip=Wav2LipSettings(batch=4), report="off")}
    ), "these decide none"


def render(task: Task, kill_at: int = 0) -> dict[str, object] | None:
    """One life of the child; killed (SIGKILL) once it reports that frame of the render stage."""
    child = subprocess.Popen(
        [sys.executable, "-m", "heygemd.pipeline"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    child.stdin.write(json.dumps({"id": "1", "task": "render", "job": task.to_json()}).encode() + b"\n")
    child.stdin.flush()
    answer = None
    for line in child.stdout:
        message = json.loads(line)
        if message["type"] == "progress" and message["stage"] == "render" and 0 < kill_at <= message["frame"]:
            os.killpg(child.pid, signal.SIGKILL)
            break
        if message["type"] in ("done", "failed"):
            answer = message
            child.stdin.close()
            break
    child.wait(timeout=30)
    if answer is not None:
        assert answer["type"] == "done", answer
        return answer["result"]
    return None


def test_a_worker_killed_in_the_middle_goes_on_and_makes_the_same_film(tmp_path: Path) -> None:
    still = tmp_path / "portrait.png"
    ffmpeg("-i", ROOT / "heygemd" / "data" / "portrait.jpg", "-vf", "crop=432:324:8:0,scale=480:360", still)
    voice = tmp_path / "voice.wav"
    ffmpeg("-i", ROOT / "heygemd" / "data" / "demo_speech.flac", "-t", 2.4, voice)
    films = []
    for name, kill_at in (("undisturbed", 0), ("killed", 36)):
        work = tmp_path / name
        work.mkdir()
        settings = Settings(segment_seconds=0.6, preset="ultrafast", report="off")
        task = Task(voice, still, work, "voice.wav", "portrait.png", settings)
        if kill_at:
            assert render(task, kill_at) is None
            before = {path.name: path.stat().st_mtime_ns for path in work.glob("segment-*.json")}
            assert len(before) >= 2
        assert render(task) is not None
        assert not list(work.glob("segment-*"))
        films.append(frames_md5(work / "film.mp4"))
    assert films[0] == films[1] and len(films[0]) == 60
