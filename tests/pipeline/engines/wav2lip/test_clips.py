"""Real people, the real detector, a random checkpoint: what is drawn means nothing, where it is drawn does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.contract.job import Quiet, Settings, Task
from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore
from heygemd.pipeline import lipsync
from tests.pipeline.engines.wav2lip.checkpoints import store_with_random_checkpoint
from tests.pipeline.films import ffmpeg, tone
from tests.site import ROOT

SHARED = ROOT.parent / "shared"
CLIPS, DETECTOR = SHARED / "clips", SHARED / "models" / "scrfd_2.5g_kps.onnx"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.clips,
    pytest.mark.skipif(not (CLIPS.is_dir() and DETECTOR.is_file()), reason="the clips in ../shared are not here"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = store_with_random_checkpoint(tmp_path_factory.mktemp("models"))
    import_model(ModelStore(store), DETECTOR, accept=True, name="scrfd")
    return store


def made(tmp_path: Path, models: Path, video: Path, seconds: float) -> Any:
    (tmp_path / "work").mkdir()
    settings = Settings(engine="wav2lip", device="cpu", finder="insightface", models_dir=str(models), report="off")
    return lipsync(
        Task(tone(tmp_path / "a.wav", seconds), video, tmp_path / "work", "a.wav", "v.mp4", settings), Quiet()
    )


def luma(path: Path) -> np.ndarray:
    size = ["-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
    shown = subprocess.run(["ffprobe", *size, str(path)], capture_output=True, text=True, check=True).stdout
    width, height = (int(n) for n in shown.strip().strip(",").split(","))
    raw = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(raw, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width)


@pytest.mark.parametrize("name", ["vr_1", "vr_4", "st_katie", "ls_2", "mt_sun"])
def test_a_film_of_each_clip_is_made_and_verified(tmp_path: Path, models: Path, name: str) -> None:
    result = made(tmp_path, models, CLIPS / f"{name}.mp4", 1.0).to_json()
    assert result["verified"] and result["face_finder"].startswith("insightface: scrfd")
    assert result["engine"]["renderer"] == "wav2lip-96"


def test_where_the_face_leaves_the_template_is_passed_through(tmp_path: Path, models: Path) -> None:
    video = tmp_path / "leaves.mp4"
    shot = "trim=end_frame={},setpts=PTS-STARTPTS,setsar=1[{}]"
    graph = "[0:v]fps=25,split[a][b];" + ";".join(
        [
            f"[a]{shot.format(40, 'first')}",
            "testsrc2=s=700x700:r=25:d=0.8,setsar=1[bars]",
            f"[b]{shot.format(30, 'again')}",
            "[first][bars][again]concat=n=3:v=1",
        ]
    )
    # Without its sound: in silence a template that is silent itself keeps its own mouth.
    encoded = ("-an", "-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p")
    ffmpeg("-i", CLIPS / "vr_4.mp4", "-filter_complex", graph, *encoded, video)
    result = made(tmp_path, models, video, 3.6)
    (span,) = result.to_json()["passed_through"]
    assert 38 <= span[0] <= 40 and 59 <= span[1] <= 62
    before, after = luma(video)[:90].astype(np.float32), luma(result.film)[:90].astype(np.float32)
    off = ((before - after) ** 2).mean((1, 2))
    assert off[span[0] : span[1] + 1].max() < 10  # the encoder's own, 38 dB
    assert off[10:30].min() > 20  # noise where the mouth is
    outside = np.ones(before.shape[1:], bool)
    changed = np.abs(before[10:30] - after[10:30]).mean(0) > 8
    rows, columns = np.nonzero(changed)
    outside[rows.min() - 8 : rows.max() + 9, columns.min() - 8 : columns.max() + 9] = False
    assert outside.mean() > 0.8 and ((before - after) ** 2)[10:30, outside].mean() < 8
