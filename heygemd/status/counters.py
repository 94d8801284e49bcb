"""Counters since the daemon's start: every change of a job passes here.

The counts begin at 0 with each start, as Prometheus expects of counters.  Their labels come from closed sets and are
there from the beginning, so that a rate also sees the first failure of its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from heygemd.common.request import ENGINES
from heygemd.store.states import ENDED, Job, JobState

OTHER = "other"
REASONS = (
    "bad_model", "bad_rate", "bad_size", "crop", "empty_audio", "empty_file", "engine", "engine_away", "face_too_small",
    "gpu_memory", "input", "interrupted", "missing", "no_audio", "no_face", "no_video", "not_a_file", "not_media",
    "not_regular", "request", "setup", "size_differs", "storage", "suffix", "truncated", "undecodable", "unreadable",
    "worker", OTHER,
)  # fmt: skip
"""Why jobs fail: the reasons of ``InputError`` and the codes of the other errors."""
CAUSES = (
    "disk", "engine_away", "gpu_hot", "gpu_memory", "gpu_problem", "gpu_reserved", "memory", "quiet_hours", "share",
    OTHER,
)  # fmt: skip
"""What jobs wait for: the kinds of ``guard.Wait``, and a share that did not give a job's inputs."""
GRADES = ("good", "fair", "poor", "unmeasured")
OUTCOMES = tuple(sorted(state.value for state in ENDED))
STAGES = (
    "probe", "audio", "template", "face", "lips", "plan", "render", "command", "duix", "label", "verify", "report",
    OTHER,
)  # fmt: skip


def known(word: str | None, among: tuple[str, ...]) -> str:
    """``word`` if it is one of these, else ``other``: no label may grow without bound."""
    return word if word in among else OTHER


class Tally:
    """The counters."""

    def __init__(self) -> None:
        self.ended = Counter({(outcome, engine): 0 for outcome in OUTCOMES for engine in ENGINES})
        self.reasons = Counter(dict.fromkeys(REASONS, 0))
        self.grades = Counter(dict.fromkeys(GRADES, 0))
        self.held = self.begun_anew = 0
        self.film_seconds: dict[str, float] = dict.fromkeys(ENGINES, 0.0)  #: of film, by engine
        self.work_seconds: dict[str, float] = dict.fromkeys(ENGINES, 0.0)  #: that making it took
        self.stage_seconds: dict[tuple[str, str], float] = {}  #: by (stage, engine)
        self.speed: dict[str, float] = {}  #: seconds of film in a second of work, of the last film
        self.deferred: dict[str, float] = dict.fromkeys(CAUSES, 0.0)  #: seconds that jobs have waited, by cause
        self.gpu_peak: dict[str, int] = {}  #: MiB, by UUID

    def changed(self, before: Job, after: Job, engine: str) -> None:
        """A job has changed; ``engine`` is the one that makes it."""
        if after.state is before.state:
            return
        engine = known(engine, ENGINES)
        if after.state in ENDED:
            self.ended[after.state.value, engine] += 1
        if after.state is JobState.FAILED:
            self.reasons[known(after.reason_code, REASONS)] += 1
        elif after.state is JobState.RENDERED and before.state is JobState.RUNNING:
            self._rendered(after, engine)
        elif after.state is JobState.DELIVERED:
            result = after.result or {}
            self.grades[(result.get("quality") or {}).get("grade") or "unmeasured"] += 1
            self.held += bool(result.get("held"))
        elif before.state is JobState.RUNNING and after.state is JobState.QUEUED:
            self.begun_anew += after.attempts == before.attempts  # an attempt is burned: its worker has died

    def _rendered(self, job: Job, engine: str) -> None:
        result = job.result or {}
        for stage in result.get("stages", []):
            key = known(stage.get("name"), STAGES), engine
            self.stage_seconds[key] = self.stage_seconds.get(key, 0.0) + float(stage.get("seconds") or 0)
        film, work = float((result.get("output") or {}).get("seconds") or 0), _seconds(job)
        self.film_seconds[engine] = self.film_seconds.get(engine, 0.0) + film
        self.work_seconds[engine] = self.work_seconds.get(engine, 0.0) + work
        if film and work:
            self.speed[engine] = film / work

    def waited(self, waiting: Mapping[str, int], seconds: float) -> None:
        """Add this waiting time for ``waiting`` jobs of each cause."""
        for cause, jobs in waiting.items():
            self.deferred[cause] += jobs * seconds

    def saw_gpu(self, uuid: str, used_mib: int) -> None:
        """Record this GPU memory use."""
        self.gpu_peak[uuid] = max(used_mib, self.gpu_peak.get(uuid, 0))


def _seconds(job: Job) -> float:
    """Time from a job's last start to its verified film; 0 if unknown."""
    rendered = (job.result or {}).get("rendered")
    if not rendered or not job.started:
        return 0.0
    return max((datetime.fromisoformat(rendered) - datetime.fromisoformat(job.started)).total_seconds(), 0.0)
