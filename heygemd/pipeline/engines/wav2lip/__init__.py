"""Step 4: Wav2Lip, our own implementation; it runs with a checkpoint that the operator imported (``heygemd models``).

Frames stream: the boxes of the next batch of output frames are taken ahead of time, from the tracker's canonical
pictures where it kept them, so that memory does not grow with length.  What differs from the reference, on purpose:
boxes follow the face's own similarity, smoothed over the whole clip to both sides; a frame without a face is left as
it is; only mouth and chin are shown, behind a soft edge, matched to the frame in colour and sharpness; silence is
silent to the network, whatever noise is in it; and no frame is lost at the end.

May import: common, contract, models, pipeline.engines, pipeline.face, pipeline.image, pipeline.media, pipeline.speech,
pipeline.template_cache.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heygemd.common.errors import SetupError
from heygemd.models.store import Model, ModelStore
from heygemd.pipeline.engines.footage.target import RATE, gate
from heygemd.pipeline.engines.wav2lip import colour, mel
from heygemd.pipeline.engines.wav2lip.blend import Painter, sharpening
from heygemd.pipeline.engines.wav2lip.box import Boxes
from heygemd.pipeline.engines.wav2lip.run import runners
from heygemd.pipeline.engines.wav2lip.run.runner import Runner
from heygemd.pipeline.face.follow import runs
from heygemd.pipeline.face.track import FaceTrack
from heygemd.pipeline.image.geometry import Bytes, Floats, Singles

if TYPE_CHECKING:
    from heygemd.contract.job import Settings, Tell
    from heygemd.pipeline.engines import Facts
    from heygemd.pipeline.image.compose import Area, Planes
    from heygemd.pipeline.media import Clip, Frame
    from heygemd.pipeline.speech.lips import LipTrack
    from heygemd.pipeline.template_cache import Arrays

EDGE = 5
"""Output frames over which the mouth fades in and out beside frames that are left as they are."""
SHOWN_FROM = 0.01
_SAMPLES = 8  # frames that sharpness is measured on


@dataclass(slots=True)
class Wav2LipPlan:
    """As the contract of engines wants it; ``weights`` ``(N,)`` 0..1: how much of the network's mouth is shown."""

    boxes: Boxes
    painter: Painter
    sounds: Singles
    offset: float
    order: npt.NDArray[np.int64]
    weights: Floats
    runner: Runner
    fps: float
    facts: Facts
    passed_through: list[tuple[int, int]]
    warnings: list[tuple[str, str]] = field(default_factory=list)
    ready: dict[int, Bytes] = field(default_factory=dict)
    ahead: Ahead | None = None

    def region(self, k: int) -> tuple[int, int, int, int] | None:
        """All that ``draw`` may change in output frame ``k``."""
        where = self.painter.area(int(self.order[k])) if self.weights[k] > SHOWN_FROM else None
        return None if where is None else where.bounds

    def at_hand(self, k: int) -> bool:
        """Only where nothing is edited: each picture is decoded."""
        return self.region(k) is None

    def pixels(self, k: int) -> tuple[Area, Planes] | None:  # noqa: ARG002 - part of the contract
        """None."""
        return None

    def draw(self, k: int, frame: Frame) -> None:
        """Edit output frame ``k``, a decoded copy of template frame ``order[k]``, in place."""
        if self.weights[k] > SHOWN_FROM:
            self.painter.paint(frame, int(self.order[k]), self.mouth(k), float(self.weights[k]))

    def pack(self, folder: Path) -> None:
        """None: it is made again within a moment, and its network has to be loaded all the same."""

    def mouth(self, k: int) -> Bytes:
        """The network's picture for output frame ``k``, made with those of its batch."""
        if k not in self.ready:
            first = k - k % self.runner.batch
            self.ready = self._make(first) if self.ahead is None else self.ahead.take(first, self._next, self._make)
        return self.ready[k]

    def _next(self, first: int) -> int | None:
        """The next batch of which anything is shown."""
        batch = self.runner.batch
        later = range(first + batch, len(self.order), batch)
        return next((k for k in later if (self.weights[k : k + batch] > SHOWN_FROM).any()), None)

    def _make(self, first: int) -> dict[int, Bytes]:
        """The batch that begins with output frame ``first``."""
        wanted = range(first, min(first + self.runner.batch, len(self.order)))
        shown = [k for k in wanted if self.weights[k] > SHOWN_FROM]
        made = self.speak(shown, self.boxes.of([int(self.order[k]) for k in shown]))
        return dict(zip(shown, made, strict=True))

    def speak(self, frames: list[int], faces: Bytes) -> Bytes:
        """The network's pictures for these output frames, from box pictures ``(n, size, size, 3)``."""
        windows = [mel.window(self.sounds, k / self.fps - self.offset) for k in frames]
        return self.runner(np.array(windows, np.float32), faces)


