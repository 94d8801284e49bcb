"""The typed client against the operations it stands for, and against a real child."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from heygemd.common.errors import StorageError
from heygemd.common.request import Stamp
from heygemd.share.__main__ import OPERATIONS
from heygemd.share.answers import RemovedFiles, StagedFile
from heygemd.share.client import ShareClient, ShareError
from heygemd.share.owner import Hold
from tests.share.here import Here, client

FOLDERS = ("inbox", "processing", "outbox", "done", "failed")
METHODS = {
    name: method
    for name, method in vars(ShareClient).items()
    if inspect.iscoroutinefunction(method) and not name.startswith("_") and name != "close"
}


def test_the_client_has_a_method_for_each_operation_and_no_other() -> None:
    assert set(METHODS) == set(OPERATIONS)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_method_takes_what_its_operation_takes_in_the_same_order(name: str) -> None:
    def taken(function: Callable[..., object]) -> dict[str, bool]:
        """The positional parameters, and which may be left out."""
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default is not p.empty for p in parameters if p.kind is not p.KEYWORD_ONLY}

    method = taken(METHODS[name])
    assert method.pop("self") is False
    assert list(method.items()) == list(taken(OPERATIONS[name]).items())
    hints = inspect.get_annotations(METHODS[name])
    assert "Any" not in str(hints) and "object" not in str(hints["return"])


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_method_asks_for_the_operation_of_its_name(name: str) -> None:
    here = Here()
    here.refuse[name] = StorageError("stop here")
    values: dict[str, object] = {
        "folders": {}, "me": Hold(Path("/")).me(), "paths": [], "request": {}, "stamps": {}, "data": b"", "files": [],
        "ours": [], "stamp": Stamp(1, 1, 1), "size": 1,
    }  # fmt: skip
    parameters = list(inspect.signature(METHODS[name]).parameters.values())[1:]
    wanted = {p.name: values.get(p.name, "") for p in parameters if p.default is p.empty}
    with pytest.raises(StorageError, match="stop here"):
        asyncio.run(METHODS[name](client(here), **wanted))
    assert here.asked == [name]


def test_results_come_back_typed_from_a_real_child(tmp_path: Path) -> None:
    async def story(share: ShareClient) -> None:
        folders = {name: str(tmp_path / name) for name in FOLDERS}
        me = Hold(tmp_path).me()
        opened = await share.open_line(folders, None, me, None)
        assert opened.held_by is None and len(opened.marker) == 32
        other = Hold(tmp_path).me()
        assert (await share.open_line(folders, opened.marker, other, None)).held_by == me
        data = bytes(range(256))
        await share.write_whole(f"{folders['inbox']}/a.mp3", data)
        assert await share.read(f"{folders['inbox']}/a.mp3", 256) == data
        (entry,) = await share.scan(folders["inbox"])
        assert (entry.path, entry.stamp.size, entry.is_dir) == ("a.mp3", 256, False)
        assert await share.inspect(folders["inbox"], ["a.mp3", "b.mp3"]) == {
            "a.mp3": None, "b.mp3": "cannot be read (No such file or directory)",
        }  # fmt: skip
        with pytest.raises(ShareError, match="larger than 255 bytes") as caught:
            await share.read(f"{folders['inbox']}/a.mp3", 255)
        assert caught.value.path == f"{folders['inbox']}/a.mp3"
        drop, stamps = f"{folders['processing']}/1", {"": entry.stamp}
        assert await share.take_input(f"{folders['inbox']}/a.mp3", f"{drop}/a.mp3", stamps) == "moved"
        staged = await share.stage(f"{drop}/a.mp3", str(tmp_path / "work" / "a"))
        assert isinstance(staged, StagedFile) and (staged.size, staged.steady) == (256, True)
        assert await share.put_back(f"{drop}/a.mp3", f"{folders['inbox']}/a.mp3") == "moved"
        files = [("a.mp3", 256, entry.stamp.mtime_ns)]
        await share.write_whole(f"{folders['inbox']}/b.mp3", data)
        assert await share.remove_filed(folders["inbox"], files, [".heygemd-line"]) == RemovedFiles(2, ("b.mp3",))
        assert await share.free_mib(folders["outbox"]) > 0
        await share.leave_line(folders["processing"], me)

    run(tmp_path, story)


def run(folder: Path, story: Callable[[ShareClient], Coroutine[None, None, None]]) -> None:
    async def told() -> None:
        share = ShareClient("main", 20, [str(folder)])
        try:
            await story(share)
        finally:
            await share.close()

    asyncio.run(told())


def test_the_child_imports_nothing_of_other_rooms_and_no_watchdog() -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "heygemd.share"]
    done = subprocess.run(argv, input=b"", capture_output=True, check=True, timeout=60)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "heygemd.share.operations" in modules
    assert not [name for name in modules if name.startswith("watchdog")]
    rooms = {".".join(name.split(".")[:2]) for name in modules if name.startswith("heygemd.")}
    assert rooms <= {"heygemd.share", "heygemd.common"}, rooms
