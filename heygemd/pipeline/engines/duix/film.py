"""A film by a Duix.Avatar container: the template laid out as it will be shown, made in parts, encoded once more.

Each part is sent as pictures and sound of one length, the template's pictures already in the film's order: frame ``k``
shows what ``bounce``, ``loop`` or ``hold`` says of frame ``k``, whatever part it is in, so the template goes on over a
joint as if there were none.  Of what comes back the pictures are used, frame by frame; the sound is the original's.
"""

from __future__ import annotations

import time
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.common.errors import InputError, SetupError
from heygemd.contract.duix_api import Client
from heygemd.contract.duix_folder import Shared
from heygemd.contract.job import Settings, Task, Tell
from heygemd.pipeline import media, result
from heygemd.pipeline.engines.duix import chunks
from heygemd.pipeline.engines.duix.chunks import Chunk
from heygemd.pipeline.engines.duix.submission import ChunkRequest, Submitter, Timeouts, Unfit
from heygemd.pipeline.engines.duix.task_record import TaskRecord
from heygemd.pipeline.marking import label, metadata
from heygemd.pipeline.media.write.segments import content_of, key_of

if TYPE_CHECKING:
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.result import Result, Stages

SENT_CRF = 10  # of the pictures that are sent: better than what the container makes of them (15)
MOST_BYTES, MOST_BYTES_PER_SECOND = 64 << 20, 25_000_000  # of a film that comes back: 200 Mbit/s
MORE_FRAMES = 5  # that a film may have beyond those asked for
ABANDONED_SECONDS = 6 * 3600.0  # after its deadline nobody waits for a task's leavings any more
_SIDE, _SHIFTS = 32, 3  # px of a thumbnail; frames
_ALIKE = 10.0  # grey levels by which most of a film may differ from its template
Thumb = npt.NDArray[np.int16]
"""A frame's luma ``(_SIDE, _SIDE)``."""
_CLEARLY = 0.5  # grey levels, and a quarter, by which another shift must fit better to be believed


def make_film(task: Task, audio: media.Media, video: media.Media, stages: Stages) -> Result:
    """The whole job: ``task.work / "film.mp4"``, verified like any other.

    Raises ``EngineAway`` where the container is busy or not to be reached (what is done is kept), ``EngineError`` where
    it cannot do it, ``SetupError`` where the engine is not configured.
    """
    settings = task.settings
    if not settings.duix.shared:
        raise SetupError('The engine "duix" is not configured.  Cure: set shared in [duix] of config.toml.')
    assert audio.audio is not None and video.video is not None
    with stages("audio"):
        samples = media.sound_of(task.audio, audio, settings, task.audio_name)
        seconds = len(samples) / media.SAMPLE_RATE
    clip = media.template(task.video, video, settings, task.video_name, seconds, stages.tell)
    with stages("template", clip.count):
        clip.learn(stages.tell)
    frames = media.wanted_frames(seconds, clip.fps)
    parts = chunks.divide(samples, clip.fps, frames, settings.duix.part_seconds)
    order = media.output_order(clip.count, parts[-1].made.stop, settings.extend)
    with stages("duix", frames):
        maker = _Maker(task, clip, samples, order, parts, stages.tell)
        maker.make()
    silent, whole, film = (task.work / name for name in ("silent.mp4", "whole.mp4", "film.mp4"))
    media.join(maker.segments, silent, settings)
    with stages("verify", frames):
        marks = metadata.made(settings, maker.segments[0].key, "duix") | label.entries(maker.words, settings)
        sound = media.mux(silent, task.audio, audio.audio, whole, settings, seconds, clip.fps, marks, stages.tell)
        output = media.verify(whole, frames, clip.fps, seconds, settings, stages.tell)
    whole.rename(film)
    maker.tidy()
    silent.unlink()
    warnings = result.advice(audio, video, task.audio_name, task.video_name) + result.clip_warnings(clip)
    return result.Result(
        film=film,
        engine=maker.facts(),
        inputs={"audio": audio.to_json(), "video": video.to_json() | {"clip": clip.facts()}},
        output=output
        | {"encode": media.encode_facts(settings), "sound": sound, "mark": marks.get("AIGC")}
        | {"label": label.facts(maker.words, clip.fps, settings)},
        stages=stages.done,
        warnings=[*warnings, *chunks.warnings(parts, clip.fps), *maker.warnings],
    )


