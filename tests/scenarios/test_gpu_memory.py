"""Out of GPU memory in the middle of a job: a real daemon, a real torch child, torch's own error at the third batch.

The GPU is the stub driver's; ``fakes/cuda`` makes the child take the processor for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.guard.needs import ENGINE_NEEDS
from tests.fakes.stub import GIB, Driver, compiled
from tests.pipeline.engines.wav2lip.checkpoints import store_with_random_checkpoint
from tests.pipeline.faces import portrait
from tests.site import ROOT, Site, ffmpeg

FAKE = str(ROOT / "tests" / "fakes" / "cuda")
FPS, SECONDS = 10, 3
TEN = 10 * GIB
MIB = 1 << 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_with_random_checkpoint(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``voice.wav`` and ``film.mp4``, a swaying portrait."""
    folder = tmp_path_factory.mktemp("inputs")
    ffmpeg("-i", ROOT / "heygemd" / "data" / "demo_speech.flac", "-t", SECONDS, folder / "voice.wav")
    raw = b"".join(np.ascontiguousarray(portrait()(i)).tobytes() for i in range(FPS))
    argv = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "480x400", "-r", str(FPS)]
    argv += ["-i", "pipe:0", "-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", str(folder / "film.mp4")]
    subprocess.run(argv, input=raw, check=True, timeout=60)
    return folder


class Card:
    """A line with wav2lip on a GPU whose memory the test decides about."""

    def __init__(self, folder: Path, models: Path) -> None:
        library = folder / "lib"
        library.mkdir()
        self.driver = Driver(compiled(library), folder / "machine.ini")
        self.fake = folder / "fake"
        self.fake.mkdir()
        environment = {**self.driver.environment, "FAKE_CUDA": str(self.fake), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([FAKE, str(ROOT)])
        self.site = Site(folder / "site", extra="[guard]\nhold_readings = 1\n", environment=environment)
        text = self.site.config.read_text()
        text = text.replace("[daemon]\n", f'[daemon]\nmodels_dir = "{models}"\n')
        render = 'engine = "wav2lip"\nsegment_seconds = 1\nencoder = "libx264"\npreset = "ultrafast"\nthreads = 1\n'
        text = text.replace('engine = "command"\n', f"{render}[wav2lip]\nbatch = 8\n", 1)
        self.site.config.write_text(text.replace('"command", "footage"', '"wav2lip"'))

    def drop(self, inputs: Path, name: str) -> None:
        shutil.copy(inputs / "voice.wav", self.site.inbox / f"{name}.wav")
        shutil.copy(inputs / "film.mp4", self.site.inbox / f"{name}.mp4")

    def film(self, inputs: Path, name: str) -> Path:
        """Drop a pair and wait for its film."""
        self.drop(inputs, name)
        path = self.site.line / "outbox" / f"{name}.mp4"
        self.site.until(path.with_suffix(".json").exists, f"{name} is delivered", timeout=120)
        return path

    def diary(self) -> list[list[list[str]]]:
        """The batches that were made, by process: (batch size, frames, made or out) each."""
        lines = [line.split() for line in (self.fake / "diary").read_text().splitlines()]
        return [[entry[1:] for entry in life] for _, life in groupby(lines, key=lambda entry: entry[0])]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.site.events() if entry["event"] == event]


@pytest.fixture
def card(tmp_path: Path, models: Path) -> Iterator[Card]:
    card = Card(tmp_path, models)
    yield card
    card.site.kill()


def pictures(film: Path) -> np.ndarray:
    """(frames, height, width) of the luma, uint8."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", film, "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        capture_output=True,
        check=True,
    )
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, 400, 480)


def times(film: Path) -> list[str]:
    """When each picture is shown, and when each packet of sound is heard."""
    argv = ["ffprobe", "-v", "error", "-show_entries", "packet=codec_type,pts_time", "-of", "csv=p=0", film]
    return sorted(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    error = float(((one.astype(np.float64) - two) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def test_out_of_memory_at_the_third_batch_costs_half_the_batch_and_nothing_else(card: Card, inputs: Path) -> None:
    card.driver.write(gpu0_total=TEN)
    (card.fake / "limit").write_text(
        "4 4"
    )  # the first whole one measures the template; the third of the film is the fourth
    card.site.start()
    disturbed = card.film(inputs, "disturbed")
    (first, second) = card.diary()
    made = [how for *_, how in first].index("out")
    # A batch that was begun ahead while that one was waited for runs out too.
    assert {batch for batch, *_ in first} == {"8"} and {how for *_, how in first[made:]} == {"out"}
    assert made == 3 and len(first) - made <= 2
    assert {batch for batch, _, _ in second} == {"4"} and {how for *_, how in second} == {"made"}
    kept = card.named("segments_kept")
    assert [(event["segments"], event["of"]) for event in kept] == [(1, SECONDS)]
    whole = [frames for batch, frames, _ in second if frames == batch]
    assert len(whole) < FPS * SECONDS / 4, "what was made is not made again"
    raised = card.site.status()
    assert raised["counts"] == {"delivered": 1}
    (ran_out,) = card.named("gpu_memory_ran_out")
    assert "with a batch of 8" in ran_out["reason"]
    report = json.loads(disturbed.with_suffix(".json").read_text())
    assert report["attempts"] == 1 and report["engine"]["batch"] == 4

    (card.fake / "limit").unlink()
    (card.fake / "diary").unlink()
    undisturbed = card.film(inputs, "undisturbed")
    assert {batch for life in card.diary() for batch, *_ in life} == {"8"}, "the next job begins with a whole batch"
    assert times(disturbed) == times(undisturbed)
    one, two = pictures(disturbed), pictures(undisturbed)
    assert len(one) == len(two) == FPS * SECONDS
    worst = min(psnr(a, b) for a, b in zip(one, two, strict=True))
    print(f"PSNR of the worst frame: {worst:.1f} dB")
    assert worst >= 45


def test_after_the_smallest_batch_the_job_waits_for_more_memory_and_does_not_fail(card: Card, inputs: Path) -> None:
    smallest = ENGINE_NEEDS["wav2lip"].ways[-1]
    used = TEN - (smallest.vram_mib + 100) * MIB
    card.driver.write(gpu0_total=TEN, gpu0_used=used)
    (card.fake / "limit").write_text("0 4")
    card.drop(inputs, "lesson")
    site = card.site
    site.start()
    site.until(lambda: card.named("gpu_memory_ran_out"), "the job runs out of memory", timeout=60)
    wanted = f"needs {smallest.vram_mib * 5 // 4 * 11 // 10} MiB"
    site.until(lambda: wanted in str(site.status().get("queue")), "it waits for a quarter more than was thought")
    assert [life[0][0] for life in card.diary()] == [str(smallest.batch_size)]
    assert site.tree("failed") == []
    (card.fake / "limit").unlink()
    card.driver.write(gpu0_total=TEN)
    site.until(lambda: site.tree("done"), "it goes on once there is more", timeout=60)
    assert card.named("segments_kept")
