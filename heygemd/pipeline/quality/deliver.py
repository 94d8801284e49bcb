"""The measuring of a film that was just made: its figures for the log, its page beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heygemd.common.errors import EngineError
from heygemd.common.messages import explain
from heygemd.common.names import display
from heygemd.contract.figures import Figures, PagedReport, Report, SyncFigures
from heygemd.contract.job import Settings, Task, Tell
from heygemd.pipeline import quality
from heygemd.pipeline.quality import foreign, page, views

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from heygemd.pipeline.engines import DrawingPlan
    from heygemd.pipeline.face.track import FaceTrack
    from heygemd.pipeline.marking.label import Label
    from heygemd.pipeline.media import Clip
    from heygemd.pipeline.result import Stages

PAGE = "report.html"


def judge(
    task: Task, film: Path, clip: Clip, track: FaceTrack, order: npt.NDArray[np.int64], plan: DrawingPlan,
    label: Label | None, engine: str, stages: Stages,
) -> Report | None:  # fmt: skip
    """Measure a film whose track and plan are known; its page is ``task.work / PAGE``.  ``None``: not asked for."""
    if task.settings.report == "off":
        return None
    with stages("report", len(order)):
        known = quality.Known(
            track.transforms[order], track.usable[order], track, track, clip, order, plan.region,
            list(plan.passed_through), label=label,
        )  # fmt: skip
        figures, evidence = quality.report(film, known, task.settings, stages.tell)
        if engine == "wav2lip":
            figures = offered(figures, task.settings.wav2lip.av_offset_ms)
        return _paged(task, figures, evidence, known.passed_through, engine, stages.tell)


def offered(figures: Figures, used: float) -> Figures:
    """With ``av_offset_ms`` among the figures of mouth against sound, where they are sure: what [wav2lip] would have
    to say instead of ``used`` for the mouth to be in time."""
    sync = figures.get("sync", {})
    offset = sync.get("offset_ms")
    if sync.get("confidence") != "high" or offset is None:
        return figures
    in_time: SyncFigures = {**sync, "av_offset_ms": round(used - offset)}
    return {**figures, "sync": in_time}


def judge_foreign(task: Task, film: Path, engine: str, stages: Stages) -> Report | None:
    """The same of a film that a program of the operator's has made: the face is looked for again."""
    if task.settings.report == "off":
        return None
    with stages("report"):
        figures, evidence = foreign.report(film, task.video, task.audio, task.settings, stages.tell)
        return _paged(task, figures, evidence, [], engine, stages.tell)


def any_film(film: Path, video: Path | None, audio: Path | None, settings: Settings, tell: Tell) -> PagedReport:
    """Measure a film of which nothing is known, for ``heygemd report``; ``page`` in the result is the page's text."""
    figures, evidence = foreign.report(film, video, audio, settings, tell)
    names = display(video.name if video else film.name), display(audio.name if audio else film.name)
    text = page_of(figures, evidence, [], names, "?", settings.language)
    return {**figures, "reasons": explain(figures["reasons"], settings.language), "page": text}


def page_of(
    figures: Figures, evidence: quality.Evidence | None, passed: list[tuple[int, int]], names: tuple[str, str],
    engine: str, language: str,
) -> str:  # fmt: skip
    """The page; ``names`` of video and audio.  Raises ``EngineError`` where a picture cannot be drawn."""
    shown = views.of(evidence, passed) if evidence is not None else page.ReportViews()
    return page.page(figures, shown, *names, engine, language)


def _paged(
    task: Task, figures: Figures, evidence: quality.Evidence | None, passed: list[tuple[int, int]], engine: str,
    tell: Tell,
) -> Report:  # fmt: skip
    names = task.video_name, task.audio_name
    try:
        text = page_of(figures, evidence, passed, names, engine, task.settings.language)
        (task.work / PAGE).write_text(text, encoding="utf-8", errors="backslashreplace")
    except (OSError, EngineError) as error:
        tell.event("report_page_failed", level="warning", problem=str(error))
    return {**figures, "reasons": explain(figures["reasons"])}
