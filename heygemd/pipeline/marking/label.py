"""The label that people see: lettering over the film's pictures that says that a machine made them.

China's GB 45438-2025 asks of a video that its first picture shows such words, for two seconds at the speed at which it
is played, in letters at least 5 % of the picture's shorter side high, and that they name both artificial intelligence
and generation.  ffmpeg's ``drawtext`` draws the letters once; the encoder lays them over its pictures, so that both
ways of making a segment show the same, and nothing but the label's rectangle is touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from heygemd.common import fonts
from heygemd.common.errors import EngineError, HeygemdError, SetupError
from heygemd.common.request import LABEL_LETTERS, LABEL_POSITIONS
from heygemd.contract.job import Quiet, Settings, Tell
from heygemd.pipeline.ffmpeg import FFMPEG, OURS, UNTRUSTED_WRITER, run
from heygemd.pipeline.media.frame import even
from heygemd.pipeline.media.info import VideoInfo
from heygemd.pipeline.media.read.decoder import output_range, upright_filters
from heygemd.pipeline.media.read.probe import input_argv
from heygemd.pipeline.media.write.encode import Laid, choose_encoder, colour_argv, encoder_argv

if TYPE_CHECKING:
    from heygemd.pipeline.media import Clip

Bytes = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in luma px, even, ends exclusive

TAG = "heygemd_label"
"""The film's metadata entry that says where the label lies and which frames show it: for ``heygemd report``."""

_CAPITAL = 0.733  # of the font's size: how high its capitals are; ideographs are higher, 0.88
_LEAST_EM = 12  # px: in smaller letters nobody reads anything, however small the picture
_LINE = 1.25  # of the font's size: from line to line
_PLATE = 0.55  # opacity of the dark plate behind the letters
_PADDING, _MARGIN = 0.45, 0.6  # of the font's size: around the letters, and from the picture's edge
_WIDEST = 0.94  # share of the picture's width that a plate may take
_SEEN = 0.6  # correlation from which on the label is there; blank or moving pictures stay below 0.3


@dataclass(frozen=True, slots=True)
class Label:
    """A label for films of one size: ``planes`` Y, U, V and opacity, 4:2:0, one after the other, as large as ``box``;
    ``frames``: how many of the film's, from its first on, show it."""

    text: str
    box: Box
    planes: bytes
    frames: int
    letters_px: float  # how high a capital is, luma px

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in luma px."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def within(self, first: int, stop: int) -> int:
        """How many of the frames ``first`` to ``stop - 1`` show it; they are the first of these."""
        return max(0, min(self.frames, stop) - first)

    def at(self, k: int) -> Box | None:
        """Where frame ``k`` shows it."""
        return self.box if k < self.frames else None

    def laid(self, folder: Path, until: str) -> Laid:
        """For a writer of films: the planes in a file of ``folder``, shown while ``until`` holds."""
        path = folder / "label.yuva"
        path.write_bytes(self.planes)
        return Laid(path, *self.box[:2], *self.size, until)


