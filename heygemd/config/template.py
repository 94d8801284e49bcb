"""The commented default ``config.toml`` and the rows of the README's table of settings."""

from __future__ import annotations

from heygemd.common.shipped import DATA
from heygemd.config import toml_schema
from heygemd.config.line import LINE_KEYS, OPTION_KEYS
from heygemd.config.whole import TABLES

CONFIG_TEMPLATE = DATA / "config.toml"
"""The commented default; a copy of the ``config.toml`` at the top of the repository."""


def reference_rows() -> list[tuple[str, str, str, str]]:
    """Every key as (table, key, default as TOML, meaning), for the table of settings; default ``—``: required."""
    rows = [(f"[{name}]", k) for name, cls in TABLES.items() for k in toml_schema.keys_of(cls).values()]
    rows += [("[[line]]", k) for k in [*LINE_KEYS.values(), *OPTION_KEYS.values()]]
    return [(table, k.name, k.shown or "—", k.rule.doc) for table, k in rows]


_HEAD = """\
# Configuration of heygemd.  `heygemd check` reports every fault in it, or prints the settings in force.
# A line that starts with # and no space is a setting with its default value; to change it, remove the #.
# Relative paths start at the folder of this file.  An unknown key is a fault; it is never ignored.
"""
_TITLES = {
    "daemon": "Files, language, log and shutdown of the daemon",
    "intake": "When a file in an inbox counts as complete",
    "render": "How films are made; engine, crf, preset, extend and face may also be set by line, folder or job",
    "limits": "Limits on attempts, time, memory and disk",
    "guard": "How jobs wait for a GPU that other programs use too",
    "command": 'The engine "command": a program of your own',
    "wav2lip": 'The engine "wav2lip"; it needs an imported checkpoint (heygemd models import)',
    "duix": 'The engine "duix": a Duix.Avatar (HeyGem) container, on localhost or in a private network',
    "mark": "How films are marked and labelled as AI-generated",
    "quality": "How films are measured; beyond a threshold a film is fair, at twice the distance from the ideal poor",
    "hooks": "Programs of your own, for mail, tickets or copies; they run when a job is delivered, fails or must wait",
    "metrics": "Metrics for Prometheus; examples/ has alert rules and the permissions that the service needs",
}
_LINE_HEAD = """\
# A line is one inbox with its folders.  Write one [[line]] for each; their folders must not overlap.
[[line]]
"""
_FOLDER_HEAD = """\
# Defaults for files dropped into a subfolder of this line's inbox, here inbox/zhang:
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
