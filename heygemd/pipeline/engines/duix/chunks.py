"""Long sound in chunks: divided on the film's frame grid, at the quietest moment that its limits allow.  Pure.

The container gives up after 600 s of its own (Duix-Avatar issues 471, 556), so a film is made in parts.  Frame ``k`` of
the film shows the same template picture and hears the same sound whatever part it is in; each part carries some frames
more than it is used for (``Chunk.tail``), because films come back a few frames short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from heygemd.pipeline.media.read.sound import SAMPLE_RATE, Samples

TAIL_SECONDS = 0.4  # a film of 7.68 s came back .08 s short (two of its frames)
TAIL_FRAMES = 5  # at least
PAUSE_SECONDS = 0.24  # that are listened to around a division
PAUSE_LEVEL = 0.1  # of the sound's own level: below it nobody speaks (-20 dB)
NOTHING = 1e-4  # root mean square below which there is no sound at all (-80 dBFS)
SHORTEST_SECONDS = 1.0  # of a last part


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames ``first`` to ``stop - 1`` of the film; ``tail`` more are made and left away.

    ``pause``: whether nobody speaks where it ends.
    """

    number: int
    first: int
    stop: int
    tail: int
    pause: bool = True

    @property
    def made(self) -> range:
        """The frames that the container is asked for."""
        return range(self.first, self.stop + self.tail)


def divide(samples: Samples, fps: Fraction, frames: int, seconds: float) -> list[Chunk]:
    """Parts of at most ``seconds`` for a film of ``frames`` at ``fps``; ``samples`` float32 (n,), 16 kHz."""
    longest = max(2, int(seconds * fps))
    shortest = min(max(1, round(SHORTEST_SECONDS * fps)), longest // 2)
    tail = max(TAIL_FRAMES, round(TAIL_SECONDS * fps))
    level = max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0, NOTHING)
    parts: list[Chunk] = []
    first = 0
    while frames - first > longest:
        enough = (frames - first - 1) % longest + 1  # from here on no part more is needed than without pauses
        low = first + max(shortest, longest // 2, min(enough, longest * 3 // 4))
        high = min(first + longest, frames - shortest)
        around = [_loudness(samples, fps, k) for k in range(low, high + 1)]
        quietest = min(around)
        stop = high - around[::-1].index(quietest)
        parts.append(Chunk(len(parts), first, stop, tail, quietest <= max(PAUSE_LEVEL * level, NOTHING)))
        first = stop
    return [*parts, Chunk(len(parts), first, frames, tail)]


def _loudness(samples: Samples, fps: Fraction, frame: int) -> float:
    """Root mean square around the beginning of a frame."""
    middle, half = at(frame, fps), int(PAUSE_SECONDS / 2 * SAMPLE_RATE)
    piece = samples[max(0, middle - half) : middle + half]
    return float(np.sqrt(np.mean(np.square(piece, dtype=np.float64)))) if len(piece) else 0.0


def at(frame: int, fps: Fraction) -> int:
    """The sample at which a frame begins: counted from the film's beginning, so that nothing adds up."""
    return round(frame / fps * SAMPLE_RATE)


def sound_of(part: Chunk, samples: Samples, fps: Fraction) -> bytes:
    """The sound of all frames that are made, 16-bit little-endian mono at 16 kHz; silence behind its end."""
    begin, end = at(part.made.start, fps), at(part.made.stop, fps)
    piece = np.zeros(end - begin, np.float32)
    heard = samples[begin:end]
    piece[: len(heard)] = heard
    return np.clip(np.rint(piece * 32767), -32768, 32767).astype("<i2").tobytes()


def warnings(parts: Sequence[Chunk], fps: Fraction) -> list[tuple[str, str]]:
    """(code, sentence) of divisions where somebody speaks."""
    loud = [part for part in parts if not part.pause]
    if not loud:
        return []
    where = ", ".join(f"{float(part.stop / fps):.1f}" for part in loud[:10])
    said = f"No pause was found near {where} s; the film is joined there during speech"
    return [("cut_in_sound", f"{said}, and the mouth may jump.")]
