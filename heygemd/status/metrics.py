"""The daemon's figures for Prometheus: names, help texts and where they come from.  Pure.

No label holds what people type: lines come from the configuration, engines, states, reasons and causes from closed
sets.  ``systemd/examples/heygemd-alerts.yml`` has rules that go by these names.  The daemon imports this module, and
with it ``prometheus_client``, only if [metrics] asks for figures.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from heygemd import __version__
from heygemd.common.request import ENGINES
from heygemd.status.counters import CAUSES, Tally, known
from heygemd.status.snapshot import Snapshot
from heygemd.store.states import ENDED, JobState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # the newest that every Prometheus reads

_MIB = 1 << 20
_OPEN = tuple(state.value for state in JobState if state not in ENDED)
GAUGE, COUNTER = GaugeMetricFamily, CounterMetricFamily
Family = type[GaugeMetricFamily] | type[CounterMetricFamily]
Key = TypeVar("Key", bound=tuple[str, ...])


class _Collected(Collector):
    """Metrics that were taken before: the library's counters count by themselves, ours are only told."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def to_text(metrics: Iterable[Metric]) -> bytes:
    """The metrics in Prometheus' text format, UTF-8; a metric without a sample is left out."""
    registry = CollectorRegistry()  # one of its own: the usual one also tells of the Python process
    registry.register(_Collected([metric for metric in metrics if metric.samples]))
    return generate_latest(registry)


def figures(now: Snapshot, tally: Tally) -> list[Metric]:
    """All metrics, in the order of the text."""
    return [*_daemon(now), *_jobs(now), *_counted(tally), *_work(tally), *_lines(now), *_disks(now),
            *_gpus(now, tally)]  # fmt: skip


def _one(family: Family, name: str, text: str, value: float) -> Metric:
    """A metric without labels.  Base units are in the name; a counter's ends in _total."""
    return family(name, text, value=value)


def _by(family: Family, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label, a sample for each of its values."""
    return _by_all(family, name, text, [label], {(word,): value for word, value in values.items()})


def _by_all(family: Family, name: str, text: str, labels: Sequence[str], values: Mapping[Key, float]) -> Metric:
    """A metric with several labels; a key of ``values`` has the labels' values in their order."""
    metric = family(name, text, labels=labels)
    for words, value in values.items():
        # A name from a driver may hold what is no UTF-8.
        metric.add_metric([word.encode("utf-8", "backslashreplace").decode() for word in words], value)
    return metric


def _daemon(now: Snapshot) -> list[Metric]:
    build = {(__version__, platform.python_version()): 1}
    return [
        _by_all(
            GAUGE, "heygemd_build_info", "Always 1; the labels give the running version.",
            ["version", "python"], build,
        ),
        _one(GAUGE, "heygemd_up", "1 while the daemon runs, 0 after a clean stop.", now.up),
        _one(
            GAUGE, "heygemd_alive_timestamp_seconds", "Time of these measurements.", round(now.at, 3)
        ),
        _one(
            GAUGE, "heygemd_start_timestamp_seconds", "Start time of the daemon.",
            round(now.started, 3),
        ),
        _one(GAUGE, "heygemd_paused", "1 while jobs are paused by 'heygemd pause'.", now.paused),
        _one(
            GAUGE, "heygemd_last_progress_timestamp_seconds",
            "Time of the last progress of a renderer or change of a job.", round(now.progress, 3),
        ),
    ]  # fmt: skip


def _jobs(now: Snapshot) -> list[Metric]:
    jobs: Counter[tuple[str, str]] = Counter({(state, engine): 0 for state in _OPEN for engine in ENGINES})
    for (state, engine), count in now.unfinished.items():
        jobs[state, known(engine, ENGINES)] += count
    deferred = {cause: now.deferred.get(cause, 0) for cause in CAUSES}
    return [
        _by_all(GAUGE, "heygemd_jobs", "Unfinished jobs by state and engine.", ["state", "engine"], jobs),
        _by(
            GAUGE, "heygemd_jobs_deferred", "Queued jobs that must wait, by cause.",
            "cause", deferred,
        ),
        _one(
            GAUGE, "heygemd_queue_age_seconds", "Age of the oldest queued job.",
            now.queue_age,
        ),
    ]  # fmt: skip


def _counted(tally: Tally) -> list[Metric]:
    deferred = _rounded(tally.deferred)
    return [
        _by_all(
            COUNTER, "heygemd_jobs_ended_total", "Jobs that ended, by outcome and engine.",
            ["outcome", "engine"], tally.ended,
        ),
        _by(
            COUNTER, "heygemd_job_failures_total", "Jobs that failed, by reason.", "reason", tally.reasons
        ),
        _one(
            COUNTER, "heygemd_jobs_begun_anew_total",
            "Jobs queued again because the renderer or the daemon died.", tally.begun_anew,
        ),
        _by(COUNTER, "heygemd_films_total", "Films delivered, by measured grade.", "grade", tally.grades),
        _one(
            COUNTER, "heygemd_films_held_total", "Delivered films that were held in review/.", tally.held
        ),
        _by(
            COUNTER, "heygemd_deferred_seconds_total",
            "Total waiting time of jobs, by cause.", "cause", deferred,
        ),
    ]  # fmt: skip


def _work(tally: Tally) -> list[Metric]:
    stages = {k: round(v, 3) for k, v in sorted(tally.stage_seconds.items())}
    return [
        _by(
            COUNTER, "heygemd_film_seconds_total", "Total length of the films made.", "engine",
            _rounded(tally.film_seconds),
        ),
        _by(
            COUNTER, "heygemd_work_seconds_total",
            "Total time from the start of a job to its verified film.", "engine",
            _rounded(tally.work_seconds),
        ),
        _by_all(
            COUNTER, "heygemd_stage_seconds_total", "Total time spent in each rendering stage.",
            ["stage", "engine"], stages,
        ),
        _by(
            GAUGE, "heygemd_film_speed_ratio",
            "Seconds of film made per second, for the last film (1: real time).", "engine", _rounded(tally.speed),
        ),
    ]  # fmt: skip


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in values.items()}


