"""How a film is made: ``lipsync`` reads from top to bottom, everything else is a footnote to it.

This package is what the child process runs (``python -m heygemd.pipeline``) and the only one, beside ``training``, that
loads heavy libraries.  They are imported where they are first needed, because the child must answer at once and a probe
or the operator's command takes none of them.

May import: common, contract, models.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from heygemd.contract.job import Settings, Task, Tell
    from heygemd.pipeline.engines import DrawingEngine
    from heygemd.pipeline.marking.label import Label
    from heygemd.pipeline.media import Encoded, Media, Packets, Samples, Segment
    from heygemd.pipeline.plan_file import Planned
    from heygemd.pipeline.result import Result, Stages
    from heygemd.pipeline.speech.lips import LipTrack

T = TypeVar("T")
_TELL_SECONDS = 1.0


def lipsync(task: Task, tell: Tell) -> Result:
    """Make the person in ``task.video`` speak ``task.audio``; the film is ``task.work / "film.mp4"``.

    Raises ``InputError`` where the user's files are at fault, ``EngineError`` where the film could not be made or
    is not what it should be, ``SetupError`` where this machine lacks something.  No film is left behind then.
    """
    from heygemd.pipeline.media.info import from_exact
    from heygemd.pipeline.result import Stages

    settings, stages = task.settings, Stages(tell)
    with stages("probe"):
        if task.probed is None:
            audio, video = look(task.audio, task.audio_name, task.video, task.video_name, settings)
        else:
            audio, video = map(from_exact, (task.probed.audio, task.probed.video))
    if settings.engine in ("command", "duix"):
        result = _film_from_outside(task, audio, video, stages)
        return result if settings.report == "off" else _judged_from_outside(task, result, stages)
    result, made, label = _film(task, audio, video, stages)
    return _judged(task, result, made, label, stages)


def _film_from_outside(task: Task, audio: Media, video: Media, stages: Stages) -> Result:
    """By an engine that makes whole frames itself: the operator's program or a container."""
    if task.settings.engine == "command":
        from heygemd.pipeline.engines import command

        return command.make_film(task, audio, video, stages)
    from heygemd.pipeline.engines.duix import film as duix

    return duix.make_film(task, audio, video, stages)


def _film(task: Task, audio: Media, video: Media, stages: Stages) -> tuple[Result, Planned, Label | None]:
    """By an engine that draws its mouths itself, frame by frame."""
    from heygemd.pipeline import engines, media, plan_file
    from heygemd.pipeline.ffmpeg import give_back
    from heygemd.pipeline.marking import label, metadata
    from heygemd.pipeline.result import Result, advice, clip_warnings

    settings, tell = task.settings, stages.tell
    engine = engines.load(settings.engine)
    made = plan_file.recalled(task, video, engine, stages)  # 1 to 4: made before this job was killed, or ahead
    if made is None:
        made = plan_file.keep(task, engine, _planned(task, audio, video, engine, stages), tell)
        give_back()
    clip, order, plan, track = made.clip, made.order, made.plan, made.track
    silent, whole, film = (task.work / name for name in ("silent.mp4", "whole.mp4", "film.mp4"))
    with stages("render", len(order)):  # 5  the film, in segments; those finished before a death are kept
        words = label.of(settings, clip, len(order))
        segments, decoded = _painted(task, made, engine, words, tell)
        media.join(segments, silent, settings, decoded)
    with stages("verify", len(order)):
        assert audio.audio is not None
        marks = metadata.made(settings, segments[0].key, engine.name) | label.entries(words, settings)
        sound = media.mux(
            silent, task.audio, audio.audio, whole, settings, made.seconds, clip.fps, marks, tell, made.sound
        )
        output = media.verify(whole, len(order), clip.fps, made.seconds, settings, tell, decoded)
    whole.rename(film)
    for part in (silent, *(path for segment in segments for path in (segment.path, segment.receipt))):
        part.unlink()
    warnings = advice(audio, video, task.audio_name, task.video_name) + clip_warnings(clip)
    result = Result(
        film=film,
        engine={"name": engine.name, **plan.facts},
        inputs={"audio": audio.to_json(), "video": video.to_json() | {"clip": clip.facts()}},
        output=output
        | {"encode": media.encode_facts(settings), "sound": sound, "mark": marks.get("AIGC")}
        | {"label": label.facts(words, clip.fps, settings)},
        stages=stages.done,
        face_finder=track.finder,
        warnings=[*warnings, *track.warnings, *plan.warnings],
        passed_through=plan.passed_through,
    )
    return result, made, words


