"""Below a line's folders no link is followed, wherever one is put in place of a folder; above, they are."""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heygemd.config.line import LineConfig
from heygemd.share import __main__, nofollow, operations, owner, queries
from heygemd.share.answers import RemovedFiles
from heygemd.share.owner import Hold

DATA = base64.b64encode(b"ours").decode()
FOLDERS = ("inbox", "processing", "outbox", "done", "failed")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Path]:
    """A line whose root is reached through a link of the operator's."""
    (tmp_path / "disk" / "line").mkdir(parents=True)
    (tmp_path / "srv").symlink_to(tmp_path / "disk")
    root = tmp_path / "srv" / "line"
    nofollow.trust([str(root)])
    yield root
    nofollow.trust([])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder outside with files of the names that are asked for."""
    folder = tmp_path / "secret"
    (folder / "course").mkdir(parents=True)
    for name in ("a.mp4", "a.json", "request.json", "course/a.mp4", queries.MARKER, owner.OWNER):
        (folder / name).write_bytes(b'{"job": "j-1"}')
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def test_a_link_at_or_above_the_root_is_the_operators_and_works(line: Path) -> None:
    folders = {name: str(line / name) for name in FOLDERS}
    assert queries.open_line(folders, None).held_by is None
    (line / "inbox" / "zhang").mkdir()
    (line / "inbox" / "zhang" / "a.mp4").write_bytes(b"x")
    assert [row[0] for row in queries.scan(folders["inbox"])] == ["zhang", "zhang/a.mp4"]
    assert operations.move(str(line / "inbox/zhang/a.mp4"), str(line / "processing/1/a.mp4")) == "moved"
    assert (line.resolve() / "processing/1/a.mp4").exists()


def calls(zhang: Path, work: Path) -> dict[str, Callable[[], Any]]:
    """Every operation on something below ``zhang``, which is a link now."""
    film, ours = str(zhang / "a.mp4"), str(work / "film")
    info = os.stat(zhang / "a.mp4") if zhang.exists() and zhang.is_dir() else os.stat(os.devnull)
    size, mtime = info.st_size, info.st_mtime_ns
    return {
        "scan": lambda: queries.scan(str(zhang)),
        "inspect": lambda: queries.inspect(str(zhang.parent), ["zhang/a.mp4"])["zhang/a.mp4"],
        "read": lambda: queries.read(film, 99),
        "listing": lambda: queries.listing(str(zhang)),
        "owner": lambda: queries.owner(film),
        "open_drop": lambda: operations.open_drop(str(zhang / "drop"), {}),
        "discard_drop": lambda: operations.discard_drop(str(zhang), ["course"]),
        "move out": lambda: operations.move(film, str(zhang.parent / "out")),
        "take_input": lambda: operations.take_input(film, str(zhang.parent / "out"), {"": [size, mtime, info.st_ino]}),
        "take_input below": lambda: operations.take_input(
            str(zhang / "course"), str(zhang.parent / "out"), {"a.mp4": [1]}
        ),
        "put_back": lambda: operations.put_back(ours, film),
        "put_back from": lambda: operations.put_back(film, str(zhang.parent / "out")),
        "move in": lambda: operations.move(ours, film + ".new"),
        "stage": lambda: operations.stage(film, str(work / "copy")),
        "sync_folders": lambda: operations.sync_folders([str(zhang)]),
        "free_mib": lambda: queries.free_mib(str(zhang)),
        "put": lambda: operations.put(ours, str(zhang / ".heygemd-1.mp4.part")),
        "write_part": lambda: operations.write_part(film, DATA),
        "reveal": lambda: operations.reveal(film, str(zhang / "b.mp4"), str(zhang.parent)),
        "write_whole": lambda: operations.write_whole(film, DATA),
        "lay_down": lambda: operations.lay_down(str(zhang / "README.txt"), DATA),
        "file_drop": lambda: operations.file_drop(ours, str(zhang / "drop")),
        "file_drop out": lambda: operations.file_drop(str(zhang / "course"), str(zhang.parent / "course")),
        "remove_seen": lambda: operations.remove_seen(film, [size, mtime, info.st_ino]),
        "remove_filed": lambda: operations.remove_filed(str(zhang), [("a.mp4", size, mtime)], ["a.json"]),
        "remove_filed below": lambda: operations.remove_filed(str(zhang / "course"), [], ["a.mp4"]),
        "remove_film": lambda: operations.remove_film(str(zhang / "a"), 14, "j-1"),
        "remove_empty": lambda: operations.remove_empty(str(zhang / "course")),
        "hold": lambda: owner.hold(str(zhang), Hold(work).me(), None),
        "leave": lambda: owner.leave(str(zhang), Hold(work).me()),
        "open_line": lambda: queries.open_line({name: str(zhang) for name in FOLDERS}, None),
    }


#: what they say; the others raise ELOOP
SAID = {
    "inspect": "cannot be read (zhang is a symbolic link; links are not followed here)",
    "owner": None, "discard_drop": None, "move out": "gone", "take_input": "gone", "take_input below": "gone",
    "sync_folders": None,
    "file_drop": "barred", "remove_filed": RemovedFiles(0, ()), "remove_filed below": RemovedFiles(0, ()),
    "remove_film": "gone", "remove_empty": None,
}  # fmt: skip


@pytest.mark.parametrize("operation", sorted(calls(Path(os.devnull), Path())))
def test_where_a_folder_was_replaced_by_a_link_nothing_is_done_elsewhere(
    line: Path, secret: Path, tmp_path: Path, operation: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "film").write_bytes(b"film")
    (line / "inbox").mkdir()
    (line / "inbox" / "zhang").symlink_to(secret)
    before = tree(secret)
    act = calls(line / "inbox" / "zhang", work)[operation]
    if operation in SAID:
        assert act() == SAID[operation]
    else:
        with pytest.raises(OSError, match="is a symbolic link; links are not followed here") as caught:
            act()
        assert caught.value.errno == errno.ELOOP
        assert str(caught.value.filename).startswith(str(line / "inbox" / "zhang"))
    assert tree(secret) == before
    assert (work / "film").exists() and not (line / "inbox" / "out").exists()
    assert not (line / "inbox" / "course").exists() and not (work / "copy").exists()


def test_a_scan_lists_a_link_that_was_a_folder_and_does_not_look_into_it(line: Path, secret: Path) -> None:
    (line / "inbox").mkdir()
    (line / "inbox" / "zhang").symlink_to(secret)
    assert [(row[0], row[1], row[5]) for row in queries.scan(str(line / "inbox"))] == [("zhang", False, True)]


def test_a_folder_that_becomes_a_link_in_the_middle_of_a_scan_is_not_entered(
    line: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zhang = line / "inbox" / "zhang"
    zhang.mkdir(parents=True)
    opened = os.open

    def swapping(path: str, *args: Any, **more: Any) -> int:
        if path == "zhang" and not zhang.is_symlink():
            zhang.rmdir()
            zhang.symlink_to(secret)
        return opened(path, *args, **more)

    monkeypatch.setattr(operations.os, "open", swapping)
    assert [row[0] for row in queries.scan(str(line / "inbox"))] == ["zhang"]


def test_a_path_that_climbs_is_refused(line: Path) -> None:
    with pytest.raises(OSError, match="must not contain"), nofollow.folder(f"{line}/inbox/../../secret", make=True):
        pass


def test_errors_name_the_whole_path(line: Path) -> None:
    (line / "inbox").mkdir()
    (line / "inbox" / "file").touch()
    for path, number in (("inbox/gone/a", errno.ENOENT), ("inbox/gone", errno.ENOENT), ("inbox/file/a", errno.ENOTDIR)):
        with pytest.raises(OSError) as caught:
            nofollow.open_regular(str(line / path))
        assert (caught.value.errno, caught.value.filename) == (number, str(line / path))


def test_folders_that_stand_elsewhere_are_trusted_by_themselves_and_those_in_the_root_are_not(tmp_path: Path) -> None:
    usual = LineConfig(name="a", root=tmp_path / "a")
    assert usual.trusted == (str(tmp_path / "a"),)
    other = LineConfig(name="a", root=tmp_path / "a", outbox=tmp_path / "nas", done=tmp_path / "a" / "done")
    assert other.trusted == (str(tmp_path / "a"), str(tmp_path / "nas"))


@pytest.mark.parametrize("operation", ["put", "write_part", "write_whole", "lay_down"])
def test_what_is_fsynced_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """A tail that is still in a buffer would be missing after a power failure."""
    film, data = tmp_path / "film", b"x" * ((1 << 20) + 17)
    film.write_bytes(data)
    sizes, fsync = [], os.fsync
    monkeypatch.setattr(operations.os, "fsync", lambda fd: (sizes.append(os.fstat(fd).st_size), fsync(fd)))
    what = str(film) if operation == "put" else base64.b64encode(data).decode()
    args = [what, str(tmp_path / "part")] if operation == "put" else [str(tmp_path / "part"), what]
    __main__.OPERATIONS[operation](*args)
    assert sizes[0] == len(data)


def test_a_folder_of_absurd_depth_stops_no_scan(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    (tmp_path / "a.mp4").touch()
    paths = [row[0] for row in queries.scan(str(tmp_path))]
    assert "a.mp4" in paths and len(paths) == 66
    os.system(f"rm -rf '{tmp_path}/d'")  # shutil gives up at this depth
