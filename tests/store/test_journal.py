"""The journal over its versions, and what it remembers of what jobs took."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from heygemd.doctor.check import service_user

from heygemd.common.errors import SetupError
from heygemd.common.request import DropRequest, JobRequest, Source
from heygemd.config.load import load
from heygemd.daemon import service
from heygemd.doctor import server as doctor_server
from heygemd.guard.needs import Kind, Peak
from heygemd.share import filesystem
from heygemd.store import journal, states
from heygemd.store.journal import Journal
from heygemd.store.states import JobState
from tests.site import Site

REQUEST = DropRequest("pair", "a", "", (), (JobRequest("a", Source("a.wav"), Source("a.mp4")),))


def old_journal(path: Path) -> None:
    """A journal as the first version wrote it, with one queued job."""
    current = Journal(path)
    current.add_drop("d", "main", REQUEST, None)
    current.close()
    db = sqlite3.connect(path)
    db.executescript("DROP TABLE peaks; UPDATE meta SET value='1' WHERE key='schema'")
    db.close()


def test_a_journal_of_the_first_version_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    old_journal(path)
    found = Journal(path)
    assert [job.state for job in found.jobs_of("d")] == [JobState.QUEUED]
    found.add_peak(Peak(Kind("footage", frame="720p"), None, 900))
    found.close()
    again = Journal(path)
    assert again.peaks() == [Peak(Kind("footage", frame="720p"), None, 900)]
    assert again.jobs_of("d")[0].request == REQUEST.jobs[0]


def test_a_journal_of_the_first_version_can_be_read_without_changing_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    old_journal(path)
    reader = Journal.read_only(path)
    assert reader.peaks() == [] and reader.queue() and reader.line_names() == []
    reader.close()
    assert not sqlite3.connect(path).execute("SELECT 1 FROM sqlite_master WHERE name='peaks'").fetchone()


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE meta SET value='99' WHERE key='schema'")
    db.close()
    with pytest.raises(SetupError, match="newer heygemd"):
        Journal(path)


def test_of_each_kind_the_latest_peaks_are_kept(tmp_path: Path) -> None:
    mine = Journal(tmp_path / "journal.sqlite")
    big, small = Kind("footage", frame="1080p"), Kind("footage", frame="480p")
    mine.add_peak(Peak(big, 5, 6))
    for number in range(journal.PEAKS_KEPT + 3):
        mine.add_peak(Peak(small, None, number))
    assert [peak.ram_mib for peak in mine.peaks()] == [6, *range(3, journal.PEAKS_KEPT + 3)]


def test_a_job_waits_until_it_is_started_and_its_deferral_is_remembered(tmp_path: Path) -> None:
    mine = Journal(tmp_path / "journal.sqlite")
    mine.add_drop("d", "main", REQUEST, None)
    job = mine.jobs_of("d")[0]
    assert not job.waits
    job = mine.set_job(job, JobState.QUEUED, deferred_since="2026-11-01T10:00:00.000+01:00", deferred_reason="full")
    assert job.waits and mine.row(job)["deferred_reason"] == "full"
    job = mine.set_job(job, JobState.QUEUED, started="2026-11-01T09:00:01.000+00:00")
    assert not job.waits and mine.row(job)["deferred_reason"] is None and job.deferred_reason == "full"


def test_a_manifest_of_a_thousand_jobs_is_listed_in_no_time(tmp_path: Path) -> None:
    mine = Journal(tmp_path / "journal.sqlite")
    jobs = tuple(JobRequest(f"film {n}", Source(f"{n}.wav"), Source("a.mp4")) for n in range(1000))
    mine.add_drop("d", "main", DropRequest("manifest", "all", "", (), jobs), None)
    began = time.process_time()
    assert len(mine.queue()) == 1000 and mine.queue()[-1]["name"] == "film 999"
    assert time.process_time() - began < 3, "each row must not parse the whole manifest again"


def drop_of(book: Journal, name: str, jobs: int, priority: str = "normal") -> None:
    requests = tuple(JobRequest(str(n), Source("a.wav"), Source("a.mp4")) for n in range(jobs))
    book.add_drop(name, "main", DropRequest("manifest", name, "", (), requests, priority=priority), None)


def served(book: Journal, count: int) -> str:
    """The drops whose jobs come next, one after the other, each job done before the next is looked for."""
    order = []
    for _ in range(count):
        job = book.jobs_in(JobState.QUEUED)[0]
        order.append(job.drop_id)
        book.set_job(job, JobState.RUNNING, started=states.now())
        book.set_job(job, JobState.DELIVERED)
    return "".join(order)


def test_a_drop_of_a_hundred_jobs_takes_turns_with_single_ones(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.sqlite")
    drop_of(book, "B", 100)
    assert served(book, 2) == "BB"
    for name in "xyz":
        drop_of(book, name, 1)
    drop_of(book, "C", 3)
    assert served(book, 10) == "BxyzCBCBCB"
    drop_of(book, "u", 1)
    shown = [row["drop"] for row in book.queue()[:4]]
    assert shown[:3] == ["B", "u", "B"] and served(book, 3) == "BuB", "status shows the order that will be kept"


def test_priority_comes_before_turns(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.sqlite")
    drop_of(book, "B", 3)
    drop_of(book, "l", 1, "low")
    drop_of(book, "h", 2, "high")
    assert served(book, 6) == "hhBBBl"


def test_a_drop_that_has_a_job_in_hand_is_behind_the_others(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.sqlite")
    drop_of(book, "B", 3)
    drop_of(book, "x", 1)
    book.set_job(book.jobs_in(JobState.QUEUED)[0], JobState.RUNNING)
    assert [job.drop_id for job in book.jobs_in(JobState.QUEUED)] == ["x", "B", "B"]


@pytest.mark.parametrize("damage", ["substr(request, 1, 40)", "substr(request, 1, 40) || char(0)", "request || 'x'"])
def test_a_request_that_is_damaged_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.sqlite"
    old_journal(path)
    db = sqlite3.connect(path)
    with db:
        db.execute(f"UPDATE drops SET request = {damage}")
    db.close()
    with pytest.raises(SetupError, match="Move it away and restart"):
        Journal(path)


class Statfs:
    """A C library whose ``statfs`` says that every folder is on a file system of one type."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def statfs(self, path: bytes, buffer: ctypes.Array[ctypes.c_char]) -> int:
        assert os.path.isdir(path)
        buffer.raw = self.kind.to_bytes(8, sys.byteorder).ljust(len(buffer), b"\0")
        return 0


