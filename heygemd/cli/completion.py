"""Completion for bash, zsh and fish, generated from the command line's own parsers, so that it knows every word.

``heygemd completion SHELL`` prints a script that stands alone.  Jobs are asked of ``heygemd jobs`` when one is wanted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")

_JOBS = r"heygemd jobs 2>/dev/null | grep -oE '^[0-9]{8}-[0-9]{6}-[0-9a-f]+\.[0-9]+'"


@dataclass(frozen=True, slots=True)
class Value:
    """What may follow: one of ``words``, or a file, a folder, a job; ``kind`` is ``none`` for a flag, ``any`` for
    what cannot be guessed.  ``required``: it must follow."""

    kind: str = "none"
    words: tuple[str, ...] = ()
    name: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Option:
    """An option with all its spellings."""

    flags: tuple[str, ...]
    help: str
    value: Value


@dataclass(frozen=True, slots=True)
class Command:
    """A command; ``path`` is what is typed to reach it, () for the program itself."""

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    values: tuple[Value, ...]  #: in the order of its positional arguments
    below: tuple[Command, ...] = field(default=())

    def all(self) -> Iterator[Command]:
        """It and all below it."""
        yield self
        for command in self.below:
            yield from command.all()


def script(shell: str, parser: argparse.ArgumentParser, more: dict[str, argparse.ArgumentParser]) -> str:
    """The script for a shell; ``more`` has parsers of commands that read their own words."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](tree(parser, more))


def tree(parser: argparse.ArgumentParser, more: dict[str, argparse.ArgumentParser]) -> Command:
    """The commands, options and values of a parser."""
    return _command(parser, (), "", more)


