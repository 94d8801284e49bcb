"""Whole films through the stand-in container: frame-exact over joints, and right in the end whatever it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heygemd.common.errors import EngineError, SetupError
from heygemd.contract.job import DuixSettings, LabelSettings, Quiet, Task
from heygemd.pipeline import lipsync
from heygemd.pipeline.engines.duix import film, submission
from heygemd.pipeline.media import output_order
from tests.fakes.duix import Duix, Faults, serving
from tests.pipeline.films import HEIGHT, QUICK, WIDTH, bursts, number_of, numbered, raw_planes, tone

FRAMES = 62  # of 2.5 s at 25 a second


class Ear(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.progressed: list[tuple[str, int, int]] = []

    def progress(self, stage: str, frame: int, of: int) -> None:
        self.progressed.append((stage, frame, of))

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        self.events.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A template of 40 numbered pictures, and 2.5 s of sound with bursts at 0.5 s and 2 s."""
    folder = tmp_path_factory.mktemp("inputs")
    return bursts(folder / "a.wav"), numbered(folder / "v.mp4", 40)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for tests."""
    timeouts = submission.Timeouts(poll=0.05, task=30, busy=0.3, silence=0.5, trouble=0.5, film=2.0)
    monkeypatch.setattr(film, "Timeouts", lambda poll, task: replace(timeouts, task=task))


@pytest.fixture
def made(tmp_path: Path, inputs: tuple[Path, Path], quick: None) -> Iterator[Callable[..., Any]]:
    """A job by a container with faults: ``(task, duix)``."""
    served = []

    def begin(faults: Faults | None = None, **changes: Any) -> tuple[Task, Duix]:
        duix = Duix(tmp_path / "shared", faults or Faults())
        context = serving(duix)
        served.append(context)
        url = context.__enter__()
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        container = DuixSettings(url, str(duix.folder), part_seconds=1.4)
        settings = replace(QUICK, engine="duix", duix=container, **changes)
        return Task(*inputs, work, "lesson.wav", "lesson.mp4", settings), duix

    yield begin
    for context in served:
        context.__exit__(None, None, None)


def left(duix: Duix) -> list[str]:
    return sorted(path.name for path in duix.temp.iterdir())


def shown(path: Path) -> tuple[list[int], list[bool]]:
    """Each picture's number, read above the bar, and whether the bar is there."""
    planes = [plane[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH) for plane in raw_planes(path, WIDTH, HEIGHT)]
    return [number_of(p[: HEIGHT // 2]) for p in planes], [float(p[-HEIGHT // 4 :].mean()) > 220 for p in planes]


def test_a_film_in_parts_is_frame_exact_and_nothing_is_left_behind(made: Any) -> None:
    task, duix = made()
    ear = Ear()
    told = lipsync(task, ear).to_json()
    numbers, bars = shown(task.work / "film.mp4")
    assert numbers == output_order(40, FRAMES, "bounce").tolist()
    assert [k for k, bar in enumerate(bars) if bar] == [12, 13, 50, 51]
    assert told["output"]["frames"] == FRAMES and told["verified"] is True
    facts = told["engine"]
    assert facts["name"] == "duix" and facts["server"].startswith("Werkzeug")
    assert len(facts["parts"]) == len(duix.submitted) == 2
    assert [part["task"] for part in facts["parts"]] == duix.submitted
    assert all(part["pause"] for part in facts["parts"])
    assert left(duix) == [] and sorted(p.name for p in task.work.iterdir()) == ["film.mp4"]
    stages = [stage["name"] for stage in told["stages"]]
    assert stages == ["probe", "audio", "template", "duix", "verify"]
    frames = [frame for stage, frame, _ in ear.progressed if stage == "duix"]
    assert frames == sorted(frames) and frames[-1] == FRAMES


@pytest.mark.parametrize(
    ("faults", "tasks"),
    [
        (Faults(busy=1, mute=1, empty=1, foreign=2, half=0.3), 4),
        pytest.param(Faults(lose=1, fail=1), 4, marks=pytest.mark.slow),
        pytest.param(Faults(forget_end=2), 2, marks=pytest.mark.slow),
        pytest.param(Faults(small=1, junk=1), 4, marks=pytest.mark.slow),
        pytest.param(Faults(late=0.3, http500=2), 2, marks=pytest.mark.slow),
        pytest.param(Faults(short=9), 2, marks=pytest.mark.slow),
    ],
)
def test_whatever_it_does_the_film_is_right_in_the_end(made: Any, faults: Faults, tasks: int) -> None:
    task, duix = made(faults)
    lipsync(task, Quiet())
    assert shown(task.work / "film.mp4")[0] == output_order(40, FRAMES, "bounce").tolist()
    assert len(duix.submitted) == len(set(duix.submitted)) == tasks
    assert left(duix) == []


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (Faults(empty=3), r"could not make part 1 of 2: its film has 3 frames instead of \d+\..*Attempts: 3"),
        (Faults(junk=3), "the film as done, but the film is incomplete"),
        (Faults(foreign=3), "does not show the template"),
    ],
)
@pytest.mark.slow
def test_a_film_that_is_not_what_was_asked_for_is_never_delivered(made: Any, faults: Faults, said: str) -> None:
    task, duix = made(faults)
    with pytest.raises(EngineError, match=said):
        lipsync(task, Quiet())
    assert not (task.work / "film.mp4").exists()
    assert left(duix) == []


def test_without_a_folder_the_engine_is_not_configured(made: Any) -> None:
    task, _ = made()
    with pytest.raises(SetupError, match=r"set shared in \[duix\]"):
        lipsync(replace(task, settings=replace(task.settings, duix=DuixSettings(shared=""))), Quiet())


def test_a_film_is_known_by_most_of_its_picture_and_a_shift_is_noticed() -> None:
    sent = list(np.random.default_rng(0).integers(0, 255, (30, 32, 32)).astype(np.int16))
    painted = [picture.copy() for picture in sent]
    for picture in painted:
        picture[20:] = 255
    assert film._apart(painted, sent, 0) == 0 and film._apart(sent[::-1], sent, 0) > 40
    late = [sent[0], sent[0], *sent[:-2]]
    assert min(range(-3, 4), key=lambda shift: film._apart(late, sent, shift)) == 2


def test_a_template_that_stands_still_and_a_short_sound_are_one_part(made: Any, tmp_path: Path) -> None:
    task, duix = made()
    still = numbered(tmp_path / "still.png", 1, "-frames:v", "1", pix_fmt="rgb24")
    short = replace(task, audio=tone(tmp_path / "s.wav", 0.7), video=still)
    told = lipsync(short, Quiet()).to_json()
    assert len(duix.submitted) == 1 and told["output"]["seconds"] == pytest.approx(0.7, abs=0.05)


@pytest.mark.slow
def test_the_label_lies_over_the_first_frames_of_all_parts(made: Any) -> None:
    task, _ = made(label=LabelSettings("start", seconds=2.0, percent=10.0))
    told = lipsync(task, Quiet()).to_json()
    assert told["output"]["label"]["frames"] == 50
    planes = [p[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH) for p in raw_planes(task.work / "film.mp4", WIDTH, HEIGHT)]
    x0, y0, x1, y1 = told["output"]["label"]["box"]
    light = [float(p[y0:y1, x0:x1].mean()) for p in planes]
    apart = [abs(light[k] - light[78 - k]) for k in range(40, FRAMES)]  # frames k and 78 - k show one picture
    assert max(apart[:10]) < 3 and min(apart[10:]) > 6


@pytest.mark.slow
def test_a_cut_in_the_middle_of_a_sound_is_warned_of(made: Any, tmp_path: Path) -> None:
    task, _ = made()
    told = lipsync(replace(task, audio=tone(tmp_path / "t.wav", 2.0)), Quiet()).to_json()
    assert "cut_in_sound" in [warning["code"] for warning in told["warnings"]]
    assert np.isclose(told["output"]["audio"]["seconds"], 2.0, atol=0.05)
