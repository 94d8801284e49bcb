"""The guard in a real daemon that runs real jobs, against a driver whose numbers the test changes.

The real pynvml loads ``libnvidia-ml.so.1`` as compiled from ``fakes/nvml_stub.c``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heygemd.common import log
from heygemd.common.aio import Pace
from heygemd.common.request import DropRequest, JobOptions, JobRequest, Source
from heygemd.config.line import LineConfig
from heygemd.config.live import Live
from heygemd.config.tables import DaemonConfig, GuardConfig, LimitsConfig, RenderConfig
from heygemd.config.whole import Config
from heygemd.guard.decide import Need, Way
from heygemd.guard.devices import TorchBuild
from heygemd.guard.needs import ENGINE_NEEDS, NVENC_MIB, Kind, Peak
from heygemd.guard.readings import Gpu, Readings
from heygemd.guard.reservations import Reservations
from heygemd.scheduler.admission import Admission
from heygemd.scheduler.ticket import Deferred, Refused, Ticket
from heygemd.store.drops import DropStore, Job, Journal
from heygemd.store.states import DropState, JobState, now
from tests.fakes.stub import GIB, Driver, compiled, holder
from tests.site import Site

TEN = 10 * GIB
CUDA_BUILD = TorchBuild("2.13.0", "12.8")
FILM = 'ffmpeg -v error -y -nostdin -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac -shortest "$3"'


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(library: Path, tmp_path: Path) -> Driver:
    return Driver(library, tmp_path / "machine.ini")


def make_site(folder: Path, driver: Driver, *, need: int = 4000, script: str = FILM, more: str = "") -> Site:
    """A line whose command declares that it needs so many MiB of a GPU."""
    argv = ["sh", "-c", script, "sh", "{video}", "{audio}", "{output}"]
    locks = folder.parent / "locks"
    locks.mkdir(exist_ok=True)
    extra = f'[guard]\nhold_readings = 2\nlock_dir = "{locks}"\n{more}'
    site = Site(folder, argv=argv, extra=extra, environment=driver.environment)
    site.config.write_text(site.config.read_text().replace("[command]\n", f"[command]\ngpu_need_mib = {need}\n"))
    return site


@pytest.fixture
def gpu_site(tmp_path: Path, driver: Driver) -> Iterator[Site]:
    site = make_site(tmp_path / "site", driver)
    yield site
    site.kill()


def drop(media: Path, site: Site, name: str = "lesson") -> None:
    shutil.copy(media / "voice.wav", site.inbox / f"{name}.wav")
    shutil.copy(media / "film.mp4", site.inbox / f"{name}.mp4")


def reason(site: Site) -> str:
    """What the first queued job waits for, as status says it."""
    queue = site.status().get("queue", [])
    return str(queue[0]["deferred_reason"]) if queue else ""


def named(site: Site, event: str) -> list[dict[str, Any]]:
    return [entry for entry in site.events() if entry["event"] == event]


def test_a_job_waits_for_the_memory_that_another_holds_and_goes_on_by_itself(
    gpu_site: Site, driver: Driver, media: Path, tmp_path: Path
) -> None:
    site, other = gpu_site, holder(tmp_path, "ollama")
    try:
        driver.write(gpu0_total=TEN, gpu0_used=8 * GIB, gpu0_procs=f"{other.pid}:{8 * GIB}")
        drop(media, site)
        site.start()
        site.until(lambda: "ollama" in reason(site), "the job waits and names who holds the memory")
        assert "needs 4000 MiB" in reason(site) and "2048 MiB free of 10240 MiB" in reason(site)
        assert site.status()["queue"][0]["holders"] == [f"ollama (process {other.pid}, 8192 MiB)"]
        driver.write(gpu0_total=TEN, gpu0_used=7 * GIB, gpu0_procs=f"{other.pid}:{7 * GIB}")
        site.until(lambda: "3072 MiB free" in reason(site), "status follows the numbers")
        assert site.tree("outbox") == []
    finally:
        other.kill()
        other.wait()
    driver.write(gpu0_total=TEN, gpu0_used=GIB)
    site.until(lambda: site.tree("done"), "the job runs once the memory is back")
    told = json.loads((site.outbox / "lesson.json").read_text())
    assert told["attempts"] == 1 and told["deferrals"]["count"] == 1 and "ollama" in told["deferrals"]["last_reason"]
    assert len(named(site, "job_deferred")) == len(named(site, "job_admitted")) == 1
    assert named(site, "device_chosen")[0]["device"] == "cuda"


def test_a_driver_that_fails_is_waited_for_and_says_what_a_person_must_do(
    gpu_site: Site, driver: Driver, media: Path
) -> None:
    site = gpu_site
    failures = [
        ("fail_nvmlInit", 9, "not loaded; load it"),
        ("gpu0_fail", 15, "fallen off the bus"),
        ("fail", 16, "must be reset"),
        ("fail_nvmlInit", 18, "updated while the old one"),
    ]
    drop(media, site)
    driver.write(fail_nvmlInit=9)
    site.start()
    for way, code, said in failures:
        driver.write(**{way: code})
        site.until(lambda said=said: said in reason(site), said)
        assert site.status()["guard"]["problem"]
    assert len(named(site, "gpu_unavailable")) == 4
    driver.write(gpu0_total=TEN)
    site.until(lambda: site.tree("done"), "the job runs once the GPU answers again")
    assert len(named(site, "job_deferred")) == 1 and len(named(site, "gpu_back")) == 1


def test_a_driver_that_hangs_stops_neither_the_daemon_nor_its_answers(
    gpu_site: Site, driver: Driver, media: Path
) -> None:
    site, heard = gpu_site, []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(site.root / "notify"))
        listener = threading.Thread(target=lambda: heard.extend(iter(lambda: systemd.recv(4096), b"STOPPING=1")))
        listener.start()
        site.environment |= {"NOTIFY_SOCKET": str(site.root / "notify"), "WATCHDOG_USEC": "2000000"}
        driver.write(sleep_ms=60_000)
        drop(media, site)
        site.start()
        site.until(lambda: "NVIDIA driver has not answered for" in reason(site), "a person is told", timeout=60)
        before, began = heard.count(b"WATCHDOG=1"), time.monotonic()
        for _ in range(10):
            assert site.ask(cmd="ping")["ok"]
        assert time.monotonic() - began < 20, "ten answers while the driver hangs, which each would wait for"
        site.until(lambda: heard.count(b"WATCHDOG=1") >= before + 3, "systemd is pinged all the while")
        assert site.stop() == 0
        listener.join(20)


@pytest.mark.slow
def test_after_a_minute_of_silence_the_driver_answers_and_the_job_runs(
    gpu_site: Site, driver: Driver, media: Path
) -> None:
    site = gpu_site
    driver.write(sleep_ms=60_000, gpu0_total=TEN)
    drop(media, site)
    site.start()
    site.until(lambda: "has not answered for" in reason(site), "a person is told")
    driver.write(gpu0_total=TEN)  # which the call that hangs sees only when its minute is over
    asked, began = 0, time.monotonic()
    while "has not answered" in reason(site):
        asked += site.ask(cmd="ping")["ok"]
        time.sleep(0.2)
        assert time.monotonic() - began < 120
    assert asked > 50
    site.until(lambda: site.tree("done"), "the job runs")
    assert len(named(site, "gpu_back")) == 1


def test_the_gpu_is_chosen_by_its_uuid_in_whatever_order_the_driver_counts(
    tmp_path: Path, driver: Driver, media: Path
) -> None:
    seen = tmp_path / "seen"
    site = make_site(tmp_path / "site", driver, script=f'echo "$CUDA_VISIBLE_DEVICES" >> {seen}; {FILM}')
    full = {"total": TEN, "used": 9 * GIB, "uuid": "GPU-full"}
    free = {"total": TEN, "used": GIB, "uuid": "GPU-free"}
    driver.write(count=2, **machine(full, free))
    site.start()
    try:
        drop(media, site, "one")
        site.until(lambda: len(site.tree("done")) == 2, "the first film is delivered")
        driver.write(count=2, **machine(free, full))
        drop(media, site, "two")
        site.until(lambda: len(site.tree("done")) == 4, "the second film is delivered")
    finally:
        site.kill()
    assert seen.read_text().split() == ["GPU-free", "GPU-free"]


def machine(*cards: dict[str, Any]) -> dict[str, Any]:
    return {f"gpu{i}_{key}": value for i, card in enumerate(cards) for key, value in card.items()}


def test_two_daemons_on_one_card_take_turns(tmp_path: Path, driver: Driver, media: Path) -> None:
    diary, go = tmp_path / "diary", tmp_path / "go"
    script = f"echo begin >> {diary}; while [ ! -e {go} ]; do sleep 0.05; done; {FILM}; echo end >> {diary}"
    sites = [make_site(tmp_path / name, driver, need=6000, script=script) for name in ("a", "b")]
    driver.write(gpu0_total=TEN)
    try:
        for site in sites:
            drop(media, site)
            site.start()
        waiting = lambda: [site for site in sites if "another heygemd has reserved 6000 MiB" in reason(site)]  # noqa: E731
        sites[0].until(waiting, "one of them waits for the other's reservation")
        sites[0].until(diary.exists, "the other's job has begun")
        assert diary.read_text().split() == ["begin"]
        go.touch()
        for site in sites:
            site.until(lambda site=site: site.tree("done"), "both films are delivered")
        assert diary.read_text().split() == ["begin", "end", "begin", "end"]
    finally:
        for site in sites:
            site.kill()


def test_a_dead_daemons_reservation_is_gone_with_it(tmp_path: Path, driver: Driver, media: Path) -> None:
    scripts = {"a": "sleep 60", "b": FILM}
    sites = [make_site(tmp_path / name, driver, need=6000, script=script) for name, script in scripts.items()]
    driver.write(gpu0_total=TEN)
    try:
        drop(media, sites[0])
        sites[0].start()
        sites[0].until(lambda: sites[0].status()["running"], "the first runs")
        drop(media, sites[1])
        sites[1].start()
        sites[1].until(lambda: "another heygemd" in reason(sites[1]), "the second waits")
        sites[0].kill()
        sites[1].until(lambda: sites[1].tree("done"), "the second runs")
    finally:
        for site in sites:
            site.kill()


def test_a_gpu_that_is_lost_while_a_job_runs_costs_the_job_nothing(tmp_path: Path, driver: Driver, media: Path) -> None:
    lost = tmp_path / "lost"
    script = f"if [ ! -e {lost} ]; then touch {lost}; sleep 1; echo CUDA error >&2; exit 1; fi; {FILM}"
    site = make_site(tmp_path / "site", driver, script=script)
    driver.write(gpu0_total=TEN)
    drop(media, site)
    site.start()
    try:
        site.until(lost.exists, "the job runs")
        driver.write(gpu0_total=TEN, gpu0_fail=15)
        site.until(lambda: "fallen off the bus" in reason(site), "the job waits for the GPU")
        assert site.tree("failed") == []
        driver.write(gpu0_total=TEN)
        site.until(lambda: site.tree("done"), "the job runs again")
    finally:
        site.kill()
    assert json.loads((site.outbox / "lesson.json").read_text())["attempts"] == 1


@pytest.mark.parametrize(("code", "said"), [(15, "fallen off the bus"), (16, "must be reset")])
def test_work_on_a_gpu_that_is_lost_is_given_up_though_its_program_only_hangs(
    tmp_path: Path, driver: Driver, media: Path, code: int, said: str
) -> None:
    hung = tmp_path / "hung"
    site = make_site(tmp_path / "site", driver, script=f"if [ ! -e {hung} ]; then touch {hung}; sleep 600; fi; {FILM}")
    driver.write(gpu0_total=TEN)
    drop(media, site)
    drop(media, site, "next")
    site.start()
    try:
        site.until(hung.exists, "the job runs")
        worker = site.status()["running"][0]["id"]
        driver.write(gpu0_total=TEN, gpu0_fail=code)
        site.until(lambda: said in reason(site), "a person is told")
        assert "restart the machine" in reason(site), "… what to do"
        assert site.status()["running"] == [] and site.tree("failed") == []
        assert named(site, "gpu_lost")[0]["job"] == worker
        time.sleep(2.5)
        assert site.status()["running"] == [] and len(site.status()["queue"]) == 2, "nothing new begins on it"
        driver.write(gpu0_total=TEN)
        site.until(lambda: len(site.tree("done")) == 4, "both run by themselves once it answers")
    finally:
        site.kill()
    assert json.loads((site.outbox / "lesson.json").read_text())["attempts"] == 1


def test_a_driver_that_was_updated_lets_a_running_job_end_and_no_other_begin(
    tmp_path: Path, driver: Driver, media: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    script = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.05; done; {FILM}"
    site = make_site(tmp_path / "site", driver, script=script)
    driver.write(gpu0_total=TEN)
    drop(media, site, "a")
    site.start()
    try:
        site.until(begun.exists, "the job runs")
        driver.write(fail_nvmlInit=18)
        drop(media, site, "b")
        site.until(lambda: named(site, "gpu_unavailable"), "the daemon notices")
        time.sleep(5)
        assert [row["name"] for row in site.status()["running"]] == ["a"], "what runs with the old driver goes on"
        go.touch()
        site.until(lambda: "updated while the old one" in reason(site), "the next one waits and says what to do")
        site.until(lambda: "a.json" in site.tree("outbox"), "what ran is delivered")
        driver.write(gpu0_total=TEN)
        site.until(lambda: len(site.tree("done")) == 4, "it runs once the driver answers")
    finally:
        site.kill()


def test_a_job_that_no_card_here_can_ever_hold_fails_at_once_with_the_numbers(
    tmp_path: Path, driver: Driver, media: Path
) -> None:
    site = make_site(tmp_path / "site", driver, need=12_000)
    driver.write(gpu0_total=TEN)
    drop(media, site)
    assert site.once() == 3
    told = (site.failed / "lesson" / "reason.txt").read_text()
    assert "needs 12000 MiB" in told and "has 10240 MiB" in told


class Table:
    """An ``Admission`` with one queued job and readings of one's choice."""

    def __init__(
        self, folder: Path, free: int = 9000, total: int = 10_000, engine: str = "wav2lip", encoder: str = "auto",
        **rules: Any,
    ) -> None:  # fmt: skip
        line = LineConfig("main", folder / "line", allowed_engines=(engine,))
        self.config = Config(
            daemon=DaemonConfig(state_dir=folder), render=replace(RenderConfig(), engine=engine, encoder=encoder),
            limits=LimitsConfig(free_disk_mib=0, free_ram_mib=0), lines=(line,),
            guard=GuardConfig(hold_readings=1, lock_dir=folder, **rules),
        )  # fmt: skip
        self.journal = Journal(folder / "journal.sqlite")
        request = JobRequest("a", Source("a.wav"), Source("a.mp4"), JobOptions(engine=engine))
        drop = self.journal.add_drop("d", "main", DropRequest("pair", "a", "", (), (request,)), None)
        self.journal.set_drop(drop, DropState.HELD)
        self.live = Live(self.config)
        self.store = store = DropStore(self.live, self.journal, {})
        store.outbox_free_mib = self._plenty  # type: ignore[method-assign]
        self.free, self.total, self.ram, self.tick = free, total, 1 << 20, 0.0
        self.frame = ""
        self.admission = Admission(
            self.live,
            self.journal,
            store,
            lambda: None,
            Pace(),
            self.read,
            frame_of=lambda _: self.frame,
            torch=CUDA_BUILD,
        )

    async def _plenty(self, line: str) -> int:
        return 1 << 30

    def read(self, disks: Any = (), *, gpus: bool = True) -> Readings:
        self.tick += 1
        card = Gpu("GPU-a", 0, "card", self.total, self.total - self.free, self.free)
        room = dict.fromkeys(disks, 1 << 30)
        return Readings((card,) * gpus, ram_total_mib=1 << 20, ram_available_mib=self.ram, disks=room, at=self.tick)

    def choose(self) -> Ticket | None:
        self.admission.next_look.at_once()
        chosen = asyncio.run(self.admission.choose(self.journal.jobs_of("d")))
        assert not isinstance(chosen, Refused)
        return chosen

    def run_out(self, ticket: Ticket) -> None:
        running = self.journal.set_job(ticket.job, JobState.RUNNING, attempts=1, started=now())
        wait = self.admission.sampling.outgrown(ticket)
        self.admission.sampling.finish(ticket, self.admission.put_back(running, wait))