def _command(
    parser: argparse.ArgumentParser, path: tuple[str, ...], text: str, more: dict[str, argparse.ArgumentParser]
) -> Command:
    formatter = parser._get_formatter()
    options, values, below = [], [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                below.append(_command(more.get(str(name)) or child, (*path, name), helps.get(name, ""), more))
        elif action.option_strings:
            said = formatter._expand_help(action) if action.help else ""
            options.append(Option(tuple(action.option_strings), said, _value(action)))
        else:
            values.append(_value(action))
    return Command(path, text, tuple(options), tuple(values), tuple(below))


def _value(action: argparse.Action) -> Value:
    if action.nargs == 0:
        return Value()
    name = str(action.metavar or action.dest)
    required = action.nargs != "?"
    if action.choices is not None and not isinstance(action.choices, range):
        return Value("words", tuple(map(str, action.choices)), name, required)
    if name == "JOB":
        return Value("job", (), name, required)
    if action.type is Path:
        return Value("folder" if name == "DIR" else "file", (), name, required)
    return Value("any", (), name, required)


# ---------------------------------------------------------------- bash


def _bash(top: Command) -> str:
    commands = list(top.all())
    takes = sorted({flag for c in commands for o in c.options if _must(o.value) for flag in o.flags})
    cases = "".join(_bash_case(command) for command in commands)
    nested = " | ".join(c.path[0] for c in top.below if c.below) or "-"
    return f"""\
# bash completion of heygemd; for one user: ~/.local/share/bash-completion/completions/heygemd
_heygemd() {{
    local IFS=$' \\t\\n' cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} path= skip= word i
    local opts= words= kind=any
    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [[ $skip ]]; then
            [[ $word == = ]] || skip=
            continue
        fi
        case $word in
            {" | ".join(takes)}) skip=1 ;;
            -* | =) ;;
            *)
                case $path in
                    '') path=$word ;;
                    {nested}) path="$path $word" ;;
                esac
                ;;
        esac
    done
    case $path in
{cases}        *) return ;;
    esac
    COMPREPLY=()
    if [[ $cur == -* && ${{COMP_WORDS[COMP_CWORD]}} != = ]]; then words=$opts kind=words; fi
    case $kind in
        words) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
        job) mapfile -t COMPREPLY < <(compgen -W "$({_JOBS})" -- "$cur") ;;
        file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    esac
}}
complete -F _heygemd heygemd
"""


def _must(value: Value) -> bool:
    """Whether a word must follow."""
    return value.kind != "none" and value.required


def _bash_case(command: Command) -> str:
    flags = " ".join(flag for option in command.options for flag in option.flags)
    lines = [f"opts='{flags}'"]
    first = command.values[0] if command.values else Value("any")
    if command.below:
        lines.append(f"kind=words words='{' '.join(child.path[-1] for child in command.below)}'")
    else:
        lines.append(_bash_value(first))
    with_value = [option for option in command.options if option.value.kind != "none"]
    if with_value:
        cases = [f"{' | '.join(option.flags)}) {_bash_value(option.value)} ;;" for option in with_value]
        lines += ["case $prev in", *(f"    {case}" for case in cases), "esac"]
    body = "".join(f"            {line}\n" for line in lines)
    return f"        '{' '.join(command.path)}')\n{body}            ;;\n"


def _bash_value(value: Value) -> str:
    return f"kind=words words='{' '.join(value.words)}'" if value.kind == "words" else f"kind={value.kind}"


# ---------------------------------------------------------------- zsh


def _zsh(top: Command) -> str:
    functions = "\n".join(_zsh_function(command) for command in top.all())
    return f"""\
#compdef heygemd
# zsh completion of heygemd; as _heygemd into a folder of $fpath
{functions}
_heygemd_job() {{
    local -a jobs=(${{(f)"$({_JOBS})"}})
    compadd -a jobs
}}

if [[ $funcstack[1] == _heygemd ]]; then _heygemd "$@"; else compdef _heygemd heygemd; fi
"""


def _zsh_function(command: Command) -> str:
    name = "_".join(("_heygemd", *command.path)).replace("-", "_")
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    if not command.below:
        many = len(command.values) == 1
        places = enumerate(command.values, 1)
        specs += [f"'{'*' if many else n}:{_zsh_text(v.name)}:{_zsh_value(v)}'" for n, v in places]
        return f"{name}() {{\n    _arguments {_wrapped(specs)}\n}}\n"
    described = _wrapped([f"'{child.path[-1]}:{_zsh_text(child.help)}'" for child in command.below])
    cases = "".join(
        f"            {child.path[-1]}) {'_'.join(('_heygemd', *child.path)).replace('-', '_')} ;;\n"
        for child in command.below
    )
    return f"""\
{name}() {{
    local curcontext=$curcontext state line
    local -a words_here=({described})
    _arguments -C {_wrapped([*specs, "'1: :->word'", "'*:: :->rest'"])}
    case $state in
        word) _describe -t commands command words_here ;;
        rest) case $line[1] in
{cases}        esac ;;
    esac
}}
"""


def _zsh_option(option: Option) -> Iterable[str]:
    value = option.value
    tail = f":{_zsh_text(value.name)}:{_zsh_value(value)}" if value.kind != "none" else ""
    colons = ":" if tail and not value.required else ""
    return (f"'*{flag}[{_zsh_text(option.help)}]{colons}{tail}'" for flag in option.flags)


def _zsh_value(value: Value) -> str:
    known = {"file": "_files", "folder": "_files -/", "job": "_heygemd_job"}
    return f"({' '.join(value.words)})" if value.kind == "words" else known.get(value.kind, " ")


def _zsh_text(text: str) -> str:
    """As it may stand between single quotes in a description."""
    for letter in "\\[]:":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("'", "'\\''")


def _wrapped(specs: Sequence[str]) -> str:
    return " \\\n        ".join(["", *specs]).lstrip() if specs else ""


# ---------------------------------------------------------------- fish


def _fish(top: Command) -> str:
    lines = [
        "# fish completion of heygemd; into ~/.config/fish/completions",
        "complete -c heygemd -f",
        *(_fish_line("__fish_use_subcommand", option) for option in top.options),
    ]
    for command in top.all():
        if not command.path:
            continue
        outer = _fish_seen(command.path[:-1]) if command.path[:-1] else "__fish_use_subcommand"
        if command.path[:-1]:
            siblings = next(c for c in top.below if c.path == command.path[:-1]).below
            outer += f"; and not __fish_seen_subcommand_from {' '.join(c.path[-1] for c in siblings)}"
        lines.append(f"complete -c heygemd -n {_quoted(outer)} -a {command.path[-1]} -d {_quoted(command.help)}")
        seen = _fish_seen(command.path)
        lines += [_fish_line(seen, option) for option in command.options]
        lines += [f"complete -c heygemd -n {_quoted(seen)} {_fish_value(v)}" for v in command.values if v.kind != "any"]
    return "\n".join(lines) + "\n"


def _fish_seen(path: tuple[str, ...]) -> str:
    return "; and ".join(f"__fish_seen_subcommand_from {word}" for word in path)


def _fish_line(when: str, option: Option) -> str:
    flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
    value = option.value
    takes = "" if value.kind == "none" else f" {'-r ' if value.required else ''}{_fish_value(value)}"
    return f"complete -c heygemd -n {_quoted(when)} {flags}{takes.rstrip()} -d {_quoted(option.help)}"


def _fish_value(value: Value) -> str:
    if value.kind == "words":
        return f"-f -a {_quoted(' '.join(value.words))}"
    folders = "-f -a '(__fish_complete_directories)'"
    return {"file": "-F", "folder": folders, "job": f"-f -a {_quoted(f'({_JOBS})')}"}.get(value.kind, "-f")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
