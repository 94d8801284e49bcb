from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.common.request import Stamp
from heygemd.intake.settling import Settled, Settler
from heygemd.share import filesystem
from heygemd.share.entry import InboxEntry
from heygemd.share.filesystem import blind
from heygemd.share.ignore import ignored, underway
from heygemd.watch.watcher import Watcher


def entry(path: str, size: int = 100, mtime: int = 1, inode: int = 1, **more: bool) -> InboxEntry:
    stamp = Stamp(size, mtime, inode)
    return InboxEntry(path, more.get("is_dir", False), stamp, more.get("other", False))


def folder(path: str, mtime: int = 1) -> InboxEntry:
    return entry(path, 0, mtime, is_dir=True)


def watch(settler: Settler, entries: list[InboxEntry], times: list[float]) -> Settled:
    """One ``observe`` per time of an inbox that does not change; every file looks complete."""
    for now in times:
        settled = settler.observe(now, entries)
        for each in settled.to_inspect:
            settler.inspected(each.path, each.stamp, None)
    return settler.observe(times[-1], entries)


@pytest.mark.parametrize(
    "name",
    [
        "a.mp4.part", "a.PART", "a.tmp", "a.partial", "a.crdownload", "a.filepart", "~$brief.docx", "._a.mp4",
        ".DS_Store", "Thumbs.db", "thumbs.DB", "desktop.ini", "@eaDir", "#recycle", "$RECYCLE.BIN",
        "System Volume Information", ".smbdelete0A1", ".nfs0000a", ".fuse_hidden01", "a.mp4.~tmp~",
        "~syncthing~a.mp4.tmp", "__MACOSX", ".stfolder", ".heygemd", "README.txt", ".a.mp4.Xy12Zz", "a.mp4~",
    ],
)  # fmt: skip
def test_litter_is_ignored(name: str) -> None:
    assert ignored(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.mp4",
        "part.mp4",
        "tmp",
        "a.part.mp4",
        "课程.wav",
        "$a.mp4",
        "#1.mp4",
        "@me.mp4",
        "notes.txt",
        "README.mp4",
    ],
)
def test_what_people_put_down_is_not_ignored(name: str) -> None:
    assert not ignored(name)


def test_every_file_on_its_way_is_ignored_too() -> None:
    for name in ("a.part", ".a.mp4.Ab12Cd", "a.crdownload", "~syncthing~x.mp4.tmp"):
        assert underway(name)
        assert ignored(name)
    assert not underway("Thumbs.db")
    assert not underway(".DS_Store")


def test_an_entry_travels_through_json_whatever_its_bytes() -> None:
    one = InboxEntry(os.fsdecode("课/caf".encode() + b"\xe9.mp4"), False, Stamp(1, 2**62, 2**63), True)
    assert InboxEntry.from_list(json.loads(json.dumps(one.to_list()))) == one


def test_a_file_settles_after_equal_readings_over_the_whole_window() -> None:
    settler = Settler(3, 3.0)
    one = [entry("a.mp3")]
    for now in (0.0, 0.1, 0.2, 0.3, 2.9):
        settled = settler.observe(now, one)
        assert settled.files == frozenset()
        assert settled.unsettled == {"a.mp3": 0.0}
    assert settler.observe(3.0, one).files == {"a.mp3"}


def test_time_alone_is_not_enough_without_the_readings() -> None:
    settler = Settler(3, 3.0)
    assert not settler.observe(0.0, [entry("a.mp3")]).files
    assert not settler.observe(100.0, [entry("a.mp3")]).files
    assert settler.observe(100.1, [entry("a.mp3")]).files


@pytest.mark.parametrize("change", [{"size": 101}, {"mtime_ns": 0}, {"inode": 2}])
def test_any_change_begins_the_window_anew(change: dict[str, int]) -> None:
    settler = Settler(2, 3.0)
    before = entry("a.mp3")
    assert watch(settler, [before], [0.0, 3.0]).files
    after = [replace(before, stamp=replace(before.stamp, **change))]
    assert settler.observe(10.0, after).unsettled == {"a.mp3": 10.0}
    assert not settler.observe(12.9, after).files
    assert settler.observe(13.0, after).files


