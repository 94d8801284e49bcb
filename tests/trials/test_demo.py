"""The demo: how it takes what a daemon may do (a stand-in), and once the real thing from end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from heygemd.common.errors import EngineError, InputError, SetupError
from heygemd.config import load
from heygemd.trials import demo, portrait_film, temporary_daemon
from tests.site import ROOT

FAKE = ROOT / "tests" / "fakes" / "demo_daemon.py"
Daemon = Callable[[str], None]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    """``daemon("fails")`` puts the stand-in that fails in the real one's place."""
    monkeypatch.setattr(temporary_daemon, "POLL_SECONDS", 0.02)
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def choose(how: str) -> None:
        monkeypatch.setattr(temporary_daemon, "DAEMON", (sys.executable, str(FAKE), how))

    return choose


@pytest.fixture
def no_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sheet has its own tests; it costs an import of OpenCV in a child."""

    def write(_before: Path, _after: Path, out: Path) -> dict[str, object]:
        out.write_bytes(b"png")
        return {}

    monkeypatch.setattr(demo, "draw_sheet", write)


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A user's own pair; the stand-in looks at names only."""
    video, audio = tmp_path / "王老师 ~1.MP4", tmp_path / "speech.wav"
    video.write_bytes(b"a film")
    audio.write_bytes(b"a sound")
    return video, audio


