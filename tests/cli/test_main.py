"""The command line: exit codes, where things are printed, orders to a daemon, no tracebacks for users' mistakes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from heygemd import __version__
from heygemd.cli import main
from heygemd.cli import status as cli_status
from heygemd.common import errors, exits
from heygemd.common.errors import (
    Cancelled,
    ConfigError,
    EngineError,
    HeygemdError,
    InputError,
    SetupError,
    StorageError,
    WorkerDied,
)
from heygemd.contract import control
from heygemd.contract.status import read_status
from heygemd.status import text as status_text
from tests.site import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a configuration whose daemon does not run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEYGEMD_CONFIG", raising=False)
    monkeypatch.delenv("HEYGEMD_DEBUG", raising=False)
    (tmp_path / "config.toml").write_text('[daemon]\nstate_dir = "s"\n[[line]]\nname = "main"\nroot = "l"\n')
    return tmp_path


@contextmanager
def daemon(socket: Path, replies: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Something that answers at ``socket``; what it is asked is in the list."""
    asked: list[dict[str, Any]] = []
    started, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        reply = replies[request["cmd"]]
        if isinstance(reply, HeygemdError):
            raise reply
        return dict(reply)

    async def serve() -> None:
        async with control.serve(socket, answer):
            started.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield asked
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


# ---------------------------------------------------------------- exit codes and faults


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("f", []), 2),
        (errors.Misuse("x"), 2),
        (InputError("x"), 3),
        (EngineError("x"), 3),
        (WorkerDied("x"), 3),
        (errors.NoDaemon("x"), 4),
        (SetupError("x"), 5),
        (StorageError("x"), 1),
        (HeygemdError("x"), 1),
        (Cancelled("x"), 130),
    ],
)
def test_every_error_has_its_exit_code(error: HeygemdError, code: int) -> None:
    assert exits.exit_code(error) == code
    assert code in exits.EXIT_CODES


def test_the_exit_codes_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"{code:>3}  {meaning}" in told for code, meaning in exits.EXIT_CODES.items())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"heygemd {__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["render"], ["retry"], ["jobs", "--state", "odd"], ["jobs", "--limit", "0"]]
)
def test_wrong_use_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 2
    assert "usage: heygemd" in capsys.readouterr().err


def test_a_fault_is_one_sentence_with_its_detail_indented(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise EngineError("It broke.", detail="line one\nline two")

    monkeypatch.setattr(cli_status, "command", refuse)
    assert main.main(["status"]) == 3
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "heygemd: It broke.\n    line one\n    line two\n")


