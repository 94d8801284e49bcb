"""The renderer's settings: every key of the tables reaches them, and film logs keep their names."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from heygemd.common.request import JobOptions
from heygemd.config import load
from heygemd.config.render_settings import settings_for
from heygemd.config.tables import DaemonConfig, MarkConfig, RenderConfig
from heygemd.config.whole import Config
from heygemd.contract.job import Settings

LOGGED = (
    "ears "
    "engine crf preset encoder extend face threads device min_eye_px cache_dir cache_mib cache_days command "
    "command_seconds duix_url duix_shared duix_part_seconds duix_seconds duix_poll_seconds segment_seconds finder "
    "models_dir wav2lip_model av_offset_ms sharpen batch mark producer label label_text label_position label_seconds "
    "label_percent label_font language report report_seconds report_offset_ms report_articulation report_sharpness "
    "report_held_percent report_passed_percent media_seconds"
)


def settings(config: Config, **options: object) -> Settings:
    return settings_for(config, replace(JobOptions(), **options))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    daemon = DaemonConfig(state_dir=tmp_path, models_dir=tmp_path / "models", language="zh")
    return replace(load.default_config(), daemon=daemon)


def test_the_defaults_of_both_sides_agree(config: Config, tmp_path: Path) -> None:
    state = replace(config, daemon=replace(config.daemon, state_dir=tmp_path / "none", language="en"))
    assert settings(state) == replace(Settings(), models_dir=str(tmp_path / "models"))


def test_a_film_log_has_the_names_that_it_always_had() -> None:
    assert set(Settings().flat()) == set(LOGGED.split())


def test_a_job_s_own_options_come_first_and_its_priority_is_no_setting(config: Config) -> None:
    asked = settings(config, crf=3, face="left", priority="high")
    assert (asked.crf, asked.face, asked.preset) == (3, "left", config.render.preset)


def test_every_table_reaches_its_group(config: Config, tmp_path: Path) -> None:
    changed = replace(
        config,
        command=replace(config.command, argv=("run", "{audio}"), seconds=7.0),
        wav2lip=replace(config.wav2lip, model="m", av_offset_ms=40.0, sharpen=0.5, batch=3),
        duix=replace(config.duix, shared=tmp_path, part_seconds=9.0),
        quality=replace(config.quality, report="off", seconds=5.0, offset_ms=11.0),
        mark=replace(config.mark, metadata="off", producer="P", label="start", label_seconds=2.0, label_font=tmp_path),
    )
    flat = settings(changed).flat()
    expected = {
        "command": ["run", "{audio}"], "command_seconds": 7.0, "wav2lip_model": "m", "av_offset_ms": 40.0,
        "sharpen": 0.5, "batch": 3, "duix_shared": str(tmp_path), "duix_part_seconds": 9.0, "report": "off",
        "report_seconds": 5.0, "report_offset_ms": 11.0, "mark": "off", "producer": "P", "label": "start",
        "label_seconds": 2.0, "label_font": str(tmp_path), "language": "zh", "cache_dir": str(tmp_path / "cache"),
    }  # fmt: skip
    assert {key: flat[key] for key in expected} == expected
    assert settings(changed).duix.url == config.duix.url


def test_every_key_of_render_is_a_setting() -> None:
    assert {field.name for field in fields(RenderConfig)} <= set(asdict(Settings()))


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (MarkConfig(), "人工智能生成"),
        (MarkConfig(label_language="en"), "AI generated"),
        (MarkConfig(label_text="ours", label_language="en"), "ours"),
    ],
)
def test_a_label_without_a_text_says_it_in_its_language(config: Config, mark: MarkConfig, text: str) -> None:
    assert settings(replace(config, mark=mark)).label.text == text
