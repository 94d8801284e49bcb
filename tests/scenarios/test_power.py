"""The power fails before one of the file operations: what was not on the disk yet is gone, the promise is kept.

Line and state lie on two ext4 file systems of their own, on loop devices; at the moment of death both are shut down by
ext4's own ioctl without their journals being written out, unmounted and mounted again.  What was written and not
fsynced is then really gone.  Needs root, loop devices and ext4.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.lives import Matrix, every_operation

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/ext4.h
SAMPLE = 6  # operations in the default suite


def run(*argv: object) -> None:
    subprocess.run(list(map(str, argv)), check=True, capture_output=True)


class Disks:
    """Two small disks below ``root``, mounted at ``disk1`` and ``disk2``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = [root / "disk1", root / "disk2"]
        for place in self.places:
            place.mkdir(parents=True)
            image = place.with_suffix(".img")
            with image.open("wb") as file:
                file.truncate(24 << 20)
            run("mkfs.ext4", "-q", "-F", image)
        self.mount()

    def mount(self) -> None:
        for place in self.places:
            # Nothing is brought to the disk that nobody asked for, however slow the machine: commits every 300 s.
            run("mount", "-o", "loop,commit=300,data=writeback", place.with_suffix(".img"), place)

    def unmount(self) -> None:
        """As soon as the dead have let go."""
        for place in self.places:
            while os.path.ismount(place) and subprocess.run(["umount", place], capture_output=True).returncode:
                time.sleep(0.05)

    def remove(self) -> None:
        self.unmount()
        shutil.rmtree(self.root)


@pytest.fixture(scope="module")
def power(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this machine cannot do it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems and shut them down")
    try:
        disks = Disks(tmp_path_factory.mktemp("power"))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 on loop devices here: {error}")
    (disks.places[0] / "lost").write_bytes(b"not fsynced")
    fd = os.open(disks.places[0], os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, b"\2\0\0\0")
    except OSError as error:
        pytest.skip(f"ext4 cannot be shut down here: {errno.errorcode.get(error.errno or 0)}")
    finally:
        os.close(fd)
        disks.unmount()
    disks.mount()
    assert not (disks.places[0] / "lost").exists(), "what was not fsynced is gone"
    disks.remove()


@contextlib.contextmanager
def laid(root: Path) -> Iterator[tuple[Matrix, Disks]]:
    """The batch in the inbox of a line on one disk, the state on the other; what was dropped is on the disk."""
    disks = Disks(root)
    try:
        for place, name in zip(disks.places, ("line", "state"), strict=True):
            (place / name).mkdir()
        matrix = Matrix(root, line=disks.places[0] / "line", state=disks.places[1] / "state")
        matrix.drop_batch()
        for place in disks.places:
            run("sync", "-f", place)  # of these two alone: sync(2) would bring other tests' films to their disks too
        yield matrix, disks
    finally:
        disks.remove()


def failed_at(root: Path, at: int | str) -> list[str] | None:
    """The power fails before operation ``at``; what is broken.  ``None`` where the life ended before."""
    with laid(root) as (matrix, disks):
        if not matrix.killed(at, DEATHS_POWER=":".join(map(str, disks.places))):
            return None
        disks.unmount()
        disks.mount()
        return [*matrix.promise.broken_now(), *matrix.recovered()]


@pytest.mark.usefixtures("power")
@pytest.mark.parametrize("at", random.Random("power").sample(range(20, 120), SAMPLE))
def test_the_power_fails_at_some_operations(tmp_path: Path, at: int) -> None:
    assert failed_at(tmp_path / "site", at) == []


@pytest.mark.usefixtures("power")
def test_a_film_that_was_not_brought_to_the_disk_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times at most: whoever calls sync(2) on this machine at the wrong moment brings the film to the disk."""
    monkeypatch.setenv("DEATHS_MUTATION", "never_sync")
    for attempt in range(3):
        broken = failed_at(tmp_path / str(attempt), "commit delivered") or []
        if any("is not whole" in what for what in broken):
            return
    pytest.fail(f"the last time only this was broken: {broken}")


@pytest.mark.slow
@pytest.mark.usefixtures("power")
def test_the_power_fails_at_every_operation(tmp_path: Path) -> None:
    number, found = every_operation(tmp_path, failed_at)
    print(f"{number} times without power")
    assert found == {}
    assert number >= 90
