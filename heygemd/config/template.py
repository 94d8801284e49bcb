"""The commented default ``config.toml`` and the rows of the README's table of settings."""

from __future__ import annotations

from heygemd.common.shipped import DATA
from heygemd.config import toml_schema
from heygemd.config.line import LINE_KEYS, OPTION_KEYS
from heygemd.config.whole import TABLES

CONFIG_TEMPLATE = DATA / "config.toml"
"""The commented default; a copy of the ``config.toml`` at the top of the repository."""


def reference_rows() -> list[tuple[str, str, str, str]]:
    """Every key as (table, key, default as TOML, meaning), for the README's table; ``—``: must be given."""
    rows = [(f"[{name}]", k) for name, cls in TABLES.items() for k in toml_schema.keys_of(cls).values()]
    rows += [("[[line]]", k) for k in [*LINE_KEYS.values(), *OPTION_KEYS.values()]]
    return [(table, k.name, k.shown or "—", k.rule.doc) for table, k in rows]


_HEAD = """\
# heygemd's configuration.  `heygemd check` reads it, names every fault at once and prints what is in force.
# A line that begins with # and no space is a setting at its default: take the # away to change it.
# Relative paths are taken from the folder of this file.  Unknown keys are faults, never ignored.
"""
_TITLES = {
    "daemon": "The daemon's own things",
    "intake": "When something in an inbox counts as arrived",
    "render": "How films are made, where the line, the folder or the job says nothing else",
    "limits": "What is left to others on this machine, and when enough is enough",
    "guard": "How jobs wait for a GPU that others use too",
    "command": 'The program behind the engine "command"',
    "wav2lip": 'The engine "wav2lip", which needs an imported checkpoint (heygemd models import)',
    "duix": 'The engine "duix": a Duix.Avatar (HeyGem) container, reached over localhost or a private network',
    "mark": "How films say that a machine made them",
    "quality": "How finished films are measured: beyond such a figure a film is fair, twice as far from the ideal poor",
    "hooks": "Programs of your own that are told what has become of a job: mail, tickets, copies",
    "metrics": "Figures for Prometheus; examples/ has alert rules and what the service's sandbox must allow for them",
}
_LINE_HEAD = """\
# A line is one inbox with its folders.  Repeat [[line]] for each; their folders must not overlap.
[[line]]
"""
_FOLDER_HEAD = """\
# Other defaults for what is dropped into a subfolder of this line's inbox, here inbox/zhang:
#[line.folders.zhang]
#crf = 18
#priority = "low"
"""


def template() -> str:
    """The commented default ``config.toml``: what ``heygemd check --template`` prints."""
    parts = [_HEAD]
    for name, cls in TABLES.items():
        body = "".join(_setting(k) for k in toml_schema.keys_of(cls).values())
        parts.append(f"# {_TITLES[name]}.\n[{name}]\n{body}")
    parts.append(_LINE_HEAD + "".join(_setting(k) for k in [*LINE_KEYS.values(), *OPTION_KEYS.values()]))
    parts.append(_FOLDER_HEAD)
    return "\n".join(parts)


def _setting(k: toml_schema.Key) -> str:
    example = {"name": '"main"', "root": '"/srv/heygemd/main"'}
    line = f"#{k.name} = {k.shown}" if k.shown is not None else f"{k.name} = {example[k.name]}"
    return f"# {k.rule.doc}\n{line}\n"
