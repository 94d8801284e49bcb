"""``LineConfig``: the settings of one production line and of its subfolders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from heygemd.common.request import ENGINES, PRIORITIES, JobOptions, Priority
from heygemd.config import checks
from heygemd.config.tables import ON_POOR, RenderConfig
from heygemd.config.toml_schema import Key, Rule, as_toml, keys_of

LINE_FOLDERS = ("inbox", "processing", "outbox", "done", "failed")
LINE_PLACES = (*LINE_FOLDERS, "review")
"""``LINE_FOLDERS`` and ``review``, which is made only if poor films are held."""


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One production line: its folders, what it allows, its defaults."""

    name: Annotated[
        str, Rule("name of the line in status and logs; allowed: A-Z a-z 0-9 . _ -", check=checks.line_name)
    ]
    root: Annotated[
        Path,
        Rule("folder of the line; inbox, processing, outbox, done and failed are made in it", check=checks.not_empty),
    ]
    inbox: Annotated[Path, Rule("folder into which people drop files; empty: root/inbox", check=checks.not_home)] = (
        Path()
    )
    processing: Annotated[
        Path,
        Rule(
            "folder of drops in progress; must be on the inbox's file system; empty: root/processing",
            check=checks.not_home,
        ),
    ] = Path()
    outbox: Annotated[
        Path, Rule("folder of finished films and their logs; empty: root/outbox", check=checks.not_home)
    ] = Path()
    done: Annotated[
        Path, Rule("folder of inputs whose films were delivered; empty: root/done", check=checks.not_home)
    ] = Path()
    failed: Annotated[
        Path, Rule("folder of inputs that failed, each with a reason.txt; empty: root/failed", check=checks.not_home)
    ] = Path()
    library: Annotated[
        tuple[Path, ...],
        Rule("folders of templates that manifests may name; they are only read", check=checks.none_empty),
    ] = ()
    allowed_engines: Annotated[
        tuple[str, ...], Rule("engines that jobs on this line may use", choices=ENGINES, check=checks.some)
    ] = ("footage",)
    review: Annotated[
        Path,
        Rule("folder of poor films that are held for a person to check; empty: root/review", check=checks.not_home),
    ] = Path()
    on_poor: Annotated[
        str, Rule("what to do with a film graded poor: deliver it, or hold it in review", choices=ON_POOR)
    ] = "deliver"
    status_page: Annotated[
        str, Rule("on or off: keep STATUS.html and status.json in the outbox up to date", choices=("on", "off"))
    ] = "on"
    done_days: Annotated[float, Rule("days after which inputs in done are deleted; 0: never", low=0, high=36_500)] = 0.0
    failed_days: Annotated[
        float, Rule("days after which inputs in failed are deleted; 0: never", low=0, high=36_500)
    ] = 0.0
    review_days: Annotated[
        float, Rule("days after which films held in review are deleted; 0: never", low=0, high=36_500)
    ] = 0.0
    folder_control: Annotated[
        bool, Rule("true: files NAME.cancel, NAME.retry and PAUSE in the inbox act as commands")
    ] = False
    require_consent: Annotated[
        bool, Rule("true: each template must have a consent file TEMPLATE.consent.* of the person shown next to it")
    ] = False
    options: JobOptions = field(default_factory=JobOptions)
    folders: Mapping[str, JobOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sets each empty folder to its default below ``root``."""
        for name in LINE_PLACES:
            if getattr(self, name) == Path():
                object.__setattr__(self, name, self.root / name)

    @property
    def trusted(self) -> tuple[str, ...]:
        """The root, and the folders that are configured to stand elsewhere: below them no link is followed."""
        own = [folder for name in LINE_PLACES if (folder := getattr(self, name)) != self.root / name]
        return tuple(map(str, (self.root, *own)))


LINE_KEYS: dict[str, Key] = keys_of(LineConfig)
"""The keys of a line that are its own."""


def _option_keys() -> dict[str, Key]:
    render = keys_of(RenderConfig)
    names = ("engine", "crf", "preset", "extend", "face")
    keys = {n: Key(n, render[n].kind, _instead(n, render[n].rule), render[n].shown) for n in names}
    priority: Priority = "normal"
    rule = Rule("default priority of this line's jobs among all lines: high, normal or low", choices=PRIORITIES)
    return {**keys, "priority": Key("priority", str, rule, as_toml(priority))}


def _instead(name: str, rule: Rule) -> Rule:
    return Rule(
        f"default {name} of this line's jobs, in place of [render] {name}",
        rule.choices,
        rule.low,
        rule.high,
        rule.check,
    )


OPTION_KEYS: dict[str, Key] = _option_keys()
"""The keys of a line, and of its ``[line.folders.<subfolder>]``, that become ``JobOptions``."""
