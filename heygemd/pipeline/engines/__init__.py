"""Step 4: what an engine is, and which ones there are.

A drawing engine edits the template's frames: it makes a ``DrawingPlan`` from the analysis, and the plan draws into one
decoded frame after the other and changes nothing outside the mouth's region.  ``command`` and ``duix`` are different: a
program of the operator's (``engines/command.py``) or a container (``engines/duix``) makes whole frames by itself.

May import: common, contract, models, pipeline.ffmpeg, pipeline.face, pipeline.image, pipeline.marking, pipeline.media,
pipeline.result, pipeline.speech, pipeline.template_cache.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from heygemd.common.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from heygemd.contract.job import Settings, Tell
    from heygemd.pipeline.face.track import FaceTrack
    from heygemd.pipeline.image.compose import Area, Planes
    from heygemd.pipeline.media import Clip, Frame, Samples
    from heygemd.pipeline.speech.lips import LipTrack
    from heygemd.pipeline.template_cache import Arrays


Facts = dict[str, object]
"""Plain data for the job's log, by snake_case name."""


class DrawingPlan(Protocol):
    """What a drawing engine will do to each output frame, decided before the first one is drawn."""

    @property
    def facts(self) -> Facts:
        """For the log: ``renderer``, ``reasons`` and the numbers behind them."""

    @property
    def passed_through(self) -> list[tuple[int, int]]:
        """Ranges of output frames, both ends included, that are left as they are."""

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """(code, sentence) of everything that a person should know of."""

    def region(self, k: int) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) in luma pixels, all even, outside of which frame ``k`` is untouched; ``None``: all of
        it is."""

    def at_hand(self, k: int) -> bool:
        """Whether ``pixels(k)`` are known without decoding the template."""

    def pixels(self, k: int) -> tuple[Area, Planes] | None:
        """The template's own pixels of ``region(k)``, where they are at hand: a frame that holds them, and anything
        elsewhere, is then enough for ``draw``."""

    def draw(self, k: int, frame: Frame) -> None:
        """Edit output frame ``k``, a copy of template frame ``order[k]``, in place."""

    def pack(self, folder: Path) -> Arrays | None:
        """All of the plan as arrays without objects in them, and files in ``folder`` whose names begin with ``plan-``;
        ``None`` where it is quickly made again.  Raises ``OSError``."""


class DrawingEngine(Protocol):
    """Makes mouths in the template's frames."""

    name: str
    in_parallel: bool
    """Whether a plan's ``draw`` may be called for several frames at a time, by threads."""

    def plan(
        self,
        clip: Clip,
        track: FaceTrack,
        lip: LipTrack,
        samples: Samples,
        order: npt.NDArray[np.int64],
        settings: Settings,
        template_audio: Samples | None,
        tell: Tell,
    ) -> DrawingPlan:
        """Decide everything.

        ``lip``: mouth shapes at 50 Hz; ``samples``: the sound, 16 kHz mono; ``order``: which template picture each
        output frame shows, int64 (N,); ``template_audio``: the template's own sound, 16 kHz mono, sample 0 at the
        moment of its picture 0, ``None`` where it has none.
        """

    def unpack(self, arrays: Arrays, folder: Path) -> DrawingPlan:
        """The inverse of ``DrawingPlan.pack``.  Raises ``OSError``, ``ValueError`` or ``KeyError`` where a file is
        damaged."""


@cache
def _wav2lip() -> DrawingEngine:
    """One for the whole process: it keeps its network from film to film."""
    from heygemd.pipeline.engines.wav2lip import Wav2Lip

    return Wav2Lip()


def load(name: str) -> DrawingEngine:
    """The engine of that name.  Raises ``SetupError`` where this installation has no such engine."""
    if name == "footage":
        from heygemd.pipeline.engines.footage import Footage

        return Footage()
    if name == "wav2lip":
        return _wav2lip()
    raise SetupError(f'The engine "{name}" is not installed.  Cure: choose engine "footage" or "command".')
