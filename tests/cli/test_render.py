"""``heygemd render``: one film without a daemon, with the command engine standing for the renderer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heygemd.cli import main, render
from heygemd.common.errors import HeygemdError
from heygemd.common.request import JobOptions
from tests.site import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, media: Path) -> Path:
    """A folder with ``v.mp4``, ``a.wav`` and a configuration whose engine copies sound and picture together."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEYGEMD_CONFIG", raising=False)
    (tmp_path / "v.mp4").write_bytes((media / "film.mp4").read_bytes())
    (tmp_path / "a.wav").write_bytes((media / "voice.wav").read_bytes())
    engine(tmp_path, 'exec ffmpeg -v error -y -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac "$3"')
    return tmp_path


REPORT = '[quality]\nreport = "off"\n'  # the film is a test card: there is no face to be measured


def engine(folder: Path, script: str) -> None:
    program = folder / "engine.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    argv = json.dumps([str(program), "{video}", "{audio}", "{output}"])
    (folder / "config.toml").write_text(f'[render]\nengine = "command"\n[command]\nargv = {argv}\n{REPORT}')


def made(*more: str) -> int:
    return main.main(["render", "--video", "v.mp4", "--audio", "a.wav", "--out", "o.mp4", *more])


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"v.mp4", "a.wav", "engine.sh", "config.toml"}


def test_the_film_and_its_log_are_put_in_place_and_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made("--crf", "20") == 0
    assert names(here) == {"o.mp4", "o.json"}
    told = capsys.readouterr()
    assert told.out.splitlines()[:2] == ["film  o.mp4", "log   o.json"]
    assert "25 frames, engine command (engine.sh)" in told.out
    assert "reading the inputs\n" in told.err
    record = json.loads((here / "o.json").read_text())
    assert record["options"]["crf"] == 20
    assert record["film"]["bytes"] == (here / "o.mp4").stat().st_size
    assert record["inputs"]["audio"]["bytes"] == (here / "a.wav").stat().st_size
    assert len(record["inputs"]["video"]["sha256"]) == len(record["film"]["sha256"]) == 64


def test_with_json_the_result_is_one_object_on_stdout(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True and told["film"] == "o.mp4" and told["output"]["frames"] == 25


def test_nothing_is_overwritten_unless_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "o.json").write_text("mine")
    assert made() == 2
    assert "o.json already exists. Add --force to replace it" in capsys.readouterr().err
    assert names(here) == {"o.json"}
    assert made("--force") == 0
    assert json.loads((here / "o.json").read_text())["schema"]


def test_a_film_that_appears_meanwhile_is_left_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine(here, f'echo theirs > {here}/o.mp4; exec ffmpeg -v error -y -i "$1" -i "$2" -c:v copy -c:a aac "$3"')
    assert made() == 1
    assert "was created by another program in the meantime" in capsys.readouterr().err
    assert names(here) == {"o.mp4"} and (here / "o.mp4").read_text() == "theirs\n"


@pytest.mark.parametrize(
    ("video", "audio", "out", "said"),
    [
        ("v.mp4", "a.wav", "o.mkv", "must end in .mp4"),
        ("v.mp4", "a.wav", "no/o.mp4", "does not exist"),
        ("v.mp4", "a.wav", "v.mp4", "one of the inputs"),
        ("v.mp4", "a.wav", "folder.mp4", "is a folder"),
    ],
)
def test_a_senseless_order_is_refused_before_anything_is_done(
    here: Path, video: str, audio: str, out: str, said: str
) -> None:
    (here / "folder.mp4").mkdir()
    order = render.Order(Path(video), Path(audio), Path(out), JobOptions(), replace=True)
    assert said in str(render.fault(order))


@pytest.mark.parametrize(("audio", "said"), [("none.wav", "No such file"), (".", "is not a file")])
def test_an_input_that_cannot_be_read_is_named(
    here: Path, audio: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["render", "--video", "v.mp4", "--audio", audio, "--out", "o.mp4", "--json"]) == 3
    out = capsys.readouterr()
    assert said in out.err and json.loads(out.out)["error"]["code"] == "input"


def test_a_failed_render_leaves_nothing_behind(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    engine(here, "echo broken >&2; exit 9")
    assert made() == 3
    assert names(here) == {"tmp"} and not list(temporary.iterdir())


def test_names_that_ffmpeg_could_misread_are_only_names(here: Path) -> None:
    odd = Path(os.fsdecode(b"-i concat:\xe9 %03d.mp4"))
    (here / "v.mp4").rename(odd)
    order = render.Order(odd, Path("a.wav"), Path("o.mp4"), JobOptions())
    from heygemd.config import load

    assert render.fault(order) is None
    assert render.render(load.load(here / "config.toml", need_lines=False), order).film.exists()


def test_a_disk_that_is_full_is_told_and_leaves_no_part(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    order = render.Order(Path("v.mp4"), Path("a.wav"), Path("o.mp4"), JobOptions())
    with pytest.raises(HeygemdError, match=r"o\.mp4 cannot be written: No space left on device"):
        render._put(here / "v.mp4", order)
    assert names(here) == set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_signal_ends_the_engine_too_and_leaves_nothing(here: Path, number: signal.Signals, code: int) -> None:
    (here / "tmp").mkdir()
    engine(here, f"echo $$ > {here}/pid; exec sleep 60")
    argv = [sys.executable, "-m", "heygemd", "render", "--video", "v.mp4", "--audio", "a.wav", "--out", "o.mp4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(here / "tmp")}
    process = subprocess.Popen(argv, cwd=here, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (here / "pid").is_file() or not (here / "pid").read_text().strip():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == code and b"interrupted" in told and b"Traceback" not in told
    assert not list((here / "tmp").iterdir()) and not (here / "o.mp4").exists()
    engine_pid = int((here / "pid").read_text())
    while (Path("/proc") / str(engine_pid)).exists() and "sleep" in _name(engine_pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
