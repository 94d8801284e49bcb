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
"""With the folder that is made only where poor films are held."""


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One production line: its folders, what it allows, its defaults."""

    name: Annotated[str, Rule("the line's name in status and logs: A-Z a-z 0-9 . _ -", check=checks.line_name)]
    root: Annotated[Path, Rule("the line's folder; the five folders below stand in it", check=checks.not_empty)]
    inbox: Annotated[Path, Rule("where people drop files; empty: root/inbox", check=checks.not_home)] = Path()
    processing: Annotated[Path, Rule("on the inbox's file system; empty: root/processing", check=checks.not_home)] = (
        Path()
    )
    outbox: Annotated[Path, Rule("finished films and their logs; empty: root/outbox", check=checks.not_home)] = Path()
    done: Annotated[Path, Rule("inputs whose films are delivered; empty: root/done", check=checks.not_home)] = Path()
    failed: Annotated[
        Path, Rule("inputs that could not be done, with the reason; empty: root/failed", check=checks.not_home)
    ] = Path()
    library: Annotated[
        tuple[Path, ...],
        Rule("folders of templates that manifests may name; only ever read", check=checks.none_empty),
    ] = ()
    allowed_engines: Annotated[
        tuple[str, ...],
        Rule("the engines that people may ask for on this line", choices=ENGINES, check=checks.some),
    ] = ("footage",)
    review: Annotated[
        Path, Rule("poor films that are held for somebody to look at; empty: root/review", check=checks.not_home)
    ] = Path()
    on_poor: Annotated[
        str, Rule("what becomes of a film that was measured to be poor: deliver, or hold it in review", choices=ON_POOR)
    ] = "deliver"
    status_page: Annotated[
        str, Rule("on or off: STATUS.html and status.json in the outbox say what is going on", choices=("on", "off"))
    ] = "on"
    done_days: Annotated[float, Rule("inputs in done are removed after so many days; 0: never", low=0, high=36_500)] = (
        0.0
    )
    failed_days: Annotated[float, Rule("… and those in failed", low=0, high=36_500)] = 0.0
    review_days: Annotated[float, Rule("… and films that are held in review", low=0, high=36_500)] = 0.0
    folder_control: Annotated[
        bool,
        Rule("true: files NAME.cancel, NAME.retry and PAUSE in the inbox are orders"),
    ] = False
    require_consent: Annotated[
        bool,
        Rule("true: no template without the consent of the person shown, a file TEMPLATE.consent.* beside it"),
    ] = False
    options: JobOptions = field(default_factory=JobOptions)
    folders: Mapping[str, JobOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Empty folders become their places below ``root``."""
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
    rule = Rule("high, normal or low among the jobs of all lines", choices=PRIORITIES)
    return {**keys, "priority": Key("priority", str, rule, as_toml(priority))}


def _instead(name: str, rule: Rule) -> Rule:
    return Rule(f"this line's {name} instead of [render]'s", rule.choices, rule.low, rule.high, rule.check)


OPTION_KEYS: dict[str, Key] = _option_keys()
"""The keys of a line, and of its ``[line.folders.<subfolder>]``, that become ``JobOptions``."""
