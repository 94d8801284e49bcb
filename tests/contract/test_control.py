"""The daemon's socket: requests, refusals, stale and live sockets, clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heygemd.common import errors
from heygemd.common.errors import HeygemdError, SetupError
from heygemd.contract import control


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    if request["cmd"] == "refuse":
        raise HeygemdError("There is no such job.")
    if request["cmd"] == "long":
        return {"text": "x" * (3 << 20)}
    return {"echo": request}


def with_daemon(path: Path, ask: Callable[[], Any]) -> Any:
    """What ``ask`` returns in a thread while a daemon serves at ``path``."""

    async def serve() -> Any:
        async with control.serve(path, echo):
            return await asyncio.to_thread(ask)

    return asyncio.run(serve())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "s"


def talk(path: Path, *pieces: bytes, replies: int = 1) -> list[dict[str, Any]]:
    """Send raw bytes and return so many replies."""
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as reader:
        client.settimeout(10)
        client.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # cut off in the middle; what was answered is still to be read
            for piece in pieces:
                client.sendall(piece)
        return [json.loads(reader.readline()) for _ in range(replies)]


def test_a_request_gets_its_reply_with_any_name_in_it(path: Path) -> None:
    request = {"cmd": "retry", "job": os.fsdecode(b"caf\xe9 \xf0\x9f\x98\x80")}
    assert with_daemon(path, lambda: control.call(path, request)) == {"ok": True, "echo": request}


def test_what_the_daemon_refuses_is_a_sentence(path: Path) -> None:
    reply = with_daemon(path, lambda: control.call(path, {"cmd": "refuse"}))
    assert reply == {"ok": False, "error": "There is no such job."}


def test_a_long_reply_arrives_whole(path: Path) -> None:
    assert len(with_daemon(path, lambda: control.call(path, {"cmd": "long"}))["text"]) == 3 << 20


def test_one_connection_may_ask_several_times_and_in_pieces(path: Path) -> None:
    replies = with_daemon(path, lambda: talk(path, b'{"cmd":', b'"a"}\n{"cmd": "b"}\n', replies=2))
    assert [r["echo"]["cmd"] for r in replies] == ["a", "b"]


@pytest.mark.parametrize("line", [b"hello\n", b"[]\n", b"{}\n", b'{"cmd": 3}\n', b"\xff\xfe\n", b"\n"])
def test_nonsense_is_refused_and_the_daemon_lives(path: Path, line: bytes) -> None:
    bad, good = with_daemon(path, lambda: talk(path, line, b'{"cmd": "ping"}\n', replies=2))
    assert bad["ok"] is False and good["ok"] is True


def test_a_request_without_end_is_cut_off(path: Path) -> None:
    def flood() -> list[dict[str, Any]]:
        return talk(path, b"x" * (control.REQUEST_BYTES + (1 << 16)))

    assert "longer than 1 MiB" in with_daemon(path, flood)[0]["error"]


def test_a_caller_with_too_long_a_request_is_told_so_at_home(path: Path) -> None:
    with pytest.raises(ValueError, match="bytes"):
        control.call(path, {"cmd": "x" * control.REQUEST_BYTES})


def test_only_user_and_group_may_speak(path: Path) -> None:
    assert with_daemon(path, lambda: path.stat().st_mode & 0o777) == 0o660


def test_the_socket_goes_with_the_daemon(path: Path) -> None:
    with_daemon(path, lambda: None)
    assert not path.exists()
    with pytest.raises(errors.NoDaemon, match="No heygemd daemon answers"):
        control.call(path, {"cmd": "ping"})


def test_a_socket_left_by_a_killed_daemon_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(errors.NoDaemon):
        control.call(path, {"cmd": "ping"})
    assert with_daemon(path, lambda: control.call(path, {"cmd": "ping"}))["ok"]


def test_a_living_daemons_socket_is_left_alone(path: Path) -> None:
    def second() -> None:
        with pytest.raises(SetupError, match="Another heygemd uses"):
            with_daemon(path, lambda: None)
        assert control.call(path, {"cmd": "ping"})["ok"]

    with_daemon(path, second)


def test_what_is_not_a_socket_is_never_removed(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(SetupError, match="not a socket"):
        with_daemon(path, lambda: None)
    assert path.read_text() == "precious"


def test_a_path_too_long_for_the_kernel_is_told_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    for use in (lambda: control.call(path, {"cmd": "ping"}), lambda: with_daemon(path, lambda: None)):
        with pytest.raises(SetupError, match=r"socket in \[daemon\]"):
            use()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be created"):
        with_daemon(tmp_path / "file" / "s", lambda: None)


def test_a_daemon_that_does_not_answer_is_not_waited_for_without_end(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen(1)
        with pytest.raises(SetupError, match="did not answer within"):
            control.call(path, {"cmd": "ping"}, timeout=0.1)


@pytest.mark.parametrize(("said", "told"), [(b"", "was closed"), (b"GET / HTTP\n", "not a heygemd daemon")])
def test_something_else_at_the_socket_is_told_apart(path: Path, said: bytes, told: str) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async def scene() -> None:
        path.parent.mkdir()
        server = await asyncio.start_unix_server(other, path)
        async with server:
            with pytest.raises(SetupError, match=told):
                await asyncio.to_thread(control.call, path, {"cmd": "ping"})

    asyncio.run(scene())