@pytest.mark.parametrize("kind", filesystem.NETWORK_FILE_SYSTEMS)
def test_a_journal_on_a_network_file_system_or_fuse_is_refused_and_the_inbox_there_is_polled(
    tmp_path: Path, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem.ctypes, "CDLL", lambda *_, **__: Statfs(kind))
    with pytest.raises(SetupError) as caught:
        Journal(tmp_path / "journal.sqlite")
    name = filesystem.NETWORK_FILE_SYSTEMS[kind]
    assert f"state_dir {tmp_path} is on a network file system or FUSE ({name})" in str(caught.value)
    assert "Set [daemon] state_dir to a local folder" in str(caught.value)
    assert not (tmp_path / "journal.sqlite").exists() and filesystem.blind(tmp_path)


@pytest.mark.parametrize("kind", [0xEF53, 0x58465342, 0x9123683E, 0x2FC12FC1, 0x794C7630, 0x01021994])
def test_a_journal_on_a_local_disk_is_opened(tmp_path: Path, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4, XFS, Btrfs, ZFS, overlayfs, tmpfs."""
    monkeypatch.setattr(filesystem.ctypes, "CDLL", lambda *_, **__: Statfs(kind))
    Journal(tmp_path / "journal.sqlite").close()
    assert not filesystem.blind(tmp_path)


def test_the_daemon_and_the_doctor_agree_on_fuse(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem.ctypes, "CDLL", lambda *_, **__: Statfs(0x65735546))
    config = load(site.config)
    with pytest.raises(SetupError, match=r"on a network file system or FUSE \(FUSE\)"):
        service.run(config)
    assert doctor_server.state(config, service_user()).verdict == "fail"
