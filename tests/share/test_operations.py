"""One operation after the other, on real files."""

from __future__ import annotations

import base64
import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from heygemd.share import nofollow, operations, queries
from heygemd.share.answers import StagedFile


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_name_that_is_not_utf8_is_listed_and_moved(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).write_bytes(b"x")
    assert queries.scan(str(tmp_path))[0][0] == name
    assert operations.move(str(tmp_path / name), str(tmp_path / "in" / name)) == "moved"


def test_move_says_moved_then_already_then_gone(tmp_path: Path) -> None:
    source, target = str(tmp_path / "a"), str(tmp_path / "held" / "a")
    Path(source).write_bytes(b"1")
    assert operations.move(source, target) == "moved"
    assert operations.move(source, target) == "already"
    assert operations.move(str(tmp_path / "b"), str(tmp_path / "held" / "b")) == "gone"


def test_move_again_leaves_a_newer_file_of_the_same_name_in_the_inbox(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "held" / "a"
    source.write_bytes(b"old")
    operations.move(str(source), str(target))
    source.write_bytes(b"new")
    assert operations.move(str(source), str(target)) == "already"
    assert (source.read_bytes(), target.read_bytes()) == (b"new", b"old")


def test_move_finishes_what_link_and_unlink_left_half_done(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "held" / "a"
    target.parent.mkdir()
    source.write_bytes(b"1")
    os.link(source, target)
    assert operations.move(str(source), str(target)) == "moved"
    assert not source.exists() and target.read_bytes() == b"1"


def test_reveal_never_replaces_a_strangers_file(tmp_path: Path) -> None:
    part, final = tmp_path / ".heygemd-1.mp4.part", tmp_path / "film.mp4"
    part.write_bytes(b"ours")
    final.write_bytes(b"theirs")
    assert operations.reveal(str(part), str(final), str(tmp_path)) == "taken"
    assert (part.read_bytes(), final.read_bytes()) == (b"ours", b"theirs")


def test_reveal_says_gone_for_a_part_that_was_revealed_before(tmp_path: Path) -> None:
    part, final = str(tmp_path / ".heygemd-1.mp4.part"), str(tmp_path / "film.mp4")
    operations.write_part(part, b64(b"film"))
    assert operations.reveal(part, final, str(tmp_path)) == "moved"
    Path(final).unlink()  # somebody has taken the film away
    assert operations.reveal(part, final, str(tmp_path)) == "gone"


@pytest.mark.parametrize("folder", [False, True])
def test_where_the_file_system_has_no_renameat2_the_fallback_does_not_replace_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    class Old:
        @staticmethod
        def renameat2(*_args: object) -> int:
            return -1

    monkeypatch.setattr(nofollow, "_libc", Old)
    monkeypatch.setattr(nofollow.ctypes, "get_errno", lambda: 22)
    for name in ("a", "b"):
        place = tmp_path / name
        (place.mkdir(), (place / "in it").touch()) if folder else place.write_text(name)
    assert nofollow.rename_new(str(tmp_path / "a"), str(tmp_path / "b")) is False
    assert nofollow.rename_new(str(tmp_path / "a"), str(tmp_path / "c")) is True
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_stage_copies_and_hashes_and_refuses_links_and_pipes(tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    source.write_bytes(b"sound")
    staged = operations.stage(str(source), str(tmp_path / "work" / "audio.wav"))
    assert staged == StagedFile("dd29442deca69f52c50006b831cb216edf78a7da33748f0a80ff19f2ebe57ecd", 5, True)
    assert (tmp_path / "work" / "audio.wav").read_bytes() == b"sound"
    (tmp_path / "link").symlink_to(source)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError):
            operations.stage(str(tmp_path / name), str(tmp_path / "work" / "x"))


def test_an_unfinished_part_is_written_anew(tmp_path: Path) -> None:
    film = tmp_path / "film"
    film.write_bytes(b"whole film")
    part = tmp_path / "out" / ".heygemd-1.mp4.part"
    part.parent.mkdir()
    part.write_bytes(b"who")
    operations.put(str(film), str(part))
    assert part.read_bytes() == b"whole film"


def test_a_drop_of_which_nothing_was_moved_is_discarded_whole(tmp_path: Path) -> None:
    folder = str(tmp_path / "drop")
    operations.open_drop(folder, {"a": 1})
    operations.discard_drop(folder)
    assert not Path(folder).exists()
    operations.discard_drop(folder)


def without_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS."""
    monkeypatch.setattr(nofollow, "_libc", type("Old", (), {"renameat2": staticmethod(lambda *_: -1)}))
    monkeypatch.setattr(nofollow.ctypes, "get_errno", lambda: errno.EINVAL)


@pytest.mark.parametrize("nfs", [False, True])
def test_a_film_that_was_linked_and_not_yet_unlinked_is_revealed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nfs: bool
) -> None:
    if nfs:
        without_renameat2(monkeypatch)
    part, final = tmp_path / ".heygemd-1.mp4.part", tmp_path / "film.mp4"
    part.write_bytes(b"film")
    os.link(part, final)  # and then it died, or NFS lost the answer
    assert operations.reveal(str(part), str(final), str(tmp_path)) == "moved"
    assert not part.exists() and final.read_bytes() == b"film"


def test_files_of_one_inode_number_without_a_second_link_are_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, final = tmp_path / ".heygemd-1.mp4.part", tmp_path / "film.mp4"
    part.write_bytes(b"ours")
    final.write_bytes(b"theirs")
    monkeypatch.setattr(nofollow.os.path, "samestat", lambda *_: True)  # a share that makes inode numbers up
    assert operations.reveal(str(part), str(final), str(tmp_path)) == "taken"
    assert part.exists()


def test_a_folder_that_was_being_moved_on_nfs_is_moved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_renameat2(monkeypatch)
    source, target = tmp_path / "course", tmp_path / "held" / "course"
    source.mkdir()
    (source / "a.mp4").touch()
    target.mkdir(parents=True)
    assert operations.move(str(source), str(target)) == "moved"
    assert (target / "a.mp4").exists() and not source.exists()


@pytest.mark.parametrize("operation", ["reveal", "file_drop", "move"])
def test_what_cannot_be_seen_is_not_called_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """A share that answers with an error has not said that the file is not there."""
    source, target = tmp_path / "a", tmp_path / "b"
    for path in (source, target) if operation != "move" else ():
        path.write_bytes(path.name.encode())

    def stale(path: str, **_: object) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle", path)

    monkeypatch.setattr(
        operations, "rename_new", Mock(return_value=False, side_effect=_gone if operation == "move" else None)
    )
    monkeypatch.setattr(nofollow.os, "stat", stale)
    more = [str(tmp_path)] if operation == "reveal" else []
    with pytest.raises(OSError, match="Stale"):
        getattr(operations, operation)(str(source), str(target), *more)


def _gone(*_: object) -> bool:
    raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_subfolder_that_somebody_removed_with_the_part_in_it_is_delivered_an_outbox_that_is_away_is_not(
    tmp_path: Path,
) -> None:
    part, final = str(tmp_path / "outbox" / "zhang" / ".p.part"), str(tmp_path / "outbox" / "zhang" / "film.json")
    with pytest.raises(FileNotFoundError):
        operations.reveal(part, final, str(tmp_path / "outbox"))
    (tmp_path / "outbox").mkdir()
    assert operations.reveal(part, final, str(tmp_path / "outbox")) == "gone"


def test_what_was_laid_down_and_not_yet_unlinked_leaves_no_part(tmp_path: Path) -> None:
    part = tmp_path / ".heygemd-README.txt.part"
    part.write_bytes(b"text")
    os.link(part, tmp_path / "README.txt")
    assert operations.lay_down(str(tmp_path / "README.txt"), b64(b"text")) == "taken"
    assert not part.exists()