def _planned(task: Task, audio: Media, video: Media, engine: DrawingEngine, stages: Stages) -> Planned:
    """Steps 1 to 4.  The memory that they need beside the plan is freed when this returns: much, for a long sound."""
    from heygemd.pipeline import media, template_cache
    from heygemd.pipeline.face import detect
    from heygemd.pipeline.face.track import thinned, track
    from heygemd.pipeline.plan_file import Planned

    settings, tell, name = task.settings, stages.tell, task.video_name
    with ThreadPoolExecutor(1, "lips") as beside, ExitStack() as later:
        known = beside.submit(template_cache.of, task.video, settings, tell)
        with stages("audio"):  # 1  the sound, as it will be heard
            samples = media.sound_of(task.audio, audio, settings, task.audio_name)
            seconds = len(samples) / media.SAMPLE_RATE
        clip = media.template(task.video, video, settings, name, seconds, tell, known.result())
        later.enter_context(clip.keeping_behind())
        later.callback(beside.shutdown, wait=False, cancel_futures=True)  # what a job that fails has not begun
        heard_so_far = [0, 0]
        heard = beside.submit(_heard, samples, settings.ears, heard_so_far)
        own_sound = beside.submit(media.own_sound, clip, video, settings)
        encoded = beside.submit(_encoded, task, audio)
        with stages("face", clip.count):  # 2  frames -> the tracked face
            face = track(clip, detect.choose(settings), settings, name, tell)
            order = media.shown(clip, seconds, settings.extend)
        with stages("lips"):  # 3  sound -> mouth shapes, made beside the above
            lip = _awaited(heard, lambda: tell.progress("lips", *heard_so_far))
            own = _awaited(own_sound, lambda: tell.progress("lips", *heard_so_far))
        with stages("plan", len(order)):  # 4  mouth shapes and face -> what is done to each frame
            own_voice = None if own is None else media.beside_pictures(clip, own)
            plan = engine.plan(clip, face, lip, samples, order, settings, own_voice, tell)
            sound = _awaited(encoded, lambda: tell.progress("plan", len(order), len(order)))
            return Planned(clip, thinned(face), order, plan, seconds, sound=sound)


def _painted(
    task: Task, made: Planned, engine: DrawingEngine, words: Label | None, tell: Tell
) -> tuple[list[Segment], list[Packets]]:
    """The segments of the film, ``words`` over its pictures, and what each of them consists of."""
    from heygemd.pipeline import media, render

    clip, settings = made.clip, task.settings
    tools = (media.choose_encoder(settings), str(made.plan.facts.get("weights", "")), made.track.finder)
    work = render.RenderWork(engine, made.plan, clip, made.order, settings, tell, words)
    at_a_time = render.segments_at_a_time(work)
    easy = clip.easy(made.order)
    segments = media.segments_of(task, made.digest, len(made.order), clip.fps, tools, at_a_time, easy)
    kept = {segment.number for segment in segments if segment.done()}
    if kept:
        tell.event("segments_kept", segments=len(kept), of=len(segments))
    return segments, render.paint(segments, kept, work, at_a_time)


def _judged(task: Task, result: Result, made: Planned, label: Label | None, stages: Stages) -> Result:
    """6  What the finished film was measured to be; the plan, which this needs, is then removed."""
    from heygemd.pipeline import plan_file
    from heygemd.pipeline.quality import deliver

    track, engine = plan_file.whole_track(task, made), task.settings.engine
    quality = deliver.judge(task, result.film, made.clip, track, made.order, made.plan, label, engine, stages)
    plan_file.forget(task.work)
    return replace(result, quality=quality)


def _judged_from_outside(task: Task, result: Result, stages: Stages) -> Result:
    """The same of a film whose track and plan are not known."""
    from heygemd.pipeline.quality import deliver

    return replace(result, quality=deliver.judge_foreign(task, result.film, task.settings.engine, stages))


def plan_ahead(task: Task, tell: Tell) -> bool:
    """Make the plan of a film that is rendered later, so that its first frame follows at once; whether it is there.

    Only of a template that is known: a first look at one takes long, and is made at the job's turn.  Raises as
    ``lipsync``.
    """
    if task.settings.engine != "footage" or task.probed is None:
        return False
    from heygemd.pipeline import engines, media, plan_file
    from heygemd.pipeline.face import detect
    from heygemd.pipeline.face.track import is_known
    from heygemd.pipeline.media.info import from_exact
    from heygemd.pipeline.result import Stages

    engine, stages = engines.load(task.settings.engine), Stages(tell)
    audio, video = map(from_exact, (task.probed.audio, task.probed.video))
    if plan_file.recalled(task, video, engine, stages) is not None:
        return True
    assert audio.audio is not None
    clip = media.template(task.video, video, task.settings, task.video_name, audio.audio.seconds, tell)
    if not is_known(clip, detect.choose(task.settings), task.settings):
        return False
    plan_file.keep(task, engine, _planned(task, audio, video, engine, stages), tell)
    return True


def _heard(samples: Samples, name: str, so_far: list[int]) -> LipTrack:
    """Mouth shapes for a sound by the ears of that ``name``; ``so_far``: frames done, frames in all."""
    from heygemd.pipeline.speech import ears

    def count(done: int, of: int) -> None:
        so_far[:] = done, of

    return ears.named(name)(samples, count)


def _awaited(one: Future[T], tell: Callable[[], None]) -> T:
    """Its result; ``tell`` gives a sign of life while it is not there."""
    while not wait([one], _TELL_SECONDS).done:
        tell()
    return one.result()


def _encoded(task: Task, audio: Media) -> Encoded | None:
    """The film's sound, where it must be encoded; an error is raised later, when the film is joined."""
    from heygemd.common.errors import EngineError
    from heygemd.pipeline import media

    assert audio.audio is not None
    if audio.audio.codec in media.COPIED:
        return None
    try:
        return media.encode_sound(task.audio, audio.audio, task.work / "sound.m4a", task.settings)
    except EngineError:
        return None


def look(audio: Path, audio_name: str, video: Path, video_name: str, settings: Settings) -> tuple[Media, Media]:
    """What both inputs are.  Raises ``InputError`` where one cannot be used."""
    from heygemd.pipeline import media

    with ThreadPoolExecutor(1, "look") as beside:
        found = beside.submit(media.probe, video, video_name, settings, want="video")
        sound = media.probe(audio, audio_name, settings, want="audio")
        return sound, found.result()