def test_with_json_a_fault_is_on_stdout_too(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise InputError("No face.", reason="no_face")

    monkeypatch.setattr(cli_status, "command", refuse)
    assert main.main(["status", "--json"]) == 3
    told = {"code": "input", "message": "No face.", "detail": "", "reason": "no_face"}
    assert json.loads(capsys.readouterr().out) == {"ok": False, "error": told}


@pytest.mark.parametrize("debug", [False, True])
def test_what_nobody_expected_shows_its_traceback_only_when_asked(
    debug: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: Any, **__: Any) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(cli_status, "command", break_down)
    assert main.main(["status", "--debug"] if debug else ["status"]) == 1
    told = capsys.readouterr().err
    assert "unexpected error, KeyError: 'lost'" in told and ("Traceback" in told) == debug


def test_an_interruption_is_130(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_status, "command", interrupt)
    assert main.main(["status"]) == 130


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    command = f"{sys.executable} -m heygemd check --template | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"#", b"")


def test_the_commands_start_without_anything_heavy(here: Path) -> None:
    code = (
        "import sys\nfrom heygemd.cli.main import main\nmain(['status'])\nmain(['check'])\n"
        "print([m for m in ('torch', 'cv2', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# ---------------------------------------------------------------- run and check


def test_run_hands_the_checked_configuration_to_the_daemon(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heygemd.daemon import service as module

    seen: list[Any] = []

    def run(config: Any, **how: Any) -> int:
        seen.append((config, how))
        return 3

    monkeypatch.setattr(module, "run", run)
    assert main.main(["run", "--once"]) == 3
    (config, how) = seen[0]
    assert config.lines[0].root == here / "l"
    assert how == {"once": True, "terminal": True}


def test_run_without_a_configuration_says_how_to_get_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("heygemd.config.load.SYSTEM_CONFIG", here / "none.toml")
    (here / "config.toml").unlink()
    assert main.main(["run"]) == 2
    assert "heygemd check --template > config.toml" in capsys.readouterr().err


def test_check_names_every_fault(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "config.toml").write_text("[render]\ncrf = 99\nfoo = 1\n")
    assert main.main(["check", "--json"]) == 2
    out = capsys.readouterr()
    assert out.err.startswith(f"heygemd: {here / 'config.toml'}: 3 faults\n")
    told = json.loads(out.out)
    assert {"where": "[render] crf", "what": "must be at most 51, not 99"} in told["faults"]


def test_check_prints_what_is_in_force_and_it_reads_back_the_same(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from heygemd.config import load

    with (here / "config.toml").open("a") as file:
        file.write('crf = 20\n[line.folders."a b"]\nface = "left"\n')
    assert main.main(["check"]) == 0
    told = capsys.readouterr().out
    assert "note: line main: inbox, processing, outbox, done, failed do not exist" in told
    assert told.endswith(f"ok: {here / 'config.toml'}\n")
    again = here / "again.toml"
    again.write_text("\n".join(line for line in told.splitlines() if not line.startswith(("note:", "ok:"))))
    first, second = load.load(here / "config.toml"), load.load(again)
    assert (first.daemon, first.render, first.lines) == (second.daemon, second.render, second.lines)


def test_check_notes_what_a_file_cannot_show(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("inbox", "processing", "outbox", "done", "failed"):
        (here / "l" / name).mkdir(parents=True)
    (here / "l" / "done").rmdir()
    (here / "l" / "done").symlink_to("outbox")
    (here / "config.toml").chmod(0o666)
    assert main.main(["check", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("is the same folder as line main: outbox" in note for note in notes)
    assert any("is writable by everybody" in note for note in notes)


# ---------------------------------------------------------------- orders and reports


JOB = {
    "id": "j1", "drop": "d1", "line": "main", "name": "lesson", "folder": "zhang", "state": "queued",
    "priority": "normal", "engine": None, "attempts": 0, "created": "2026-08-01T10:00:00.000+02:00", "started": None,
    "ended": None, "reason": None, "film": None, "deferred_since": None, "deferred_reason": None,
}  # fmt: skip


def status_reply(**more: Any) -> dict[str, Any]:
    line = {"name": "main", "root": "/l", "inbox": "/l/inbox", "watch": "inotify", "state": "ok", "problem": None}
    return {
        "pid": 7, "version": "0.1.0", "started": "2026-08-01T09:00:00.000+02:00", "state": "running", "running": [],
        "lines": [line],
        "queue": [], "waiting": [], "recent": [], "counts": {}, **more,
    }  # fmt: skip


@pytest.mark.parametrize("words", [["retry", "j1"], ["cancel", "j1"], ["pause"], ["resume"]])
def test_orders_need_a_daemon(words: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 4
    told = capsys.readouterr().err
    assert "No heygemd daemon answers" in told and f"'{words[0]}' needs a running daemon" in told


@pytest.mark.parametrize("words", [["status"], ["jobs"]])
def test_without_a_daemon_and_a_journal_there_is_nothing_to_tell(
    words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == 4
    assert "There is no journal at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "request_", "said"),
    [
        (["retry", "d1"], {"cmd": "retry", "job": "d1"}, "j1 is queued again.\n"),
        (["cancel", "j1"], {"cmd": "cancel", "job": "j1"}, "j1 is cancelled.\n"),
        (
            ["pause"],
            {"cmd": "pause"},
            "The daemon is paused and starts no new job; 'heygemd resume' starts jobs again.\n",
        ),
        (["resume"], {"cmd": "resume"}, "The daemon starts jobs again.\n"),
    ],
)
def test_an_order_reaches_the_daemon(
    words: list[str], request_: dict[str, str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = {"retry": {"job": "j1"}, "cancel": {"job": "j1"}, "pause": {}, "resume": {}}
    with daemon(here / "s" / "heygemd.sock", replies) as asked:
        assert main.main(words) == 0
        assert main.main([*words, "--json"]) == 0
    assert asked == [request_, request_]
    out = capsys.readouterr().out
    assert out.startswith(said) and json.loads(out.removeprefix(said))["ok"] is True


def test_an_order_that_the_daemon_refuses_is_misuse(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon(here / "s" / "heygemd.sock", {"retry": HeygemdError("There is no job 'x'.")}):
        assert main.main(["retry", "x"]) == 2
    assert capsys.readouterr().err == "heygemd: There is no job 'x'.\n"


def test_jobs_asks_for_the_states_and_the_number_wanted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = JOB | {"state": "delivered", "film": "lesson (2)", "ended": "2026-08-01T10:05:00.000+02:00"}
    with daemon(here / "s" / "heygemd.sock", {"jobs": {"jobs": [done]}}) as asked:
        assert main.main(["jobs", "--state", "failed", "--state", "delivered", "--limit", "7"]) == 0
    assert asked == [{"cmd": "jobs", "states": ["delivered", "failed"], "limit": 8}]
    assert capsys.readouterr().out == "j1  2026-08-01 10:05:00  delivered  main  zhang/lesson  → lesson (2).mp4\n"


def test_jobs_says_that_it_left_some_out_and_with_a_span_leaves_out_none(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = datetime.now().astimezone().isoformat()
    rows = [JOB | {"id": f"j{n}", "state": "failed", "ended": ended} for n in range(9)]
    old = JOB | {"id": "old", "state": "failed", "ended": "2020-01-01T00:00:00+00:00"}
    with daemon(here / "s" / "heygemd.sock", {"jobs": {"jobs": [*rows, old]}}) as asked:
        assert main.main(["jobs", "--failed", "--limit", "9", "--json"]) == 0
        short = json.loads(capsys.readouterr().out)
        assert main.main(["jobs", "--failed", "--limit", "9"]) == 0
        assert "newest 9" in capsys.readouterr().err
        assert main.main(["jobs", "--failed", "--since", "7d", "--json"]) == 0
        week = json.loads(capsys.readouterr().out)
    assert short["more"] and len(short["jobs"]) == 9
    assert not week["more"] and [j["id"] for j in week["jobs"]] == [j["id"] for j in rows]
    assert asked[-1]["limit"] > 100_000


def test_the_status_shows_what_runs_what_waits_and_why(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deferred = {"deferred_since": "2026-08-01T10:01:00.000+02:00", "deferred_reason": "The job needs 8000 MiB."}
    lost = {"name": "nas", "root": "/n", "inbox": "/n/i", "watch": "polling", "state": "unavailable", "problem": "gone"}
    entry = {"line": "nas", "path": "a\x1b.wav", "reason": "no partner yet", "since": "2026-08-01T09:59:00+02:00"}
    reply = status_reply(
        lines=[lost],
        running=[JOB | {"state": "running", "stage": "render", "frame": 50, "of": 200, "fps": 24.0, "eta": 65.4}],
        queue=[JOB | deferred],
        waiting=[entry],
        recent=[JOB | {"state": "failed", "reason": "No face was found.", "ended": "2026-08-01T09:58:00+02:00"}],
        counts={"failed": 1, "queued": 1},
    )  # fmt: skip
    with daemon(here / "s" / "heygemd.sock", {"status": reply}):
        assert main.main(["status"]) == 0
        assert main.main(["status", "--json"]) == 0
    text, _, as_json = capsys.readouterr().out.rstrip().rpartition("\n")
    assert json.loads(as_json) == {"ok": True, **reply}
    assert text.splitlines() == [
        "heygemd 0.1.0: running, process 7, up since 2026-08-01 09:00:00",
        "",
        "lines",
        "  nas  unavailable  polling  gone",
        "",
        "running",
        "  j1  main  zhang/lesson  render 25 % of 200 frames, 24.0 frames per second, 1 min 5 s left",
        "",
        "queue",
        "  j1  main  normal  queued  zhang/lesson  waits since 2026-08-01 10:01:00: The job needs 8000 MiB.",
        "",
        "waiting in the inbox",
        "  nas  a\\x1b.wav  no partner yet (since 2026-08-01 09:59:00)",
        "",
        "ended last",
        "  j1  2026-08-01 09:58:00  failed  main  zhang/lesson  No face was found.",
        "",
        "jobs: 1 failed, 1 queued",
    ]


def test_a_long_queue_is_shown_in_part() -> None:
    lines = status_text.status_lines(read_status(status_reply(queue=[JOB | {"id": f"j{n:02}"} for n in range(33)])))
    assert "queue (33)" in lines and "  … and 13 more" in lines


def test_status_and_jobs_read_the_journal_while_the_daemon_is_down(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from heygemd.common.request import DropRequest, JobRequest
    from heygemd.store.journal import Journal
    from heygemd.store.states import JobState

    (here / "s").mkdir()
    journal = Journal(here / "s" / "journal.sqlite")
    request = DropRequest("pair", "lesson", "", (), (JobRequest("lesson", None, None),))
    drop = journal.add_drop("d1", "main", request, None)
    (job,) = journal.jobs_of(drop.id)
    journal.set_job(job, JobState.FAILED, reason="No face was found.")
    journal.close()
    assert main.main(["status"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("daemon not running") and "No face was found." in told and "jobs: 1 failed" in told
    assert main.main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status.keys() == {"ok", "daemon", *status_reply(), "guard"} and status["state"] == "stopped"
    assert status["recent"][0]["reason"] == "No face was found." and status["counts"] == {"failed": 1}
    assert main.main(["jobs", "--json", "--state", "failed"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["daemon"] == "not running" and [j["reason"] for j in found["jobs"]] == ["No face was found."]
    assert main.main(["jobs", "--state", "delivered"]) == 0
    assert capsys.readouterr().out == "no jobs\n"


def test_purge_forgets_what_was_learned_of_templates(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "s" / "cache").mkdir(parents=True)
    (here / "s" / "cache" / "0f.npz").write_bytes(b"a face")
    assert main.main(["purge"]) == 0
    assert capsys.readouterr().out == "1 cache entry deleted.\n" and not list((here / "s" / "cache").iterdir())
    assert main.main(["purge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "forgotten": 0}


def test_doctor_ends_with_5_where_something_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heygemd.doctor import examine

    verdicts = iter(["ok", "fail"])
    monkeypatch.setattr(examine, "examine", lambda _config: [examine.Finding("x", next(verdicts), "said")])  # type: ignore[arg-type]
    assert main.main(["doctor"]) == 0
    assert main.main(["doctor", "--json"]) == 5


def test_demo_and_training_get_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from heygemd import training
    from heygemd.trials import demo

    seen: list[Any] = []
    monkeypatch.setattr(demo, "run", lambda *args: (seen.append(args), 3)[1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(training, "main", lambda words: (seen.append(words), 0)[1])  # type: ignore[func-returns-value]
    assert main.main(["demo", "--audio", "a.wav", "--out", "o", "--json"]) == 3
    assert main.main(["train-lips", "--out", "x", "--help"]) == 0
    assert seen == [(None, Path("a.wav"), Path("o"), True), ["--out", "x", "--help"]]
