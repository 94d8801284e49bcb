"""The daemon's figures for Prometheus: what they are called, what they mean, where they come from.  Pure.

No label holds what people type: lines come from the configuration, engines, states, reasons and causes from closed
sets.  ``systemd/examples/heygemd-alerts.yml`` has rules that go by these names.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heygemd import __version__
from heygemd.config.tables import ENGINES
from heygemd.guard.readings import Gpu
from heygemd.status.counters import CAUSES, Tally, known
from heygemd.status.exposition import Metric, by, one
from heygemd.store.states import ENDED, JobState

_MIB = 1 << 20
_OPEN = tuple(state.value for state in JobState if state not in ENDED)


@dataclass(frozen=True, slots=True)
class LineSeen:
    """A line as it is now; ``outbox_free_mib`` is ``None`` where its share has not said."""

    name: str
    reachable: bool
    full: bool
    waiting: int  #: files in the inbox that are not taken yet
    outbox_free_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The daemon at one moment; stamps are Unix times.

    ``unfinished``: how many jobs by (state, engine).  ``deferred``: how many queued ones wait, by cause.  ``disks``:
    free MiB by what the disk is for.  ``gpus`` as the guard saw them last, at ``gpus_at``.
    """

    up: bool
    at: float
    started: float
    progress: float
    paused: bool = False
    unfinished: Mapping[tuple[str, str], int] = field(default_factory=dict)
    deferred: Mapping[str, int] = field(default_factory=dict)
    queue_age: float = 0.0
    lines: Sequence[LineSeen] = ()
    disks: Mapping[str, int] = field(default_factory=dict)
    free_disk_mib: int = 0
    gpus: Sequence[Gpu] = ()
    gpus_at: float | None = None
    gpu_problem: bool = False


def figures(seen: Seen, tally: Tally) -> list[Metric]:
    """All metrics, in the order in which they are told."""
    return [*_daemon(seen), *_jobs(seen), *_counted(tally), *_work(tally), *_lines(seen), *_disks(seen),
            *_gpus(seen, tally)]  # fmt: skip


def _daemon(seen: Seen) -> list[Metric]:
    build = {"version": __version__, "python": platform.python_version()}
    return [
        Metric("heygemd_build_info", "gauge", "Always 1; the labels give the running version.", ((build, 1),)),
        one("heygemd_up", "gauge", "1 while the daemon runs, 0 after a clean stop.", seen.up),
        one("heygemd_alive_timestamp_seconds", "gauge", "Time of these measurements.", round(seen.at, 3)),
        one("heygemd_start_timestamp_seconds", "gauge", "Start time of the daemon.", round(seen.started, 3)),
        one("heygemd_paused", "gauge", "1 while jobs are paused by 'heygemd pause'.", seen.paused),
        one(
            "heygemd_last_progress_timestamp_seconds", "gauge",
            "Time of the last progress of a renderer or change of a job.", round(seen.progress, 3),
        ),
    ]  # fmt: skip


def _jobs(seen: Seen) -> list[Metric]:
    jobs: Counter[tuple[str, str]] = Counter({(state, engine): 0 for state in _OPEN for engine in ENGINES})
    for (state, engine), count in seen.unfinished.items():
        jobs[state, known(engine, ENGINES)] += count
    deferred = dict.fromkeys(CAUSES, 0) | {cause: seen.deferred.get(cause, 0) for cause in CAUSES}
    return [
        Metric(
            "heygemd_jobs", "gauge", "Unfinished jobs by state and engine.",
            tuple(({"state": state, "engine": engine}, count) for (state, engine), count in jobs.items()),
        ),
        by("heygemd_jobs_deferred", "gauge", "Queued jobs that must wait, by cause.", "cause", deferred),
        one("heygemd_queue_age_seconds", "gauge", "Age of the oldest queued job.", seen.queue_age),
    ]  # fmt: skip


def _counted(tally: Tally) -> list[Metric]:
    ended = tuple(({"outcome": what, "engine": engine}, count) for (what, engine), count in tally.ended.items())
    return [
        Metric("heygemd_jobs_ended_total", "counter", "Jobs that ended, by outcome and engine.", ended),
        by("heygemd_job_failures_total", "counter", "Jobs that failed, by reason.", "reason", tally.reasons),
        one(
            "heygemd_jobs_begun_anew_total", "counter",
            "Jobs queued again because the renderer or the daemon died.", tally.begun_anew,
        ),
        by("heygemd_films_total", "counter", "Films delivered, by measured grade.", "grade", tally.grades),
        one("heygemd_films_held_total", "counter", "Delivered films that were held in review/.", tally.held),
        by(
            "heygemd_deferred_seconds_total", "counter", "Total waiting time of jobs, by cause.",
            "cause", {cause: round(seconds, 3) for cause, seconds in tally.deferred.items()},
        ),
    ]  # fmt: skip


