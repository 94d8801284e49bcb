"""Completion: every word is in it, and real shells complete with it."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heygemd import training
from heygemd.cli import main
from heygemd.common import exits
from heygemd.common.request import ENGINES

SHELLS = ("bash", "zsh", "fish")
JOB = "20261126-042501-a1b2c3.1"


def helped(*words: str) -> str:
    if words == ("train-lips",):
        return training.parser().format_help()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main([*words, "--help"]) == 0
    return out.getvalue()


def commands(text: str) -> list[str]:
    """The commands that a help text lists."""
    return re.findall(r"^    ([a-z][a-z-]+)(?: {2,}|$)", text, re.M)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script for each shell, and a folder with a ``heygemd`` that lists one job."""
    folder = tmp_path_factory.mktemp("completion")
    made = {}
    for shell in SHELLS:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main.main(["completion", shell]) == 0
        made[shell] = folder / f"_heygemd.{shell}"
        made[shell].write_text(out.getvalue())
    program = folder / "heygemd"
    program.write_text(f"#!/bin/sh\n[ $1 = jobs ] && echo '{JOB}  2026-11-26 04:25:01  failed  main  lesson'\n")
    program.chmod(0o755)
    (folder / "a film.mp4").touch()
    (folder / "a folder").mkdir()
    return made


@pytest.fixture(scope="module")
def words() -> dict[tuple[str, ...], set[str]]:
    """Every command with its options, as their help texts name them: not as the generator sees them."""
    top = commands(helped())
    known = {(name,): set(re.findall(r"--[a-z][a-z-]+", helped(name))) for name in top}
    known |= {
        ("models", name): set(re.findall(r"--[a-z][a-z-]+", helped("models", name)))
        for name in commands(helped("models"))
    }
    assert ("run",) in known and "--once" in known["run",] and ("models", "import") in known
    return known


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_it(
    scripts: dict[str, Path], words: dict[tuple[str, ...], set[str]], shell: str
) -> None:
    text = scripts[shell].read_text()
    for path, options in words.items():
        assert re.search(rf"\b{path[-1]}\b", text), path
        for option in options:
            name = option[2:]
            assert re.search(rf"(--|-l ){name}\b", text), (path, option)


def environment(scripts: dict[str, Path]) -> dict[str, str]:
    folder = scripts["bash"].parent
    path = f"{folder}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def bash(scripts: dict[str, Path], *typed: str) -> list[str]:
    """What bash offers for the last of these words."""
    line = " ".join(("heygemd", *typed))
    program = (
        f'source {scripts["bash"]}; COMP_WORDS=(heygemd "$@"); COMP_CWORD=$#; COMP_LINE="{line}"; '
        'compopt() { :; }; _heygemd; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", program, "bash", *typed], capture_output=True, text=True, env=environment(scripts),
        cwd=scripts["bash"].parent,
    )  # fmt: skip
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.splitlines()))


def test_bash_offers_every_command_and_option(scripts: dict[str, Path], words: dict[tuple[str, ...], set[str]]) -> None:
    assert bash(scripts, "") == sorted(name for name, *rest in words if not rest)
    assert bash(scripts, "models", "") == sorted(rest[0] for _, *rest in words if rest)
    for path, options in words.items():
        assert set(bash(scripts, *path, "--")) == options, path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["re"], ["reload", "render", "report", "resume", "retry"]),
        (["render", "--engine", ""], sorted(ENGINES)),
        (["render", "--engine", "foo"], ["footage"]),
        (["render", "--engine", "=", "foo"], ["footage"]),
        (["render", "--video", "a"], ["a film.mp4", "a folder"]),
        (["demo", "--out", "a"], ["a folder"]),
        (["report", "a f"], ["a film.mp4", "a folder"]),
        (["jobs", "--state", "fail"], ["failed"]),
        (["models", "--debug", "im"], ["import"]),
        (["retry", ""], [JOB]),
        (["log", "2026"], [JOB]),
        (["status", "--w"], ["--watch"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["no-such-command", ""], []),
    ],
)
def test_bash_knows_what_may_follow(scripts: dict[str, Path], typed: list[str], offered: list[str]) -> None:
    assert bash(scripts, *typed) == offered


def typed_at(shell: list[str], scripts: dict[str, Path], setup: str, keys: str, expected: str) -> Iterator[str]:
    """Type at a real shell on a terminal; what appears, until ``expected`` is there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        shell, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(scripts), cwd=scripts["bash"].parent,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""
    try:
        for line, wanted in ((f"{setup}; echo rea''dy\r", "ready"), (keys, expected)):
            os.write(ours, line.encode())
            ends, seen = time.monotonic() + 30, ""
            while wanted not in seen and time.monotonic() < ends:
                if select.select([ours], [], [], 0.2)[0]:
                    seen += os.read(ours, 4096).decode(errors="replace")
                    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x08.", "", seen)  # what only moves the cursor
            yield seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_in_a_real_bash_the_tab_key_completes(scripts: dict[str, Path]) -> None:
    *_, seen = typed_at(
        ["bash", "--norc", "-i"], scripts, f". {scripts['bash']}", "heygemd rend\t--eng\tfoo\t--out a\\ fi\t",
        "heygemd render --engine footage --out a\\ film.mp4",
    )  # fmt: skip
    assert "heygemd render --engine footage --out a\\ film.mp4" in seen


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_in_a_real_zsh_the_tab_key_completes(scripts: dict[str, Path]) -> None:
    setup = f"unsetopt prompt_cr prompt_sp; autoload -U compinit; compinit -D -u; . {scripts['zsh']}"
    whole = "heygemd render --engine footage retr"
    *_, seen = typed_at(["zsh", "-f", "-i", "-V"], scripts, setup, "heygemd rend\t--eng\tfoo\tretr", whole)
    assert whole in seen


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("heygemd rend", {"render"}),
        ("heygemd render --eng", {"--engine"}),
        ("heygemd render --engine f", {"footage"}),
        ("heygemd models im", {"import"}),
        ("heygemd models import --na", {"--name"}),
        ("heygemd jobs --state fail", {"failed"}),
        ("heygemd retry 2", {JOB}),
        ("heygemd report a", {"a film.mp4", "a folder/"}),
    ],
)
def test_fish_completes(scripts: dict[str, Path], typed: str, offered: set[str]) -> None:
    program = f"source {scripts['fish']}; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], capture_output=True, text=True, env=environment(scripts),
        cwd=scripts["bash"].parent,
    )  # fmt: skip
    assert done.stderr == ""
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered


def test_a_shell_that_is_none_is_wrong_use() -> None:
    assert main.main(["completion", "csh"]) == exits.MISUSE