def test_out_of_gpu_memory_halves_the_batch_and_after_the_smallest_the_job_waits(tmp_path: Path) -> None:
    table = Table(tmp_path)
    batches = []
    while (ticket := table.choose()) is not None:
        batches.append(ticket.settings.wav2lip.batch)
        assert ticket.settings.device == "cuda" and len(batches) < 20
        if table.admission.sampling.had_all(ticket):
            break
        table.run_out(ticket)
    steps = [way.batch_size for way in ENGINE_NEEDS["wav2lip"].ways]
    assert batches[: len(steps)] == steps and set(batches[len(steps) :]) == {steps[-1]}
    job = table.journal.jobs_of("d")[0]
    assert job.attempts == 0 and job.deferrals >= len(steps)
    first = ENGINE_NEEDS["wav2lip"].ways[0].vram_mib + NVENC_MIB["2160p"]
    assert table.journal.peaks()[0].vram_mib == first * 5 // 4


def test_a_job_that_waits_does_not_rewrite_its_row_because_numbers_change(tmp_path: Path) -> None:
    table = Table(tmp_path, free=100)
    assert table.choose() is None
    row = table.journal.jobs_of("d")[0]
    for table.free in (200, 300, 400):
        assert table.choose() is None
    assert table.journal.jobs_of("d")[0] == row and row.deferrals == 1
    told = table.admission.deferrals.row(table.journal.row(row))
    assert "400 MiB free" in told["deferred_reason"] and told["deferred_since"] == row.deferred_since


