"""A template clip made from the public-domain portrait that the project ships: motion is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import cv2
import numpy as np

from heygemd.contract.job import Settings
from heygemd.pipeline.media import Frame
from heygemd.pipeline.template_cache import NOTHING
from tests.site import ROOT

PORTRAIT = ROOT / "heygemd" / "data" / "portrait.jpg"
EYES = np.array([[204.3, 102.4], [246.5, 104.4]])  # in the portrait, by an outside landmark model
EYE_PX = float(np.hypot(*(EYES[1] - EYES[0])))
SETTINGS = Settings(threads=1, finder="haar")
Picture = Callable[[int], np.ndarray]


class Silent:
    """Says nothing."""

    def progress(self, stage: str, frame: int, of: int) -> None:
        """Ignored."""

    def event(self, name: str, level: str = "info", **fields: object) -> None:
        """Ignored."""


class FakeClip:
    """A clip whose pictures are made on demand from frame numbers."""

    def __init__(self, picture: Picture, count: int, width: int = 480, height: int = 400) -> None:
        self._picture, self.count, self.width, self.height = picture, count, width, height
        self.fps = Fraction(25)
        self.memory = NOTHING
        self.colour: dict[str, str | None] = {}

    def frame(self, i: int) -> Frame:
        planes = cv2.cvtColor(self._picture(i), cv2.COLOR_BGR2YUV_I420)
        return Frame(np.ascontiguousarray(planes).reshape(-1).copy(), self.width, self.height)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        return (self.frame(i) for i in range(start, self.count))

    counted = True

    def glances(self, most: int) -> dict[int, Frame]:
        wanted = np.unique(np.linspace(0, self.count - 1, most + 2).astype(int)[1:-1])
        return {int(i): self.frame(int(i)) for i in wanted}

    def walk(self, order: Sequence[int]) -> Iterator[Frame]:
        return (self.frame(int(i)) for i in order)


def placed(i: int, scale: float = 1.6, sway: float = 4.0) -> np.ndarray:
    """Portrait to picture ``(2, 3)`` in frame ``i``: a head that sways and rolls a little."""
    angle = 0.012 * np.sin(i / 5.0)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    goal = np.array([240 + sway * np.sin(i / 4.0), 170 + 0.5 * sway * np.sin(i / 3.0)])
    return np.hstack([linear, (goal - linear @ EYES.mean(0))[:, None]])


def portrait(scale: float = 1.6, sway: float = 4.0, speaking: float = 0.0) -> Picture:
    """A film of the portrait; ``speaking`` px of chin motion make a template that speaks."""
    source = cv2.imread(str(PORTRAIT))
    y, x = np.mgrid[0:512, 0:512].astype(np.float32)

    def picture(i: int) -> np.ndarray:
        drop = speaking * (0.5 + 0.5 * np.sin(i * 0.9) * np.cos(i * 0.23))
        where = 1 / (1 + np.exp(np.clip(-(y - 147) / 1.5, -50, 50))) * np.exp(-((np.abs(x - 224) / 34) ** 4))
        where = (where * np.clip((215 - y) / 40, 0, 1)).astype(np.float32)
        face = cv2.remap(source, x, y - np.float32(drop) * where, cv2.INTER_LINEAR) if speaking else source
        return cv2.warpAffine(
            face, placed(i, scale, sway), (480, 400), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )

    return picture


def empty(_: int) -> np.ndarray:
    """Nobody: bars, as ffmpeg's testsrc has them."""
    colours = np.random.default_rng(0).integers(0, 255, (1, 12, 3), dtype=np.uint8)
    return cv2.resize(colours, (480, 400), interpolation=cv2.INTER_NEAREST)
