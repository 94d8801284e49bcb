"""The engine: geometry, silence, edges, whole films with a random checkpoint (garbage, in the right place)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heygemd.common.errors import SetupError
from heygemd.contract.job import Quiet, Settings, Task
from heygemd.pipeline import lipsync
from heygemd.pipeline.engines.wav2lip import Ahead, Wav2Lip, Wav2LipPlan, box, colour, mel, network, quietened
from heygemd.pipeline.engines.wav2lip.blend import Painter
from heygemd.pipeline.engines.wav2lip.run import onednn, runners
from heygemd.pipeline.engines.wav2lip.run.onnx_graph import graph
from heygemd.pipeline.face import detect
from heygemd.pipeline.face import track as face_track
from heygemd.pipeline.image.geometry import EYES, IO, move
from heygemd.pipeline.speech import lips
from tests.pipeline.engines.wav2lip.checkpoints import skip_without_bf16, store_with_random_checkpoint
from tests.pipeline.faces import EYE_PX, SETTINGS, FakeClip, Silent, empty, portrait
from tests.pipeline.films import ffmpeg, tone

COUNT = 30


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_with_random_checkpoint(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def clip() -> FakeClip:
    return FakeClip(portrait(), COUNT)


@pytest.fixture(scope="module")
def track(clip: FakeClip) -> face_track.FaceTrack:
    return face_track.track(clip, detect.choose(SETTINGS), SETTINGS, "v.mp4", Silent())


def settings(models: Path, **more: Any) -> Settings:
    return Settings(engine="wav2lip", threads=1, device="cpu", models_dir=str(models), **more)


def speech(seconds: float) -> np.ndarray:
    """Something that the voice gate takes for a voice: a buzz with moving formants."""
    t = np.arange(int(seconds * 16000)) / 16000
    buzz = sum(np.sin(2 * np.pi * 120 * h * t) / h for h in range(1, 25))
    return (0.2 * buzz * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)


def voiced(frames: int, first: int = 0, last: int | None = None) -> Any:
    """A LipTrack that speaks from 50 Hz frame ``first`` to ``last``."""
    lip = lips.speak(np.zeros(frames * 320, np.float32))
    lip.voice[first:last] = 1
    return lip


@pytest.fixture(scope="module")
def engine() -> Wav2Lip:
    """One, which keeps its network from plan to plan."""
    return Wav2Lip()


@pytest.fixture
def plan(engine: Wav2Lip, models: Path, clip: FakeClip, track: face_track.FaceTrack) -> Wav2LipPlan:
    order = np.arange(COUNT)
    return engine.plan(clip, track, voiced(60), speech(1.2), order, settings(models), None, Silent())


class Mirror:
    """A network that gives back what it sees."""

    size, batch, on_gpu = 96, 8, False

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.asked: list[int] = []

    def __call__(self, sounds: np.ndarray, faces: np.ndarray) -> np.ndarray:
        self.asked.append(len(faces))
        return faces.copy()


def test_the_box_holds_the_face_as_the_detector_of_the_training_data_drew_it() -> None:
    eyes = np.array([[EYES[0] - IO / 2, EYES[1]], [EYES[0] + IO / 2, EYES[1]]])
    transform = box.to_canonical(96)
    inverse = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))[:2]
    (left, y), (right, _) = move(inverse, eyes)
    assert right - left == pytest.approx(96 / 2.2)
    assert (left + right) / 2 == pytest.approx(48, abs=0.6)
    assert 0.28 * 96 < y < 0.40 * 96  # the eyes in the upper half, so that they are never blanked


def test_a_network_that_changes_nothing_leaves_the_picture_as_it_was(plan: Wav2LipPlan, clip: FakeClip) -> None:
    plan.runner, plan.ready, plan.painter.sharpen = Mirror(), {}, 0.0
    for k in (0, 9, 21):
        before, frame = clip.frame(k), clip.frame(k)
        plan.draw(k, frame)
        off = np.abs(before.y.astype(int) - frame.y)
        assert 0 < off.mean() < 0.5 and np.percentile(off, 99.5) < 14  # what 96 px cannot hold
        assert np.abs(before.u.astype(int) - frame.u).max() < 20


def test_nothing_outside_of_the_told_region_is_touched(plan: Wav2LipPlan, clip: FakeClip) -> None:
    for k in (0, 14, 29):
        before, frame = clip.frame(k), clip.frame(k)
        plan.draw(k, frame)
        x0, y0, x1, y1 = plan.region(k) or (0, 0, 0, 0)
        assert all(v % 2 == 0 for v in (x0, y0, x1, y1)) and (x1 - x0) * (y1 - y0) < 480 * 400 / 4
        for was, is_, step in ((before.y, frame.y, 1), (before.u, frame.u, 2), (before.v, frame.v, 2)):
            changed = was != is_
            assert changed.any()
            changed[y0 // step : y1 // step, x0 // step : x1 // step] = False
            assert not changed.any()


def test_the_mouth_is_inside_the_mask_and_the_eyes_are_not(plan: Wav2LipPlan) -> None:
    mask = box.shown(96)
    where = np.linalg.inv(np.vstack([box.to_canonical(96), [0, 0, 1]]))[:2]
    x, y = move(where, np.array([[EYES[0], EYES[1] + 1.08 * IO]]))[0].round().astype(int)
    assert mask[y, x] == 1
    assert not mask[:44].any() and not mask[:, :6].any() and not mask[:, -6:].any()
    assert np.abs(np.diff(mask, axis=0)).max() < 0.2 and np.abs(np.diff(mask, axis=1)).max() < 0.2


def test_frames_come_out_the_same_in_any_order(models: Path, clip: FakeClip, track: face_track.FaceTrack) -> None:
    engine = Wav2Lip()
    args = (voiced(60), speech(1.2), np.arange(COUNT), settings(models), None, Silent())
    one, other = (engine.plan(clip, track, *args) for _ in range(2))
    for k in (25, 3, 26):
        a, b = clip.frame(k), clip.frame(k)
        for earlier in range(k):
            one.mouth(earlier) if k == 3 else None
        one.draw(k, a)
        other.draw(k, b)
        assert (a.data == b.data).all()


def test_pictures_are_made_in_batches_and_only_one_batch_is_kept(plan: Wav2LipPlan, clip: FakeClip) -> None:
    mirror = Mirror()
    plan.runner, plan.ready = mirror, {}
    for k in range(COUNT):
        plan.mouth(k)
    assert mirror.asked == [8, 8, 8, 6] and len(plan.ready) == 6


def test_batches_made_ahead_are_those_that_would_have_been_made(plan: Wav2LipPlan) -> None:
    order = [0, 5, 8, 29, 3, 16]
    plan.runner, plan.ready = Mirror(), {}
    wanted = [plan.mouth(k) for k in order]
    ahead = Mirror()
    plan.runner, plan.ready, plan.ahead = ahead, {}, Ahead()
    assert all((plan.mouth(k) == w).all() for k, w in zip(order, wanted, strict=True))
    assert ahead.asked[:3] == [8, 8, 8]


def test_batches_of_which_nothing_is_shown_are_passed_over(plan: Wav2LipPlan) -> None:
    plan.runner, plan.ready, plan.ahead = (ahead := Mirror()), {}, Ahead()
    plan.weights[:], plan.weights[8:16] = 1, 0
    for k in (*range(8), *range(16, COUNT)):
        plan.mouth(k)
    assert ahead.asked == [8, 8, 6]


def test_what_goes_wrong_ahead_is_told_when_it_is_wanted(plan: Wav2LipPlan) -> None:
    class Full(Mirror):
        def __call__(self, sounds: np.ndarray, faces: np.ndarray) -> np.ndarray:
            if self.asked:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(sounds, faces)

    plan.runner, plan.ready, plan.ahead = Full(), {}, Ahead()
    plan.mouth(0)
    with pytest.raises(torch.OutOfMemoryError):
        plan.mouth(8)


def test_onnxruntime_that_falls_back_to_the_processor_is_told(net: network.Wav2LipNet) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SetupError, match="onnxruntime cannot use CUDA here"):
        runners.OnnxRunner(graph(runners.folded(net)), 96, cuda=True)


def test_frames_without_a_face_are_left_alone_and_told(models: Path, track: face_track.FaceTrack) -> None:
    whole = portrait()
    clip = FakeClip(lambda i: empty(i) if 10 <= i < 16 else whole(i), COUNT)
    usable = np.ones(COUNT, bool)
    usable[10:16] = False
    lost = face_track.FaceTrack(track.transforms, track.quality, usable, EYE_PX, 1.0, 1, (), track.crops)
    engine = Wav2Lip()
    plan = engine.plan(clip, lost, voiced(60), speech(1.2), np.arange(COUNT), settings(models), None, Silent())
    assert plan.passed_through == [(10, 15)]
    for k in range(10, 16):
        before, frame = clip.frame(k), clip.frame(k)
        plan.draw(k, frame)
        assert plan.region(k) is None and (frame.data == before.data).all()
    assert plan.weights[9] == pytest.approx(0.2) and plan.weights[16] == pytest.approx(0.2) and plan.weights[4] == 1


def test_in_silence_a_still_keeps_its_own_mouth(models: Path, track: face_track.FaceTrack) -> None:
    clip = FakeClip(portrait(), 1)
    still = face_track.FaceTrack(
        track.transforms[:1], track.quality[:1], track.usable[:1], EYE_PX, 1.0, 1, (), track.crops
    )
    order = np.zeros(50, np.int64)
    plan = Wav2Lip().plan(clip, still, voiced(100, 40, 60), speech(2), order, settings(models), None, Silent())
    assert plan.weights[10] == 0 and plan.weights[25] == 1 and plan.weights[45] == 0
    assert plan.region(10) is None and plan.region(25) is not None


def test_noise_without_a_voice_is_silence_to_the_network() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    heard = mel.spectrogram(noise)
    assert heard.max() > 0
    assert (quietened(heard, np.zeros(50)) == mel.FLOOR).all()
    assert np.allclose(quietened(heard, np.ones(50)), heard, atol=1e-6)


def test_the_offset_moves_the_sound_under_the_mouth(plan: Wav2LipPlan) -> None:
    heard: list[np.ndarray] = []

    class Listener(Mirror):
        def __call__(self, sounds: np.ndarray, faces: np.ndarray) -> np.ndarray:
            heard.append(sounds)
            return faces

    plan.runner, face_ = Listener(), np.zeros((1, 96, 96, 3), np.uint8)
    plan.speak([10], face_)
    plan.offset = 0.04
    plan.speak([11], face_)
    assert (heard[0] == heard[1]).all()


@pytest.mark.parametrize(("space", "spread"), [("bt709", "tv"), ("smpte170m", "pc"), (None, None), ("bt2020nc", "tv")])
def test_colours_survive_the_way_there_and_back(space: str | None, spread: str | None) -> None:
    tones = colour.of({"color_space": space, "color_range": spread}, 1080)
    y, u, v = (np.full((2, 2), n, np.uint8) for n in (120, 110, 140))
    back = tones.planes(tones.bgr(y, u, v))
    assert np.abs(back - [120, 110, 140]).max() < 1.2
    grey = tones.bgr(y, *(np.full((2, 2), 128, np.uint8),) * 2)
    assert (grey == grey[..., :1]).all()


def test_mouths_are_sharpened_to_the_templates_own_detail(clip: FakeClip, track: face_track.FaceTrack) -> None:
    painter = Painter(track.transforms, 96, clip.width, clip.height, colour.of(clip.colour, clip.height))
    flat = np.full((96, 96, 3), 128, np.uint8)
    noisy = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    ratios = [painter.detail(clip.frame(0), 0, mouth) for mouth in (flat, noisy)]
    assert ratios[0] is not None and ratios[1] is not None and ratios[0] > 10 and ratios[1] < 1


@pytest.fixture(scope="module")
def net() -> network.Wav2LipNet:
    return network.from_weights(network.random_weights(1))


def test_no_film_depends_on_the_rows_that_are_not_made(plan: Wav2LipPlan, clip: FakeClip) -> None:
    top, painter = box.first_row(96), plan.painter
    assert 30 < top < 48
    mouth = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    other, painter.sharpen = mouth.copy(), 1.5
    for row, changes in ((top, False), (top + box.AROUND + 4, True)):
        other[:row] = 255 - other[:row]
        frames = [clip.frame(7), clip.frame(7)]
        for frame, picture in zip(frames, (mouth, other), strict=True):
            painter.paint(frame, 7, picture, 1.0)
        assert (frames[0].data != frames[1].data).any() == changes
        details = [painter.detail(clip.frame(7), 7, picture) for picture in (mouth, other)]
        assert (details[0] == details[1]) != changes


@pytest.mark.parametrize("size", network.SIZES)
def test_rows_that_are_made_are_those_of_the_whole_picture(size: int) -> None:
    whole, part = (network.from_weights(network.random_weights(3, size)) for _ in range(2))
    sounds, faces = torch.randn(2, 1, 80, 16), torch.rand(2, 6, size, size)
    with torch.inference_mode():
        wanted = whole(sounds, faces)
        for top in (1, 2, box.first_row(size), size - 1):
            part.begin_at(top)
            made = part(sounds, faces)
            assert made.shape == (2, 3, size - top, size)
            assert (made - wanted[:, :, top:]).abs().max() < 1e-5


@pytest.mark.parametrize("backend", ["torch", "torch-bf16", "onnxruntime"])
def test_every_way_of_running_the_network_gives_its_pictures(backend: str, net: network.Wav2LipNet) -> None:
    skip_without_bf16(backend)
    runner = runners.on_cpu(net, 1, backend)
    runner.batch = 2
    found = runners.compared(net, runner, threads=1, rounds=1)
    assert found["error"] <= (3 if backend == "torch-bf16" else 1) and found["chosen"]["fps"] > 0
    assert found["psnr_db"] > 45  # half precision must not show
    assert found["rows"] == [box.first_row(96), 96]
    sounds, faces = runners.given(2, 96)
    made = runner(sounds, faces)
    assert made.shape == faces.shape and (made[:, : runner.top] == faces[:, : runner.top]).all()
    assert found["plain"]["batch"] == 2


def test_bfloat16_is_never_chosen_where_the_processor_cannot_run_it(
    net: network.Wav2LipNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_multiplies_bf16", lambda: True)
    monkeypatch.setattr(runners, "runs_bf16", lambda: True)
    assert runners.best_backend() == "torch-bf16"
    monkeypatch.setattr(runners, "runs_bf16", lambda: False)
    assert runners.best_backend() in ("onnxruntime", "torch")
    with pytest.raises(SetupError, match="bfloat16"):
        runners.on_cpu(net, 1, "torch-bf16")


def test_layers_that_are_not_fused_give_the_same_pictures(
    net: network.Wav2LipNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn.available():
        pytest.skip("this torch has no fused operators")
    one = runners.on_cpu(net, 1, "torch")
    monkeypatch.setattr(onednn, "available", lambda: False)
    other = runners.on_cpu(net, 1, "torch")
    assert (one.facts["backend"], other.facts["backend"]) == ("torch, fused", "torch")
    sounds, faces = runners.given(3, 96)
    made = one(sounds, faces)
    assert np.abs(made.astype(int) - other(sounds, faces)).max() <= 1
    assert (made[:1] != one(sounds[1:2], faces[:1])).any()  # the sound matters


def test_without_a_checkpoint_the_cure_is_told(tmp_path: Path, clip: FakeClip, track: face_track.FaceTrack) -> None:
    args = (clip, track, voiced(10), speech(0.2), np.arange(5))
    with pytest.raises(SetupError, match=r"none is imported.*heygemd models import"):
        Wav2Lip().plan(*args, settings(tmp_path), None, Silent())


def test_a_gpu_that_is_not_there_is_told(models: Path, clip: FakeClip, track: face_track.FaceTrack) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    asked = Settings(engine="wav2lip", device="cuda", models_dir=str(models))
    with pytest.raises(SetupError, match="torch finds no GPU"):
        Wav2Lip().plan(clip, track, voiced(10), speech(0.2), np.arange(5), asked, None, Silent())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("film") / "template.mp4"
    raw = b"".join(np.ascontiguousarray(portrait()(i)).tobytes() for i in range(25))
    source = ("-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "480x400", "-r", "25", "-i", "pipe:0")
    ffmpeg(*source, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-pix_fmt", "yuv420p", path, feed=raw)
    yield path


def test_a_whole_film_is_made_and_verified(tmp_path: Path, models: Path, film: Path) -> None:
    (tmp_path / "work").mkdir()
    sound = tone(tmp_path / "a.wav", 1.6)
    task = Task(sound, film, tmp_path / "work", "a.wav", "v.mp4", settings(models, preset="ultrafast"))
    result = lipsync(task, Quiet()).to_json()
    assert result["output"]["frames"] == 40 and result["verified"]
    facts = result["engine"]
    assert (facts["name"], facts["renderer"], facts["model"]) == ("wav2lip", "wav2lip-96", "random")
    assert facts["weights"]["commercial"] is None
    assert [w["code"] for w in result["warnings"]].count("model_terms") == 1
