"""Stand-ins for face, lips and engine, for tests of what lies around them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import heygemd.pipeline.face.track
import heygemd.pipeline.speech.ears  # both loaded before they are replaced: loading sets the package's attribute
from heygemd.pipeline import engines
from heygemd.pipeline.media import Clip, Frame


class Unchanged:
    """An engine that leaves every picture as it is; others derive from it and change what they are about."""

    name = "nothing"
    in_parallel = False

    def plan(self, clip: Clip, *_: Any) -> Any:
        """With nothing in it; ``planned`` makes others."""
        return self.planned()

    def planned(self, **changes: Any) -> Any:
        """A plan, as ``engines.DrawingPlan``."""
        return SimpleNamespace(
            **{"facts": {"renderer": "none", "reasons": []}, "warnings": [], "passed_through": []}
            | {"region": lambda _: None, "at_hand": lambda _: True, "draw": self.draw, "pack": lambda _: None}
            | changes
        )

    def draw(self, k: int, frame: Frame) -> None:
        """Nothing is done to it."""


def put_in_place(monkeypatch: pytest.MonkeyPatch, engine: Unchanged, **track: Any) -> None:
    """``lipsync`` looks for nobody's face, hears nothing, and takes ``engine``; ``track`` is of the face."""

    def counted(clip: Clip, *_: Any) -> Any:
        clip.learn()
        return SimpleNamespace(**{"finder": "nobody", "warnings": []} | track)

    monkeypatch.setattr(heygemd.pipeline.face.track, "track", counted)
    monkeypatch.setattr(heygemd.pipeline.face.track, "thinned", lambda track: track)
    monkeypatch.setattr(heygemd.pipeline.speech.ears, "speak", lambda *_, **__: None)
    monkeypatch.setattr(engines, "load", lambda _: engine)
