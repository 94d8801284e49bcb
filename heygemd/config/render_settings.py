"""The renderer's settings from the configuration and a job's own options."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from heygemd.common.messages import say
from heygemd.common.request import JobOptions
from heygemd.config.load import Config
from heygemd.config.tables import MarkConfig
from heygemd.contract import wire
from heygemd.contract.job import CommandSettings, DuixSettings, LabelSettings, Settings, Thresholds, Wav2LipSettings


def settings_for(config: Config, options: JobOptions) -> Settings:
    """[render] with the job's own options over it, and a group for each table that an engine or a step has.

    A key reaches the renderer when the table of ``config/tables.py`` and the dataclass of ``contract/job.py`` both
    have it under one name; only what differs is written here.
    """
    state = config.daemon.state_dir
    asked = {name: value for name, value in wire.table(options).items() if value is not None and name != "priority"}
    mark, quality = config.mark, config.quality
    return wire.build(
        Settings,
        {
            **wire.table(config.render),
            **asked,
            "cache_dir": str(state / "cache") if state.is_dir() else "",
            "models_dir": str(config.daemon.models_dir),
            "mark": mark.metadata,
            "producer": mark.producer,
            "language": config.daemon.language,
            "report": quality.report,
            "report_seconds": quality.seconds,
            "thresholds": _shared(quality, Thresholds),
            "label": wire.table(_label(mark, config.daemon.language)),
            "command": _shared(config.command, CommandSettings),
            "wav2lip": _shared(config.wav2lip, Wav2LipSettings),
            "duix": _shared(config.duix, DuixSettings) | {"shared": _path(config.duix.shared)},
        },
    )


def _shared(table: object, group: type) -> dict[str, object]:
    """The values of the configuration's table that the group of settings has too."""
    names = {field.name for field in fields(group)}
    return {name: value for name, value in wire.table(table).items() if name in names}


def _label(mark: MarkConfig, language: str) -> LabelSettings:
    return LabelSettings(
        when=mark.label,
        text=mark.label_text or say(mark.label_language or language, "label"),
        position=mark.label_position,
        seconds=mark.label_seconds,
        percent=mark.label_percent,
        font=_path(mark.label_font),
    )


def _path(path: Path) -> str:
    """Empty where none is configured."""
    return "" if path == Path() else str(path)
