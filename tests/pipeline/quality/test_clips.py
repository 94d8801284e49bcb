"""On real footage: the honest film of each talking clip, and the same spoiled in five ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heygemd.contract.job import Quiet, Settings, Task
from heygemd.pipeline import lipsync, quality
from heygemd.pipeline.quality import foreign
from heygemd.pipeline.quality.grade import GRADES
from tests.pipeline.quality import sabotage
from tests.pipeline.quality.test_film import known
from tests.site import ROOT

CLIPS = ROOT.parent / "shared" / "clips"
SETTINGS = Settings(threads=1)
CASES = {  # template: (its sound, somebody else's)
    "vr_1.mp4": ("ls_1.wav", "vr_1.wav"),
    "vr_4.mp4": ("vr_1.wav", "mt_sun.wav"),
    "st_katie.mp4": ("ls_1.wav", "st_japanese.wav"),
    "ls_2.mp4": ("st_japanese.wav", "ls_1.wav"),
}
FIGURE = {  # what must be named
    "late": "mouth_early", "frozen": "mouth_still", "blurred": "mouth_soft", "other": "does_not_follow",
    "stutter": "pictures_held",
}  # fmt: skip

pytestmark = [
    pytest.mark.clips,
    pytest.mark.slow,
    pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not in ../shared/clips"),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, quality.Known]]:
    """A film and what is known of it, by template."""
    made = {}
    for name, (sound, _) in CASES.items():
        work = tmp_path_factory.mktemp(name)
        task = Task(CLIPS / sound, CLIPS / name, work, sound, name, Settings(threads=1, report="off"))
        told = lipsync(task, Quiet()).to_json()
        made[name] = work / "film.mp4", known(CLIPS / name, told["output"]["frames"])
    return made


def spoiled(way: str, film: Path, out: Path, transforms: Any, other: Path) -> Path:
    if way == "late":
        return sabotage.late_sound(film, out, 0.2)
    if way == "frozen":
        return sabotage.frozen(film, out, transforms)
    if way == "blurred":
        return sabotage.blurred(film, out, transforms)
    return sabotage.other_sound(film, out, other) if way == "other" else sabotage.stuttering(film, out)


def test_the_right_figure_moves_and_the_grade_falls_in_95_percent_of_the_cases(
    films: dict[str, tuple[Path, quality.Known]], tmp_path: Path
) -> None:
    failures = []
    for name, (film, its) in films.items():
        honest, _ = quality.report(film, its, SETTINGS, Quiet())
        assert honest["grade"] in ("good", "fair"), (name, honest)
        for way, code in FIGURE.items():
            other = CLIPS / CASES[name][1]
            bad = spoiled(way, film, tmp_path / f"{name}-{way}.mp4", its.transforms, other)
            told, _ = quality.report(bad, its, SETTINGS, Quiet())
            # The figure that was spoiled must by itself be worse than all of the honest film.
            named = [reason["level"] for reason in told["reasons"] if reason["code"] == code]
            if not any(GRADES.index(level) > GRADES.index(honest["grade"]) for level in named):
                failures.append((name, way, honest["grade"], told["grade"], told["reasons"]))
    assert len(failures) <= 1, failures


@pytest.mark.parametrize("frames", [-6, -2, 1, 4])
def test_a_shift_of_frames_is_measured_within_one(
    films: dict[str, tuple[Path, quality.Known]], tmp_path: Path, frames: int
) -> None:
    compared = []
    for name, (film, its) in films.items():
        honest, _ = quality.report(film, its, SETTINGS, Quiet())
        rate = its.template.fps if its.template else 25
        moved = sabotage.late_sound(film, tmp_path / f"{name}{frames}.mp4", float(frames / rate))
        told, _ = quality.report(moved, its, SETTINGS, Quiet())
        if honest["sync"]["confidence"] == told["sync"]["confidence"] == "high":
            found = (told["sync"]["offset_ms"] - honest["sync"]["offset_ms"]) / 1000 * float(rate)
            assert abs(found + frames) <= 1, (name, frames, found)
            compared.append(name)
    assert len(compared) >= 2, compared  # of most clips it can be told at all


def test_a_film_of_which_nothing_is_known_is_measured_with_its_template_and_without(
    films: dict[str, tuple[Path, quality.Known]],
) -> None:
    film, _ = films["vr_1.mp4"]
    alone, _ = foreign.report(film, None, None, SETTINGS, Quiet())
    beside, _ = foreign.report(film, CLIPS / "vr_1.mp4", CLIPS / "ls_1.wav", SETTINGS, Quiet())
    wrong, _ = foreign.report(film, CLIPS / "vr_1.mp4", CLIPS / "mt_sun.wav", SETTINGS, Quiet())
    assert alone["grade"] == beside["grade"] == "good", (alone, beside)
    assert beside["picture"]["outside_db"] > 36
    assert alone["picture"]["sharpness"] is None and beside["picture"]["sharpness"] is not None
    assert abs(alone["sync"]["offset_ms"] - beside["sync"]["offset_ms"]) <= 34
    assert wrong["grade"] == "poor" and "other_sound" in {reason["code"] for reason in wrong["reasons"]}
