"""The guard: go, wait or never, and a reason that a person can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from heygemd.config.tables import GuardConfig, LimitsConfig
from heygemd.guard.decide import Go, Need, Never, Verdict, Wait, Way, decide, quiet
from heygemd.guard.readings import Gpu, Holder, Readings

WORK = Path("/var/lib/heygemd/work")
LIMITS = LimitsConfig(free_disk_mib=2048, free_ram_mib=1024)
RULES = GuardConfig(hold_readings=3)
NEED = Need((Way(8000),), ram_mib=1200, disk_mib={WORK: 500})


def gpu(free: int, total: int = 24_000, uuid: str = "GPU-a", *holders: Holder, celsius: int = 50) -> Gpu:
    return Gpu(uuid, 0, "NVIDIA Fake 24", total, total - free, free, "550.54", holders, celsius=celsius)


def readings(
    *gpus: Gpu, problem: str | None = None, absent: bool = False, ram: int = 8000, total: int = 16_000, disk: int = 9000
) -> Readings:
    return Readings(
        gpus=gpus, gpu_problem=problem, gpu_absent=absent, ram_total_mib=total, ram_available_mib=ram,
        cpu_count=4, cpu_model="x", disks={WORK: disk},
    )  # fmt: skip


def judge(need: Need, *history: Readings, rules: GuardConfig = RULES, **more: Any) -> Verdict:
    """One reading stands for as many alike as are wanted."""
    seen: Sequence[Readings] = history if len(history) > 1 else history * rules.hold_readings
    return decide(need, seen, LIMITS, rules, **more)


def test_enough_of_everything_is_a_go() -> None:
    assert judge(NEED, readings(gpu(8000))) == Go("GPU-a", 1, "", 8000)


def test_a_job_without_need_of_a_gpu_asks_for_none() -> None:
    assert judge(Need(ram_mib=1200), readings(problem="no driver", absent=True)) == Go(None)


def test_the_gpu_that_is_filled_best_is_taken_so_that_the_larger_stays_for_larger_jobs() -> None:
    three = readings(gpu(20_000, uuid="GPU-a"), gpu(9000, uuid="GPU-b"), gpu(7000, uuid="GPU-c"))
    verdict = judge(NEED, three)
    assert isinstance(verdict, Go) and verdict.device == "GPU-b"


def test_devices_restricts_what_is_used() -> None:
    only = replace(RULES, devices=("GPU-b",))
    verdict = judge(NEED, readings(gpu(9000), gpu(9000, uuid="GPU-b")), rules=only)
    assert isinstance(verdict, Go) and verdict.device == "GPU-b"
    missing = judge(NEED, readings(gpu(9000)), rules=only)
    assert isinstance(missing, Wait) and "none of the devices in [guard] was found, only GPU-a" in missing.reason


def test_where_only_a_smaller_batch_fits_it_is_taken_and_said() -> None:
    need = Need((Way(16_000, 8, "fp16"), Way(9000, 4, "fp16"), Way(5000, 1, "fp16")))
    assert judge(need, readings(gpu(20_000))) == Go("GPU-a", 8, "fp16", 16_000)
    assert judge(need, readings(gpu(10_000))) == Go("GPU-a", 4, "fp16", 9000, smaller=True)
    waits = judge(need, readings(gpu(4000)))
    assert isinstance(waits, Wait) and "needs 5000 MiB" in waits.reason


def test_where_gpu_and_processor_have_one_memory_both_needs_must_fit_into_it() -> None:
    need, one = Need((Way(6000),), ram_mib=2000), replace(gpu(9000), shared=True, total_mib=16_000)
    keep = LIMITS.free_ram_mib
    assert isinstance(judge(need, readings(replace(one, free_mib=8000 + keep))), Go)
    short = judge(need, readings(replace(one, free_mib=7999 + keep)))
    assert (
        isinstance(short, Wait)
        and "5999 MiB free" in short.reason
        and "because this GPU shares the machine's memory" in short.reason
    )
    never = judge(need, readings(replace(one, free_mib=7999 + keep, total_mib=7999 + keep)))
    assert isinstance(never, Never) and "has 5999 MiB" in never.reason
    assert isinstance(judge(need, readings(gpu(6000))), Go), "a card has memory of its own"


def test_a_full_batch_on_any_gpu_comes_before_a_smaller_one() -> None:
    need = Need((Way(16_000, 8), Way(9000, 4)))
    verdict = judge(need, readings(gpu(10_000), gpu(17_000, uuid="GPU-b")))
    assert isinstance(verdict, Go) and (verdict.device, verdict.batch_size) == ("GPU-b", 8)


def test_memory_that_has_been_free_for_a_moment_only_is_not_free_yet() -> None:
    short, free = readings(gpu(2000)), readings(gpu(9000))
    for history in ([free], [free, free], [short, free, free], [free, readings(), free]):
        verdict = decide(NEED, history, LIMITS, RULES)
        assert isinstance(verdict, Wait) and verdict.settling, history
    assert isinstance(decide(NEED, [short, free, free, free], LIMITS, RULES), Go)
    falling = decide(NEED, [free, free, short], LIMITS, RULES)
    assert isinstance(falling, Wait) and not falling.settling


def test_what_another_daemon_has_reserved_is_not_free() -> None:
    verdict = judge(NEED, readings(gpu(12_000)), taken={"GPU-a": 6000})
    assert isinstance(verdict, Wait) and verdict.kind == "gpu_reserved"
    assert "another heygemd has reserved 6000 MiB" in verdict.reason
    assert isinstance(judge(NEED, readings(gpu(14_000)), taken={"GPU-a": 6000}), Go)


def test_a_gpu_that_is_too_hot_is_left_to_cool() -> None:
    rules = replace(RULES, max_celsius=80)
    verdict = judge(NEED, readings(gpu(9000, celsius=91)), rules=rules)
    assert isinstance(verdict, Wait) and "is at 91 °C; jobs wait above 80 °C" in verdict.reason
    both = judge(NEED, readings(gpu(9000, celsius=91), gpu(9500, uuid="GPU-b")), rules=rules)
    assert isinstance(both, Go) and both.device == "GPU-b"
    assert isinstance(judge(NEED, readings(gpu(9000, celsius=91))), Go)


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        ("08:00-18:00", time(8, 0), True),
        ("08:00-18:00", time(18, 0), False),
        ("22:30-06:00", time(23, 0), True),
        ("22:30-06:00", time(5, 59), True),
        ("22:30-06:00", time(12, 0), False),
        ("", time(12, 0), False),
    ],
)
def test_quiet_hours_may_span_midnight(hours: str, at: time, expected: bool) -> None:
    assert quiet(hours, at) is expected
    verdict = judge(Need(), readings(), rules=replace(RULES, quiet_hours=hours), at=at)
    assert isinstance(verdict, Wait) is expected


HELD = readings(gpu(2100, 24_000, "GPU-a", Holder(312, "ollama", 18_000)))


@pytest.mark.parametrize(
    ("verdict", "parts"),
    [
        (
            judge(NEED, HELD),
            ["8000 MiB of GPU memory", "has 2100 MiB free of 24000 MiB", "ollama (process 312, 18000 MiB)"],
        ),
        (judge(NEED, readings(gpu(9000), ram=2000)), ["1200 MiB", "1024 MiB must stay", "2000 MiB of 16000"]),
        (judge(NEED, readings(gpu(9000), disk=2500)), ["500 MiB of disk", str(WORK), "2500 MiB are free"]),
        (judge(NEED, readings(problem="the GPU must be reset")), ["8000 MiB", "the GPU must be reset"]),
        (judge(NEED, readings(gpu(7000, 7900), problem="GPU 1 is lost")), ["has 7900 MiB, and GPU 1 is lost"]),
        (judge(NEED, readings()), ["no NVIDIA GPU was found"]),
    ],
)
def test_a_shortage_that_may_pass_waits_and_gives_the_numbers(verdict: Verdict, parts: list[str]) -> None:
    assert isinstance(verdict, Wait)
    assert all(part in verdict.reason for part in parts), verdict.reason
    assert verdict.reason.endswith(".")


@pytest.mark.parametrize(
    ("verdict", "part"),
    [
        (judge(NEED, readings(gpu(7000, 7900))), "NVIDIA Fake 24, has 7900 MiB"),
        (judge(NEED, readings(gpu(9000), total=2000, ram=1900)), "this machine has 2000 MiB in total"),
        (judge(NEED, readings(problem="no driver is installed", absent=True)), "no driver is installed"),
        (judge(Need(impossible="It cannot be."), readings()), "It cannot be."),
    ],
)
def test_what_this_machine_can_never_do_is_said_at_once(verdict: Verdict, part: str) -> None:
    assert isinstance(verdict, Never) and part in verdict.reason


def test_the_impossible_is_told_before_the_merely_short() -> None:
    assert isinstance(judge(NEED, readings(gpu(100), total=2000, ram=100)), Never)


def test_a_shortage_is_told_before_memory_that_only_has_to_settle() -> None:
    verdict = decide(NEED, [readings(gpu(9000), ram=100)], LIMITS, RULES)
    assert isinstance(verdict, Wait) and verdict.kind == "memory"


def test_what_no_clearing_up_of_the_disk_can_make_room_for_is_refused() -> None:
    room = replace(readings(), disk_totals={WORK: 10_000})
    assert isinstance(judge(Need(disk_mib={WORK: 7_952}), room), Go | Wait)
    verdict = judge(Need(disk_mib={WORK: 7_953}), room)
    assert isinstance(verdict, Never)
    assert "10000 MiB in total" in verdict.reason


def test_a_disk_that_could_not_be_read_is_waited_for() -> None:
    verdict = judge(Need(disk_mib={Path("/other"): 1}), readings())
    assert verdict == Wait("The free space of /other cannot be read.", "disk")


def test_what_is_exactly_enough_is_enough() -> None:
    assert isinstance(judge(NEED, readings(gpu(8000), ram=2224, disk=2548)), Go)
    assert isinstance(judge(NEED, readings(gpu(7999), ram=2224, disk=2548)), Wait)
    assert isinstance(judge(NEED, readings(gpu(8000), ram=2223, disk=2548)), Wait)
    assert isinstance(judge(NEED, readings(gpu(8000), ram=2224, disk=2547)), Wait)


def test_many_holders_are_named_in_part() -> None:
    holders = [Holder(n, f"p{n}", 10) for n in range(5)]
    verdict = judge(NEED, readings(gpu(0, 24_000, "GPU-a", *holders)))
    assert isinstance(verdict, Wait) and len(verdict.holders) == 5
    assert "p2" in verdict.reason and "p3" not in verdict.reason and "and 2 more" in verdict.reason
