"""Step 2: frames -> the tracked face: one similarity per frame, and how far it can be believed.

Up to a dozen keyframes are searched for faces (``detect``), which gives reference pictures (``anchors``); then the clip
is decoded once and every frame is followed (``follow``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.common.errors import InputError
from heygemd.pipeline.face import shots
from heygemd.pipeline.face.anchors import begin
from heygemd.pipeline.face.crops import Crops
from heygemd.pipeline.face.detect import NAME, Finder, Person
from heygemd.pipeline.face.follow import Tracker, runs
from heygemd.pipeline.face.landmark_models import Pack
from heygemd.pipeline.face.occlusion import covered, turned_away
from heygemd.pipeline.ffmpeg import cores
from heygemd.pipeline.image import parallel
from heygemd.pipeline.image.compose import Area, area_around
from heygemd.pipeline.image.geometry import IO, Floats, move, scale_of
from heygemd.pipeline.image.patches import Patches
from heygemd.pipeline.template_cache import NOTHING, Arrays, Memory

if TYPE_CHECKING:
    from heygemd.contract.job import Settings, Tell
    from heygemd.pipeline.media import Clip

KEYFRAMES = 12
PICTURES = 400  # of a track that are kept for the measuring of the film
NO_PACK = Pack()
_AHEAD = 4  # pictures that are read while another one is looked at
_LOWER_FACE = np.array([[8, 78], [184, 78], [184, 256], [8, 256]], np.float64)  # corners in the canonical face


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """The face of one clip of ``n`` frames.

    transforms   (n, 2, 3) float64, canonical to image, smoothed over the whole clip
    quality      (n,) in 0..1: share of reference points found again, the anchor's
    usable       (n,) bool: whether the face may be edited there
    eye_px       median distance of the eyes in luma px
    support      share of the keyframes that show this face
    faces_seen   how many different faces the keyframes show
    cuts         first frames of new shots
    covered      (first, last) of runs of frames in which something covers the mouth or the head is turned away; they
                 are not usable
    patches      native pixels around the mouth of the frames of ``crops``; None where they were not asked for, or
                 where the track was kept from an earlier job
    memory       what else is kept about this face
    recalled     whether this was kept from an earlier job
    pack         what the imported model that found the face has besides: landmarks, identity
    """

    transforms: Floats
    quality: Floats
    usable: npt.NDArray[np.bool_]
    eye_px: float
    support: float
    faces_seen: int
    cuts: tuple[int, ...]
    crops: Crops
    warnings: list[tuple[str, str]] = field(default_factory=list)
    finder: str = NAME
    covered: tuple[tuple[int, int], ...] = ()
    patches: Patches | None = None
    memory: Memory = NOTHING
    recalled: bool = False
    pack: Pack = NO_PACK

    def ranges(self) -> list[tuple[int, int]]:
        """Runs of frames that are not usable, as (first, last)."""
        return runs(~self.usable)


def track(clip: Clip, finder: Finder, settings: Settings, name: str, tell: Tell) -> FaceTrack:
    """Find and follow one face through ``clip``.

    Raises InputError ``no_face`` where less than half of the keyframes show one at a consistent place, and
    ``face_too_small`` where the eyes are closer than ``settings.min_eye_px``; ``name`` is the user's file name.
    """
    parallel.alone()
    if clip.counted and (known := _about(clip, finder, settings).recall("told", *_KEPT)) is not None:
        return replace(_of_arrays(known, _about(clip, finder, settings)), pack=finder.pack)
    made = _tracked(clip, finder, settings, name, tell)
    memory = _about(clip, finder, settings)
    warnings = [*finder.warnings, *made.warnings]
    made = replace(made, memory=memory, finder=finder.name, warnings=warnings, pack=finder.pack)
    memory.keep(**arrays(made))
    return made


def is_known(clip: Clip, finder: Finder, settings: Settings) -> bool:
    """Whether an earlier film has found the face of this clip."""
    return clip.counted and _about(clip, finder, settings).has_some


def _about(clip: Clip, finder: Finder, settings: Settings) -> Memory:
    """What is kept about the face of a counted clip."""
    return clip.memory.about("face", finder.name, settings.face, settings.min_eye_px)


def thinned(track: FaceTrack) -> FaceTrack:
    """The track with as few pictures as measuring the film takes: thousands would lie in memory while it is drawn."""
    index = track.crops.index
    rows = np.flatnonzero(track.usable[index])
    rows = rows if len(rows) else np.arange(len(index))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(int))]
    planes = (plane[rows] for plane in (track.crops.y, track.crops.u, track.crops.v))
    return replace(track, crops=Crops(index[rows], *planes), patches=None)


def read_again(kept: Arrays, finder: Finder) -> FaceTrack:
    """The inverse of ``arrays``, ready to be measured by."""
    parallel.alone()
    return replace(_of_arrays(kept, NOTHING), pack=finder.pack)


_PATH, _CROPS = ("transforms", "quality", "usable"), ("index", "y", "u", "v")
_TOLD = ("eye_px", "support", "faces_seen", "cuts", "covered", "warnings", "finder")
_KEPT = (*_PATH, *_CROPS)


def arrays(track: FaceTrack) -> Arrays:
    """All of a track, to be kept."""
    told = {name: getattr(track, name) for name in _TOLD}
    path = {name: getattr(track, name) for name in _PATH}
    return {"told": np.array(json.dumps(told)), **path, **{name: getattr(track.crops, name) for name in _CROPS}}


def _of_arrays(arrays: Arrays, memory: Memory) -> FaceTrack:
    """The inverse of ``arrays``."""
    told = json.loads(str(arrays["told"]))
    told |= {"cuts": tuple(told["cuts"]), "warnings": [(code, message) for code, message in told["warnings"]]}
    told["covered"] = tuple((first, last) for first, last in told["covered"])
    crops = Crops(*(arrays[name] for name in _CROPS))
    transforms, quality, usable = (arrays[name] for name in _PATH)
    return FaceTrack(transforms, quality, usable, **told, crops=crops, memory=memory, recalled=True)


def _tracked(clip: Clip, finder: Finder, settings: Settings, name: str, tell: Tell) -> FaceTrack:
    pictures = {i: frame.y for i, frame in clip.glances(KEYFRAMES).items()}
    crowd = finder.people(pictures, cores(settings.threads))
    person = _chosen(crowd, len(pictures), settings.face, clip.width, name)
    one = shots.of_one(person, pictures, finder)
    support = len(one.boxes) / len(pictures)
    start = begin(one, pictures, cores(settings.threads))
    _refuse_small(start.eye_px, settings.min_eye_px, name)
    tracker = Tracker(start, clip.count, finder)
    patches = Patches() if settings.engine == "footage" else None
    for i, frame in enumerate(parallel.ahead(clip.frames(), _AHEAD)):
        transform = tracker.take(frame)
        if patches is not None and tracker.keeps(i) and (area := _around_mouth(transform, clip)) is not None:
            patches.add(i, area, frame)
        if i % 10 == 0:
            tell.progress("face", i, clip.count)
    path = tracker.finish(cores(settings.threads))
    usable = path.usable & ~shots.strange(path.quality, path.cuts, one.boxes)
    scales = [scale_of(t) for t, u in zip(path.transforms, usable, strict=True) if u]
    if not scales:
        raise InputError(
            f"{name}: a face was found but could not be tracked from frame to frame. Use a sharper or steadier video.",
            reason="no_face",
        )
    cuts = shots.without_sweeps(path.cuts)
    with ThreadPoolExecutor(1, "turned") as beside:
        turned = beside.submit(turned_away, path.crops, usable, one.boxes)
        hidden = covered(path.crops, usable) | turned.result()
    return FaceTrack(
        path.transforms,
        path.quality,
        usable & ~hidden,
        float(np.median(scales)) * IO,
        support,
        sum(bool(p.eyes) or p is person for p in crowd),
        cuts,
        path.crops,
        _warnings(crowd, person, cuts, usable, runs(hidden)),
        covered=tuple(runs(hidden)),
        patches=patches,
    )


def _around_mouth(transform: Floats, clip: Clip) -> Area | None:
    """Where mouth, jaw and the skin around them are, with room for what smoothing the path will change."""
    return area_around(move(transform, _LOWER_FACE), clip.width, clip.height)


def _refuse_small(eye_px: float, least: float, name: str) -> None:
    if eye_px < least:
        raise InputError(
            f"{name}: the face is too small: {eye_px:.0f} px between the eyes; at least {least:.0f} px are "
            "needed. Use a closer or larger picture.",
            reason="face_too_small",
        )


def _chosen(crowd: Sequence[Person], looked_at: int, which: str, width: int, name: str) -> Person:
    seen = [p for p in crowd if len(p.boxes) >= 0.5 * looked_at]
    if not seen:
        best = max((len(p.boxes) for p in crowd), default=0)
        raise InputError(
            f"{name}: no face was found (detected in {best} of {looked_at} checked frames). The face must be "
            "upright, look roughly into the camera, and stay in view for at least half of the video.",
            reason="no_face",
        )
    if any(p.eyes for p in seen):
        seen = [p for p in seen if p.eyes]
    order = {
        "left": lambda p: p.middle.x,
        "right": lambda p: -p.middle.x,
        "center": lambda p: abs(p.middle.x - width / 2),
    }
    return min(seen, key=order.get(which, lambda p: -p.middle.width))


def _warnings(
    crowd: Sequence[Person],
    person: Person,
    cuts: Sequence[int],
    usable: npt.NDArray[np.bool_],
    hidden: Sequence[tuple[int, int]],
) -> list[tuple[str, str]]:
    out = []
    similar = [p for p in crowd if p is not person and p.middle.width > 0.6 * person.middle.width and p.eyes]
    if similar:
        out.append(
            (
                "second_face",
                f'{len(similar) + 1} faces of similar size are visible; one was chosen. Set face = "left", "right" or '
                '"center" to choose another.',
            )
        )
    if cuts:
        out.append(
            (
                "shot_cuts",
                f"The video changes shots at frame {', '.join(map(str, cuts[:10]))}; shots without a matching face "
                "were left unchanged.",
            )
        )
    if not usable.all():
        share = 100 * float((~usable).mean())
        out.append(("face_lost", f"The face could not be tracked in {share:.0f} % of the frames."))
    if hidden:
        ranges = ", ".join(f"{first}-{last}" for first, last in hidden[:10])
        what = f"The mouth is covered or turned away in frames {ranges} of the video; these frames were left unchanged."
        out.append(("mouth_covered", what))
    return out