def test_a_writer_that_pauses_longer_than_a_poll_is_waited_for() -> None:
    settler = Settler(3, 3.0)
    for size, start in ((100, 0.0), (200, 2.5), (300, 5.0)):
        for now in (start, start + 1, start + 2.4):
            assert not settler.observe(now, [entry("a.mp3", size)]).files
    assert settler.observe(8.0, [entry("a.mp3", 300)]).files


def test_old_and_future_file_times_mean_nothing() -> None:
    for mtime in (0, -(10**18), 2**62):
        settler = Settler(2, 3.0)
        assert not settler.observe(0.0, [entry("a.mp3", mtime=mtime)]).files
        assert settler.observe(3.0, [entry("a.mp3", mtime=mtime)]).files


def test_a_path_that_vanished_is_forgotten() -> None:
    settler = Settler(2, 3.0)
    watch(settler, [entry("a.mp3")], [0.0, 3.0])
    assert settler.observe(4.0, []).first_seen == {}
    again = settler.observe(5.0, [entry("a.mp3")])
    assert again.first_seen == {"a.mp3": 5.0}
    assert not again.files


def test_when_it_was_first_seen_outlives_every_change() -> None:
    settler = Settler(2, 3.0)
    settler.observe(1.0, [entry("a.mp3")])
    assert settler.observe(9.0, [entry("a.mp3", 5)]).first_seen == {"a.mp3": 1.0}


def test_folders_and_links_never_settle_as_files() -> None:
    settled = watch(Settler(2, 3.0), [folder("d"), entry("link.mp3", other=True)], [0.0, 5.0])
    assert not settled.files
    assert not settled.unsettled
    assert set(settled.first_seen) == {"d", "link.mp3"}


def test_a_resting_film_is_looked_at_once_before_it_settles() -> None:
    settler = Settler(2, 3.0)
    film = entry("a.MP4")
    settler.observe(0.0, [film])
    settled = settler.observe(3.0, [film])
    assert settled.to_inspect == (film,)
    assert "a.MP4" in settled.unsettled
    assert settler.next_due(3.0) == 3.0
    settler.inspected("a.MP4", film.stamp, None)
    settled = settler.observe(3.1, [film])
    assert settled.files == {"a.MP4"}
    assert settled.to_inspect == ()


def test_a_film_that_looks_unfinished_settles_only_much_later() -> None:
    settler = Settler(2, 3.0, incomplete_seconds=60.0)
    film = entry("a.mp4")
    settler.observe(0.0, [film])
    settler.observe(3.0, [film])
    settler.inspected("a.mp4", film.stamp, "its index (moov) is not there yet")
    settled = settler.observe(59.9, [film])
    assert settled.incomplete == {"a.mp4": "its index (moov) is not there yet"}
    assert not settled.files
    assert settler.next_due(59.9) == 60.0
    settled = settler.observe(60.0, [film])
    assert settled.files == {"a.mp4"}
    assert settled.incomplete == {"a.mp4": "its index (moov) is not there yet"}


def test_what_was_seen_in_a_file_is_forgotten_when_it_changes() -> None:
    settler = Settler(2, 3.0)
    film, more = entry("a.mp4", 100), entry("a.mp4", 200)
    settler.observe(0.0, [film])
    settler.observe(3.0, [film])
    settler.inspected("a.mp4", film.stamp, None)
    settler.observe(4.0, [more])
    settler.inspected("a.mp4", film.stamp, None)  # an answer that comes late
    settler.inspected("gone.mp4", film.stamp, None)
    assert settler.observe(7.0, [more]).to_inspect == (more,)


def test_an_empty_file_needs_no_look_and_settles_as_an_unfinished_one() -> None:
    settler = Settler(2, 3.0, incomplete_seconds=60.0)
    empty = [entry("a.mp4", 0)]
    settler.observe(0.0, empty)
    settled = settler.observe(10.0, empty)
    assert settled.to_inspect == ()
    assert settled.incomplete == {"a.mp4": "it is empty"}
    assert not settled.files
    assert settler.observe(60.0, empty).files == {"a.mp4"}


