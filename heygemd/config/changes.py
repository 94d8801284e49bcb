"""What a changed ``config.toml`` changes in a running daemon: all of it comes into force, or nothing.

The running job keeps the settings that it was begun with.  A line may be added; it may be removed, or get other
folders, only when nothing of it is unfinished: a film on its way to one outbox must not be looked for in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from heygemd.common.errors import ConfigError, Fault
from heygemd.config.load import LINE_PLACES, Config, LineConfig
from heygemd.config.whole import TABLES

FIXED = ("state_dir", "work_dir", "socket")
"""Keys of [daemon] that need a restart to change."""


class ChangedNames(TypedDict):
    """What a reload has changed: tables such as "[render]", lines by name."""

    tables: list[str]
    added: list[str]
    removed: list[str]
    changed: list[str]
    needs_restart: list[str]


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes to apply.  ``config`` is the configuration afterwards; lines are given by name."""

    config: Config
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  #: the same folders, other settings; or every line, where [intake] has changed
    tables: tuple[str, ...] = ()  #: such as "[render]"
    restart: tuple[str, ...] = ()  #: such as "[daemon] socket": in force only after a restart

    def names(self) -> ChangedNames:
        """The names of what has changed, for the log and for people."""
        return {
            "tables": list(self.tables), "added": list(self.added), "removed": list(self.removed),
            "changed": list(self.changed), "needs_restart": list(self.restart),
        }  # fmt: skip


def weigh(old: Config, new: Config, unfinished: Mapping[str, int]) -> Changes:
    """Compare; ``unfinished`` has the number of drops under way for each line.  Raises ConfigError."""
    before, after = ({line.name: line for line in config.lines} for config in (old, new))
    moved = {name for name in before.keys() & after.keys() if _folders(before[name]) != _folders(after[name])}
    gone = before.keys() - after.keys()
    faults = [
        Fault(f"line {name!r}", _refusal("get other folders" if name in moved else "be removed", unfinished[name]))
        for name in sorted(moved | gone)
        if unfinished.get(name)
    ]
    if faults:
        raise ConfigError(str(new.source), faults)
    kept = before.keys() - moved - gone
    restart = tuple(f"[daemon] {key}" for key in FIXED if getattr(old.daemon, key) != getattr(new.daemon, key))
    daemon = replace(new.daemon, **{key: getattr(old.daemon, key) for key in FIXED})
    config = replace(new, daemon=daemon)
    return Changes(
        config=config,
        added=tuple(sorted((after.keys() - before.keys()) | moved)),
        removed=tuple(sorted(gone | moved)),
        changed=tuple(sorted(n for n in kept if before[n] != after[n] or old.intake != new.intake)),
        tables=tuple(f"[{t}]" for t in TABLES if getattr(old, t) != getattr(config, t)),
        restart=restart,
    )


def _folders(line: LineConfig) -> tuple[object, ...]:
    return tuple(getattr(line, name) for name in LINE_PLACES)


def _refusal(what: str, count: int) -> str:
    drops = "1 drop of it is" if count == 1 else f"{count} drops of it are"
    return f"cannot {what} while {drops} unfinished; wait until they end, or cancel their jobs"