def test_a_job_that_is_cancelled_while_the_machine_is_read_does_not_start(tmp_path: Path) -> None:
    table = Table(tmp_path)
    jobs = table.journal.jobs_of("d")

    async def cancelled(line: str) -> int:
        table.journal.set_job(jobs[0], JobState.CANCELLED)
        return 1 << 30

    table.store.outbox_free_mib = cancelled  # type: ignore[method-assign]
    assert asyncio.run(table.admission.choose(jobs)) is None
    assert table.journal.jobs_of("d")[0].state is JobState.CANCELLED


def test_a_daemon_that_starts_anew_goes_on_with_the_deferral_that_it_finds(tmp_path: Path) -> None:
    table = Table(tmp_path, free=100)
    table.choose()
    since = table.journal.jobs_of("d")[0].deferred_since
    again = Admission(table.live, table.journal, table.store, lambda: None, Pace(), table.read, torch=CUDA_BUILD)
    asyncio.run(again.choose(table.journal.jobs_of("d")))
    job = table.journal.jobs_of("d")[0]
    assert (job.deferrals, job.deferred_since) == (1, since)


def test_a_long_wait_is_said_louder_once_in_each_such_time(tmp_path: Path) -> None:
    log.setup(file=tmp_path / "log")
    table = Table(tmp_path, free=100, alert_hours=0.001)
    table.choose()
    table.journal.set_job(
        table.journal.jobs_of("d")[0], JobState.QUEUED, deferred_since="2026-01-01T00:00:00.000+00:00"
    )
    table.admission.deferrals.only(())
    for _ in range(3):
        table.choose()
    said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len([entry for entry in said if entry["event"] == "job_waits_long"]) == 1


