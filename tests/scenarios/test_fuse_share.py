"""A line on a share that other machines write to: FUSE (bindfs), on whose mount inotify sees nothing of them.

The people's side is the folder behind the mount.  Skipped where there is no FUSE; cifs and NFS of a real kernel are in
``tests/systemd/test_nas.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.site import TURBO, Site

PATIENT = TURBO.replace("incomplete_seconds = 0.5", "incomplete_seconds = 60") + "share_seconds = 2\n"
DAY = 86_400


class Share:
    """``mount`` shows what lies in ``behind``."""

    def __init__(self, root: Path) -> None:
        self.behind, self.mount = root / "behind", root / "mount"
        for folder in (self.behind / "inbox", self.mount):
            folder.mkdir(parents=True)
        self.server: subprocess.Popen[bytes] | None = None

    def up(self, *options: str) -> None:
        """Mount it; ``options`` are bindfs's."""
        self.server = subprocess.Popen(
            ["bindfs", "-f", "--no-allow-other", *options, str(self.behind), str(self.mount)], stderr=subprocess.PIPE
        )
        ends = time.monotonic() + 10
        while not os.path.ismount(self.mount):
            if self.server.poll() is not None or time.monotonic() > ends:
                pytest.skip(f"FUSE cannot be used here: {self.server.communicate()[1].decode().strip()}")
            time.sleep(0.02)

    def down(self) -> None:
        """Unmount it, whoever is in it."""
        if self.server is not None:
            with contextlib.suppress(ProcessLookupError):
                self.server.send_signal(signal.SIGCONT)
            subprocess.run(["fusermount3", "-u", "-z", str(self.mount)], capture_output=True)
            self.server.wait(10)
            self.server = None

    def freeze(self) -> None:
        """From now on nothing answers."""
        assert self.server is not None
        self.server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        assert self.server is not None
        self.server.send_signal(signal.SIGCONT)


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    yield from mounted(tmp_path / "share")


def mounted(root: Path) -> Iterator[Share]:
    if shutil.which("bindfs") is None or not Path("/dev/fuse").exists():
        pytest.skip("bindfs or /dev/fuse is not here")
    share = Share(root)
    share.up()
    yield share
    share.down()


def site_on(root: Path, share: Share, more: str = "") -> Site:
    site = Site(root, intake=PATIENT)
    site.line = share.mount
    site.extra = more
    site.write_config()
    return site


def line(site: Site, number: int = 0) -> dict[str, str]:
    lines = site.status().get("lines") or [{"state": "", "problem": ""}] * 2
    return {key: value or "" for key, value in lines[number].items()}


def put_pair(media: Path, folder: Path, name: str) -> None:
    for kind, suffix in (("voice", "wav"), ("film", "mp4")):
        shutil.copy(media / f"{kind}.{suffix}", folder / f"{name}.{suffix}")


# ------------------------------------------------------------ how people's programs copy


class Writing:
    """One file on its way: ``seen`` waits until the daemon has seen it lie there unfinished, and left it."""

    def __init__(self, site: Site, path: Path, data: bytes) -> None:
        self.site, self.path, self.data = site, path, data

    def seen(self) -> None:
        """Looked at, and again after more time than two polls."""
        name = self.path.name

        def named() -> bool:
            waiting = self.site.status()["waiting"]
            return any(name in w["path"] + w["reason"] and "unfinished" in w["reason"] for w in waiting)

        self.site.until(named, f"{name} is seen to be unfinished")
        time.sleep(3 * 0.1)  # the pause is the test: longer than a poll and than settling
        assert named() and self.path.exists()


def slowly(file: Writing) -> None:
    """With pauses longer than the poll, closed and opened anew for each piece (a scanner, page by page)."""
    for begin in range(0, len(file.data), step := len(file.data) // 2):
        with file.path.open("ab") as out:
            out.write(file.data[begin : begin + step])
        if begin + step < len(file.data):
            file.seen()


def robocopy(file: Writing) -> None:
    """The whole size at once, and the original's old time from the first moment to the last."""
    with file.path.open("wb") as out:
        out.truncate(len(file.data))
        out.flush()
        os.utime(file.path, (1e9, 1e9))
        file.seen()
        out.write(file.data)
        out.flush()
        os.utime(file.path, (1e9, 1e9))


def winscp(file: Writing) -> None:
    """NAME.filepart, then a hard link of the final name: no close and no rename is ever seen of it."""
    part = file.path.with_name(f"{file.path.name}.filepart")
    part.write_bytes(file.data)
    os.link(part, file.path)
    part.unlink()


def explorer(file: Writing) -> None:
    """A temporary name in the same folder, then a rename."""
    part = file.path.with_name(f"~{file.path.stem}.tmp")
    part.write_bytes(file.data)
    part.rename(file.path)


def tomorrow(file: Writing) -> None:
    """From a computer whose clock is a day ahead."""
    file.path.write_bytes(file.data)
    os.utime(file.path, (time.time() + DAY, time.time() + DAY))


def yesterday(file: Writing) -> None:
    """A day behind."""
    file.path.write_bytes(file.data)
    os.utime(file.path, (time.time() - DAY, time.time() - DAY))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Share]]:
    """One daemon for all ways of copying."""
    root = tmp_path_factory.mktemp("studio")
    with contextlib.contextmanager(mounted)(root / "share") as share:
        site = site_on(root / "site", share)
        site.start()
        site.until(lambda: line(site)["state"] == "ok", "the line is open")
        assert line(site)["watch"] == "polling", "FUSE is known to be blind"
        yield site, share
        site.kill()