class _Maker:
    """Has the parts made, one after the other; those finished before a death are kept."""

    def __init__(
        self, task: Task, clip: media.Clip, samples: media.Samples, order: npt.NDArray[np.int64],
        parts: Sequence[Chunk], tell: Tell,
    ) -> None:  # fmt: skip
        settings = task.settings
        self._task, self._clip, self._samples, self._order, self._parts = task, clip, samples, order, parts
        self._settings, self._tell = settings, tell
        self._frames = parts[-1].stop
        tools = (media.choose_encoder(settings), "duix", *(str(part.stop) for part in parts))
        key = key_of(settings, content_of(task), self._frames, tools)
        self.segments = [media.Segment(task.work, key, part.number, part.first, part.stop) for part in parts]
        self.words = label.of(settings, clip, self._frames)
        self.warnings: list[tuple[str, str]] = []
        self._at = 0  # frames of the finished parts, and of the running one
        self._record = TaskRecord(task.work / "duix.json", key)
        self._shared = Shared(Path(settings.duix.shared))
        timeouts = Timeouts(poll=settings.duix.poll_seconds, task=settings.duix.seconds)
        self._runner = Submitter(
            Client(settings.duix.url), self._shared, self._record, timeouts, tell, self._on_progress
        )

    def make(self) -> None:
        """Every part that is not finished yet."""
        self._sweep()
        for part, segment in zip(self._parts, self.segments, strict=True):
            if not segment.done():
                self._runner.run(self._ordered(part, segment))
            self._at = part.stop
            self._tell.progress("duix", self._at, self._frames)

    def _ordered(self, part: Chunk, segment: media.Segment) -> ChunkRequest:
        work, number = self._task.work, part.number
        made = len(part.made) / float(self._clip.fps)

        def inputs() -> tuple[Path, Path]:
            sound, pictures = self._sent(part)
            return self._sound(part, sound), self._pictures(part, pictures)

        name = f"part {number + 1} of {len(self._parts)}" if len(self._parts) > 1 else "the film"
        return ChunkRequest(
            number, name, inputs, work / f"back-{number:05d}.mp4", MOST_BYTES + int(MOST_BYTES_PER_SECOND * made),
            lambda film: _whole(film, self._settings), lambda film: self._use(part, segment, film),
        )  # fmt: skip

    def _sent(self, part: Chunk) -> tuple[Path, Path]:
        """What is sent for a part; named by all that decides it, because a job that gave way finds it again."""
        stem = self._task.work / f"sent-{self.segments[0].key[:16]}-{part.number:05d}"
        return stem.with_suffix(".wav"), stem.with_suffix(".mp4")

    def _sound(self, part: Chunk, path: Path) -> Path:
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(media.SAMPLE_RATE)
            out.writeframes(chunks.sound_of(part, self._samples, self._clip.fps))
        return path

    def _pictures(self, part: Chunk, path: Path) -> Path:
        """The template as the film shows it, upright, at a constant rate, 8-bit 4:2:0, in H.264."""
        if path.is_file():
            return path
        fine = replace(self._settings, crf=min(self._settings.crf, SENT_CRF))
        unfinished = path.with_suffix(".part")
        with media.FilmWriter(unfinished, self._clip, fine) as writer:
            for frame in self._clip.walk(self._order[part.made.start : part.made.stop]):
                writer.write(frame)
                self._on_progress(0.0)
        return unfinished.rename(path)

    def _use(self, part: Chunk, segment: media.Segment, film: Path) -> None:
        """Encode the part's frames from what came back, having looked whether it is what was asked for."""
        try:
            back = _opened(film, self._clip, len(part.made) + MORE_FRAMES + 1, self._settings)
            shown, wanted = self._encode(part, segment, back)
        except InputError as error:
            raise Unfit(f"its film cannot be read: {error.message}") from error
        due = part.stop - part.first
        if len(shown) < due or len(shown) > len(part.made) + MORE_FRAMES:
            raise Unfit(f"its film has {len(shown)} frames instead of {len(part.made)}")
        if back.faults:
            raise Unfit("its film cannot be decoded without errors")
        self._compare(part, shown, wanted)
        segment.finish()
        for path in self._sent(part):
            path.unlink(missing_ok=True)

    def _encode(self, part: Chunk, segment: media.Segment, back: media.Clip) -> tuple[list[Thumb], list[Thumb]]:
        """Thumbnails of what came back and of what was sent."""
        shown: list[Thumb] = []
        wanted: list[Thumb] = []
        template = self._clip.walk(self._order[part.made.start : part.made.stop])
        seen = self.words.within(part.first, part.stop) if self.words is not None else 0
        laid = self.words.laid(self._task.work, rf"lt(n\,{seen})") if self.words is not None and seen else None
        with media.FilmWriter(segment.path, back, self._settings, laid) as writer:
            for k, frame in enumerate(back.frames()):
                shown.append(_thumb(frame))
                own = next(template, None)
                if own is not None:
                    wanted.append(_thumb(own))
                if part.first + k < part.stop:
                    writer.write(frame)
                self._on_progress(1.0)
        return shown, wanted

    def _compare(self, part: Chunk, shown: Sequence[Thumb], wanted: Sequence[Thumb]) -> None:
        """The film must show the template: the task may have been mixed up with another's."""
        apart = {shift: _apart(shown, wanted, shift) for shift in range(-_SHIFTS, _SHIFTS + 1)}
        if min(apart.values()) > _ALIKE:
            raise Unfit("its film does not show the template")
        shift = min(apart, key=lambda s: (apart[s], abs(s)))
        if apart[0] - apart[shift] > max(_CLEARLY, apart[0] / 4):
            said = f"The container shows the template {abs(shift)} frames {'late' if shift > 0 else 'early'}"
            self.warnings.append(("template_shifted", f"{said} in part {part.number + 1}."))

    def _on_progress(self, progress: float) -> None:
        number = next((part for part in self._parts if part.stop > self._at), self._parts[-1])
        done = self._at + int(progress * (number.stop - number.first) * 0.99)
        self._tell.progress("duix", done, self._frames)

    def _sweep(self) -> None:
        """Remove what abandoned tasks left: this film's own, and old ones of jobs that were cancelled."""
        for code in dict.fromkeys(self._record.orphans):
            self._runner.clean(code)
        try:
            swept = self._shared.sweep(time.time() - self._settings.duix.seconds - ABANDONED_SECONDS)
        except OSError:
            return  # who needs the folder will say what is wrong with it
        if swept:
            self._tell.event("duix_swept", files=swept)

    def tidy(self) -> None:
        """Remove everything that is not the film."""
        for code in dict.fromkeys(self._record.codes()):
            self._runner.clean(code)
        for path in (path for segment in self.segments for path in (segment.path, segment.receipt)):
            path.unlink()
        (self._task.work / "duix.json").unlink(missing_ok=True)

    def facts(self) -> Facts:
        """For the log."""
        fps = float(self._clip.fps)
        return {
            "name": "duix",
            "renderer": f"the Duix.Avatar container at {self._settings.duix.url}",
            "reasons": ["the container renders the mouths and chooses the face"],
            "server": self._runner.server,
            "parts": [
                {"first": part.first, "stop": part.stop, "ends": round(part.stop / fps, 3), "pause": part.pause,
                 "task": self._record.of(part.number).code, "failures": self._record.of(part.number).failures}
                for part in self._parts
            ],
        }  # fmt: skip