def test_who_overtakes_is_said_and_after_the_ageing_limit_the_gpu_is_kept(tmp_path: Path) -> None:
    log.setup(file=tmp_path / "log")
    table = Table(tmp_path, ageing_minutes=1)
    sizes = {"big": 8000, "small": 2000}
    for number, name in enumerate(("big", "small", "small")):
        request = JobRequest(name, Source("a.wav"), Source("a.mp4"), JobOptions())
        drop = table.journal.add_drop(f"{name}{number}", "main", DropRequest("pair", name, "", (), (request,)), None)
        table.journal.set_drop(drop, DropState.HELD)
    jobs = table.journal.jobs_in(JobState.QUEUED)
    jobs = [job for job in jobs if job.request.name in sizes]
    table.admission.estimates.need = lambda job, *_: Need((Way(sizes[job.request.name]),))  # type: ignore[method-assign]
    big, small, last = jobs
    table.free = 4000

    def choose(*queue: Job) -> Ticket | None:
        table.admission.next_look.at_once()
        ticket = asyncio.run(table.admission.choose(queue))
        assert not isinstance(ticket, Refused)
        return ticket

    ticket = choose(big, small, last)
    assert ticket is not None and ticket.job.id == small.id
    table.admission.sampling._worker_pid = os.getpid
    table.free = 10_000
    ticket.sampled_at = time.monotonic() - 61
    assert asyncio.run(table.admission.sampling.sample()) is None, "it has lost a minute: it would have fitted"
    table.admission.sampling._worker_pid = lambda: None
    table.admission.sampling.finish(ticket, table.journal.set_job(small, JobState.FAILED))
    table.admission.judge.watching._returning = None
    table.free = 4000
    assert choose(big, last) is None, "the card is kept for it"
    said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    overtakes = [entry for entry in said if entry["event"] == "job_overtakes"]
    assert [(entry["job"], entry["overtaken"]) for entry in overtakes] == [(small.id, [big.id])]
    assert [entry["job"] for entry in said if entry["event"] == "gpu_kept_for"] == [big.id]
    table.free = 9000
    begun = choose(big, last)
    assert begun is not None and begun.job.id == big.id