def _lines(now: Snapshot) -> list[Metric]:
    def of(name: str, text: str, values: Mapping[str, float]) -> Metric:
        return _by(GAUGE, name, text, "line", values)

    free = {line.name: line.outbox_free_mib * _MIB for line in now.lines if line.outbox_free_mib is not None}
    return [
        of("heygemd_line_reachable", "1 while the line's folders are reachable.",
           {line.name: line.reachable for line in now.lines}),
        of("heygemd_line_full", "1 while a finished film does not fit into the line's outbox.",
           {line.name: line.full for line in now.lines}),
        of("heygemd_line_waiting_files", "Entries in the line's inbox that are not taken yet.",
           {line.name: line.waiting for line in now.lines}),
        of("heygemd_line_outbox_free_bytes", "Free space of the line's outbox.", free),
    ]  # fmt: skip


def _disks(now: Snapshot) -> list[Metric]:
    free = {place: mib * _MIB for place, mib in now.disks.items()}
    return [
        _by(
            GAUGE, "heygemd_disk_free_bytes", "Free disk space, by purpose of the disk.",
            "place", free,
        ),
        _one(
            GAUGE, "heygemd_disk_reserve_bytes", "Disk space that must stay free for a job to start.",
            now.free_disk_mib * _MIB,
        ),
    ]  # fmt: skip


def _gpus(now: Snapshot, tally: Tally) -> list[Metric]:
    def of(name: str, text: str, values: Mapping[str, float]) -> Metric:
        return _by(GAUGE, name, text, "gpu", values)

    gpus = now.gpus
    at = [_one(GAUGE, "heygemd_gpu_read_timestamp_seconds",
               "Time of the last GPU reading; GPUs are read only while a job needs one.", round(now.gpus_at, 3))
          ] if now.gpus_at is not None else []  # fmt: skip
    names = {(gpu.uuid, gpu.name, gpu.driver): 1.0 for gpu in gpus}
    heat = {gpu.uuid: gpu.celsius for gpu in gpus if gpu.celsius is not None}
    busy = {gpu.uuid: gpu.utilisation / 100 for gpu in gpus if gpu.utilisation is not None}
    return [
        _one(GAUGE, "heygemd_gpu_problem", "1 while a required GPU cannot be read.",
             now.gpu_problem),
        *at,
        _by_all(GAUGE, "heygemd_gpu_info", "Always 1; the labels identify the GPU.",
                ["gpu", "name", "driver"], names),
        of("heygemd_gpu_memory_size_bytes", "Total GPU memory.", {g.uuid: g.total_mib * _MIB for g in gpus}),
        of("heygemd_gpu_memory_used_bytes", "GPU memory in use.", {g.uuid: g.used_mib * _MIB for g in gpus}),
        of("heygemd_gpu_memory_free_bytes", "GPU memory available to jobs, including the idle renderer's.",
           {g.uuid: g.free_mib * _MIB for g in gpus}),
        of("heygemd_gpu_memory_peak_bytes", "Highest GPU memory use since the daemon started.",
           {uuid: mib * _MIB for uuid, mib in tally.gpu_peak.items()}),
        of("heygemd_gpu_busy_ratio", "GPU utilisation over about the last second.", busy),
        of("heygemd_gpu_temperature_celsius", "GPU temperature.", heat),
    ]  # fmt: skip