@pytest.mark.parametrize("write", [slowly, robocopy, winscp, explorer, tomorrow, yesterday])
def test_each_way_of_copying_gives_one_film_of_the_whole_file(
    studio: tuple[Site, Share], media: Path, write: Callable[[Writing], None]
) -> None:
    site, share = studio
    name, inbox = write.__name__, share.behind / "inbox"
    for kind, suffix in (("voice", "wav"), ("film", "mp4")):
        write(Writing(site, inbox / f"{name}.{suffix}", (media / f"{kind}.{suffix}").read_bytes()))
    site.until(lambda: (share.behind / "done" / name).is_dir(), "it is done", 60)
    log = json.loads((share.behind / "outbox" / f"{name}.json").read_text())
    assert log["inputs"]["audio"]["bytes"] == (media / "voice.wav").stat().st_size
    assert log["inputs"]["video"]["bytes"] == (media / "film.mp4").stat().st_size
    assert sorted(p.name for p in (share.behind / "outbox").glob(f"{name}*")) == [f"{name}.json", f"{name}.mp4"]


def test_the_halves_of_a_pair_from_two_computers_come_together_however_late(
    tmp_path: Path, share: Share, media: Path
) -> None:
    site = site_on(tmp_path / "site", share)
    site.intake = PATIENT.replace("partner_minutes = 60", "partner_minutes = 0.01")
    site.write_config()
    try:
        site.start()
        shutil.copy(media / "voice.wav", share.behind / "inbox" / "Lesson.WAV")
        site.until(lambda: any(e["event"] == "still_waiting" for e in site.events()), "the first half is named")
        shutil.copy(media / "film.mp4", share.behind / "inbox" / "lesson.mp4")
        site.until(lambda: (share.behind / "done").is_dir() and list((share.behind / "done").iterdir()), "it is done")
        assert sorted(p.suffix for p in (share.behind / "outbox").glob("[!.S]*")) == [".json", ".mp4"]
    finally:
        site.kill()


# ------------------------------------------------------------ the share goes away


def test_an_unmounted_share_is_missed_nothing_is_written_under_it_and_it_is_taken_up_again(
    tmp_path: Path, share: Share, media: Path
) -> None:
    site = site_on(tmp_path / "site", share)
    try:
        site.start()
        site.until(lambda: line(site)["state"] == "ok", "the line is open")
        share.down()
        site.until(lambda: "is the share mounted" in line(site)["problem"], "it is missed, and the question is asked")
        put_pair(media, share.behind / "inbox", "lesson")
        assert list(share.mount.iterdir()) == [], "nothing lands on the local disk"
        share.up("-o", "ro")
        site.until(lambda: "Read-only" in line(site)["problem"], "it is back, but read-only, which is said", 60)
        assert (share.behind / "inbox" / "lesson.wav").exists()
        share.down()
        share.up()
        site.until(lambda: (share.behind / "done" / "lesson").is_dir(), "it goes on by itself", 60)
        assert site.stop() == 0
    finally:
        site.kill()


def test_a_frozen_share_stops_neither_the_watchdog_nor_status_nor_other_lines(
    tmp_path: Path, share: Share, media: Path
) -> None:
    local = tmp_path / "local"
    more = f'[[line]]\nname = "local"\nroot = "{local}"\nallowed_engines = ["command"]\nstatus_page = "off"\n'
    site = site_on(tmp_path / "site", share, more)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        site.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}

        pings: list[bytes] = []

        def listen() -> None:
            while message := systemd.recv(4096):
                if b"WATCHDOG=1" in message:
                    pings.append(message)

        threading.Thread(target=listen, daemon=True).start()

        try:
            site.start()
            site.until(lambda: {line(site, n)["state"] for n in (0, 1)} == {"ok"}, "both lines are open")
            share.freeze()
            put_pair(media, local / "inbox", "elsewhere")
            site.until(lambda: (local / "done" / "elsewhere").is_dir(), "the other line's film is made", 60)
            frozen = 0 if line(site, 0)["name"] == "main" else 1
            site.until(lambda: "did not answer" in line(site, frozen)["problem"], "the frozen one is named", 60)
            before = len(pings)
            site.until(lambda: len(pings) > before, "the watchdog is fed")
            share.thaw()
            site.until(lambda: line(site, frozen)["state"] == "ok", "it is back", 60)
            put_pair(media, share.behind / "inbox", "lesson")
            site.until(lambda: (share.behind / "done" / "lesson").is_dir(), "it goes on by itself", 60)
        finally:
            share.thaw()
            site.kill()


def test_an_outbox_that_is_a_share_of_its_own_is_missed_when_it_is_away(
    tmp_path: Path, share: Share, media: Path
) -> None:
    site = Site(tmp_path / "site", intake=PATIENT)
    site.config.write_text(site.config.read_text() + f'outbox = "{share.mount}"\n')
    try:
        site.start()
        site.until(lambda: line(site)["state"] == "ok", "the line is open")
        share.down()
        put_pair(media, site.inbox, "lesson")
        site.until(lambda: "outbox has no marker file" in line(site)["problem"], "it is missed")
        assert list(share.mount.iterdir()) == [], "no film lands on the local disk"
        share.up()
        site.until(lambda: (share.behind / "lesson.json").exists(), "the film is delivered to where it belongs", 60)
        assert site.stop() == 0
    finally:
        site.kill()
