"""Any film, another tool's too: what is not known of it is found out first.

Where the template is given and the film shows its pictures in one of the orders that heygemd uses, the template's face
is followed and the film compared with it, frame by frame.  Else the film's own face is followed, and only what needs
no comparison is measured.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from heygemd.common.request import EXTENDS
from heygemd.contract.figures import Figures
from heygemd.contract.job import Settings, Tell
from heygemd.pipeline import media
from heygemd.pipeline.face import detect
from heygemd.pipeline.face.track import track as track_face
from heygemd.pipeline.image.geometry import Bytes
from heygemd.pipeline.marking import metadata
from heygemd.pipeline.marking.label import Box, Label, claimed
from heygemd.pipeline.quality import Evidence, guarded, measure
from heygemd.pipeline.quality.look import Known
from heygemd.pipeline.quality.windows import Crop, Film, Window, open_film, read

_LOOKS = 6  # moments at which the film is compared with the template
_ALIKE = 10.0  # mean grey levels by which a film may differ from its template: a mouth is small
_SIDE = 64  # px of what is compared


def report(
    film: Path, video: Path | None, audio: Path | None, settings: Settings, tell: Tell
) -> tuple[Figures, Evidence | None]:
    """Measure ``film``; ``video`` is the template and ``audio`` the sound that it was made from, where they are known.
    What goes wrong is told as a problem, see ``quality.report``."""
    return guarded(lambda: _measured(film, video, audio, settings, tell), tell)


def _measured(
    film: Path, video: Path | None, audio: Path | None, settings: Settings, tell: Tell
) -> tuple[Figures, Evidence]:
    label = _label(film, settings)
    known = _beside(film, video, label, settings, tell) if video is not None else None
    if known is None:
        clip = _open(film, settings, tell)
        track = track_face(clip, detect.choose(settings), settings, film.name, tell)
        known = Known(track.transforms, track.usable, track, ours=False, label=label)
    given = None
    if audio is not None:
        given = media.sound_of(audio, media.probe(audio, audio.name, settings, want="audio"), settings, audio.name)
    return measure(film, known, settings, tell, given)


def _open(path: Path, settings: Settings, tell: Tell) -> media.Clip:
    found = media.probe(path, path.name, settings, want="video")
    assert found.video is not None
    clip = media.open_clip(path, found.video, settings, path.name, found.start)
    clip.learn(tell)
    return clip


def _beside(film: Path, video: Path, label: Label | None, settings: Settings, tell: Tell) -> Known | None:
    """What the template tells of the film; ``None`` where the film does not show the template's pictures."""
    found = media.probe(film, film.name, settings, want="video")
    assert found.video is not None
    template = _open(video, settings, tell)
    opened = open_film(film, found, settings)
    info = found.video
    same_rate = abs(float(info.fps - template.fps)) < 0.01
    if not same_rate or (info.width, info.height) != (template.width, template.height):
        return None
    numbers = sorted({int(k) for k in np.linspace(0, opened.frames - 1, _LOOKS)})
    seen = [_first(opened, k, label, settings) for k in numbers]
    if any(picture is None for picture in seen):
        return None
    for extend in EXTENDS:
        order = media.output_order(template.count, opened.frames, extend)
        walk = zip(numbers, template.walk([int(order[k]) for k in numbers]), strict=True)
        theirs = [_small(frame.y, label.at(k) if label else None) for k, frame in walk]
        apart = [float(cv2.absdiff(a, b).mean()) for a, b in zip(seen, theirs, strict=True) if a is not None]
        if max(apart) < _ALIKE:
            track = track_face(template, detect.choose(settings), settings, video.name, tell)
            return Known(
                track.transforms[order], track.usable[order], track, track, template, order, ours=False, label=label
            )
    return None


def _label(film: Path, settings: Settings) -> Label | None:
    """The label that the film should show by its metadata."""
    found = media.probe(film, film.name, settings, want="video")
    assert found.video is not None
    info = found.video
    frames = open_film(film, found, settings).frames
    return claimed(metadata.tags(film, settings), settings, (info.width, info.height), info.sar, frames)


def _first(film: Film, number: int, label: Label | None, settings: Settings) -> Bytes | None:
    whole = Crop(0, 0, film.info.width // 2 * 2, film.info.height // 2 * 2)
    for _, frame in read(film, Window(number, number + 1), whole, settings):
        return _small(frame.y, label.at(number) if label else None)
    return None


def _small(luma: Bytes, hidden: Box | None) -> Bytes:
    """What is compared: without what a label hides."""
    if hidden is not None:
        luma = luma.copy()
        luma[hidden[1] : hidden[3], hidden[0] : hidden[2]] = 0
    return np.asarray(cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
