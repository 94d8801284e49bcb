"""The configuration of a temporary daemon."""

from __future__ import annotations

from pathlib import Path

from heygemd.config import load
from heygemd.trials import bench, temporary_daemon


def test_the_configuration_of_a_run_is_a_valid_one(tmp_path: Path) -> None:
    stage = temporary_daemon.TemporaryLine(tmp_path)
    stage.write_config("bench", bench.Rig("wav2lip", tmp_path / "models").settings("on"))
    config = load.load(stage.config)
    assert (config.daemon.state_dir, config.daemon.models_dir) == (stage.state, tmp_path / "models")
    assert (config.render.engine, config.quality.report) == ("wav2lip", "on")
    (line,) = config.lines
    assert (line.name, line.root, line.allowed_engines) == ("bench", stage.line, ("wav2lip",))