def _whole(film: Path, settings: Settings) -> bool:
    try:
        media.probe(film, film.name, settings, want="video")
    except InputError:
        return False
    return True


def _opened(film: Path, clip: media.Clip, limit: int, settings: Settings) -> media.Clip:
    """What came back, at the template's rate.  What it does not say of its colours is the template's; it is narrow
    range where it says nothing.  Raises ``Unfit`` for another size or rate."""
    found = media.probe(film, "the container's film", settings, want="video")
    info = found.video
    assert info is not None
    if (info.width, info.height) != (clip.width, clip.height):
        raise Unfit(f"its film is {info.width}x{info.height} instead of {clip.width}x{clip.height}")
    if abs(info.fps - clip.fps) > clip.fps / 500:
        raise Unfit(f"its film has {float(info.fps):g} frames per second instead of {float(clip.fps):g}")
    own = clip.info
    dressed = replace(
        info, fps=clip.fps, sar=own.sar, color_range=info.color_range or "tv",
        color_space=info.color_space or own.color_space, color_primaries=info.color_primaries or own.color_primaries,
        color_transfer=info.color_transfer or own.color_transfer,
    )  # fmt: skip
    return media.open_clip(film, dressed, settings, "the container's film", found.start, limit)


def _thumb(frame: media.Frame) -> Thumb:
    return np.asarray(cv2.resize(frame.y, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.int16)


def _apart(shown: Sequence[Thumb], wanted: Sequence[Thumb], shift: int) -> float:
    """Difference in grey levels where film frame ``k`` is held against the ``k - shift``-th that was sent: that of half
    of the picture, because the mouth's part of it is to differ; the mean over the frames."""
    pairs = [(shown[k], wanted[k - shift]) for k in range(len(shown)) if 0 <= k - shift < len(wanted)]
    return float(np.mean([np.median(np.abs(one - two)) for one, two in pairs])) if pairs else 255.0
