"""Sound as numbers, placed where it will be heard in the film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from heygemd.common.errors import InputError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, UNTRUSTED, Child
from heygemd.pipeline.media.info import Media
from heygemd.pipeline.media.read.clip import Clip
from heygemd.pipeline.media.read.probe import input_argv

SAMPLE_RATE = 16_000  # of everything that listens: the lips network and the footage engine
_BLOCK = 2048  # samples of the longest AAC block
Samples = npt.NDArray[np.float32]


def decode_audio(
    path: Path,
    rate: int = SAMPLE_RATE,
    name: str = "",
    *,
    stream: int | None = None,
    mix: str = "",
    start: float = 0.0,
    stall: float = 600.0,
) -> Samples:
    """The whole sound of ``path`` as float32 (n,), mono, within [-1, 1], ``rate`` samples a second.

    Sample 0 is heard ``start`` seconds after the container's zero, which is where a player begins: the
    encoder's delay that mp3, AAC and Opus carry in front is not part of it, silence is put where the stream
    begins late or has a gap.  (A 16 kHz mp3 decoded without this comes 69 ms late, which ruins the sync.)

    ``stream``: the stream's number in its file, from ``AudioInfo.index``; ``None``: the first sound.  ``mix``: of the
    same, where ffmpeg cannot mix it by itself.  Raises ``InputError`` with ``empty_audio`` or ``undecodable``.
    """
    name = name or path.name
    chosen = "0:a:0" if stream is None else f"0:{stream}"
    filters = ",".join(filter(None, (mix, "aresample=async=1:first_pts=0")))
    argv = [*FFMPEG, *input_argv(path), "-map", chosen, "-af", filters]
    argv += ["-ac", "1", "-ar", str(rate), "-f", "f32le", "pipe:1"]
    child = Child(argv, limits=UNTRUSTED, stall=stall)
    raw = bytearray()
    try:
        while chunk := child.read_some(1 << 20):
            raw += chunk
        code = child.finish()
    finally:
        child.kill()
    if not raw:
        reason, what = ("empty_audio", "has zero length") if code == 0 else ("undecodable", "cannot be decoded")
        raise InputError(f"The sound of {name} {what}.", detail=child.tail, reason=reason)
    samples = np.frombuffer(raw, np.float32)
    np.nan_to_num(samples, copy=False)
    np.clip(samples, -1.0, 1.0, out=samples)
    return _shifted(samples, round(start * rate))


def _shifted(samples: Samples, by: int) -> Samples:
    """``samples`` from number ``by`` on; silence is put in front where ``by`` is negative."""
    if by >= 0:
        return samples[by:]
    return np.concatenate((np.zeros(-by, np.float32), samples))


def sound_of(path: Path, media: Media, settings: Settings, name: str) -> Samples:
    """The sound to be spoken, 16 kHz mono, as ``decode_audio``; ``media`` is what ``probe`` found.

    AAC decodes in whole blocks; where an mp4 tells how much of the last one is sound, the rest is cut off.
    """
    assert media.audio is not None
    audio = media.audio
    samples = decode_audio(path, name=name, stream=audio.index, mix=audio.mix, stall=settings.media_seconds)
    told = round(media.audio.ends(media) * SAMPLE_RATE)
    block = _BLOCK * SAMPLE_RATE // max(1, media.audio.sample_rate)
    return samples[:told] if media.is_mp4 and 0 < len(samples) - told <= block else samples


def own_sound(clip: Clip, media: Media, settings: Settings) -> Samples | None:
    """The template's own sound, 16 kHz mono, as ``decode_audio``; ``None`` where it has none that can be decoded."""
    if media.audio is None:
        return None
    stream, mix = media.audio.index, media.audio.mix
    try:
        return decode_audio(clip.path, name=clip.name, stream=stream, mix=mix, stall=settings.media_seconds)
    except InputError:  # a template need not have sound
        return None


def beside_pictures(clip: Clip, sound: Samples) -> Samples:
    """A sound of the template's file that begins at its zero, from the moment of picture 0 on.  The clip must have been
    counted."""
    return _shifted(sound, round(clip.first_seconds * SAMPLE_RATE))