def _work(tally: Tally) -> list[Metric]:
    stages = tuple(
        ({"stage": stage, "engine": engine}, round(seconds, 3))
        for (stage, engine), seconds in sorted(tally.stage_seconds.items())
    )
    return [
        by(
            "heygemd_film_seconds_total", "counter", "Total length of the films made.", "engine",
            _rounded(tally.film_seconds),
        ),
        by(
            "heygemd_work_seconds_total", "counter",
            "Total time from the start of a job to its verified film.", "engine",
            _rounded(tally.work_seconds),
        ),
        Metric("heygemd_stage_seconds_total", "counter", "Total time spent in each rendering stage.", stages),
        by(
            "heygemd_film_speed_ratio", "gauge", "Seconds of film made per second, for the last film (1: real time).",
            "engine", _rounded(tally.speed),
        ),
    ]  # fmt: skip


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in values.items()}


def _lines(seen: Seen) -> list[Metric]:
    free = {line.name: line.outbox_free_mib * _MIB for line in seen.lines if line.outbox_free_mib is not None}
    return [
        by("heygemd_line_reachable", "gauge", "1 while the line's folders are reachable.", "line",
           {line.name: line.reachable for line in seen.lines}),
        by("heygemd_line_full", "gauge", "1 while a finished film does not fit into the line's outbox.", "line",
           {line.name: line.full for line in seen.lines}),
        by("heygemd_line_waiting_files", "gauge", "Entries in the line's inbox that are not taken yet.", "line",
           {line.name: line.waiting for line in seen.lines}),
        by("heygemd_line_outbox_free_bytes", "gauge", "Free space of the line's outbox.", "line", free),
    ]  # fmt: skip


def _disks(seen: Seen) -> list[Metric]:
    free = {place: mib * _MIB for place, mib in seen.disks.items()}
    return [
        by("heygemd_disk_free_bytes", "gauge", "Free disk space, by purpose of the disk.", "place", free),
        one("heygemd_disk_reserve_bytes", "gauge", "Disk space that must stay free for a job to start.",
            seen.free_disk_mib * _MIB),
    ]  # fmt: skip


def _gpus(seen: Seen, tally: Tally) -> list[Metric]:
    def of(name: str, text: str, values: Mapping[str, float]) -> Metric:
        return by(name, "gauge", text, "gpu", values)

    gpus = seen.gpus
    at = [one("heygemd_gpu_read_timestamp_seconds", "gauge",
              "Time of the last GPU reading; GPUs are read only while a job needs one.", round(seen.gpus_at, 3))
          ] if seen.gpus_at is not None else []  # fmt: skip
    names = tuple(({"gpu": gpu.uuid, "name": gpu.name, "driver": gpu.driver}, 1.0) for gpu in gpus)
    heat = {gpu.uuid: gpu.celsius for gpu in gpus if gpu.celsius is not None}
    busy = {gpu.uuid: gpu.utilisation / 100 for gpu in gpus if gpu.utilisation is not None}
    return [
        one("heygemd_gpu_problem", "gauge", "1 while a required GPU cannot be read.", seen.gpu_problem),
        *at,
        Metric("heygemd_gpu_info", "gauge", "Always 1; the labels identify the GPU.", names),
        of("heygemd_gpu_memory_size_bytes", "Total GPU memory.", {g.uuid: g.total_mib * _MIB for g in gpus}),
        of("heygemd_gpu_memory_used_bytes", "GPU memory in use.", {g.uuid: g.used_mib * _MIB for g in gpus}),
        of("heygemd_gpu_memory_free_bytes", "GPU memory available to jobs, including the idle renderer's.",
           {g.uuid: g.free_mib * _MIB for g in gpus}),
        of("heygemd_gpu_memory_peak_bytes", "Highest GPU memory use since the daemon started.",
           {uuid: mib * _MIB for uuid, mib in tally.gpu_peak.items()}),
        of("heygemd_gpu_busy_ratio", "GPU utilisation over about the last second.", busy),
        of("heygemd_gpu_temperature_celsius", "GPU temperature.", heat),
    ]  # fmt: skip
