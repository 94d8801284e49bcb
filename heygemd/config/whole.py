"""``Config``: the whole configuration, one field for each table of ``config.toml``, and the list of the tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heygemd.config.line import LineConfig
from heygemd.config.tables import (
    CommandConfig,
    DaemonConfig,
    DuixConfig,
    GuardConfig,
    HooksConfig,
    IntakeConfig,
    LimitsConfig,
    MarkConfig,
    MetricsConfig,
    QualityConfig,
    RenderConfig,
    Wav2LipConfig,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of ``config.toml``, checked; every path is absolute.  ``source`` is the file it came from."""

    daemon: DaemonConfig = field(default_factory=DaemonConfig)
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    command: CommandConfig = field(default_factory=CommandConfig)
    wav2lip: Wav2LipConfig = field(default_factory=Wav2LipConfig)
    duix: DuixConfig = field(default_factory=DuixConfig)
    mark: MarkConfig = field(default_factory=MarkConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    hooks: HooksConfig = field(default_factory=HooksConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    lines: tuple[LineConfig, ...] = ()
    source: Path = Path("built-in defaults")


TABLES: dict[str, type[DataclassInstance]] = {
    "daemon": DaemonConfig,
    "intake": IntakeConfig,
    "render": RenderConfig,
    "limits": LimitsConfig,
    "guard": GuardConfig,
    "command": CommandConfig,
    "wav2lip": Wav2LipConfig,
    "duix": DuixConfig,
    "mark": MarkConfig,
    "quality": QualityConfig,
    "hooks": HooksConfig,
    "metrics": MetricsConfig,
}
"""The plain tables, in the order of the file."""