def test_no_job_starts_in_the_quiet_hours_and_the_reason_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, hour = Table(tmp_path, engine="command", quiet_hours="08:00-18:00"), [9]
    clock = SimpleNamespace(now=lambda: datetime(2026, 1, 1, hour[0], 30))
    monkeypatch.setattr("heygemd.scheduler.judge.datetime", clock)
    assert table.choose() is None
    assert "quiet hours 08:00-18:00 (quiet_hours)" in str(table.journal.jobs_of("d")[0].deferred_reason)
    hour[0] = 19
    assert table.choose() is not None


def test_the_disk_of_journal_and_cache_is_watched_too(tmp_path: Path) -> None:
    table = Table(tmp_path, engine="command")
    honest = table.read

    def short(disks: Any = (), *, gpus: bool = True) -> Readings:
        found = honest(disks, gpus=gpus)
        return replace(found, disks={path: 5 if path == tmp_path else mib for path, mib in found.disks.items()})

    table.live.replace(replace(table.config, limits=LimitsConfig(free_disk_mib=6, free_ram_mib=0)))
    table.admission.judge.watching._reader = short
    assert table.choose() is None
    assert f"0 MiB of disk for {tmp_path} and 6 MiB must stay free" in str(
        table.journal.jobs_of("d")[0].deferred_reason
    )


