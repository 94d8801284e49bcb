"""``config.toml``: every fault at once, and one source for the file, the dataclasses and the README."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import tomli

from heygemd.common.errors import ConfigError
from heygemd.common.request import JobOptions
from heygemd.config import load, template
from heygemd.config.line import LINE_KEYS, OPTION_KEYS
from heygemd.config.toml_schema import keys_of
from heygemd.config.whole import TABLES
from tests.site import ROOT

LINE = '[[line]]\nname = "main"\nroot = "lines/main"\n'


def faults(tmp_path: Path, text: str) -> list[str]:
    """The faults of a file with this text, none where it is right."""
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    try:
        load.load(file)
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []


def only_fault(tmp_path: Path, text: str) -> str:
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    return found[0]


def loaded(tmp_path: Path, text: str) -> load.Config:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load.load(file)


# ---------------------------------------------------------------- the shipped file


def test_the_shipped_file_is_what_the_dataclasses_say() -> None:
    assert (ROOT / "config.toml").read_text(encoding="utf-8") == template.template()


def test_the_copy_in_the_wheel_is_the_same_to_the_byte() -> None:
    assert template.CONFIG_TEMPLATE.read_bytes() == (ROOT / "config.toml").read_bytes()


def test_the_shipped_file_holds_the_defaults_and_one_line() -> None:
    found = load.load(ROOT / "config.toml")
    line = load.LineConfig(name="main", root=Path("/srv/heygemd/main"))
    assert found == dataclasses.replace(load.default_config(), lines=(line,), source=ROOT / "config.toml")


def test_the_shipped_file_with_every_setting_uncommented_still_holds_the_defaults(tmp_path: Path) -> None:
    bare = re.sub(r"^#(?=[\[\w])", "", template.template(), flags=re.MULTILINE)
    found = loaded(tmp_path, bare)
    assert dataclasses.replace(found, lines=(), source=load.default_config().source) == load.default_config()
    assert found.lines[0].options == JobOptions("footage", "normal", 18, "veryfast", "bounce", "largest")
    assert found.lines[0].folders == {"zhang": JobOptions(crf=18, priority="low")}
    written = tomli.loads(bare)
    assert {name: set(written[name]) for name in TABLES} == {name: set(keys_of(cls)) for name, cls in TABLES.items()}
    assert set(written["line"][0]) == {*LINE_KEYS, *OPTION_KEYS, "folders"}


def test_every_field_of_the_tables_is_a_documented_key() -> None:
    for cls in TABLES.values():
        assert list(keys_of(cls)) == [f.name for f in dataclasses.fields(cls)]
    assert {*LINE_KEYS, "options", "folders"} == {f.name for f in dataclasses.fields(load.LineConfig)}
    assert set(OPTION_KEYS) == {f.name for f in dataclasses.fields(JobOptions)}
    assert all(key.rule.doc for cls in TABLES.values() for key in keys_of(cls).values())


def test_the_reference_has_a_row_for_every_key_and_says_which_must_be_given() -> None:
    rows = template.reference_rows()
    assert len(rows) == len({(table, name) for table, name, _, _ in rows})
    assert [(t, k) for t, k, default, _ in rows if default == "—"] == [("[[line]]", "name"), ("[[line]]", "root")]
    assert ("[render]", "crf", "18", keys_of(load.RenderConfig)["crf"].rule.doc) in rows


# ---------------------------------------------------------------- what a right file becomes


def test_relative_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[daemon]\nstate_dir = "../state"\n' + LINE)
    assert found.daemon.state_dir == tmp_path.parent / "state"
    assert found.daemon.socket == tmp_path.parent / "state" / "heygemd.sock"
    assert found.lines[0].inbox == tmp_path / "lines" / "main" / "inbox"


def test_a_line_may_put_its_folders_elsewhere_and_has_options_of_its_own(tmp_path: Path) -> None:
    text = (
        LINE + 'processing = "/mnt/p"\ncrf = 23\nlibrary = ["lib"]\n[line.folders."zhang/lessons"]\npriority = "low"\n'
    )
    line = loaded(tmp_path, text).lines[0]
    assert line.processing == Path("/mnt/p")
    assert line.library == (tmp_path / "lib",)
    assert line.options == JobOptions(crf=23)
    assert line.folders == {"zhang/lessons": JobOptions(priority="low")}


@pytest.mark.parametrize("url", ["http://localhost:1", "http://[::1]:8383", "http://192.168.7.20:8384/"])
def test_a_container_may_be_on_this_machine_or_in_its_private_network(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, f'[duix]\nurl = "{url}"\nshared = "/srv/duix"\n' + LINE).duix.url == url


def test_whole_numbers_are_taken_where_any_number_is(tmp_path: Path) -> None:
    seconds = loaded(tmp_path, "[intake]\npoll_seconds = 5\n" + LINE).intake.poll_seconds
    assert seconds == 5.0 and isinstance(seconds, float)


def test_render_and_status_do_without_lines(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[render]\ncrf = 20\n")
    assert load.load(file, need_lines=False).render.crf == 20
    assert "has no [[line]]" in only_fault(tmp_path, "[render]\ncrf = 20\n")


def test_a_line_may_lie_in_the_state_folder(tmp_path: Path) -> None:
    assert faults(tmp_path, '[daemon]\nstate_dir = "lines"\n' + LINE) == []


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[deamon]\n" + LINE, "did you mean 'daemon'?"),
        ("[lines]\n" + LINE, "did you mean 'line'?"),
        ("[render]\nquality = 3\n" + LINE, "unknown key 'quality'"),
        ("[intake]\nsettle_secnds = 3\n" + LINE, "did you mean 'settle_seconds'?"),
        ("[daemon]\ncrf = 20\n" + LINE, "it belongs in [render]"),
        (LINE + "attempts = 2\n", "it belongs in [limits]"),
        ("[render]\ncrf = true\n" + LINE, "[render] crf: must be a whole number, not true"),
        ("[render]\ncrf = 18.0\n" + LINE, "must be a whole number, not 18.0"),
        ('[render]\ncrf = "18"\n' + LINE, "must be a whole number, not the text '18'"),
        ("[render]\ncrf = 52\n" + LINE, "must be at most 51, not 52"),
        ("[render]\ncrf = -1\n" + LINE, "must be at least 0, not -1"),
        ("[intake]\npoll_seconds = nan\n" + LINE, "must be a finite number"),
        ("[limits]\nstall_seconds = inf\n" + LINE, "must be a finite number"),
        ('[render]\npreset = "fats"\n' + LINE, "did you mean 'fast'?"),
        ('[daemon]\nstate_dir = ""\n' + LINE, "state_dir: must not be empty"),
        ('[daemon]\nstate_dir = "~/heygemd"\n' + LINE, "write the full path"),
        ('[daemon]\nlog_file = "a\\u0000b"\n' + LINE, "control character"),
        ('[command]\nargv = ["p", "{audio}", "--to={output}"]\n' + LINE, "lacks {video}"),
        ("[command]\nargv = [1]\n" + LINE, "must be a list of texts in quotes"),
        ('[command]\nargv = "p"\n' + LINE, "must be a list of texts in quotes, not the text 'p'"),
        ("render = 3\n" + LINE, "write [render]"),
        ('[line]\nname = "a"\n', "two brackets"),
        ('[[line]]\nname = "a"\n', "line 'a': 'root' is missing"),
        ('[[line]]\nroot = "a"\n', "line number 1: 'name' is missing"),
        ('[[line]]\nname = ".."\nroot = "a"\n', "must be 1 to 64 characters"),
        ('[[line]]\nname = "a/b"\nroot = "a"\n', "must be 1 to 64 characters"),
        (LINE + "allowed_engines = []\n", "at least one engine"),
        (
            '[mark]\nlabel = "start"\nlabel_text = "鑫公司 AI"\n' + LINE,
            "has characters that the font label.otf lacks: 鑫; set",
        ),
        ('[mark]\nlabel = "start"\nlabel_font = "/no/font.ttf"\n' + LINE, "/no/font.ttf cannot be used: No such file"),
        ('[mark]\nlabel_text = "AI\\u200b"\n' + LINE, "one line of visible characters"),
        ("[mark]\nlabel_seconds = 1\n" + LINE, "label_seconds"),
        (LINE + 'allowed_engines = ["footage", "musetalk"]\n', "is none of footage, wav2lip, duix, command"),
        (LINE + 'allowed_engines = ["footage", "duix"]\n', "[duix] shared: is required"),
        ('[duix]\nurl = "http://8.8.8.8:8383"\n' + LINE, "8.8.8.8 is a public address"),
        ('[duix]\nurl = "http://example.com:8383"\n' + LINE, "'example.com' is a host name"),
        ('[duix]\nurl = "https://127.0.0.1"\n' + LINE, "is not like http://127.0.0.1:8383"),
        ('[duix]\nurl = "http://127.0.0.1:8383/easy"\n' + LINE, "is not like http://127.0.0.1:8383"),
        ('[duix]\nurl = "http://127.0.0.1:port"\n' + LINE, "is not an address"),
        (LINE + 'engine = "command"\n', "'command' is not among allowed_engines"),
        (LINE + "[line.folders.zhang]\ncrv = 3\n", "did you mean 'crf'?"),
        (LINE + "[line.folders.high]\ncrf = 3\n", "reserved"),
        (LINE + '[line.folders."../x"]\ncrf = 3\n', "must be a subfolder"),
        (LINE + '[line.folders.a]\nengine = "command"\n', "folders.a engine: 'command' is not among"),
        (LINE + "folders = 3\n", "must be tables"),
        (LINE + 'allowed_engines = ["footage", "command"]\n', "[command] argv: is required"),
    ],
)
def test_each_fault_has_its_sentence(tmp_path: Path, text: str, said: str) -> None:
    assert said in only_fault(tmp_path, text)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = '[x]\n[render]\ncrf = 99\nfase = 1\n[daemon]\nlog_mib = true\n[[line]]\nroot = ""\n'
    assert len(faults(tmp_path, text)) == 6


def test_a_fault_of_syntax_says_line_and_column(tmp_path: Path) -> None:
    assert "line 2, column 5" in only_fault(tmp_path, "[render]\ncrf 18\n")


def test_a_file_that_is_not_text_or_not_there_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'[daemon]\nstate_dir = "caf\xe9"\n')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load.load(tmp_path / "latin")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load.load(tmp_path / "absent")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        LINE + 'outbox = "lines/main/inbox"\n',
        LINE + 'outbox = "lines/main/inbox/out"\n',
        LINE + 'inbox = "lines"\n',
        LINE + '[[line]]\nname = "b"\nroot = "lines/main"\n',
        LINE + '[[line]]\nname = "b"\nroot = "lines/main/done/../inbox/b"\n',
        LINE + 'library = ["lines/main/inbox"]\n',
        LINE + 'library = ["lines"]\n',
        '[daemon]\nwork_dir = "lines/main"\n' + LINE,
        '[daemon]\nwork_dir = "lines/main/inbox/work"\n' + LINE,
        '[daemon]\nstate_dir = "lines/main/outbox"\n' + LINE,
        '[daemon]\nsocket = "lines/main/inbox/s"\n' + LINE,
    ],
)
def test_folders_that_lie_in_one_another_are_refused(tmp_path: Path, text: str) -> None:
    found = faults(tmp_path, text)
    assert found and all("use separate folders" in fault for fault in found)


def test_names_of_lines_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    assert "is also the name of another line" in only_fault(
        tmp_path, LINE + '[[line]]\nname = "MAIN"\nroot = "other"\n'
    )


def test_siblings_under_one_root_are_what_lines_are_for(tmp_path: Path) -> None:
    assert faults(tmp_path, LINE + '[[line]]\nname = "b"\nroot = "lines/main2"\n') == []


# ---------------------------------------------------------------- which file


def test_the_file_is_the_one_asked_for_then_the_environments_then_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "SYSTEM_CONFIG", tmp_path / "system.toml")
    monkeypatch.delenv("HEYGEMD_CONFIG", raising=False)
    assert load.find(None) is None
    (tmp_path / "system.toml").touch()
    assert load.find(None) == tmp_path / "system.toml"
    (tmp_path / "config.toml").touch()
    assert load.find(None) == Path("config.toml")
    monkeypatch.setenv("HEYGEMD_CONFIG", "/elsewhere.toml")
    assert load.find(None) == Path("/elsewhere.toml")
    assert load.find(Path("mine.toml")) == Path("mine.toml")
