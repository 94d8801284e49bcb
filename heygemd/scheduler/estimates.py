"""What a queued job will take of memory, disks and GPUs: from tables, and from what earlier jobs took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from heygemd.config.live import Live
from heygemd.config.render_settings import settings_for
from heygemd.config.whole import Config
from heygemd.contract.job import Settings
from heygemd.guard import needs
from heygemd.guard.decide import Need, Way
from heygemd.guard.devices import Devices, TorchBuild
from heygemd.guard.needs import Asked, Peak
from heygemd.guard.readings import Readings
from heygemd.store.drops import DropStore, Job, Journal

SIZES_KEPT = 10_000  # of inputs, by job
_DEVICE_TABLES = ("guard", "render", "command", "limits", "wav2lip")


class EngineDevices:
    """Where each engine runs; decided again only when a table of the configuration that bears on it has changed."""

    def __init__(self, live: Live, reader: Callable[..., Readings], torch: TorchBuild | None) -> None:
        """``reader`` reads the machine, with ``gpus=`` whether the driver is worth asking."""
        self._live, self._reader, self._torch = live, reader, torch
        self._config = live.now
        self._devices = self._chosen()

    @property
    def now(self) -> Devices:
        """The devices by the configuration in force."""
        old, self._config = self._config, self._live.now
        tables_differ = any(getattr(old, table) != getattr(self._config, table) for table in _DEVICE_TABLES)
        if tables_differ or _engines(old) != _engines(self._config):
            self._devices = self._chosen()
        return self._devices

    def _chosen(self) -> Devices:
        devices = Devices(self._config, self._torch)
        devices.choose(self._reader(gpus=devices.gpu_matters))
        return devices


def _engines(config: Config) -> set[str]:
    """The engines that lines allow: one that a reload adds gets a device too."""
    return {engine for line in config.lines for engine in line.allowed_engines}


class Estimates:
    """Needs of jobs, in MiB."""

    def __init__(
        self, live: Live, journal: Journal, store: DropStore, devices: EngineDevices, frame_of: Callable[[str], str]
    ) -> None:
        """``frame_of``: a job's frame size class as far as it is known, by the job's id."""
        self._live, self._journal, self._store = live, journal, store
        self._devices, self._frame_of = devices, frame_of
        self._state = live.now.daemon.state_dir  # journal and cache, which may be on a disk of their own
        self._sizes: dict[str, tuple[int, int]] = {}  # by job
        self._too_large: dict[str, int] = {}  # by job, the batch size that was too large for it
        self._peaks = journal.peaks()

    def engine(self, job: Job) -> str:
        """The engine that makes the job's film."""
        return job.request.options.engine or self._live.now.render.engine

    def settings(self, job: Job) -> Settings:
        """The renderer's settings, with the device that was chosen for the engine."""
        settings = settings_for(self._live.now, job.request.options)
        return replace(settings, device=self._devices.now.of(settings.engine))

    def shared_folders(self, engine: str) -> tuple[Path, ...]:
        """The folders outside of line and state that an engine's jobs fill, if any."""
        shared = self._live.now.duix.shared
        return (shared,) if engine == "duix" and shared != Path() else ()

    def asked(self, job: Job) -> Asked:
        """What is known of the job before it runs."""
        return self._devices.now.asked(self.engine(job), self._frame_of(job.id))

    def need(self, job: Job, line: str, readings: Readings) -> Need:
        """All that the job needs, disks included; ``line`` is the name of its line."""
        need = self._need(self.asked(job), readings, self._disk(job, line))
        return needs.smaller_ways(need, self._too_large[job.id]) if job.id in self._too_large else need

    def memory_need(self, asked: Asked, readings: Readings) -> Need:
        """The same without its disks."""
        return self._need(asked, readings, {})

    def encoder_need(self, asked: Asked, readings: Readings) -> Need:
        """What encoding the film on a GPU needs there, and nothing else."""
        return Need(self.memory_need(replace(asked, nvenc=True), readings).ways)

    def work_mib(self, need: Need) -> int:
        """What of a need is written to the work folder's disk."""
        return need.disk_mib.get(self._store.work, 0)

    def learn(self, peak: Peak) -> None:
        """Remember what a job took."""
        self._journal.add_peak(peak)
        self._peaks = self._journal.peaks()

    def overrun(self, job: Job, asked: Asked, way: Way) -> None:
        """The job took more GPU memory than this way of doing it was believed to need."""
        self.learn(needs.overrun(asked, way))
        self._too_large[job.id] = way.batch_size

    def forget_overrun(self, job: Job) -> None:
        """The job's film is made."""
        self._too_large.pop(job.id, None)

    def _need(self, asked: Asked, readings: Readings, disk: Mapping[Path, int]) -> Need:
        config = self._live.now
        return needs.need(asked, config.command, self._peaks, readings, config.limits.free_ram_mib, disk)

    def _disk(self, job: Job, line: str) -> dict[Path, int]:
        """MiB by folder."""
        audio, video = self._bytes(job)
        assert job.request.audio is not None and job.request.video is not None
        work, film = needs.disk_needs((job.request.audio.path, audio), (job.request.video.path, video))
        parts = needs.duix_mib((job.request.audio.path, audio), self._live.now.duix.part_seconds)
        shared = {path: _coarse(parts) for path in self.shared_folders(self.engine(job))}
        work += parts if shared else 0
        outbox = self._store.lines[line].outbox
        return {self._state: 0, self._store.work: _coarse(work), outbox: _coarse(film), **shared}

    def _bytes(self, job: Job) -> tuple[int, int]:
        if job.id not in self._sizes:
            if len(self._sizes) > SIZES_KEPT:
                self._sizes.clear()
            self._sizes[job.id] = self._store.input_bytes(job)
        return self._sizes[job.id]


def _coarse(mib: int) -> int:
    """Rounded up to 16 MiB or an eighth of its size, so that similar jobs have equal needs."""
    step = max(16, 1 << max(mib.bit_length() - 3, 0))
    return -(-mib // step) * step
