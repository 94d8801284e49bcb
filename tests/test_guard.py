"""The guard: go, wait or never, and a reason that a person can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from heygemd.config_keys import CommandConfig, LimitsConfig
from heygemd.guard import Go, Need, Never, Verdict, Wait, command_need, decide, footage_need
from heygemd.machine import Gpu, Holder, Readings

WORK = Path("/var/lib/heygemd/work")
LIMITS = LimitsConfig(free_disk_mib=2048, free_ram_mib=1024)
NEED = Need(vram_mib=8000, ram_mib=1200, disk_mib={WORK: 500})


def gpu(free: int, total: int = 24_000, uuid: str = "GPU-a", *holders: Holder) -> Gpu:
    return Gpu(uuid, 0, "NVIDIA Fake 24", total, total - free, free, "550.54", holders)


def readings(
    *gpus: Gpu, problem: str | None = None, absent: bool = False, ram: int = 8000, total: int = 16_000, disk: int = 9000
) -> Readings:
    return Readings(
        gpus=gpus, gpu_problem=problem, gpu_absent=absent, ram_total_mib=total, ram_available_mib=ram,
        cpu_count=4, cpu_model="x", disks={WORK: disk},
    )  # fmt: skip


def test_enough_of_everything_is_a_go_on_the_gpu_with_the_most_room() -> None:
    assert decide(NEED, readings(gpu(8000), gpu(9000, uuid="GPU-b")), LIMITS) == Go("GPU-b")


def test_a_job_without_need_of_a_gpu_asks_for_none() -> None:
    assert decide(footage_need({WORK: 0}), readings(problem="no driver", absent=True), LIMITS) == Go(None)


@pytest.mark.parametrize(
    ("verdict", "parts"),
    [
        (
            decide(NEED, readings(gpu(2100, 24_000, "GPU-a", Holder(312, "ollama", 18_000))), LIMITS),
            [
                "8000 MiB of GPU memory",
                "NVIDIA Fake 24 has 2100 MiB free of 24000 MiB",
                "ollama (process 312, 18000 MiB)",
            ],
        ),
        (decide(NEED, readings(gpu(9000), ram=2000), LIMITS), ["1200 MiB", "1024 MiB must stay", "2000 MiB of 16000"]),
        (decide(NEED, readings(gpu(9000), disk=2500), LIMITS), ["500 MiB of disk", str(WORK), "2500 MiB are free"]),
        (decide(NEED, readings(problem="the GPU must be reset"), LIMITS), ["8000 MiB", "the GPU must be reset"]),
        (decide(NEED, readings(), LIMITS), ["no NVIDIA GPU was found"]),
    ],
)
def test_a_shortage_that_may_pass_waits_and_gives_the_numbers(verdict: Verdict, parts: list[str]) -> None:
    assert isinstance(verdict, Wait)
    assert all(part in verdict.reason for part in parts), verdict.reason
    assert verdict.reason.endswith(".")


@pytest.mark.parametrize(
    ("verdict", "part"),
    [
        (decide(NEED, readings(gpu(7000, 7900)), LIMITS), "NVIDIA Fake 24, has 7900 MiB"),
        (decide(NEED, readings(gpu(9000), total=2000, ram=1900), LIMITS), "this machine has 2000 MiB in all"),
        (decide(NEED, readings(problem="no driver is installed", absent=True), LIMITS), "no driver is installed"),
    ],
)
def test_what_this_machine_can_never_do_is_said_at_once(verdict: Verdict, part: str) -> None:
    assert isinstance(verdict, Never) and part in verdict.reason


def test_the_impossible_is_told_before_the_merely_short() -> None:
    assert isinstance(decide(NEED, readings(gpu(100), total=2000, ram=100), LIMITS), Never)


def test_a_disk_that_could_not_be_read_is_waited_for() -> None:
    verdict = decide(Need(disk_mib={Path("/other"): 1}), readings(), LIMITS)
    assert verdict == Wait("The free space of /other cannot be read.")


def test_what_is_exactly_enough_is_enough() -> None:
    assert decide(NEED, readings(gpu(8000), ram=2224, disk=2548), LIMITS) == Go("GPU-a")
    assert isinstance(decide(NEED, readings(gpu(7999), ram=2224, disk=2548), LIMITS), Wait)
    assert isinstance(decide(NEED, readings(gpu(8000), ram=2223, disk=2548), LIMITS), Wait)
    assert isinstance(decide(NEED, readings(gpu(8000), ram=2224, disk=2547), LIMITS), Wait)


def test_many_holders_are_named_in_part() -> None:
    holders = [Holder(n, f"p{n}", 10) for n in range(5)]
    verdict = decide(NEED, readings(gpu(0, 24_000, "GPU-a", *holders)), LIMITS)
    assert isinstance(verdict, Wait)
    assert "p2" in verdict.reason and "p3" not in verdict.reason and "and 2 more" in verdict.reason


def test_the_command_engine_needs_what_its_configuration_declares() -> None:
    assert command_need(CommandConfig(gpu_need_mib=6000), {WORK: 1}).vram_mib == 6000
    assert footage_need({WORK: 1}).vram_mib == 0