def test_what_was_chosen_is_read_again_right_before_it_starts(tmp_path: Path) -> None:
    table = Table(tmp_path)
    ticket = table.choose()
    assert ticket is not None and ticket.go.device == "GPU-a"
    asyncio.run(table.admission.confirm(ticket))
    table.free = 1000
    with pytest.raises(Deferred, match="1000 MiB free"):
        asyncio.run(table.admission.confirm(ticket))


def test_a_film_of_the_processor_is_encoded_on_a_gpu_that_has_room_and_reserved_there(tmp_path: Path) -> None:
    table = Table(tmp_path, engine="footage")
    ticket = table.choose()
    assert ticket is not None and ticket.device == "GPU-a" and ticket.settings.encoder == "auto"
    assert ticket.vram_mib_reserved == NVENC_MIB["2160p"], "nobody has looked at the frames yet"
    other = Reservations(table.admission.judge.reservations.folder)
    assert [held.mib for held in other.others("GPU-a")] == [NVENC_MIB["2160p"]]
    asyncio.run(table.admission.confirm(ticket))
    assert ticket.settings.encoder == "auto"
    table.free = 100
    asyncio.run(table.admission.confirm(ticket))
    assert ticket.settings.encoder == "libx264" and ticket.device is None
    assert other.others("GPU-a") == []


