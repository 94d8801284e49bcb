"""``heygemd bench`` on a video of one's own: the whole way three times, in the form that is promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from heygemd.trials import portrait_film

pytestmark = pytest.mark.slow


def test_the_benchmark_measures_the_same_film_first_cached_and_reported(tmp_path: Path) -> None:
    video = tmp_path / "mine.mp4"
    portrait_film.make_portrait_film(video, 2)
    argv = [sys.executable, "-m", "heygemd", "bench", "--video", str(video), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    runs = {run["name"]: run for run in told["runs"]}
    assert list(runs) == ["mine-first", "mine-cached", "mine-reported"]
    for run in runs.values():
        assert run["ratio_to_transcode"] > 0 and run["times_realtime"] > 0 and run["cpu_ratio"] > 0
        assert run["peak_rss_bytes"] > 50 << 20 and run["renderer"] in ("two-layer", "warp")
        assert {"face", "plan", "render", "verify"} <= set(run["stages"])
    assert ["report" in run["stages"] for run in runs.values()] == [False, False, True]
    assert told["machine"]


def test_the_benchmark_of_wav2lip_makes_its_own_checkpoint_and_measures_the_network_alone(tmp_path: Path) -> None:
    video = tmp_path / "mine.mp4"
    portrait_film.make_portrait_film(video, 1)
    argv = [sys.executable, "-m", "heygemd", "bench", "--engine", "wav2lip", "--video", str(video), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    network = told["network"]
    assert network["plain"]["fps"] > 0 and network["chosen"]["fps"] > 0 and network["psnr_db"] > 45
    assert {run["renderer"] for run in told["runs"]} == {"wav2lip-96"}
