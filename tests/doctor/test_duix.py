"""What doctor says of a Duix.Avatar container, and by what name its memory is shown."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.config.tables import CommandConfig, DuixConfig, GuardConfig, LimitsConfig
from heygemd.doctor import duix
from heygemd.guard import decide, host, needs, readings
from heygemd.guard.devices import device_of
from heygemd.guard.needs import Asked
from heygemd.guard.readings import Gpu, Holder
from tests.fakes.duix import Duix, Faults, serving
from tests.site import ROOT


def said(config: DuixConfig) -> dict[str, duix.Finding]:
    return {check.name: check for check in duix.examine(config, wanted=False, sleep=lambda _: None)}


def test_a_container_that_sees_the_same_folder_is_ok_and_nothing_stays_there(tmp_path: Path) -> None:
    container = Duix(tmp_path)
    with serving(container) as url:
        found = said(DuixConfig(url, tmp_path))
    assert {check.verdict for check in found.values()} == {"ok"}
    assert "Werkzeug" in found["engine duix"].said
    assert found["duix folder inside"].said == "the container finds files written there"
    assert list(container.temp.iterdir()) == []


def test_one_that_sees_another_folder_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "ours" / "temp").mkdir(parents=True)
    with serving(Duix(tmp_path / "theirs")) as url:
        found = said(DuixConfig(url, tmp_path / "ours"))["duix folder inside"]
    assert found.verdict == "warn" and "does not find" in found.said and ":/code/data" in found.cure
    assert list((tmp_path / "ours" / "temp").iterdir()) == []


def test_a_busy_one_is_left_in_peace(tmp_path: Path) -> None:
    with serving(Duix(tmp_path, Faults(busy=1))) as url:
        assert "is busy" in said(DuixConfig(url, tmp_path))["duix folder inside"].said


def test_nobody_and_somebody_else_are_told_apart(tmp_path: Path) -> None:
    nobody = said(DuixConfig("http://127.0.0.1:9", tmp_path))
    assert "no answer at" in nobody["engine duix"].said and "publish its port" in nobody["engine duix"].cure
    with serving(Duix(tmp_path, Faults(query_garbage=1))) as url:
        assert (
            "does not answer like a Duix.Avatar container: not JSON"
            in said(DuixConfig(url, tmp_path))["engine duix"].said
        )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with serving(Duix(tmp_path / "theirs")) as url:
        found = said(DuixConfig(url, tmp_path / "none"))["duix folder"]
    assert found.verdict == "warn" and "No such file" in found.said and "/code/data" in found.cure


def test_without_a_folder_it_is_not_configured() -> None:
    assert [check.said for check in duix.examine(DuixConfig(), wanted=True)] == ["not configured"]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ({"LoadState": "not-found"}, []),
        ({"LoadState": "loaded", "PrivateNetwork": "yes"}, ["has no network and is not allowed to write to /srv/duix"]),
        ({"LoadState": "loaded", "PrivateNetwork": "no", "ReadWritePaths": "-/srv/heygem +/srv"}, ["can reach it"]),
        ({"LoadState": "loaded", "PrivateNetwork": "yes", "ReadWritePaths": "/srv/duix"}, ["has no network"]),
    ],
)
def test_what_the_service_may_not_do_is_told_with_the_drop_in(shown: dict[str, str], said: list[str]) -> None:
    found = duix._service(DuixConfig(shared=Path("/srv/duix")), shown)
    assert len(found) == len(said) and all(part in check.said for part, check in zip(said, found, strict=True))
    assert all("localhost-network.conf" in check.cure for check in found if check.verdict == "warn")


def test_a_service_does_not_see_peoples_homes() -> None:
    shown = {"LoadState": "loaded", "PrivateNetwork": "no", "ReadWritePaths": "/home", "ProtectHome": "yes"}
    config = DuixConfig(shared=Path("/home/li/duix_avatar_data/face2face"))
    assert "cannot see home folders" in duix._service(config, shown)[0].said
    assert duix._service(config, {**shown, "ProtectHome": "no"})[0].verdict == "ok"
    assert duix._service(replace(config, shared=Path("/srv/duix")), shown)[0].verdict == "warn"


def test_the_drop_in_that_is_named_is_there() -> None:
    assert (ROOT / duix.DROP_IN).is_file()


def test_its_process_is_shown_by_a_name_that_says_something() -> None:
    argv = ["tail", "/code/app_local.py", "-f", "/dev/null"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None and process.stderr.readline()  # it runs, and misses the script
            assert host.process_name(process.pid) == "Duix.Avatar container"
        finally:
            process.kill()


FULL = Gpu(
    "GPU-a", 0, "NVIDIA Fake", 24_000, 23_500, 500,
    processes=(Holder(7, "Duix.Avatar container", 7000), Holder(8, "trainer", 16_500)),
)  # fmt: skip


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_its_jobs_wait_for_no_gpu_and_those_of_others_name_it(device: str) -> None:
    full = readings.Readings((FULL,), ram_total_mib=16_000, ram_available_mib=12_000)
    where, _ = device_of("duix", device, CommandConfig(), full)
    need = needs.need(Asked("duix", where), CommandConfig(), [], full, 1024, {})
    assert need.impossible is None
    assert isinstance(decide.decide(need, [full], LimitsConfig(), GuardConfig(hold_readings=1)), decide.Go)
    others = needs.need(Asked("wav2lip", "cuda"), CommandConfig(), [], full, 1024, {})
    waits = decide.decide(others, [full], LimitsConfig(), GuardConfig(hold_readings=1))
    assert isinstance(waits, decide.Wait) and "used by Duix.Avatar container (process 7, 7000 MiB)" in waits.reason
