"""Killed before each of its file operations, and restarted: nothing lost, nothing twice, nothing half.

``fakes/deaths`` counts the operations of one undisturbed run; then as many runs are each killed (SIGKILL to the
daemon and its file children) before one of them, started again, and judged.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.site import ROOT, Site, make_film, make_wav

DEATHS = str(ROOT / "tests" / "fakes" / "deaths")
QUICK = """
[intake]
poll_seconds = 0.05
rescan_seconds = 0.1
settle_readings = 1
settle_seconds = 0
folder_seconds = 0
incomplete_seconds = 0
"""


def lay(root: Path, media: Path) -> Site:
    """A site with one pair in its inbox and a command that copies a film made before."""
    site = Site(root, intake=QUICK)
    site.argv = ["sh", "-c", f'cp {media / "ready.mp4"} "$1"', "sh", "{output}", "{audio}", "{video}"]
    site.write_config()
    shutil.copy(media / "voice.wav", site.inbox / "lesson.wav")
    shutil.copy(media / "film.mp4", site.inbox / "lesson.mp4")
    return site


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media with a finished film for the command to deliver."""
    folder = tmp_path_factory.mktemp("ready")
    wav, film = make_wav(folder / "voice.wav"), make_film(folder / "film.mp4")
    from tests.site import ffmpeg

    ffmpeg(
        "-i",
        film,
        "-i",
        wav,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        folder / "ready.mp4",
    )
    return folder


def killed(site: Site, at: int) -> bool:
    """One life that ends before file operation ``at``; false if it ended by itself before."""
    counter = site.root / "operations"
    counter.unlink(missing_ok=True)
    path = os.pathsep.join([DEATHS, str(ROOT)])
    return site.once(PYTHONPATH=path, DEATHS_FILE=str(counter), DEATHS_AT=str(at)) == -signal.SIGKILL


def operations(site: Site) -> list[str]:
    """What the last life did."""
    return (site.root / "operations").read_text().splitlines()


def judge(site: Site, taken: Path) -> None:
    """Exactly one film and one log, in the outbox or taken from it; both inputs in done/; nothing anywhere else."""
    films = [p for folder in (site.outbox, taken) if folder.is_dir() for p in folder.iterdir() if p.suffix == ".mp4"]
    logs = [p for folder in (site.outbox, taken) if folder.is_dir() for p in folder.iterdir() if p.suffix == ".json"]
    assert len(films) == 1 and len(logs) == 1, (films, logs)
    log = json.loads(logs[0].read_text())
    assert log["film"]["bytes"] == films[0].stat().st_size
    assert site.tree("done") == ["lesson/lesson.mp4", "lesson/lesson.wav"]
    assert site.tree("inbox") == site.tree("processing") == site.tree("failed") == []
    rest = [p.name for p in site.outbox.iterdir() if p.suffix not in (".mp4", ".json")]
    assert rest == [] and list((site.state / "work").iterdir()) == []


def die_and_recover(root: Path, media: Path, at: int, take: bool) -> bool:
    """One death before operation ``at``, one recovery, one judgement; false if there was no such operation."""
    site = lay(root, media)
    taken = root / "taken"
    if not killed(site, at):
        return False
    if take and site.outbox.is_dir():  # somebody fetches what is there as soon as it is there
        taken.mkdir()
        for path in site.outbox.iterdir():
            if not path.name.startswith("."):
                path.rename(taken / path.name)
    assert site.once() == 0, f"operation {at}"
    judge(site, taken)
    return True


def test_an_undisturbed_run_is_counted(tmp_path: Path, ready: Path) -> None:
    site = lay(tmp_path, ready)
    assert not killed(site, 0)
    judge(site, tmp_path / "taken")
    done = operations(site)
    assert len(done) > 30 and sum("renameat2" in line for line in done) >= 5 and "commit" in done


@pytest.mark.parametrize("take", [False, True], ids=["left", "taken"])
@pytest.mark.parametrize("part", range(4))
def test_killed_before_some_file_operations_nothing_is_lost_or_doubled(
    tmp_path: Path, ready: Path, part: int, take: bool
) -> None:
    """A quarter of the operations each, every fourth one of them; the whole matrix is below, marked slow."""
    at = 1 + 4 * part + (2 if take else 0)
    while die_and_recover(tmp_path / str(at), ready, at, take):
        shutil.rmtree(tmp_path / str(at))
        at += 16


@pytest.mark.slow
@pytest.mark.parametrize("take", [False, True], ids=["left", "taken"])
def test_killed_before_every_file_operation_nothing_is_lost_or_doubled(tmp_path: Path, ready: Path, take: bool) -> None:
    at = 1
    while die_and_recover(tmp_path / str(at), ready, at, take):
        shutil.rmtree(tmp_path / str(at))
        at += 1
    assert at > 30
