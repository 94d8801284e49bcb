"""The renderer's settings from the configuration and a job's own options."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from heygemd.common.messages import say
from heygemd.common.request import JobOptions
from heygemd.config.load import Config


def settings_for(config: Config, options: JobOptions) -> dict[str, Any]:
    """The renderer's ``Settings`` as plain data: [render] with the job's own options over it."""
    state = config.daemon.state_dir
    render = asdict(config.render) | {"cache_dir": str(state / "cache") if state.is_dir() else ""}
    mine = {k: v for k, v in asdict(options).items() if v is not None and k != "priority"}
    command = {"command": list(config.command.argv), "command_seconds": config.command.seconds}
    own = config.wav2lip
    wav2lip = {"models_dir": str(config.daemon.models_dir), "wav2lip_model": own.model, "batch": own.batch}
    wav2lip |= {"av_offset_ms": own.av_offset_ms, "sharpen": own.sharpen}
    quality = {name if name == "report" else f"report_{name}": v for name, v in asdict(config.quality).items()}
    duix = {f"duix_{name}": v for name, v in asdict(config.duix).items()}
    duix["duix_shared"] = str(config.duix.shared) if config.duix.shared != Path() else ""
    engines = {**command, **wav2lip, **duix}
    return {**render, **mine, **engines, **quality, **_marks(config), "language": config.daemon.language}


def _marks(config: Config) -> dict[str, Any]:
    mark = config.mark
    text = mark.label_text or say(mark.label_language or config.daemon.language, "label")
    label = {name: value for name, value in asdict(mark).items() if name.startswith("label")}
    del label["label_language"]
    font = "" if mark.label_font == Path() else str(mark.label_font)
    return {**label, "label_text": text, "label_font": font, "mark": mark.metadata, "producer": mark.producer}
