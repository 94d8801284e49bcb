"""Hooks: programs of the site's own that are told what has become of a job."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.common.errors import SetupError
from heygemd.common.request import JobRequest
from heygemd.config import load
from heygemd.config.live import Live
from heygemd.config.tables import HooksConfig
from heygemd.config.whole import Config
from heygemd.daemon import hooks
from heygemd.store.states import Job, JobState
from tests.site import ROOT, Site

TOLD: hooks.Notice = {
    "schema": hooks.NOTICE, "event": "on_done", "time": "2026-11-22T14:02:00.000+00:00", "host": "here", "line": "main",
    "drop": "a", "job": "a.1", "name": "lesson", "attempts": 1, "film": "/out/lesson.mp4", "held": False,
    "log": "/out/lesson.json", "reason": None, "since": None,
}  # fmt: skip


def job(**columns: Any) -> Job:
    """A job as the journal has it."""
    given: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    given |= {"id": "a.1", "drop_id": "a", "number": 1, "state": JobState.QUEUED, "attempts": 0, "deferrals": 0}
    return Job(**{**given, "request": JobRequest(name="课 1", audio=None, video=None), **columns})


def live(*argv: str, seconds: float = 10) -> Live:
    return Live(settings(*argv, seconds=seconds))


def settings(*argv: str, socket: Path = Path("/none"), seconds: float = 10, **more: tuple[str, ...]) -> Config:
    return Config(hooks=HooksConfig(on_done=argv, seconds=seconds, socket=socket, **more))


SINCE = "2026-11-22T14:02:00.000+00:00"


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (job(state=JobState.REVEALING), job(state=JobState.DELIVERED), "on_done"),
        (job(state=JobState.RUNNING), job(state=JobState.FAILED), "on_failed"),
        (job(), job(deferred_since=SINCE), "on_deferred"),
        (job(deferred_since=SINCE), job(deferred_since=SINCE, deferred_reason="other"), None),
        (job(state=JobState.RUNNING), job(state=JobState.CANCELLED), None),
        (job(), job(state=JobState.RUNNING), None),
        (job(state=JobState.FAILED), job(state=JobState.FAILED), None),
    ],
)
def test_each_event_is_told_once_and_nothing_else_is_one(before: Job, after: Job, event: str | None) -> None:
    assert hooks.event_of(before, after) == event


def test_the_notice_names_the_film_and_never_holds_what_json_cannot() -> None:
    told = hooks.notice("on_done", job(state=JobState.DELIVERED, base="课 1\udcff"), "main", "/srv/out")
    assert told["film"].startswith("/srv/out/课 1") and told["log"].endswith(".json")
    assert told["reason"] is None and json.loads(hooks._bytes(told)) == told
    failed = hooks.notice("on_failed", job(state=JobState.FAILED, reason="no face"), "main", "/srv/out")
    assert (failed["film"], failed["reason"]) == (None, "no face")


def test_a_hook_reads_the_notice_on_its_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    problem = asyncio.run(hooks.execute(["sh", "-c", f"cat >{shlex.quote(str(out))}"], b'{"a": 1}\n', 10))
    assert problem is None and out.read_bytes() == b'{"a": 1}\n'


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["sh", "-c", "echo no room >&2; exit 7"], "exited with code 7: no room"),
        (["/no/such/program"], "cannot be run: No such file"),
        (["sh", "-c", "exit 1"], "no output"),
    ],
)
def test_what_a_hook_does_wrong_is_told_in_a_sentence(argv: list[str], told: str) -> None:
    assert told in (asyncio.run(hooks.execute(argv, b"x" * (1 << 20), 10)) or "")


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 300 & echo $! >{shlex.quote(str(pid))}; wait"
    problem = asyncio.run(hooks.execute(["sh", "-c", script], b"", 1))
    assert problem is not None and "took longer than 1 s" in problem
    ends = time.monotonic() + 5
    while Path(f"/proc/{int(pid.read_text())}/cmdline").exists() and time.monotonic() < ends:
        if b"sleep" not in Path(f"/proc/{int(pid.read_text())}/cmdline").read_bytes():
            return  # a zombie has no command line
        time.sleep(0.05)
    assert not Path(f"/proc/{int(pid.read_text())}").exists()


def test_only_a_few_run_at_once_and_too_many_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "MOST", 10)
    most = running = 0

    async def slow(*_: Any) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    monkeypatch.setattr(hooks, "execute", slow)

    async def fired() -> int:
        all_of = hooks.Hooks(live("true"))
        for _ in range(25):
            all_of.fire(TOLD)
        waiting = len(all_of._running)
        await all_of.close()
        return waiting

    assert asyncio.run(fired()) == 10 and most == hooks.AT_ONCE


def test_the_end_of_the_daemon_waits_for_a_hook_only_so_long(tmp_path: Path) -> None:
    async def fired() -> float:
        one = hooks.Hooks(live("sleep", "300", seconds=300))
        one.fire(TOLD)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await one.close(0.3)
        assert not one._running
        return time.monotonic() - began

    assert asyncio.run(fired()) < 100


def test_without_a_hook_nothing_is_started() -> None:
    async def fired() -> int:
        none = hooks.Hooks(live())
        none.fire(TOLD)
        return len(none._running)

    assert asyncio.run(fired()) == 0


# ---------------------------------------------------------------- through systemd's socket


def test_with_a_socket_the_daemon_runs_nothing_itself(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    socket, proof = tmp_path / "s", tmp_path / "proof"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(json.loads(await reader.readline()))
        writer.write(b'{"ok": true, "problem": null}\n')
        writer.close()

    async def fired() -> None:
        server = await asyncio.start_unix_server(answer, path=str(socket))
        here = replace(settings("touch", str(proof), socket=socket), source=Path("/etc/heygemd/config.toml"))
        one = hooks.Hooks(Live(here))
        one.fire(TOLD)
        await one.close()
        server.close()

    asyncio.run(fired())
    assert heard == [{"config": "/etc/heygemd/config.toml", "notice": TOLD}] and not proof.exists()


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[]\n", b'{"ok": false}\n'])
def test_an_instance_that_says_nothing_sensible_is_a_failed_hook(tmp_path: Path, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async def asked() -> str | None:
        async with await asyncio.start_unix_server(answer, path=str(tmp_path / "s")):
            return await hooks._ask_systemd(tmp_path / "s", Path("/x"), TOLD, 5)

    assert "did not answer" in (asyncio.run(asked()) or "")


def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any, argv: tuple[str, ...]) -> hooks.HookReply:
    monkeypatch.setattr(hooks, "check_roots_own", lambda source: None)
    return hooks.serve(json.dumps(request).encode(), lambda path: settings(*argv))


def test_the_instance_runs_what_its_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    request = {"config": "/etc/heygemd/config.toml", "notice": TOLD, "argv": ["touch", str(tmp_path / "evil")]}
    answer = serve(tmp_path, monkeypatch, request, ("sh", "-c", f"cat >{shlex.quote(str(out))}"))
    assert answer == {"ok": True, "problem": None}
    assert json.loads(out.read_text()) == TOLD and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"config": "/x", "notice": {"event": "seconds"}}, "not a heygemd hook request"),
        ({"notice": TOLD}, "not a heygemd hook request"),
        ([], "not a heygemd hook request"),
        ({"config": "/x", "notice": {"event": "on_failed"}}, "no longer has on_failed"),
    ],
)
def test_a_request_that_is_none_is_refused(
    request_: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = serve(tmp_path, monkeypatch, request_, ("true",))
    assert not answer["ok"] and told in answer["problem"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that are root's")
@pytest.mark.parametrize(("mode", "owner"), [(0o666, 0), (0o644, 65534)])
def test_a_configuration_that_others_could_have_written_is_refused(tmp_path: Path, mode: int, owner: int) -> None:
    file = tmp_path / "config.toml"
    file.touch()
    hooks.check_roots_own(file)
    file.chmod(mode)
    os.chown(file, owner, 0)
    with pytest.raises(SetupError, match="users other than root"):
        hooks.check_roots_own(file)
    answer = hooks.serve(json.dumps({"config": str(file), "notice": TOLD}).encode(), load.load)
    assert not answer["ok"] and "users other than root" in answer["problem"]


# ---------------------------------------------------------------- in the daemon


def test_the_daemon_tells_of_films_and_failures_and_a_broken_hook_stops_nothing(site: Site, media: Path) -> None:
    site.of_bytes = True
    told = site.root / "told.jsonl"
    write = json.dumps(["sh", "-c", f"cat >>{shlex.quote(str(told))}"])
    site.extra = f'[hooks]\non_done = {write}\non_failed = {write}\nsocket = "/none"\n'
    site.write_config()
    for name, source in (("good.wav", "voice.wav"), ("good.mp4", "film.mp4"), ("bad.wav", "voice.wav")):
        (site.inbox / name).write_bytes((media / source).read_bytes())
    (site.inbox / "bad.mp4").write_bytes(b"bad" * 100)
    assert site.once() == 3
    rows = {row["event"]: row for row in map(json.loads, told.read_text().splitlines())}
    assert rows.keys() == {"on_done", "on_failed"}
    assert rows["on_done"]["film"] == str(site.outbox / "good.mp4") and rows["on_failed"]["name"] == "bad"
    assert Path(rows["on_done"]["log"]).exists() and rows["on_failed"]["reason"]
    site.extra = '[hooks]\non_done = ["/no/such/program"]\nsocket = "/none"\n'
    site.write_config()
    for name, source in (("more.wav", "voice.wav"), ("more.mp4", "film.mp4")):
        (site.inbox / name).write_bytes((media / source).read_bytes())
    assert site.once() == 0
    assert [e["problem"] for e in site.events() if e["event"] == "hook_failed"] == [
        "/no/such/program cannot be run: No such file or directory"
    ]


def test_the_command_answers_on_its_standard_output_whatever_it_is_given() -> None:
    argv = [sys.executable, "-m", "heygemd", "hook"]
    done = subprocess.run(argv, input=b"\xff\n", capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == 3 and json.loads(done.stdout)["ok"] is False
