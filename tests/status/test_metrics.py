"""Figures for a monitoring system: their names, their form, and a daemon that tells them."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric

from heygemd.common.errors import EngineAway
from heygemd.guard.decide import Wait
from heygemd.guard.readings import Gpu
from heygemd.status import counters, metrics
from heygemd.status.counters import Tally
from heygemd.status.snapshot import LineSnapshot, Snapshot
from heygemd.store.states import JobState
from tests.daemon.test_hooks import job
from tests.daemon.test_service import drop, wait_for
from tests.site import ROOT, Site

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\.)*)"')
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scraper makes of the text; anything that is not in the format is an error."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE") and rest
            kinds.setdefault(name, "") if word == "HELP" else kinds.update({name: rest})
            continue
        whole = SAMPLE.fullmatch(line)
        assert whole, line
        assert kinds[whole[1]] in ("gauge", "counter"), line
        labels = {
            name: re.sub(r"\\.", lambda m: UNESCAPED[m[0]], value) for name, value in LABEL.findall(whole[2] or "")
        }
        key = whole[1], frozenset(labels.items())
        assert key not in found, f"twice: {line}"
        found[key] = float(whole[3])
    return found


def at(found: dict[Any, float], name: str, /, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def everything() -> list[Metric]:
    """Every metric with samples, and hostile words where words can come from outside."""
    counts = Tally()
    counts.changed(job(state=JobState.RUNNING), job(state=JobState.FAILED, reason_code="no_face"), "footage")
    counts.changed(job(state=JobState.RUNNING), rendered(), "footage")
    counts.saw_gpu("GPU-1", 5000)
    gpu = Gpu("GPU-1", 0, 'NVIDIA "L40"\\\n', 8000, 4000, 4000, "550.1", utilisation=37, celsius=61)
    line = LineSnapshot("main", reachable=True, full=False, waiting=2, outbox_free_mib=100)
    seen = Snapshot(
        up=True, at=1e9 + 0.25, started=1e9, progress=1e9, unfinished={("queued", "footage"): 3, ("queued", "?"): 1},
        deferred={"disk": 2}, queue_age=12.5, lines=[line, replace(line, name="nas", reachable=False)],
        disks={"state": 7}, free_disk_mib=2048, gpus=[gpu], gpus_at=1e9,
    )  # fmt: skip
    return metrics.figures(seen, counts)


def rendered(**result: Any) -> Any:
    done = {
        "rendered": "2026-01-01T00:00:05+00:00", "output": {"seconds": 10.0},
        "stages": [{"name": "render", "seconds": 3.5}, {"name": "a stage of tomorrow", "seconds": 1}], **result,
    }  # fmt: skip
    return job(state=JobState.RENDERED, started="2026-01-01T00:00:00+00:00", result=done)


def test_the_text_is_what_a_scraper_reads() -> None:
    found = read(metrics.to_text(everything()).decode())
    assert at(found, "heygemd_up") == 1
    assert at(found, "heygemd_alive_timestamp_seconds") == 1e9 + 0.25
    assert at(found, "heygemd_jobs", state="queued", engine="footage") == 3
    assert at(found, "heygemd_jobs", state="queued", engine="other") == 1
    assert at(found, "heygemd_gpu_info", gpu="GPU-1", name='NVIDIA "L40"\\\n', driver="550.1") == 1
    assert at(found, "heygemd_line_reachable", line="nas") == 0
    assert at(found, "heygemd_gpu_memory_used_bytes", gpu="GPU-1") == 4000 << 20


def test_a_counter_has_the_name_that_the_rules_know_and_nothing_is_added() -> None:
    text = metrics.to_text(everything()).decode()
    kinds = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    assert {name for name, kind in kinds.items() if kind == "counter"} == {n for n in kinds if n.endswith("_total")}
    assert all(name.startswith("heygemd_") for name in kinds) and "_created" not in text
    assert {name for name, _ in read(text)} == kinds.keys()


def test_a_drivers_name_that_is_no_text_can_be_told() -> None:
    gpu = Gpu("GPU-1", 0, "L40 \udcff", 8000, 4000, 4000)
    now = Snapshot(up=True, at=1.0, started=1.0, progress=1.0, gpus=[gpu])
    found = read(metrics.to_text(metrics.figures(now, Tally())).decode())
    assert at(found, "heygemd_gpu_info", gpu="GPU-1", name="L40 \\udcff", driver="") == 1


def test_what_makes_figures_and_pages_is_loaded_only_for_them() -> None:
    libraries = ("prometheus_client", "jinja2")
    code = f"import sys, heygemd.daemon.service; print([m for m in {libraries} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@promtool
def test_promtool_finds_nothing_to_say() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics.to_text(everything()), capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@promtool
def test_each_alert_fires_where_it_should() -> None:
    rules = ROOT / "systemd" / "examples" / "heygemd-alerts.yml"
    for command in (["check", "rules", str(rules)], ["test", "rules", str(ROOT / "tests" / "alerts.yml")]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    rules = (ROOT / "systemd" / "examples" / "heygemd-alerts.yml").read_text()
    assert set(re.findall(r"heygemd_[a-z_]+", rules)) <= {
        name for name, _ in read(metrics.to_text(everything()).decode())
    }


def test_a_number_is_written_as_go_reads_it() -> None:
    values = [0, True, 1.5, 1e300, float("inf"), float("nan"), 2**62]
    family = GaugeMetricFamily("x", "a\nb\\", labels=["n"])
    for letter, number in zip("abcdefg", values, strict=True):
        family.add_metric([letter], number)
    lines = metrics.to_text([family]).decode().splitlines()
    assert lines[0] == "# HELP x a\\nb\\\\"
    shown = [line.split()[1] for line in lines[2:]]
    assert shown == ["0.0", "1.0", "1.5", "1e+300", "+Inf", "NaN", "4.611686018427388e+18"]


# ---------------------------------------------------------------- counting


def words(pattern: str) -> set[str]:
    return {w for path in (ROOT / "heygemd").rglob("*.py") for w in re.findall(pattern, path.read_text())}


def test_every_reason_of_a_failure_is_in_the_closed_set() -> None:
    importing = {"imported_already"}
    assert words(r'reason(?:_code)?="([a-z_]+)"') - importing <= set(counters.REASONS)
    assert words(r'^ +code = "([a-z_]+)"$') - {"config", "misuse", "error", "cancelled"} <= set(counters.REASONS)


def test_every_stage_is_in_the_closed_set() -> None:
    stages = words(r'\bstages\("([a-z]+)"')
    assert {"face", "render", "report"} <= stages <= set(counters.STAGES)


def test_every_kind_of_waiting_is_in_the_closed_set() -> None:
    kinds = {Wait("").kind, EngineAway.code}
    for path in (ROOT / "heygemd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Wait":
                kinds |= {a.value for a in node.args[1:2] if isinstance(a, ast.Constant)}
    kinds |= set(re.findall(r'kind = "([a-z_]+)"', (ROOT / "heygemd" / "guard/decide.py").read_text()))
    assert {"gpu_memory", "disk", "quiet_hours"} <= kinds <= set(counters.CAUSES)


def test_a_word_that_nobody_knows_makes_no_new_label() -> None:
    counts = Tally()
    for n in range(100):
        counts.changed(job(state=JobState.RUNNING), job(state=JobState.FAILED, reason_code=f"r{n}"), f"e{n}")
    counts.changed(job(state=JobState.RUNNING), rendered(), "footage")
    assert counts.reasons["other"] == 100 and set(counts.reasons) == set(counters.REASONS)
    assert counts.ended["failed", "other"] == 100
    assert counts.stage_seconds == {("render", "footage"): 3.5, ("other", "footage"): 1.0}
    assert counts.film_seconds["footage"] == 10 and counts.work_seconds["footage"] == 5
    assert counts.speed == {"footage": 2.0}


def test_each_thing_is_counted_once_on_its_way() -> None:
    counts = Tally()
    poor = {"quality": {"grade": "poor"}, "held": True}
    way = [
        job(state=JobState.QUEUED), job(state=JobState.RUNNING, attempts=1), job(state=JobState.QUEUED, attempts=1),
        job(state=JobState.RUNNING, attempts=2), job(state=JobState.QUEUED, attempts=1),
        job(state=JobState.RUNNING, attempts=2), rendered(**poor), job(state=JobState.RENDERED, result=poor),
        job(state=JobState.PUBLISHING, result=poor), job(state=JobState.REVEALING, result=poor),
        job(state=JobState.DELIVERED, result=poor), job(state=JobState.DELIVERED, result=poor),
    ]  # fmt: skip
    for before, after in itertools.pairwise(way):
        counts.changed(before, after, "footage")
    assert counts.ended["delivered", "footage"] == 1 and sum(counts.ended.values()) == 1
    assert dict(counts.grades) == {"good": 0, "fair": 0, "poor": 1, "unmeasured": 0} and counts.held == 1
    assert counts.begun_anew == 1  # the second time it was put back, at no cost to it
    assert sum(counts.reasons.values()) == 0


# ---------------------------------------------------------------- a daemon


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def told(site: Site) -> Iterator[tuple[Site, Path, int]]:
    """A site whose daemon tells its figures in a file and at a port."""
    file, port = site.root / "m" / "heygemd.prom", free_port()
    file.parent.mkdir()
    site.extra = f'[metrics]\ntextfile = "{file}"\nport = {port}\n'
    site.write_config()
    yield site, file, port


def get(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def value(port: int, name: str, **labels: str) -> float | None:
    try:
        status, text = get(port)
    except OSError:  # it does not listen yet
        return None
    return read(text).get((name, frozenset(labels.items()))) if status == 200 else None


def test_a_daemon_tells_its_figures_by_file_and_by_http(told: tuple[Site, Path, int], media: Path) -> None:
    site, file, port = told
    drop(media, site)
    (site.inbox / "empty.wav").touch()
    shutil.copy(media / "film.mp4", site.inbox / "empty.mp4")
    (site.inbox / "lone.wav").write_bytes((media / "voice.wav").read_bytes())
    site.start()
    site.until(lambda: value(port, "heygemd_jobs_ended_total", outcome="delivered", engine="command") == 1, "told")
    site.until(lambda: value(port, "heygemd_jobs_ended_total", outcome="failed", engine="command") == 1, "told")
    status, text = get(port)
    found = read(text)
    assert status == 200 and found.keys() == read(file.read_text()).keys()
    assert file.stat().st_mode & 0o777 == 0o644 and list(file.parent.iterdir()) == [file]
    assert at(found, "heygemd_job_failures_total", reason="empty_file") == 1
    assert at(found, "heygemd_films_total", grade="unmeasured") == 1  # the site measures no films
    assert at(found, "heygemd_line_reachable", line="main") == 1
    assert at(found, "heygemd_line_waiting_files", line="main") == 1
    assert 0.9 < at(found, "heygemd_film_seconds_total", engine="command") < 1.1
    assert at(found, "heygemd_stage_seconds_total", stage="command", engine="command") > 0
    assert at(found, "heygemd_disk_free_bytes", place="work") > 0
    assert at(found, "heygemd_line_outbox_free_bytes", line="main") > 0
    assert abs(time.time() - at(found, "heygemd_last_progress_timestamp_seconds")) < 3600
    assert "lone" not in text and "empty.mp4" not in text
    assert get(port, "/healthz") == (200, "running\n")
    site.stop()
    assert at(read(file.read_text()), "heygemd_up") == 0


def test_what_waits_is_told_with_its_cause(told: tuple[Site, Path, int], media: Path) -> None:
    site, _, port = told
    now = datetime.now()
    site.extra += f'[guard]\nquiet_hours = "{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}"\n'
    site.write_config()
    drop(media, site)
    site.start()
    site.until(lambda: value(port, "heygemd_jobs_deferred", cause="quiet_hours") == 1, "told")
    site.until(lambda: (value(port, "heygemd_deferred_seconds_total", cause="quiet_hours") or 0) > 0, "told")
    assert (value(port, "heygemd_queue_age_seconds") or 0) > 0


def test_a_port_that_is_taken_and_a_folder_that_is_not_there_stop_nothing(site: Site, media: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        site.extra = f'[metrics]\ntextfile = "{site.root}/none/h.prom"\nport = {port}\n'
        site.write_config()
        drop(media, site)
        site.start()
        site.until(lambda: site.tree("outbox") == ["lesson.json", "lesson.mp4"], "told")
        problems = {e["event"]: e["problem"] for e in site.events() if e["event"].startswith("metrics_")}
    assert "another program uses this port" in problems["metrics_port_refused"]
    assert "No such file or directory" in problems["metrics_not_written"]


def test_a_reload_moves_it(told: tuple[Site, Path, int]) -> None:
    site, _, port = told
    site.start()
    site.until(lambda: value(port, "heygemd_up") == 1, "told")
    other = free_port()
    site.extra = f"[metrics]\nport = {other}\n"
    site.write_config()
    subprocess.run(site.command("reload", "--wait"), env=site.env(), check=True, capture_output=True)
    site.until(lambda: value(other, "heygemd_up") == 1, "told")
    with pytest.raises(OSError):
        get(port)


def test_who_speaks_badly_or_never_ends_holds_up_nobody(told: tuple[Site, Path, int], media: Path) -> None:
    site, _, port = told
    flag = site.root / "go"
    site.argv = wait_for(flag)
    site.write_config()
    site.start()
    site.until(lambda: value(port, "heygemd_up") == 1, "told")
    assert [get(port, path)[0] for path in ("/", "/metrics/", "/../etc/passwd", "/metrics?x=1")] == [404, 404, 404, 200]
    assert [get(port, method=method)[0] for method in ("POST", "PUT", "DELETE")] == [405, 405, 405]
    assert get(port, method="HEAD") == (200, "")
    for request, answer in (
        (b"hello\r\n\r\n", b"400"), (b"\xff\x00 / HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
    ):  # fmt: skip
        assert spoken(port, request).split(b" ")[1:2] in ([answer], []), request  # [] where it hung up at once
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    for one in open_ones[:50]:
        one.sendall(b"GET /metr")  # and never goes on
    drop(media, site)
    flag.touch()
    site.until(lambda: site.tree("outbox") == ["lesson.json", "lesson.mp4"], "told")
    for one in open_ones:
        one.close()
    site.until(lambda: value(port, "heygemd_jobs_ended_total", outcome="delivered", engine="command") == 1, "told")


def spoken(port: int, request: bytes) -> bytes:
    """The answer to raw bytes; empty where it hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        try:
            client.sendall(request)
            return client.makefile("rb").read()
        except ConnectionError:
            return b""


def test_the_file_must_end_as_the_collector_reads_it(site: Site) -> None:
    site.extra = '[metrics]\ntextfile = "/run/heygemd/metrics.txt"\n'
    site.write_config()
    done = subprocess.run(site.command("check", "--json"), env=site.env(), capture_output=True, text=True)
    assert done.returncode == 2 and ".prom" in json.loads(done.stdout)["faults"][0]["what"]
