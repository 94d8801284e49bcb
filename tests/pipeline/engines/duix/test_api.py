"""What a container says is never trusted: sizes, times, types, names."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heygemd.contract import duix_api as api
from heygemd.contract.duix_api import Client, Reply, Unclear, Unreachable
from heygemd.contract.duix_folder import NotPlain, Shared, bare, new_code
from heygemd.pipeline.engines.duix.task_record import TaskRecord


@contextlib.contextmanager
def peer(*pieces: bytes, pause: float = 0.0, last: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes to whoever connects, without reading."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                taken, _ = listener.accept()
                with taken:
                    for piece in pieces:
                        taken.sendall(piece)
                        time.sleep(pause)
                    time.sleep(last)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((HEAD + b"Content-Length: 9\r\n\r\n<html></h",), "not JSON"),
        ((HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,), "more than 64 KiB"),
        ((HEAD + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000,), "not JSON"),
        ((HEAD + b"Content-Length: 2\r\n\r\n[]",), "JSON without a code"),
        ((HEAD + b'Content-Length: 16\r\n\r\n{"code": "high"}',), "JSON without a code"),
        ((b"HTTP/1.1 302 Found\r\nLocation: http://8.8.8.8/\r\nContent-Length: 0\r\n\r\n",), "HTTP 302"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "the connection failed"),
        ((b"",), "the connection failed"),
    ],
)
def test_what_is_no_answer_is_unclear(pieces: tuple[bytes, ...], said: str) -> None:
    with peer(*pieces) as url, pytest.raises(Unclear, match=said):
        Client(url, 5).query("x")


@pytest.mark.parametrize("pieces", [(), tuple([HEAD] + [b"X: y\r\n"] * 300)], ids=["silent", "dripping"])
def test_a_peer_that_never_comes_to_an_end_costs_no_more_than_its_time(pieces: tuple[bytes, ...]) -> None:
    began = time.monotonic()
    with peer(*pieces, pause=0.05, last=20) as url, pytest.raises(Unclear):
        Client(url, 0.5).query("x")
    assert time.monotonic() - began < 10


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="refused"):
        Client("http://127.0.0.1:9").query("x")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b'{"code": 10000, "data": {"status": 1, "progress": 20}}', "running"),
        (b'{"code": "10000", "data": {"status": "1", "progress": "20"}}', "running"),
        (b'{"code": 10000, "data": {"status": 2, "result": "/x-r.mp4"}}', "done"),
        (b'{"code": 10000, "data": {"status": 1, "progress": 100, "result": "/x-r.mp4"}}', "done"),
        (b'{"code": 10000, "data": {"status": 1, "progress": 100, "result": ""}}', "running"),
        (b'{"code": 10000, "data": {"status": 3, "msg": "no"}}', "failed"),
        (b'{"code": 10000, "success": false, "data": {"status": 2}}', "failed"),
        (b'{"code": 10004, "success": true, "data": {}}', "no_task"),
        (b'{"code": 10000, "data": {}}', "trouble"),
        (b'{"code": 10000, "data": [1]}', "trouble"),
        (b'{"code": 10000, "data": {"status": true}}', "trouble"),
        (b'{"code": 9999, "msg": {"a": 1}}', "trouble"),
        (b'{"code": 31337}', "trouble"),
    ],
)
def test_an_answer_means_what_its_codes_say(answer: bytes, state: str) -> None:
    assert api.task_state(api.reply_of(answer)).state == state


@pytest.mark.parametrize("progress", ["NaN", "Infinity", "-5", "1e400", '"x"', "null", "[]"])
def test_progress_is_between_none_and_all(progress: str) -> None:
    told = api.task_state(api.reply_of(f'{{"code": 10000, "data": {{"status": 1, "progress": {progress}}}}}'.encode()))
    assert 0 <= told.progress <= 100


def test_busy_is_not_accepted_though_it_says_success() -> None:
    assert api.accepted(Reply(api.WELL)) and not api.accepted(Reply(api.BUSY, success=True))
    assert not api.accepted(Reply(api.WELL, data={"status": 3})) and not api.accepted(Reply(api.WELL, success=False))


def test_what_it_says_is_one_short_line() -> None:
    said = api.reply_of(b'{"code": 9999, "msg": "a\\nb\\u001b[31m' + b"x" * 5000 + b'"}').msg
    assert len(said) <= api.WORDS and said.startswith("a b [31m")


# ---------------------------------------------------------------- names and the folder


@pytest.mark.parametrize(
    ("result", "name"),
    [
        ("/CODE-r.mp4", "CODE-r.mp4"), ("/code/data/temp/CODE-r.mp4", "CODE-r.mp4"), ("CODE.mov", "CODE.mov"),
        ("", "CODE-r.mp4"), ("../../../etc/passwd", "CODE-r.mp4"), ("/other-r.mp4", "CODE-r.mp4"),
        ("/..", "CODE-r.mp4"), ("CODE\n-r.mp4", "CODE-r.mp4"), ("http://x/CODE-r.mp4", "CODE-r.mp4"),
    ],
)  # fmt: skip
def test_only_a_bare_name_of_the_tasks_own_is_looked_for(result: str, name: str) -> None:
    code = new_code()
    assert bare(result.replace("CODE", code), code) == name.replace("CODE", code)


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    (tmp_path / "shared" / "temp").mkdir(parents=True)
    return Shared(tmp_path / "shared")


def test_links_pipes_folders_and_giants_are_not_read(shared: Shared, tmp_path: Path) -> None:
    temp = shared.folder / "temp"
    (tmp_path / "secret").write_text("secret")
    (temp / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(temp / "pipe")
    (temp / "folder").mkdir()
    with (temp / "giant").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("link", "pipe", "folder"):
        with pytest.raises(NotPlain):
            shared.size(name)
    for name in ("link", "pipe", "folder", "giant"):
        with pytest.raises((NotPlain, OSError)):
            shared.take(name, tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def test_a_temp_that_is_a_link_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "temp").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        Shared(tmp_path / "shared").put(tmp_path / "file", "name")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_what_is_old_and_ours_is_swept(shared: Shared, tmp_path: Path) -> None:
    temp = shared.folder / "temp"
    mine, fresh = new_code(), new_code()
    for name in (f"{mine}-r.mp4", f"{mine}_format.wav", "somebody-elses.mp4"):
        (temp / name).write_text("x")
        os.utime(temp / name, (1000, 1000))
    (temp / f"{fresh}.mp4").write_text("x")
    assert shared.sweep(before=2000) == 2
    assert sorted(p.name for p in temp.iterdir()) == sorted([f"{fresh}.mp4", "somebody-elses.mp4"])


def test_what_is_laid_down_can_be_read_by_the_container(shared: Shared, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o600)
    before = os.umask(0o077)
    try:
        shared.put(tmp_path / "file", "name")
    finally:
        os.umask(before)
    assert (shared.folder / "temp" / "name").stat().st_mode & 0o777 == 0o644


# ---------------------------------------------------------------- the record


def test_a_ledger_of_another_film_is_only_cleaned_up_after(tmp_path: Path) -> None:
    record = TaskRecord(tmp_path / "duix.json", "one")
    record.of(0).code, record.of(0).phase = "heygemd-a", "sent"
    record.of(0).spent.append("heygemd-b")
    record.save()
    assert TaskRecord(tmp_path / "duix.json", "one").of(0).code == "heygemd-a"
    other = TaskRecord(tmp_path / "duix.json", "two")
    assert other.of(0).code == "" and sorted(other.codes()) == ["heygemd-a", "heygemd-b"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"key": "k"}', '{"key": "k", "parts": {"0": {"phase": "?"}}, "orphans": []}']
)
def test_a_ledger_that_cannot_be_read_is_a_new_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "duix.json").write_text(text)
    record = TaskRecord(tmp_path / "duix.json", "k")
    assert record.codes() == [] and record.of(0).phase == ""
