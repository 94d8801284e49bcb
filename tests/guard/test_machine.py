"""The readings, on machines that the tests make up: GPUs, drivers that fail or hang, memory limits, disks."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from heygemd.guard import host, machine
from heygemd.guard.machine import Machine
from heygemd.guard.nvml import ask_nvml
from heygemd.guard.readings import Holder
from tests.fakes.nvml import Card, FakeNvml

OURS = os.getpid()


def test_a_gpu_is_read_with_its_uuid_its_memory_and_who_holds_it() -> None:
    nvml = FakeNvml([Card(processes=((OURS, 300), (2_000_000_000, 900), (OURS + 1_900_000_000, None)))])
    readings = Machine(nvml).read()
    (gpu,) = readings.gpus
    assert (gpu.uuid, gpu.name, gpu.total_mib, gpu.used_mib, gpu.free_mib, gpu.driver) == (
        "GPU-0", "NVIDIA Fake 24", 24_000, 4_000, 20_000, "550.54",
    )  # fmt: skip
    assert (gpu.utilisation, gpu.celsius, gpu.mig) == (37, 61, False)
    assert (gpu.processes[0].name, gpu.processes[0].mib) == ("", 900)
    assert str(gpu.processes[0]) == "pid unknown (container, 900 MiB)"
    assert gpu.processes[1] == Holder(OURS, host.process_name(OURS), 300)
    assert str(gpu.processes[2]) == "pid unknown (container)"
    assert readings.gpu_problem is None and not readings.gpu_absent


def test_nvml_is_closed_again_each_time() -> None:
    nvml = FakeNvml([Card()])
    ask_nvml(nvml)
    nvml.cards[0].memory_error = 999
    ask_nvml(nvml)
    assert (nvml.inits, nvml.open) == (2, 0)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (4, "permissions of /dev/nvidia"),
        (9, "modprobe nvidia"),
        (12, "no NVIDIA driver is installed"),
        (15, "fallen off the bus"),
        (16, "must be reset"),
        (18, "updated while the old one is loaded; restart"),
        (999, "NVML reports: "),
    ],
)
def test_each_failure_of_the_driver_is_a_sentence(code: int, said: str) -> None:
    readings = Machine(FakeNvml(error=code)).read()
    assert readings.gpus == () and said in str(readings.gpu_problem)
    assert readings.gpu_absent == (code == 12)


def test_one_gpu_that_is_lost_does_not_hide_the_others() -> None:
    readings = Machine(FakeNvml([Card(handle_error=15), Card()])).read()
    assert [gpu.uuid for gpu in readings.gpus] == ["GPU-1"]
    assert str(readings.gpu_problem).startswith("GPU 0: the GPU has fallen off the bus")


def test_a_partitioned_gpu_is_its_instances() -> None:
    gpus = Machine(FakeNvml([Card(instances=2, celsius=None), Card()])).read().gpus
    assert [(gpu.uuid, gpu.mig, gpu.celsius) for gpu in gpus] == [
        ("MIG-0-1", True, None), ("MIG-0-2", True, None), ("GPU-1", False, 61),
    ]  # fmt: skip
    assert gpus[0].utilisation is None


def test_a_gpu_that_is_partitioned_into_nothing_is_told_and_not_offered() -> None:
    readings = Machine(FakeNvml([Card(instances=-1), Card()])).read()
    assert [gpu.uuid for gpu in readings.gpus] == ["GPU-1"]
    assert str(readings.gpu_problem).startswith("GPU 0: it is partitioned (MIG) but has no usable instance")


def test_who_needs_no_gpu_does_not_ask_the_driver() -> None:
    nvml = FakeNvml([Card()])
    assert Machine(nvml).read(gpus=False).gpus == () and nvml.inits == 0


def test_the_memory_of_a_process_and_of_what_it_started_is_one_number() -> None:
    own = host.tree_rss_mib(OURS)
    assert own > 10 and host.tree_rss_mib(os.getppid()) >= own // 2
    assert host.is_below(OURS, os.getppid()) and not host.is_below(os.getppid(), OURS)


def test_a_driver_without_a_gpu_says_so() -> None:
    assert "no NVIDIA GPU was found" in str(Machine(FakeNvml()).read().gpu_problem)


def test_a_gpu_without_memory_of_its_own_shares_the_machines() -> None:
    (gpu,) = Machine(FakeNvml([Card(memory_error=3)])).read().gpus
    assert gpu.shared and gpu.total_mib == host.memory_mib()[0]


def test_a_driver_that_does_not_know_the_second_form_of_memory_is_asked_in_the_first() -> None:
    (gpu,) = Machine(FakeNvml([Card(memory_error=25, only_v2=True)])).read().gpus
    assert (gpu.free_mib, gpu.shared) == (20_000, False)


def test_a_driver_that_does_not_say_who_holds_memory_is_no_failure() -> None:
    (gpu,) = Machine(FakeNvml([Card(processes_error=4)])).read().gpus
    assert gpu.processes == ()


def test_a_gpu_that_is_lost_later_is_not_called_absent() -> None:
    nvml = FakeNvml([Card()])
    reader = Machine(nvml)
    assert reader.read().gpus
    nvml.error = 12
    reader._latest_at -= 2  # the cache has aged
    readings = reader.read()
    assert readings.gpu_problem and not readings.gpu_absent


def test_the_driver_is_asked_once_a_second_at_most() -> None:
    nvml = FakeNvml([Card()])
    reader = Machine(nvml)
    for _ in range(5):
        reader.read()
    assert nvml.inits == 1


def test_a_driver_that_hangs_is_told_and_not_waited_for_again() -> None:
    nvml = FakeNvml([Card()], hang=threading.Event())
    reader = Machine(nvml, deadline=0.1)
    assert "has not answered for" in str(reader.read().gpu_problem)
    began = time.monotonic()
    reader.read()
    assert time.monotonic() - began < 0.09 and nvml.inits == 1
    assert nvml.hang is not None
    nvml.hang.set()
    assert reader._asking is not None
    reader._asking.join(10)
    assert reader.read().gpus


def test_this_machine_is_read_without_a_fault(tmp_path: Path) -> None:
    readings = machine.read([tmp_path, tmp_path / "not" / "yet", Path("/proc")])
    assert 0 < readings.ram_available_mib <= readings.ram_total_mib
    assert readings.cpu_count >= 1 and readings.cpu_model
    assert readings.disk_totals[tmp_path] >= readings.disks[tmp_path]
    assert readings.disks[tmp_path] == pytest.approx(readings.disks[tmp_path / "not" / "yet"], abs=64)
    assert readings.gpus or readings.gpu_problem


def fake_proc(tmp_path: Path, total_mib: int, available_mib: int, group: str = "/") -> tuple[Path, Path]:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: {total_mib << 10} kB\nMemAvailable: {available_mib << 10} kB\n")
    (proc / "self" / "cgroup").write_text(f"0::{group}\n")
    cgroup.mkdir()
    return proc, cgroup


def limited(folder: Path, limit: str, current_mib: int, cache_mib: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current_mib << 20}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache_mib << 20}\n")


def test_memory_is_the_machines_where_no_group_limits_it(tmp_path: Path) -> None:
    proc, cgroup = fake_proc(tmp_path, 8000, 5000, "/system.slice/heygemd.service")
    limited(cgroup / "system.slice" / "heygemd.service", "max", 100, 0)
    assert host.memory_mib(proc, cgroup) == (8000, 5000)


def test_the_tightest_control_group_limits_memory_and_its_page_cache_counts_as_free(tmp_path: Path) -> None:
    proc, cgroup = fake_proc(tmp_path, 8000, 5000, "/a/b")
    limited(cgroup / "a", str(3000 << 20), 2000, 500)
    limited(cgroup / "a" / "b", str(4000 << 20), 100, 0)
    assert host.memory_mib(proc, cgroup) == (3000, 1500)


def test_a_processor_without_a_name_is_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor: 0\n")
    assert host.cpu_model(tmp_path / "cpuinfo") == os.uname().machine


def test_a_disk_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert host.disk_free_mib(tmp_path / "file" / "below") is None
