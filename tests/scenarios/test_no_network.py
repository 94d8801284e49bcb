"""The whole daemon in a network namespace without any interface: films are made, and nobody so much as tries to reach
a network.

A line with the default engine and a subfolder with wav2lip (seeded random weights); both find faces with an imported
pack of insightface's form.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline import packs
from tests.pipeline.engines.wav2lip.checkpoints import store_with_random_checkpoint
from tests.pipeline.face.test_landmark_models import FIVE, in_the_models_picture, marks
from tests.pipeline.faces import EYES, placed, portrait
from tests.site import ROOT, Site, ffmpeg

ALONE = ["unshare", "--map-root-user", "--net"]
FPS, SECONDS = 10, 1
TRIES = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"  # an address that belongs to nobody (RFC 5737)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a checkpoint and a pack, both imported as an operator would."""
    folder = tmp_path_factory.mktemp("models")
    store_with_random_checkpoint(folder)
    left, right = placed(0)[:, :2] @ EYES.T + placed(0)[:, 2:]
    eyes = np.stack([left, right], 1)
    io = float(np.hypot(*(eyes[1] - eyes[0])))
    return packs.imported(folder, eyes.mean(0) + FIVE * io, 480, 400, in_the_models_picture(marks()))


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """A second of a swaying portrait, and of speech."""
    voice, film = tmp_path / "voice.wav", tmp_path / "film.mp4"
    ffmpeg("-i", ROOT / "heygemd" / "data" / "demo_speech.flac", "-t", SECONDS, voice)
    raw = b"".join(np.ascontiguousarray(portrait()(i)).tobytes() for i in range(FPS * SECONDS))
    argv = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "480x400", "-r", str(FPS)]
    argv += ["-i", "pipe:0", "-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", str(film)]
    subprocess.run(argv, input=raw, check=True, timeout=60)
    return voice, film


def configured(site: Site, models: Path) -> None:
    """footage on the line, wav2lip in its subfolder ``neural``; reports are made."""
    site.report = "on"
    site.write_config()
    text = site.config.read_text().replace("[daemon]\n", f'[daemon]\nmodels_dir = "{models}"\n')
    text = text.replace('engine = "command"', 'engine = "footage"\nthreads = 1\npreset = "ultrafast"', 1)
    text = text.replace('"command", "footage"', '"wav2lip", "footage"')
    site.config.write_text(f'{text}[line.folders.neural]\nengine = "wav2lip"\n')


def alone(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run in a network namespace of its own, whose loopback is down."""
    return subprocess.run([*ALONE, *argv], env=env, capture_output=True, text=True, timeout=120)


def told(site: Site, name: str) -> dict[str, Any]:
    """A delivered film's log."""
    found: dict[str, Any] = json.loads((site.outbox / name).read_text())
    return found


def test_the_daemon_makes_films_with_both_engines_without_a_network_and_asks_for_none(
    site: Site, models: Path, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody give up the network")
    diary = tmp_path / "diary"
    hooked = os.pathsep.join([str(ROOT / "tests" / "fakes" / "sockets"), str(ROOT)])
    env = {**site.env(), "PYTHONPATH": hooked, "SOCKET_DIARY": str(diary)}
    assert alone([sys.executable, "-c", TRIES], env).returncode, "there is a network after all"
    assert "socket.connect (('192.0.2.1', 80),)" in diary.read_text(), "tries are not written down"
    diary.unlink()
    configured(site, models)
    (site.inbox / "neural").mkdir()
    for folder in (site.inbox, site.inbox / "neural"):
        for source in inputs:
            shutil.copy(source, folder / f"lesson{source.suffix}")
    done = alone(site.command("run", "--once"), env)
    assert done.returncode == 0, done.stderr + (site.state / "heygemd.log").read_text()[-3000:]
    films = {f"{folder}lesson.{kind}" for folder in ("", "neural/") for kind in ("mp4", "json", "report.html")}
    assert set(site.tree("outbox")) == films and site.tree("failed") == []
    for name, renderer in (("lesson.json", ("two-layer", "warp")), ("neural/lesson.json", ("wav2lip-96",))):
        film = told(site, name)
        assert film["face_finder"].startswith("insightface: ") and film["engine"]["renderer"] in renderer
    noted = diary.read_text().splitlines()
    assert any("heygemd.pipeline" in line for line in noted), "the renderer's child was not watched"
    assert [line for line in noted if not line.startswith("started ")] == []