def test_a_film_of_the_processor_does_not_wait_for_a_gpu_to_encode_it(tmp_path: Path) -> None:
    ticket = Table(tmp_path, free=100, engine="footage").choose()
    assert ticket is not None and ticket.device is None and ticket.settings.encoder == "libx264"


def test_nvenc_that_was_asked_for_is_waited_for_with_the_numbers(tmp_path: Path) -> None:
    table = Table(tmp_path, free=100, engine="footage", encoder="h264_nvenc")
    assert table.choose() is None
    assert f"needs {NVENC_MIB['2160p']} MiB of GPU memory" in str(table.journal.jobs_of("d")[0].deferred_reason)
    table.free = 9000
    ticket = table.choose()
    assert ticket is not None and ticket.device == "GPU-a" and ticket.settings.encoder == "h264_nvenc"


def test_frames_that_turn_out_larger_raise_the_reservation_or_make_the_job_wait(tmp_path: Path) -> None:
    table = Table(tmp_path)
    ticket = table.choose()
    assert ticket is not None
    first = ticket.vram_mib_reserved
    table.frame = "larger"
    asyncio.run(table.admission.confirm(ticket))
    assert ticket.vram_mib_reserved == first + NVENC_MIB["larger"] - NVENC_MIB["2160p"]
    other = Reservations(table.admission.judge.reservations.folder)
    assert [held.mib for held in other.others("GPU-a")] == [ticket.vram_mib_reserved]
    table.free = ticket.vram_mib_reserved - 1
    with pytest.raises(Deferred, match=f"needs {ticket.vram_mib_reserved} MiB"):
        asyncio.run(table.admission.confirm(ticket))


def test_memory_that_larger_frames_need_is_looked_at_before_the_work_begins(tmp_path: Path) -> None:
    table = Table(tmp_path, engine="footage")
    table.journal.add_peak(Peak(Kind("footage", frame="480p"), None, 400))
    table.admission = Admission(
        table.live, table.journal, table.store, lambda: None, Pace(), table.read, frame_of=lambda _: table.frame
    )
    ticket = table.choose()
    assert ticket is not None and ticket.need.ram_mib == 440
    table.frame, table.ram = "2160p", 1000
    with pytest.raises(Deferred, match=f"needs {ENGINE_NEEDS['footage'].ram_mib} MiB of memory"):
        asyncio.run(table.admission.confirm(ticket))


