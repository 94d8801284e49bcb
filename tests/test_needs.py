"""What a job will need: declared, learned, and on the safe side where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from heygemd import needs
from heygemd.config_keys import CommandConfig
from heygemd.guard import Way
from heygemd.machine import Gpu, Readings
from heygemd.needs import ENGINES, Kind, Peak

HERE = Readings(ram_total_mib=16_000, ram_available_mib=8000)
GPU_HERE = Readings((Gpu("GPU-a", 0, "NVIDIA Fake", 24_000, 0, 24_000),), ram_total_mib=16_000)
WORK = Path("/work")


def peaks(engine: str, *rams: int, vram: int | None = None) -> list[Peak]:
    return [Peak(Kind(engine, frame="720p"), vram, ram) for ram in rams]


def test_an_engine_that_has_never_run_needs_what_the_table_says() -> None:
    need = needs.need("footage", "cpu", CommandConfig(), [], HERE, 1024, {WORK: 1})
    assert (need.ways, need.ram_mib, need.disk_mib) == ((), ENGINES["footage"].ram_mib, {WORK: 1})


def test_what_was_seen_replaces_the_table_with_a_margin() -> None:
    seen = peaks("footage", 500, 510, 490) + peaks("command", 5000)
    assert needs.need("footage", "cpu", CommandConfig(), seen, HERE, 1024, {}).ram_mib == 561


def test_the_estimate_is_the_upper_quantile_so_that_one_outlier_in_many_does_not_rule() -> None:
    assert needs.upper([100] * 99 + [9000]) == 110
    assert needs.upper([100] * 9 + [9000]) == 9900


def test_what_was_learned_never_makes_a_job_impossible() -> None:
    need = needs.need("footage", "cpu", CommandConfig(), peaks("footage", 15_900), HERE, 1024, {})
    assert need.ram_mib + 1024 < HERE.ram_total_mib
    here = Readings((Gpu("GPU-a", 0, "x", 10_000, 0, 10_000),), ram_total_mib=16_000, ram_available_mib=8000)
    command = CommandConfig(gpu_need_mib=5000)
    learned = needs.need("command", "cuda", command, peaks("command", 1, vram=9900), here, 1, {})
    assert learned.ways == (Way(9800),)


def test_a_declared_need_is_raised_by_what_was_seen_and_never_lowered() -> None:
    here = Readings((Gpu("GPU-a", 0, "x", 24_000, 0, 24_000),), ram_total_mib=16_000)
    command = CommandConfig(gpu_need_mib=6000)
    for seen, expected in ((None, 6000), (3000, 6000), (8000, 8800)):
        need = needs.need("command", "cuda", command, peaks("command", 1, vram=seen), here, 1, {})
        assert need.ways == (Way(expected),)
    assert needs.need("command", "cpu", CommandConfig(), [], here, 1, {}).ways == ()


def test_an_engine_without_a_gpu_path_says_so_instead_of_crawling_on_the_processor_unasked() -> None:
    need = needs.need("footage", "cuda", CommandConfig(), [], HERE, 1024, {})
    assert need.impossible is not None and "the engine footage runs on the processor" in need.impossible
    assert needs.device_of("footage", "auto", CommandConfig(), GPU_HERE)[0] == "cpu"
    assert needs.device_of("command", "auto", CommandConfig(gpu_need_mib=1), HERE)[0] == "cuda"


@pytest.mark.parametrize(
    ("asked", "start", "device", "said"),
    [
        ("auto", GPU_HERE, "cuda", "NVIDIA Fake is there"),
        ("auto", Readings(gpu_problem="no driver", gpu_missing=True), "cpu", "no driver"),
        ("auto", Readings(gpu_problem="the driver was updated"), "cuda", 'set device = "cpu"'),
        ("cpu", GPU_HERE, "cpu", 'device = "cpu"'),
        ("cuda", Readings(gpu_problem="no driver", gpu_missing=True), "cuda", 'device = "cuda"'),
    ],
)
def test_auto_is_decided_by_what_is_there_and_a_broken_gpu_is_not_swapped_for_the_processor(
    asked: str, start: Readings, device: str, said: str
) -> None:
    chosen, why = needs.device_of("wav2lip", asked, CommandConfig(), start)
    assert chosen == device and said in why


def test_each_batch_size_learns_for_itself() -> None:
    table = ENGINES["wav2lip"].ways
    seen = [Peak(Kind("wav2lip", batch_size=table[0].batch_size), 2000, 900)]
    need = needs.need("wav2lip", "cuda", CommandConfig(), seen, GPU_HERE, 1024, {})
    assert need.ways == (Way(2200, table[0].batch_size), *table[1:]) and need.ram_mib == 990
    assert needs.need("wav2lip", "cpu", CommandConfig(), seen, GPU_HERE, 1024, {}).ways == ()


@pytest.mark.parametrize(
    ("size", "name"),
    [((640, 480), "480p"), ((1280, 720), "720p"), ((720, 1280), "720p"), ((1920, 1088), "1080p"),
     ((3840, 2160), "2160p"), ((7680, 4320), "larger")],
)  # fmt: skip
def test_frames_are_classed_by_their_pixels(size: tuple[int, int], name: str) -> None:
    assert needs.frame_class(*size) == name


def test_disk_is_guessed_from_what_came_in() -> None:
    mib = 1 << 20
    work, film = needs.disk_needs(("a.WAV", 2 * mib), ("v.mp4", 10 * mib))
    assert film == 66 and work == 144  # 65.5 s of sound at 16 kHz
    assert needs.disk_needs(("a.mp3", 2 * mib), ("v.mp4", 10 * mib))[1] > film


def test_a_finished_job_leaves_its_larger_peak_under_its_kind() -> None:
    result = {"peak": {"ram_mib": 300, "vram_mib": None}, "output": {"width": 1280, "height": 720}, "engine": {}}
    assert needs.peak_of("footage", result, (None, 410)) == Peak(Kind("footage", frame="720p"), None, 410)
    assert needs.peak_of("footage", {}, (None, None)) == Peak(Kind("footage", frame="480p"), None, None)


def test_doctor_gets_a_line_for_each_kind() -> None:
    seen = [*peaks("footage", 500, 510), Peak(Kind("command", "m", "480p", 4, "fp16"), 4000, None)]
    assert needs.table(seen) == [
        "command m 480p batch 4 fp16: 4400 MiB of GPU memory (1 jobs)",
        "footage 720p: 561 MiB of memory (2 jobs)",
    ]