def test_a_folder_is_quiet_when_its_whole_tree_has_been() -> None:
    settler = Settler(2, 1.0, folder_seconds=10.0)
    tree = [folder("d"), folder("d/e"), folder("other"), entry("d/e/a.mp3")]
    assert settler.observe(0.0, tree).quiet_dirs == frozenset()
    assert settler.next_due(0.0) == pytest.approx(1.0)
    assert settler.observe(10.0, tree).quiet_dirs == {"d", "d/e", "other"}
    tree[3] = entry("d/e/a.mp3", 200)
    assert settler.observe(11.0, tree).quiet_dirs == {"other"}
    assert settler.observe(21.0, tree).quiet_dirs == {"d", "d/e", "other"}


@pytest.mark.parametrize(
    "after",
    [
        [folder("d"), entry("d/a.mp3"), entry("d/b.mp3")],
        [folder("d")],
        [folder("d", mtime=2), entry("d/a.mp3")],
        [folder("d"), entry("d/a.mp3"), folder("d/e")],
        [folder("d"), entry("d/a.mp3"), entry("d/link", other=True)],
    ],
)
def test_whatever_comes_goes_or_changes_in_a_folder_ends_its_quiet(after: list[InboxEntry]) -> None:
    settler = Settler(2, 1.0, folder_seconds=10.0)
    before = [folder("d"), entry("d/a.mp3")]
    settler.observe(0.0, before)
    assert "d" in settler.observe(10.0, before).quiet_dirs
    assert "d" not in settler.observe(11.0, after).quiet_dirs
    assert "d" in settler.observe(21.0, after).quiet_dirs


def test_a_file_on_its_way_keeps_its_folder_from_being_quiet_until_it_is_left_over() -> None:
    settler = Settler(2, 1.0, folder_seconds=10.0, incomplete_seconds=60.0)
    upload = [folder("d"), entry("d/b.mp4.filepart", 5)]
    settler.observe(0.0, upload)
    settled = settler.observe(50.0, upload)
    assert "d" not in settled.quiet_dirs
    assert not settled.files
    assert not settled.unsettled
    upload[1] = entry("d/b.mp4.filepart", 9)
    settler.observe(55.0, upload)
    assert "d" not in settler.observe(114.0, upload).quiet_dirs
    assert "d" in settler.observe(124.5, upload).quiet_dirs


def test_a_folder_without_inode_numbers_that_last_becomes_quiet() -> None:
    settler = Settler(2, 1.0, folder_seconds=10.0)
    for now in range(11):
        settled = settler.observe(float(now), [entry("d", 0, 1, now, is_dir=True)])
    assert settled.quiet_dirs == {"d"}


def test_the_loop_is_told_when_to_look_again() -> None:
    settler = Settler(3, 3.0, folder_seconds=10.0)
    assert settler.next_due(0.0) is None
    one = [folder("d"), entry("d/a.mp3")]
    settler.observe(0.0, one)
    assert settler.next_due(0.0) == 1.5
    settler.observe(1.5, one)
    assert settler.next_due(1.5) == 3.0
    settler.observe(3.0, one)
    assert settler.next_due(3.0) == 10.0
    settler.observe(10.0, one)
    assert settler.next_due(10.0) is None


def test_following_the_due_times_settles_everything() -> None:
    settler = Settler(5, 3.0, folder_seconds=10.0)
    now, turns = 0.0, 0
    while True:
        settled = settler.observe(now, [folder("d"), entry("d/a.mp3"), entry("b.wma", 0)])
        due = settler.next_due(now)
        if due is None:
            break
        now, turns = max(due, now + 0.01), turns + 1
    assert settled.files == {"d/a.mp3", "b.wma"}
    assert settled.quiet_dirs == {"d"}
    assert turns < 12