def test_after_a_job_the_guard_waits_until_its_memory_has_returned_but_not_for_ever(tmp_path: Path) -> None:
    table = Table(tmp_path)
    ticket = table.choose()
    assert ticket is not None
    table.admission.sampling.finish(ticket, ticket.job)
    table.free = 9000 - ticket.go.vram_mib
    assert table.choose() is None and table.journal.jobs_of("d")[0].deferrals == 0, "no deferral: it is on its way"
    table.free = 9000
    again = table.choose()
    assert again is not None and again.go.batch_size == ticket.go.batch_size
    table.admission.sampling.finish(again, again.job)
    table.free = 100
    watching = table.admission.judge.watching
    assert watching._returning is not None
    watching._returning = replace(watching._returning, until=0.0)
    assert table.choose() is None and table.journal.jobs_of("d")[0].deferrals == 1


def test_an_outbox_that_is_full_pauses_its_line_and_goes_on_when_there_is_room(tmp_path: Path, media: Path) -> None:
    site = Site(tmp_path / "site")
    outbox = site.line / "outbox"
    outbox.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(outbox)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    ballast, once = outbox / "ballast", tmp_path / "once"
    fill = f"if [ ! -e {once} ]; then touch {once}; dd if=/dev/zero of={ballast} bs=1M count=30 2>/dev/null; fi"
    site.argv = ["sh", "-c", f"{fill}; {FILM}", "sh", "{video}", "{audio}", "{output}"]
    site.write_config()
    try:
        drop(media, site, "one")
        site.start()
        site.until(lambda: site.status()["lines"][0]["state"] == "full", "the line says that its outbox is full")
        assert "No space left" in site.status()["lines"][0]["problem"]
        drop(media, site, "two")
        site.until(lambda: len(site.status()["queue"]) == 2, "the next job waits")
        assert [name for name in os.listdir(outbox) if name.endswith(".part")] == []
        ballast.unlink()
        site.until(lambda: len(site.tree("done")) == 4, "both go on without a restart")
        assert len(named(site, "line_full")) == len(named(site, "line_has_room")) == 1
        log = json.loads((outbox / "one.json").read_text())
        assert log["attempts"] == 1
    finally:
        site.kill()
        subprocess.run(["umount", "-l", str(outbox)], check=False)


def test_a_job_whose_film_would_not_fit_into_the_outbox_waits_with_the_numbers(tmp_path: Path, media: Path) -> None:
    site, disk = Site(tmp_path / "site", extra="[guard]\n"), shutil.disk_usage(tmp_path)
    keep = (disk.free + disk.total) // 2 >> 20  # more than is free, less than there is at all
    site.config.write_text(site.config.read_text().replace("free_disk_mib = 1\n", f"free_disk_mib = {keep}\n"))
    drop(media, site)
    site.start()
    try:
        site.until(lambda: "MiB of disk" in reason(site), "the job waits")
        assert f"{keep} MiB must stay free" in reason(site) and "MiB are free" in reason(site)
        assert named(site, "job_deferred")[0]["kind"] == "disk"
    finally:
        site.kill()


def test_a_new_configuration_is_gone_by_at_the_next_look_without_being_handed_on(tmp_path: Path) -> None:
    table = Table(tmp_path, free=100)
    assert table.choose() is None
    names = table.journal.jobs_of("d")
    assert asyncio.run(table.admission.choose(names)) is None, "not due yet"
    render = replace(table.config.render, device="cpu")
    table.live.replace(replace(table.config, render=render))
    assert table.admission.status()["devices"]["wav2lip"]["device"] == "cpu"
    ticket = asyncio.run(table.admission.choose(names))
    assert isinstance(ticket, Ticket) and ticket.settings.device == "cpu"


def test_an_engine_that_a_reload_allows_on_a_line_gets_a_device(tmp_path: Path) -> None:
    table = Table(tmp_path)
    assert "duix" not in table.admission.status()["devices"]
    line = replace(table.config.lines[0], allowed_engines=(*table.config.lines[0].allowed_engines, "duix"))
    table.live.replace(replace(table.config, lines=(line, *table.config.lines[1:])))
    assert table.admission.status()["devices"]["duix"]["device"] == "cpu"
