"""Step 5b: what is said about a finished film.  Imports nothing heavy."""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import heygemd
from heygemd.contract.figures import Report
from heygemd.contract.film_facts import FilmWarning, StageTime
from heygemd.contract.job import Tell
from heygemd.pipeline.ffmpeg import ffmpeg_version

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip, Media

LONG_SECONDS = 300  # HeyGem's own advice: sound of up to five minutes
SLOW_RATE = 15  # pictures a second below which speech does not look like speech
_LOSSLESS = ("pcm", "flac", "alac", "wavpack", "tta", "ape", "truehd", "mlp")  # beginnings of codec names
_TELEPHONE = ("pcm_mulaw", "pcm_alaw")
_HDR = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
_MODULES = {"opencv": "cv2", "torch": "torch", "numpy": "numpy", "scipy": "scipy", "insightface": "insightface"}


@dataclass(slots=True)
class Stages:
    """How long each stage took and how many frames it saw, in the order in which they ended."""

    tell: Tell
    done: list[StageTime] = field(default_factory=list)

    @contextlib.contextmanager
    def __call__(self, name: str, frames: int = 0) -> Iterator[None]:
        """Time what stands below ``with``; a stage that fails is not noted."""
        began = time.monotonic()
        self.tell.progress(name, 0, frames)
        yield
        seconds = round(time.monotonic() - began, 3)
        self.done.append({"name": name, "seconds": seconds, "frames": frames})
        self.tell.event("stage_done", stage=name, seconds=seconds, frames=frames)


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that the job's log says of how its film was made: ``contract.film_facts.FilmFacts``."""

    film: Path
    engine: Mapping[str, object]  # name, renderer, reasons and the engine's own facts: EngineFacts
    inputs: Mapping[str, object]  # {"audio": probe, "video": probe}
    output: Mapping[str, object]  # measured on the finished film: OutputFacts
    stages: list[StageTime]
    face_finder: str | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)  # (code, sentence)
    passed_through: list[tuple[int, int]] = field(default_factory=list)  # output frames, both ends included
    quality: Report | None = None  # None: not asked for

    def to_json(self) -> dict[str, object]:
        """As the child reports it; the parent checks it when it arrives."""
        warnings: list[FilmWarning] = [
            {"code": code, "message": message} for code, message in dict.fromkeys(self.warnings)
        ]
        return {
            "film": str(self.film),
            "engine": self.engine,
            "face_finder": self.face_finder,
            "stages": self.stages,
            "warnings": warnings,
            "passed_through": [[first, last] for first, last in self.passed_through],
            "quality": self.quality,
            "inputs": self.inputs,
            "output": self.output,
            "verified": True,  # there is no result without
            "versions": versions(),
        }


def advice(audio: Media, video: Media, audio_name: str, video_name: str) -> list[tuple[str, str]]:
    """(code, sentence) of what the inputs could do better; none of it stops the job."""
    assert audio.audio is not None and video.video is not None
    sound, picture = audio.audio, video.video
    notes: list[tuple[str, str]] = []
    if sound.seconds > LONG_SECONDS:
        notes.append(
            (
                "long_audio",
                f"{audio_name} lasts {sound.seconds / 60:.1f} minutes; up to five minutes give the best results.",
            )
        )
    if not sound.codec.startswith(_LOSSLESS) or sound.codec in _TELEPHONE:
        notes.append(
            ("lossy_audio", f"The sound of {audio_name} is {sound.codec}, which loses detail; WAV or FLAC is better.")
        )
    if picture.still is None and picture.codec != "h264":
        notes.append(("not_h264", f"{video_name} is {picture.codec}; H.264 is the safest choice for templates."))
    if picture.fps < SLOW_RATE:
        notes.append(("slow_rate", f"{video_name} has {float(picture.fps):g} frames per second; lips need 20 or more."))
    return notes


def clip_warnings(clip: Clip) -> list[tuple[str, str]]:
    """(code, sentence) of what had to be done to the template's pictures, known once they have been counted."""
    info, facts, name = clip.info, clip.facts(), clip.name
    warnings: list[tuple[str, str]] = []
    if facts["padded_to_even"]:
        warnings.append(
            ("padded", f"{name} has an odd width or height; the film is padded to {clip.width}x{clip.height}.")
        )
    warnings += _conversions(clip)
    if facts["scaled"]:
        warnings.append(
            ("scaled", f"{name} ({info.width}x{info.height}) is scaled to {clip.width}x{clip.height} for the film.")
        )
    if info.vfr or facts["repeated"] or facts["dropped"]:
        warnings.append(
            (
                "variable_rate",
                f"The frames of {name} are not equally spaced; at {facts['fps']} frames per second, "
                f"{facts['repeated']} are repeated and {facts['dropped']} dropped.",
            )
        )
    if facts["decode_faults"]:
        warnings.append(("damaged", f"{name} is damaged: ffmpeg reported {facts['decode_faults']} decoding errors."))
    return warnings


def _conversions(clip: Clip) -> list[tuple[str, str]]:
    """What was done to every picture."""
    info, facts, name = clip.info, clip.facts(), clip.name
    warnings: list[tuple[str, str]] = []
    if facts["deinterlaced"]:
        warnings.append(
            (
                "interlaced",
                f"{name} is interlaced: one of the two fields of each frame is shown, at {facts['fps']} frames per "
                "second.",
            )
        )
    elif info.fields:
        warnings.append(
            ("interlaced", f"{name} is interlaced and rotated; it is not deinterlaced, so combing remains visible.")
        )
    if facts["tone_mapped_from"]:
        warnings.append(
            (
                "hdr",
                f"{name} is HDR ({_HDR[facts['tone_mapped_from']]}); the film is converted to standard range (BT.709).",
            )
        )
    elif info.color_transfer in _HDR:
        warnings.append(
            (
                "hdr",
                f"{name} is HDR ({_HDR[info.color_transfer]}) and this ffmpeg cannot convert it (it lacks zscale): "
                "the film is HDR with 8 bits, smooth areas may show bands, and some players show it pale.",
            )
        )
    if info.bit_depth > 8 or "420" not in info.pix_fmt:
        warnings.append(("converted", f"The frames of {name} ({info.pix_fmt}) are converted to 8-bit 4:2:0 once."))
    return warnings


def versions() -> dict[str, str]:
    """Of everything that had a part in the film; libraries count only where they were loaded."""
    loaded = {name: str(sys.modules[module].__version__) for name, module in _MODULES.items() if module in sys.modules}
    ours = {"heygemd": heygemd.__version__, "ffmpeg": ffmpeg_version(), "python": platform.python_version()}
    return ours | loaded