def test_ten_thousand_files_are_observed_correctly() -> None:
    entries = [folder(f"d{i}") for i in range(100)]
    entries += [entry(f"d{i % 100}/lesson {i}.{'mp3' if i % 2 else 'ts'}", i + 1) for i in range(10_000)]
    settler = Settler(3, 3.0)
    for now in (0.0, 1.5):
        assert not settler.observe(now, entries).files
    settled = settler.observe(3.0, entries)
    assert len(settled.files) == 10_000
    assert settler.observe(20.0, entries[:5000]).quiet_dirs == frozenset()


def test_the_watcher_wakes_for_each_way_a_file_can_arrive(tmp_path: Path) -> None:
    woken = threading.Event()
    watched = tmp_path / "inbox"
    (watched / "zhang").mkdir(parents=True)
    outside = tmp_path / "b.mp4"
    outside.write_bytes(b"x")
    (tmp_path / "course").mkdir()
    watcher = Watcher([watched], woken.set)
    assert not watcher.alive()
    assert watcher.start() is None
    try:
        assert watcher.alive()
        for act in (
            lambda: (watched / "a.mp4").write_bytes(b"x"),
            lambda: os.link(outside, watched / "link.mp4"),
            lambda: outside.rename(watched / "zhang" / "b.mp4"),
            lambda: (tmp_path / "course").rename(watched / "course"),
            lambda: (watched / "a.mp4").unlink(),
        ):
            woken.clear()
            act()
            assert woken.wait(5)
    finally:
        watcher.stop()
    assert not watcher.alive()
    watcher.stop()


def test_looking_at_the_inbox_does_not_wake_the_one_who_looks(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    woken = threading.Event()
    watcher = Watcher([tmp_path], woken.set)
    watcher.start()
    try:
        time.sleep(0.2)
        woken.clear()
        list(os.scandir(tmp_path))
        (tmp_path / "a.mp4").read_bytes()
        assert not woken.wait(0.7)
    finally:
        watcher.stop()


def test_a_folder_that_cannot_be_watched_is_named_not_raised(tmp_path: Path) -> None:
    watcher = Watcher([tmp_path / "missing"], lambda: None)
    problem = watcher.start()
    assert problem is not None
    assert "polled" in problem
    assert not watcher.alive()
    watcher.stop()


def test_a_folder_behind_a_link_is_not_watched_and_not_listed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "inbox").symlink_to(secret)
    looked = inotify(secret)
    watcher = Watcher([tmp_path / "line" / "inbox"], lambda: None, [str(tmp_path / "line")])
    problem = watcher.start()
    assert problem is not None and "symbolic link" in problem and not looked()
    unguarded = Watcher([tmp_path / "line" / "inbox"], lambda: None)
    unguarded.start()
    unguarded.stop()
    assert looked(), "what watchdog does by itself"


def inotify(folder: Path) -> Callable[[], bool]:
    """Whether somebody has opened the folder since."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(fd, os.fsencode(folder), 0x20) >= 0  # IN_OPEN

    def looked() -> bool:
        try:
            return bool(os.read(fd, 4096))
        except BlockingIOError:
            return False

    return looked


def test_a_local_folder_is_not_blind_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        blind(tmp_path / "missing")
    if os.uname().sysname == "Linux":
        assert not blind(Path("/proc"))


def test_a_share_is_blind_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    proc = 0x9FA0
    monkeypatch.setitem(filesystem.NETWORK_FILE_SYSTEMS, proc, "proc")
    assert blind(Path("/proc"))


def test_a_copy_that_has_its_final_size_and_an_old_time_from_the_first_moment_is_still_seen_to_change() -> None:
    settler = Settler(2, 1.0, 10.0, 60.0)

    def look(now: float, ctime: int) -> frozenset[str]:
        return settler.observe(now, [InboxEntry("a.mp3", False, Stamp(100, 5, 7, ctime))]).files

    assert [look(0.0, 1), look(0.6, 2), look(1.2, 3)] == [frozenset()] * 3
    assert look(2.2, 3) == {"a.mp3"}