@pytest.mark.usefixtures("no_sheet")
def test_a_delivered_pair_ends_as_three_named_files(
    daemon: Daemon, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon("delivers")
    assert demo.run(*own, tmp_path / "out", False) == 0
    told = capsys.readouterr()
    for name in ("王老师 _1.mp4", "王老师 _1.json", "王老师 _1.sheet.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
        assert str(tmp_path / "out" / name) in told.out
    assert "ffplay" in told.out
    assert "mouth: frame" in told.err


@pytest.mark.usefixtures("no_sheet")
def test_own_files_stay_as_they_are_and_nothing_else_is_left(
    daemon: Daemon, own: tuple[Path, Path], tmp_path: Path
) -> None:
    daemon("delivers")
    demo.run(*own, tmp_path / "out", False)
    assert [path.read_bytes() for path in own] == [b"a film", b"a sound"]
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.usefixtures("no_sheet")
def test_a_second_demo_overwrites_nothing(
    daemon: Daemon, own: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon("delivers")
    for _ in range(2):
        demo.run(*own, tmp_path / "out", False)
    assert (tmp_path / "out" / "王老师 _1 (2).mp4").exists()
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        demo.run(*own, None, False)
    assert (tmp_path / "heygemd-demo" / "王老师 _1.mp4").exists()
    assert (tmp_path / "heygemd-demo (2)" / "王老师 _1.mp4").exists()


@pytest.mark.usefixtures("no_sheet")
def test_json_is_the_only_thing_on_stdout(
    daemon: Daemon, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon("delivers")
    demo.run(*own, tmp_path / "out", True)
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert Path(answer["film"]).read_bytes() == b"a film"
    assert Path(answer["log"]).exists() and Path(answer["sheet"]).exists()


@pytest.mark.parametrize("json_output", [False, True])
def test_a_failed_job_ends_with_its_reason_and_code_3(
    daemon: Daemon,
    own: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    json_output: bool,
) -> None:
    daemon("fails")
    assert demo.run(*own, tmp_path / "out", json_output) == 3
    told = capsys.readouterr()
    assert "The face in template.mp4 is 31 pixels wide." in (told.out if json_output else told.err)
    assert not (tmp_path / "out").exists()


def test_a_daemon_that_does_not_start_is_told_in_its_own_words(
    daemon: Daemon, own: tuple[Path, Path], tmp_path: Path
) -> None:
    daemon("does_not_start")
    with pytest.raises(EngineError, match="a line without a folder"):
        demo.run(*own, tmp_path / "out", False)


def test_a_daemon_that_dies_halfway_is_told(daemon: Daemon, own: tuple[Path, Path], tmp_path: Path) -> None:
    daemon("dies")
    with pytest.raises(EngineError, match="exited with code -6"):
        demo.run(*own, tmp_path / "out", False)


def test_when_nothing_moves_the_last_word_is_told(
    daemon: Daemon,
    own: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon("never_ends")
    monkeypatch.setattr(demo, "PATIENCE_SECONDS", 0.3)
    assert demo.run(*own, tmp_path / "out", False) == 3
    assert "waiting: its partner is not here" in capsys.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_takes_its_daemon_with_it(
    own: tuple[Path, Path], tmp_path: Path, signum: signal.Signals
) -> None:
    note = tmp_path / "pid"
    program = (
        "import sys; from pathlib import Path; from heygemd.trials import demo, temporary_daemon\n"
        f"temporary_daemon.DAEMON = (sys.executable, {str(FAKE)!r}, 'never_ends')\n"
        f"sys.exit(demo.run(Path({str(own[0])!r}), Path({str(own[1])!r}), None, False))"
    )
    environment = os.environ | {"DEMO_TEST_NOTE": str(note), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=tmp_path) as process:
        _until(note.exists)
        _until(lambda: note.read_text() != "")
        process.send_signal(signum)
        assert process.wait(20) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert list(tmp_path.glob("heygemd-demo*")) == []


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_missing_or_strange_file_is_named_before_anything_starts(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(InputError, match=r"gone\.mp4: the file does not exist"):
        demo.run(tmp_path / "gone.mp4", None, None, False)
    with pytest.raises(InputError, match=r"notes\.txt: the file must be of one of these kinds"):
        demo.run(None, text, None, False)


def test_the_temporary_lines_configuration_is_a_valid_one(daemon: Daemon) -> None:
    daemon("delivers")
    with temporary_daemon.temporary_line("demo", demo.SETTINGS) as stage:
        loaded = load.load(stage.config)
        assert loaded.lines[0].root == stage.line
        assert loaded.daemon.socket == stage.socket


def test_the_socket_stays_short_where_the_temporary_folder_is_deep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with temporary_daemon.temporary_line("demo", demo.SETTINGS) as stage:
        assert len(os.fsencode(stage.socket)) <= temporary_daemon.SOCKET_PATH_BYTES
        assert tomllib.loads(stage.config.read_text())["daemon"]["socket"] == str(stage.socket)
    assert list(deep.iterdir()) == []


def test_the_portrait_becomes_a_film_that_moves(tmp_path: Path) -> None:
    film = tmp_path / "portrait.mp4"
    portrait_film.make_portrait_film(film, seconds=1)
    argv = ["ffprobe", "-v", "error", "-show_entries", "stream=width,height,r_frame_rate,pix_fmt,codec_name"]
    stream = json.loads(subprocess.check_output([*argv, "-of", "json", film]))["streams"][0]
    assert stream == {
        "codec_name": "h264",
        "width": 960,
        "height": 720,
        "pix_fmt": "yuv420p",
        "r_frame_rate": "25/1",
    }
    told = subprocess.check_output(["ffmpeg", "-v", "error", "-i", film, "-f", "framemd5", "-"], text=True)
    assert len({line.split()[-1] for line in told.splitlines() if not line.startswith("#")}) == 25


def test_without_ffmpeg_the_demo_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="apt-get install ffmpeg"):
        portrait_film.make_portrait_film(tmp_path / "portrait.mp4")


def test_the_shipped_sentence_is_a_few_seconds_of_sound(tmp_path: Path) -> None:
    sound = tmp_path / "speech.flac"
    portrait_film.write_speech(sound)
    argv = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(sound)]
    assert 5 < float(subprocess.check_output(argv)) < 8
    assert sound.stat().st_size < 200_000


def test_the_real_daemon_makes_the_portrait_speak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, speech = tmp_path / "astronaut.mp4", tmp_path / "speech.flac"
    portrait_film.make_portrait_film(video, seconds=1)
    portrait_film.write_speech(speech)
    short = tmp_path / "short.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-i", speech, "-t", "1.6", short], check=True)

    assert demo.run(video, short, tmp_path / "out", True) == 0

    answer = json.loads(capsys.readouterr().out)
    film, log, sheet = (Path(answer[key]) for key in ("film", "log", "sheet"))
    assert [path.name for path in (film, log, sheet)] == [
        "astronaut.mp4",
        "astronaut.json",
        "astronaut.sheet.png",
    ]
    argv = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v"]
    argv += ["-show_entries", "stream=nb_read_frames,width,height", "-of", "csv=p=0", str(film)]
    assert subprocess.check_output(argv, text=True).strip() == "960,720,40"
    assert json.loads(log.read_text())["engine"]["name"] == "footage"
    # Two rows, and two more of the enlarged place, which is there only if the mouth has moved.
    assert int.from_bytes(sheet.read_bytes()[20:24], "big") > 700
