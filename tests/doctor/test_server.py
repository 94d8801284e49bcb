"""The classic faults of a server, each made on purpose."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heygemd.config.load import Config, DaemonConfig, IntakeConfig, LineConfig, RenderConfig
from heygemd.config.tables import MetricsConfig
from heygemd.doctor import examine, finding
from heygemd.doctor import server as doctor_server
from heygemd.doctor.finding import User

NOBODY = User("nobody", 65534, frozenset({65534}))


@pytest.fixture
def line(tmp_path: Path) -> LineConfig:
    """A line whose folders are there."""
    line = LineConfig("main", tmp_path / "line")
    for name in ("inbox", "processing", "outbox", "done", "failed"):
        (line.root / name).mkdir(parents=True)
    return line


def found(line: LineConfig, user: User | None = None, config: Config | None = None) -> dict[str, finding.Finding]:
    checks = doctor_server.folders(config or Config(), line, user or finding.service_user())
    return {check.name: check for check in checks}


def test_a_good_line_is_ok_and_nothing_is_left_in_it(line: LineConfig) -> None:
    assert {check.verdict for check in found(line).values()} == {"ok"}
    assert not [p for p in line.root.rglob("*") if not p.is_dir()]


def test_folders_that_are_not_there_yet_are_no_fault(tmp_path: Path) -> None:
    checks = found(LineConfig("main", tmp_path / "line"))
    assert [check.verdict for check in checks.values()] == ["ok"] and "outbox" in checks["line main folders"].said


def test_an_outbox_of_somebody_else_is_named_with_the_cure(line: LineConfig) -> None:
    line.outbox.chmod(0o755)
    check = found(line, NOBODY)["line main outbox"]
    assert check.verdict == "warn" and "nobody cannot write there" in check.said
    assert check.cure.startswith(f"run chown nobody {line.outbox}")


def test_an_outbox_that_is_a_link_is_named_with_the_line_for_the_configuration(
    line: LineConfig, tmp_path: Path
) -> None:
    line.outbox.rmdir()
    (tmp_path / "nas").mkdir()
    line.outbox.symlink_to(tmp_path / "nas")
    check = found(line)["line main outbox"]
    assert check.verdict == "fail" and check.cure.endswith(f'outbox = "{tmp_path / "nas"}"')
    assert "line main outbox" not in found(replace(line, outbox=tmp_path / "nas"))


def test_a_review_folder_of_somebody_else_counts_where_films_are_held_in_it(line: LineConfig) -> None:
    line.review.mkdir(mode=0o755)
    for name in ("inbox", "processing", "outbox", "done", "failed"):
        getattr(line, name).chmod(0o777)
    assert not [name for name in found(line, NOBODY) if name.endswith("review")]
    assert found(replace(line, on_poor="hold"), NOBODY)["line main review"].verdict == "warn"


def test_the_group_of_a_folder_counts(line: LineConfig) -> None:
    line.outbox.chmod(0o770)
    member = User("member", 12345, frozenset({line.outbox.stat().st_gid}))
    assert member.may_write(line.outbox.stat()) and not NOBODY.may_write(line.outbox.stat())


def test_processing_on_another_file_system_is_found_by_trying(line: LineConfig) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == line.inbox.stat().st_dev:
        pytest.skip("/dev/shm is no other file system here")
    check = found(replace(line, processing=other))["line main renaming"]
    assert check.verdict == "warn" and "inbox's file system" in check.cure


def test_inotify_asked_for_where_it_is_blind_is_a_fault(line: LineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "blind", lambda path: True)
    asked = Config(intake=IntakeConfig(watch="inotify"))
    assert found(line, config=asked)["line main watching"].verdict == "warn"
    assert "by polling" in found(line)["line main watching"].said


def test_a_share_that_hangs_does_not_hang_the_doctor(line: LineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "FOLDER_SECONDS", 0.05)
    fifo = line.root / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(doctor_server, "folders", lambda *_: iter([fifo.read_text()]))
    checks = doctor_server.examine(Config(lines=(line,)))
    assert checks[-1].verdict == "warn" and "did not answer" in checks[-1].said
    fifo.write_text("the thread may end")


def test_a_folder_for_figures_must_be_there_and_be_writable(tmp_path: Path) -> None:
    def said(file: Path, user: User) -> finding.Finding:
        (check,) = doctor_server.metrics(MetricsConfig(textfile=file), user)
        return check

    us = finding.service_user()
    assert said(tmp_path / "a.prom", us).verdict == "ok"
    away = said(tmp_path / "none" / "a.prom", us)
    assert away.verdict == "warn" and "No such file" in away.said and away.cure.startswith("create it (install -d")
    tmp_path.chmod(0o755)
    foreign = said(tmp_path / "a.prom", NOBODY)
    assert foreign.verdict == "warn" and "nobody cannot write there" in foreign.said
    (tmp_path / "file").touch()
    assert "is not a folder" in said(tmp_path / "file" / "a.prom", us).said
    assert list(doctor_server.metrics(MetricsConfig(), us)) == []


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (b"heygemd_build_info{} 1", "ok", "heygemd answers at"),
        (b"node_exporter_build_info 1", "warn", "another program listens"),
        (None, "warn", "another program listens"),  # no HTTP at all
    ],
)
def test_a_port_for_figures_must_be_free_or_ours(answer: bytes | None, verdict: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            with server.accept()[0] as asked:
                asked.recv(4096)
                head = b"HTTP/1.0 200 OK\r\n\r\n" + answer if answer is not None else b"SSH-2.0-OpenSSH\r\n"
                asked.sendall(head)

        threading.Thread(target=serve, daemon=True).start()
        (found,) = doctor_server.metrics(MetricsConfig(port=port), finding.service_user())
    assert found.verdict == verdict and words in found.said
    (found,) = doctor_server.metrics(MetricsConfig(port=port), finding.service_user())
    assert found.verdict == "ok" and "heygemd will listen there" in found.said


def test_the_journal_on_a_share_is_the_end_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "blind", lambda path: True)
    check = doctor_server.state(Config(daemon=DaemonConfig(state_dir=tmp_path)), NOBODY)
    assert check.verdict == "fail" and "local disk" in check.cure


def test_a_state_folder_of_somebody_else_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    check = doctor_server.state(Config(daemon=DaemonConfig(state_dir=tmp_path / "state")), NOBODY)
    assert check.verdict == "warn" and "nobody" in check.said


@pytest.mark.parametrize("now", [0.0, 1_600_000_000.0])
def test_a_clock_that_is_years_off_is_seen(now: float) -> None:
    assert doctor_server.clock(Config(), now).verdict == "warn"


def test_a_clock_behind_the_journal_is_seen(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    journal.touch()
    os.utime(journal, (1_900_000_000, 1_900_000_000))
    config = Config(daemon=DaemonConfig(state_dir=tmp_path))
    assert "the journal was last written" in doctor_server.clock(config, 1_890_000_000.0).said
    assert doctor_server.clock(config, 1_900_000_500.0).verdict == "ok"


def test_low_limits_of_inotify_come_with_the_line_for_sysctl(tmp_path: Path) -> None:
    (tmp_path / "max_user_watches").write_text("8192\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    watches, instances = doctor_server.inotify_limits(tmp_path)
    assert watches.verdict == "warn" and "fs.inotify.max_user_watches = 65536" in watches.cure
    assert instances.verdict == "ok"


def test_a_small_folder_for_temporary_files_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server.host, "disk_free_mib", lambda path: 100)
    assert doctor_server.temporary().verdict == "warn"


@pytest.mark.parametrize(
    ("facts", "device", "gpus", "verdict", "told"),
    [
        ({"cuda": None, "device": None}, "auto", (), "ok", "on the CPU"),
        ({"cuda": None, "device": None}, "cuda", (), "fail", "a build without CUDA"),
        ({"cuda": "12.8", "device": None}, "auto", (), "warn", "this machine has no GPU"),
        ({"cuda": "12.8", "device": None}, "auto", ("one",), "warn", "cannot use this machine's GPU"),
        ({"cuda": "12.8", "device": "H100"}, "auto", ("one",), "ok", "CUDA 12.8 on H100"),
    ],
)
def test_torchs_build_and_the_gpu_must_fit(
    facts: dict[str, Any], device: str, gpus: tuple[str, ...], verdict: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "_try", lambda code: {"version": "2.13.0", **facts})
    monkeypatch.setattr(examine.machine, "read", lambda: type("Readings", (), {"gpus": gpus}))
    check = examine._torch(Config(render=RenderConfig(device=device)))
    assert check.verdict == verdict and told in check.said