def made(
    settings: Settings, size: tuple[int, int], sar: Fraction, fps: Fraction, frames: int, *, full_range: bool
) -> Label | None:
    """The label of a film of ``frames`` frames, ``size`` luma px each; ``None`` where labels are off.

    Raises ``SetupError`` where ffmpeg cannot draw letters or the font lacks some of them.
    """
    if settings.label.when == "off":
        return None
    shown = frames if settings.label.when == "always" else min(frames, math.ceil(settings.label.seconds * fps))
    width, height = size
    shorter = min(float(width * sar), float(height))
    em = max(_LEAST_EM, math.ceil(settings.label.percent / 100 * shorter / _CAPITAL))
    letters = _set(settings.label.text, em, width * float(sar), settings)
    if sar != 1:  # players stretch the picture by it
        drawn = max(1, round(letters.shape[1] / float(sar))), letters.shape[0]
        letters = np.asarray(cv2.resize(letters, drawn, interpolation=cv2.INTER_AREA), np.uint8)
    opacity, luma = _plate(letters, em, full_range)
    tall, wide = min(opacity.shape[0], height // 2 * 2), min(opacity.shape[1], width // 2 * 2)
    x, y = _corner(settings.label.position, (width, height), (wide, tall), em)
    grey = np.full((tall // 2 * (wide // 2)) * 2, 128, np.uint8)
    planes = b"".join(p.tobytes() for p in (luma[:tall, :wide], grey, opacity[:tall, :wide]))
    return Label(settings.label.text, (x, y, x + wide, y + tall), planes, shown, em * _CAPITAL)


def of(settings: Settings, clip: Clip, frames: int) -> Label | None:
    """The label of a film of ``frames`` frames that is made of a template."""
    size, full = (clip.width, clip.height), output_range(clip.info) == "pc"
    return made(settings, size, clip.info.sar, clip.fps, frames, full_range=full)


def onto(
    film: Path, out: Path, info: VideoInfo, frames: int, settings: Settings, tell: Tell | None = None
) -> Label | None:
    """Encode ``film`` (mp4, ``frames`` frames of ``info``) once more with its label, as ``out``; ``None``, and no
    ``out``, where labels are off.  Raises as ``made``, and ``EngineError``."""
    size = even(info.width), even(info.height)
    label = made(settings, size, info.sar, info.fps, frames, full_range=output_range(info) == "pc")
    if label is None:
        return None
    laid, tags = label.laid(out.parent, rf"lt(n\,{label.frames})"), colour_argv(info)
    sar = f"setsar={info.sar.numerator}/{info.sar.denominator}"
    whole = f"{upright_filters(info, film)},pad={size[0]}:{size[1]}"
    argv = [*FFMPEG, "-y", *input_argv(film, info), *laid.argv(tags)]
    argv += ["-filter_complex", f"[0:{info.index}]{whole}[film];[film][1:v]{laid.filter()},{sar}[out]"]
    argv += ["-map", "[out]", "-map", "0:a", "-c:a", "copy", *encoder_argv(settings, choose_encoder(settings))]
    argv += ["-pix_fmt", "yuv420p", *tags, "-fps_mode", "passthrough", "-f", "mp4", f"file:{out}"]
    teller = tell or Quiet()
    done = run(
        argv,
        limits=UNTRUSTED_WRITER,
        stall=settings.media_seconds,
        on_frames=lambda n: teller.progress("label", n, frames),
    )
    if done.code:
        raise EngineError("The film could not be labelled.", detail=done.stderr)
    return label


class LabelFacts(TypedDict):
    """Of a film's label, for the log: ``box`` (x0, y0, x1, y1) in px; ``frames`` and ``seconds`` that show it."""

    text: str
    position: str
    box: list[int]
    frames: int
    seconds: float
    letters_px: float


def facts(label: Label | None, fps: Fraction, settings: Settings) -> LabelFacts | None:
    """For the film's log."""
    if label is None:
        return None
    seconds = round(float(label.frames / fps), 3)
    return {
        "text": label.text,
        "position": settings.label.position,
        "box": list(label.box),
        "frames": label.frames,
        "seconds": seconds,
        "letters_px": round(label.letters_px, 1),
    }


def entries(label: Label | None, settings: Settings) -> dict[str, str]:
    """The metadata that lets a later look find it."""
    if label is None or settings.mark == "off":
        return {}
    claim = {"text": label.text, "position": settings.label.position, "percent": settings.label.percent}
    return {TAG: json.dumps(claim | {"frames": label.frames}, ensure_ascii=False)}


def claimed(
    tags: Mapping[str, str], settings: Settings, size: tuple[int, int], sar: Fraction, frames: int
) -> Label | None:
    """The label that a film of ``frames`` frames should show by its metadata; ``None`` where that names none, or one
    that the font of ``settings`` cannot write."""
    try:
        claim = json.loads(tags[TAG])
        text, position = str(claim["text"]), str(claim["position"])
        percent, shown = float(claim["percent"]), int(claim["frames"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    if not (0 < len(text) <= LABEL_LETTERS and position in LABEL_POSITIONS and 1 <= percent <= 50 and shown > 0):
        return None
    asked = replace(settings.label, when="always", text=text, position=position, percent=percent)
    try:
        return made(replace(settings, label=asked), size, sar, Fraction(1), min(shown, frames), full_range=False)
    except HeygemdError:
        return None


def shows(label: Label, crops: Sequence[Bytes]) -> bool:
    """Whether every one of a film's pictures, luma ``(h, w)`` cut to the label's box, shows it."""
    width, height = label.size
    planes = np.frombuffer(label.planes, np.uint8)
    luma, opacity = (planes[at : at + width * height] for at in (0, len(planes) - width * height))
    due = luma.astype(np.float64) * opacity
    return all(float(np.corrcoef(due, crop.ravel().astype(np.float64))[0, 1]) > _SEEN for crop in crops)


def _set(text: str, em: int, width: float, settings: Settings) -> Bytes:
    """The letters, in as few lines as fit a picture ``width`` px wide."""
    most = _WIDEST * width - 2 * (_PADDING + _MARGIN) * em
    for lines in range(1, len(text) + 1):
        broken = _broken(text, lines)
        drawn = _letters(broken, em, settings)
        if drawn.shape[1] <= most or lines == len(text):
            return drawn
    raise AssertionError(text)


def _broken(text: str, lines: int) -> str:
    """``text`` in about ``lines`` lines of equal length, broken at a space where one is near."""
    out, rest = [], text
    for left in range(lines, 1, -1):
        at = math.ceil(len(rest) / left)
        space = rest.rfind(" ", 1, at + 1)
        at = space if space > at / 2 else at
        out.append(rest[:at].strip())
        rest = rest[at:].strip()
    return "\n".join([*out, rest])


def _letters(text: str, em: int, settings: Settings) -> Bytes:
    """White on black, cut to the ink: how much of each pixel the letters cover, uint8 (h, w)."""
    font = Path(settings.label.font) if settings.label.font else fonts.OURS
    try:
        lacking = fonts.missing(text.replace("\n", ""), font)
    except (OSError, ValueError) as error:
        raise SetupError(f"The label's font {font.name} cannot be used: {error}.") from error
    if lacking:
        raise SetupError(f"The label's font {font.name} lacks {lacking}.  Cure: set label_font in [mark].")
    lines = text.split("\n")
    wide, tall = 2 * ((max(map(len, lines)) + 2) * em // 2 + em), 2 * round((len(lines) + 1) * 1.6 * em / 2)
    options = f"fontfile={_spelt(str(font))}:fontsize={em}:fontcolor=white:x={em}:y={em // 2}:expansion=none"
    options += f":line_spacing={round((_LINE - 1) * em / 2)}:text={_spelt(text)}"
    argv = [*FFMPEG, "-f", "lavfi", "-i", f"color=black:s={wide}x{tall}:r=1,format=rgb24,drawtext={options}"]
    argv += ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    done = run(argv, limits=OURS, stall=settings.media_seconds)
    if done.code or len(done.stdout) != 3 * wide * tall:
        cure = "Cure: install an ffmpeg with drawtext (libfreetype), such as the distribution's."
        raise SetupError(f"This ffmpeg cannot draw the label.  {cure}", detail=done.stderr)
    picture = np.frombuffer(done.stdout, np.uint8)[::3].reshape(tall, wide)
    rows, columns = (np.flatnonzero(picture.max(axis) > 0) for axis in (1, 0))
    if not len(rows):
        raise SetupError("The label's text has no visible characters.")
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _spelt(value: str) -> str:
    """As an option's value inside a filter graph: escaped once for either."""
    for special in ("\\':", "\\'[],;"):
        value = "".join(f"\\{c}" if c in special else c for c in value)
    return value


def _plate(letters: Bytes, em: int, full_range: bool) -> tuple[Bytes, Bytes]:
    """Opacity and luma of white letters on a dark plate, uint8, both sides even."""
    pad = round(_PADDING * em)
    tall, wide = (side + 2 * pad + (side + 2 * pad) % 2 for side in letters.shape)
    ink = np.zeros((tall, wide), np.float32)
    ink[pad : pad + letters.shape[0], pad : pad + letters.shape[1]] = letters / np.float32(255)
    opacity = ink + _PLATE * (1 - ink)
    black, white = (0, 255) if full_range else (16, 235)
    luma = (white * ink + black * _PLATE * (1 - ink)) / opacity
    return np.rint(255 * opacity).astype(np.uint8), np.rint(luma).astype(np.uint8)


def _corner(position: str, size: tuple[int, int], plate: tuple[int, int], em: int) -> tuple[int, int]:
    """Where the plate's upper left corner lies: even, inside the picture."""
    assert position in LABEL_POSITIONS
    free = size[0] // 2 * 2 - plate[0], size[1] // 2 * 2 - plate[1]
    margin = min(round(_MARGIN * em), free[0] // 2, free[1] // 2)
    x = margin if position.endswith("left") else free[0] - margin if position.endswith("right") else free[0] // 2
    y = margin if position.startswith("top") else free[1] - margin
    return x // 2 * 2, y // 2 * 2