class Ahead:
    """Makes the next batch while the frames of this one are painted and encoded: where the network runs on a GPU, it
    and the processor then work at the same time.  At most two batches are held."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "network")
        self._coming: tuple[int, Future[dict[int, Bytes]]] | None = None

    def take(
        self, first: int, after: Callable[[int], int | None], make: Callable[[int], dict[int, Bytes]]
    ) -> dict[int, Bytes]:
        """What ``make(first)`` gives, with the batch ``after`` it begun; raises what ``make`` raises."""
        if self._coming is None or self._coming[0] != first:
            self._coming = (first, self._worker.submit(make, first))
        made = self._coming[1].result()
        following = after(first)
        self._coming = None if following is None else (following, self._worker.submit(make, following))
        return made


class Wav2Lip:
    """The engine; keeps the network between the films of one process."""

    name = "wav2lip"
    in_parallel = False

    def __init__(self) -> None:
        self._loaded: tuple[object, Runner] | None = None

    def plan(
        self,
        clip: Clip,
        track: FaceTrack,
        lip: LipTrack,
        samples: Singles,
        order: npt.NDArray[np.int64],
        settings: Settings,
        template_audio: Singles | None,
        tell: Tell,
    ) -> Wav2LipPlan:
        """Load the network, decide what is shown where, and measure how sharp the template is.

        Raises SetupError where no model is imported, or CUDA is asked for and not there.
        """
        model, runner = self._network(settings, tell)
        order = np.asarray(order, np.int64)
        fps = float(clip.fps)
        spoken = np.asarray(gate(np.asarray(lip.voice, np.float64)))
        tones = colour.of(clip.colour, clip.height)
        usable = track.usable[order]
        plan = Wav2LipPlan(
            boxes=Boxes(clip, track, runner.size, tones),
            painter=Painter(track.transforms, runner.size, clip.width, clip.height, tones),
            sounds=quietened(mel.spectrogram(samples), spoken),
            offset=settings.wav2lip.av_offset_ms / 1000,
            order=order,
            weights=_weights(usable, spoken, order, fps, _own_gate(template_audio, clip.count)),
            runner=runner,
            fps=fps,
            facts={},
            passed_through=runs(~usable),
            warnings=_terms(model),
            ahead=Ahead() if runner.on_gpu else None,
        )
        amount, ratio = _sharpness(plan, clip, settings.wav2lip.sharpen)
        plan.painter.sharpen = amount
        times = (np.arange(len(order)) + 0.5) / fps
        plan.facts = {
            "renderer": f"wav2lip-{runner.size}",
            "reasons": [f"the imported model {model.name} is a Wav2Lip with {runner.size} px"],
            **_network_facts(model, runner),
            "av_offset_ms": settings.wav2lip.av_offset_ms,
            "eye_px": round(track.eye_px, 1),
            "enlarged": round(plan.painter.enlargement(order), 2),
            "sharpened": round(amount, 2),
            "template_detail": round(ratio, 2),
            "spoken_share": round(float((_sampled(spoken, times) > 0).mean()), 2) if len(order) else 0.0,
            "left_alone": int((plan.weights <= SHOWN_FROM).sum()),
        }
        return plan

    def unpack(self, arrays: Arrays, folder: Path) -> Wav2LipPlan:
        """Never asked for."""
        raise NotImplementedError

    def _network(self, settings: Settings, tell: Tell) -> tuple[Model, Runner]:
        store = ModelStore(Path(settings.models_dir))
        model = store.one("wav2lip", settings.wav2lip.model)
        if model is None:
            raise SetupError(
                'The engine "wav2lip" needs a checkpoint, but none is imported.  Cure: heygemd models import '
                "wav2lip_gan.pth"
            )
        key = (str(store.folder), model, settings.device, settings.threads, settings.wav2lip.batch)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # gives the memory back first
            files = store.trusted(model)
            runner = runners.load(files, model.size, settings.device, settings.threads, settings.wav2lip.batch, tell)
            self._loaded = (key, runner)
            tell.event("model_loaded", model=model.name, licence=model.licence, **runner.facts)
        return model, self._loaded[1]


def _network_facts(model: Model, runner: Runner) -> Facts:
    return {"model": model.name, "weights": model.facts(), **runner.facts, "batch": runner.batch}


def quietened(sounds: Singles, spoken: Floats) -> Singles:
    """A spectrogram ``(80, t)`` that falls to digital silence where the voice gate (50 Hz) is shut."""
    times = np.arange(sounds.shape[1]) / mel.PER_SECOND
    out: Singles = (mel.FLOOR + _sampled(spoken, times) * (sounds - mel.FLOOR)).astype(np.float32)
    return out


def _sampled(spoken: Floats, times: Floats) -> Floats:
    grid = (np.arange(len(spoken)) + 0.5) / RATE
    return np.interp(times, grid, spoken) if len(spoken) else np.zeros(len(times))


def _own_gate(template_audio: Singles | None, count: int) -> Floats | None:
    """The gate (50 Hz) of the template's own voice; None where its mouth may move without our hearing it.  A still's
    mouth never moves."""
    if count == 1:
        return np.zeros(0)
    if template_audio is None or not len(template_audio):
        return None
    from heygemd.pipeline.speech import lips

    own: Floats = gate(np.asarray(lips.speak(template_audio).voice, np.float64))
    return own if (own > 0).mean() > 0.05 else None


def _weights(
    usable: npt.NDArray[np.bool_], spoken: Floats, order: npt.NDArray[np.int64], fps: float, own: Floats | None
) -> Floats:
    """How much of the network's mouth each output frame shows.

    None of it without a face, nor where both the new sound and the template are silent: its own resting mouth
    is the better one.  Where nobody can tell whether the template's mouth moves, all of it.
    """
    weights = np.ones(len(order))
    if own is not None:
        new = _sampled(spoken, (np.arange(len(order)) + 0.5) / fps)
        weights = np.maximum(new, _sampled(own, (order + 0.5) / fps))
    ramp = usable.astype(np.float64)
    for step in range(1, EDGE):
        for shift in (-step, step):
            moved = np.roll(usable, shift)
            moved[slice(None, shift) if shift > 0 else slice(shift, None)] = True
            ramp = np.where(moved, ramp, np.minimum(ramp, step / EDGE))
    return np.minimum(weights, ramp * usable)


def _terms(model: Model) -> list[tuple[str, str]]:
    return [] if model.commercial else [("model_terms", f"Made with the model {model.name}. {model.terms}")]


def _sharpness(plan: Wav2LipPlan, clip: Clip, wanted: float) -> tuple[float, float]:
    """How much to sharpen, and the template's detail as a multiple of the network's, measured on a few frames."""
    shown = np.flatnonzero(plan.weights > 0.5)
    if not len(shown):
        return 0.0, 0.0
    # Rising in the template, so that one forward pass reads them all.
    chosen = shown[np.unique(np.linspace(0, len(shown) - 1, _SAMPLES).astype(int))]
    chosen = chosen[np.argsort(plan.order[chosen], kind="stable")]
    indices = [int(plan.order[k]) for k in chosen]
    made = plan.speak(chosen.tolist(), plan.boxes.of(indices))
    ratios = [
        plan.painter.detail(frame, i, mouth) for i, mouth, frame in zip(indices, made, clip.walk(indices), strict=False)
    ]
    ratio = float(np.median([r for r in ratios if r is not None] or [1.0]))
    return sharpening(ratio) * wanted, ratio
