"""What a job will need: declared, learned, and on the safe side where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from heygemd.common import request
from heygemd.config.tables import CommandConfig
from heygemd.guard import needs
from heygemd.guard.decide import Way
from heygemd.guard.needs import ENGINE_NEEDS, NVENC_MIB, Asked, Kind, Peak
from heygemd.guard.readings import Gpu, Readings

HERE = Readings(ram_total_mib=16_000, ram_available_mib=8000)
GPU_HERE = Readings((Gpu("GPU-a", 0, "NVIDIA Fake", 24_000, 0, 24_000),), ram_total_mib=16_000)
WORK = Path("/work")


def peaks(engine: str, *rams: int, vram: int | None = None) -> list[Peak]:
    return [Peak(Kind(engine, frame="720p"), vram, ram) for ram in rams]


def test_an_engine_that_has_never_run_needs_what_the_table_says() -> None:
    need = needs.need(Asked("footage"), CommandConfig(), [], HERE, 1024, {WORK: 1})
    assert (need.ways, need.ram_mib, need.disk_mib) == ((), ENGINE_NEEDS["footage"].ram_mib, {WORK: 1})


def test_what_was_seen_replaces_the_table_with_a_margin() -> None:
    seen = peaks("footage", 500, 510, 490) + peaks("command", 5000)
    assert needs.need(Asked("footage"), CommandConfig(), seen, HERE, 1024, {}).ram_mib == 561


def test_the_estimate_is_the_upper_quantile_so_that_one_outlier_in_many_does_not_rule() -> None:
    assert needs.upper([100] * 99 + [9000]) == 110
    assert needs.upper([100] * 9 + [9000]) == 9900


def test_what_was_learned_never_makes_a_job_impossible() -> None:
    need = needs.need(Asked("footage"), CommandConfig(), peaks("footage", 15_900), HERE, 1024, {})
    assert need.ram_mib + 1024 < HERE.ram_total_mib
    here = Readings((Gpu("GPU-a", 0, "x", 10_000, 0, 10_000),), ram_total_mib=16_000, ram_available_mib=8000)
    command = CommandConfig(gpu_need_mib=5000)
    learned = needs.need(Asked("command", "cuda"), command, peaks("command", 1, vram=9900), here, 1, {})
    assert learned.ways == (Way(9800),)


def test_a_declared_need_is_raised_by_what_was_seen_and_never_lowered() -> None:
    here = Readings((Gpu("GPU-a", 0, "x", 24_000, 0, 24_000),), ram_total_mib=16_000)
    command = CommandConfig(gpu_need_mib=6000)
    for seen, expected in ((None, 6000), (3000, 6000), (8000, 8800)):
        need = needs.need(Asked("command", "cuda"), command, peaks("command", 1, vram=seen), here, 1, {})
        assert need.ways == (Way(expected),)
    assert needs.need(Asked("command"), CommandConfig(), [], here, 1, {}).ways == ()


def test_an_engine_without_a_gpu_path_says_so_instead_of_crawling_on_the_processor_unasked() -> None:
    need = needs.need(Asked("footage", "cuda"), CommandConfig(), [], HERE, 1024, {})
    assert need.impossible is not None and "the engine footage runs on the CPU" in need.impossible


def test_each_batch_size_learns_for_itself() -> None:
    table = ENGINE_NEEDS["wav2lip"].ways
    seen = [Peak(Kind("wav2lip", batch_size=table[0].batch_size), 2000, 900)]
    need = needs.need(Asked("wav2lip", "cuda"), CommandConfig(), seen, GPU_HERE, 1024, {})
    assert need.ways == (Way(2200, table[0].batch_size), *table[1:]) and need.ram_mib == 990
    assert needs.need(Asked("wav2lip"), CommandConfig(), seen, GPU_HERE, 1024, {}).ways == ()


def test_each_frame_size_and_model_learns_for_itself_and_the_unknown_counts_as_the_largest() -> None:
    seen = [Peak(Kind("wav2lip", "m", "480p", 64), 2000, 900), Peak(Kind("wav2lip", "m", "2160p", 64), 5000, 3000)]
    seen += [Peak(Kind("wav2lip", "m", "480p", 64), 2000, 900) for _ in range(40)]

    def asked(**more: str) -> tuple[int, int]:
        need = needs.need(Asked("wav2lip", "cuda", **more), CommandConfig(), seen, GPU_HERE, 1024, {})
        return need.ways[0].vram_mib, need.ram_mib

    assert asked(model="m", frame="480p") == (2200, 990)
    assert asked(model="m", frame="2160p") == (5500, 3300)
    assert asked(model="m") == asked() == (5500, 3300), "one large film among many small ones is not forgotten"
    table = ENGINE_NEEDS["wav2lip"]
    assert asked(model="other", frame="480p") == (table.ways[0].vram_mib, table.ram_mib)
    assert asked(model="m", frame="larger")[1] == 3300, "larger frames take no less than smaller ones"


def test_a_film_that_nvenc_encodes_needs_a_gpu_and_its_memory_is_counted() -> None:
    footage = needs.need(Asked("footage", frame="1080p", nvenc=True), CommandConfig(), [], GPU_HERE, 1024, {})
    assert footage.ways == (Way(NVENC_MIB["1080p"]),) and needs.NVENC_MIB["2160p"] > NVENC_MIB["1080p"]
    assert needs.need(Asked("footage", frame="1080p"), CommandConfig(), [], GPU_HERE, 1024, {}).ways == ()
    both = needs.need(Asked("wav2lip", "cuda", frame="720p", nvenc=True), CommandConfig(), [], GPU_HERE, 1024, {})
    table = ENGINE_NEEDS["wav2lip"].ways
    assert [way.vram_mib for way in both.ways] == [way.vram_mib + NVENC_MIB["720p"] for way in table]
    result = {"peak": {"vram_mib": 1000}, "output": {"width": 1280, "height": 720, "encode": {"encoder": "h264_nvenc"}}}
    assert needs.peak_of("wav2lip", result, (None, None)).vram_mib == 1000 + NVENC_MIB["720p"]
    assert needs.peak_of("wav2lip", result, (2000, None)).vram_mib == 2000, "what was seen from outside has all of it"


@pytest.mark.parametrize(
    ("batch", "batches"), [(0, [64, 32, 16, 8, 4]), (16, [16, 8, 4]), (20, [20, 16, 8, 4]), (100, [100, 64]), (2, [2])]
)
def test_the_operators_batch_is_the_largest_and_memory_decides_how_much_less(batch: int, batches: list[int]) -> None:
    ways = needs.batches_up_to(ENGINE_NEEDS["wav2lip"].ways, batch)
    assert [way.batch_size for way in ways][: len(batches)] == batches
    mibs = [way.vram_mib for way in ways]
    assert mibs == sorted(mibs, reverse=True) and mibs[-1] == ENGINE_NEEDS["wav2lip"].ways[-1].vram_mib
    assert needs.batches_up_to((), 8) == ()


def test_who_ran_out_of_memory_needs_a_quarter_more_under_its_own_kind() -> None:
    asked = Asked("wav2lip", "cuda", "m", "720p")
    left = needs.overrun(asked, Way(3000, 16))
    need = needs.need(asked, CommandConfig(), [left], GPU_HERE, 1024, {})
    assert next(way for way in need.ways if way.batch_size == 16).vram_mib == 3750 * 11 // 10
    assert need.ways[0] == ENGINE_NEEDS["wav2lip"].ways[0]


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


def test_a_film_of_duix_fills_the_shared_folder_by_one_part_at_a_time() -> None:
    a_minute = 60 * 32_000
    assert needs.duix_mib(("a.wav", a_minute), 60) == 60 * needs.DUIX_MIB_PER_SECOND
    assert needs.duix_mib(("a.wav", 10 * a_minute), 60) == needs.duix_mib(("a.wav", a_minute), 60)
    assert needs.duix_mib(("a.wav", a_minute // 2), 60) == 30 * needs.DUIX_MIB_PER_SECOND


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


def test_every_engine_has_its_needs() -> None:
    assert set(ENGINE_NEEDS) == set(request.ENGINES)
