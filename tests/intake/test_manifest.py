from __future__ import annotations

import json
from typing import Any

import pytest

from heygemd.common.names import display
from heygemd.common.request import JobOptions
from heygemd.intake.manifest import FolderOptions, Manifest, problem, read, read_folder
from heygemd.intake.manifest_schema import MAX_FAULTS


def toml(text: str) -> Manifest:
    return read(text.encode(), ".toml")


def as_json(value: Any) -> Manifest:
    return read(json.dumps(value).encode(), ".json")


def as_csv(*lines: str) -> Manifest:
    return read("\n".join(lines).encode(), ".csv")


def films(manifest: Manifest) -> list[tuple[str, str, str]]:
    assert manifest.faults == ()
    return [(job.name, job.audio, job.video) for job in manifest.jobs]


def told(manifest: Manifest | FolderOptions) -> str:
    assert manifest.faults
    return "\n".join(map(str, manifest.faults))


def test_one_sound_speaks_through_many_videos() -> None:
    expected = [("a", "speech.wav", "a.mp4"), ("b", "speech.wav", "sub/b.MOV")]
    assert films(toml('audio = "speech.wav"\nvideos = ["a.mp4", "sub\\\\b.MOV"]')) == expected
    assert films(as_json({"audio": "speech.wav", "videos": ["a.mp4", "./sub//b.MOV"]})) == expected


def test_a_list_of_jobs_with_their_own_options_over_the_manifests() -> None:
    manifest = toml(
        """
        priority = "low"
        crf = 20
        [[jobs]]
        audio = "1.wav"
        video = "anna.mp4"
        output = "Lektion 1"
        crf = 16
        [[jobs]]
        audio = "2.wav"
        video = "bob.png"
        output = "课程.mp4"
        engine = "command"
        preset = "slow"
        extend = "loop"
        face = "left"
        priority = "high"
        """
    )
    assert films(manifest) == [("Lektion 1", "1.wav", "anna.mp4"), ("课程", "2.wav", "bob.png")]
    assert manifest.jobs[0].options == JobOptions(priority="low", crf=16)
    assert manifest.jobs[1].options == JobOptions("command", "high", 20, "slow", "loop", "left")


def test_a_sound_beside_jobs_serves_those_that_name_none() -> None:
    manifest = as_json({"audio": "all.wav", "jobs": [{"video": "a.mp4"}, {"video": "b.mp4", "audio": "b.mp3"}]})
    assert films(manifest) == [("a", "all.wav", "a.mp4"), ("b", "b.mp3", "b.mp4")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_csv_as_any_spreadsheet_writes_it(delimiter: str, coding: str, newline: str) -> None:
    lines = [
        ["Audio", " video ", "output", "crf"],
        ["1.wav", "安娜.mp4", "一", "19"],
        ["2.wav", '"b.mp4"', "", ""],
    ]
    text = newline.join(delimiter.join(line) for line in [*lines, ["", "", "", ""]]) + newline
    manifest = read(text.encode(coding), ".csv")
    assert films(manifest) == [("一", "1.wav", "安娜.mp4"), ("b", "2.wav", "b.mp4")]
    assert [job.options.crf for job in manifest.jobs] == [19, None]


def test_utf16_and_a_byte_order_mark_are_read_in_every_kind() -> None:
    text = json.dumps({"audio": "一.wav", "videos": ["一.mp4"]}, ensure_ascii=False)
    for coding in ("utf-8-sig", "utf-16"):
        assert films(read(text.encode(coding), ".json")) == [("一", "一.wav", "一.mp4")]
    assert films(read('audio="a.wav"\nvideos=["b.mp4"]'.encode("utf-8-sig"), ".toml"))


def test_one_template_with_many_sounds_is_named_after_both() -> None:
    jobs = [{"audio": f"{a}.wav", "video": "anna.mp4"} for a in ("one", "two", "one")]
    names = [name for name, _, _ in films(as_json({"jobs": jobs}))]
    assert names == ["anna-one", "anna-two", "anna-one (2)"]


def test_a_name_that_was_asked_for_is_not_given_to_another() -> None:
    jobs = [{"audio": "a.wav", "video": "anna.mp4"}, {"audio": "b.wav", "video": "bob.mp4", "output": "Anna"}]
    assert [name for name, _, _ in films(as_json({"jobs": jobs}))] == ["anna (2)", "Anna"]


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd", "..\\..\\etc\\passwd", "/etc/passwd", "a/../../b.mp4", "C:\\b.mp4", "\\\\nas\\b.mp4",
        "", "b\0.mp4", "b\n.mp4", "x" * 5000 + ".mp4", "\ud800.mp4",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["audio", "video"])
def test_a_path_that_leads_out_is_a_fault_that_names_it(path: str, key: str) -> None:
    job = {"audio": "a.wav", "video": "b.mp4"} | {key: path}
    text = told(as_json({"jobs": [job]}))
    assert text.startswith(f"job 1, {key}: '{display(path[:10])}")
    assert len(text) < 500
    assert text.isprintable()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"video": "b.mp4"}, "job 1: 'audio' is missing"),
        ({"audio": "a.wav"}, "job 1: 'video' is missing"),
        ({"audio": "a.wav", "video": ["b.mp4"]}, "job 1, video: must be the name of a file, not a list"),
        ({"audio": "a.wav", "video": "b.txt"}, "is not a video or picture"),
        ({"audio": "b.mp4", "video": "b.mp4"}, "is not a sound file"),
        ({"audio": "a.wav", "video": ".b.mp4"}, "is a file name that heygemd ignores"),
        ({"audio": "a.wav", "video": "@eaDir/b.mp4"}, "is a file name that heygemd ignores"),
        ({"crff": 18}, "unknown key 'crff'; did you mean 'crf'?"),
        ({"videos": ["b.mp4"]}, "unknown key 'videos'; did you mean 'video'?"),
        ({"crf": 52}, "job 1, crf: must be a whole number from 0 to 51, not 52"),
        ({"crf": -1}, "not -1"),
        ({"crf": True}, "not true"),
        ({"crf": 18.0}, "not 18.0"),
        ({"crf": "18"}, "not '18'"),
        ({"crf": None}, "not null"),
        ({"crf": 10**30}, "not a huge number"),
        (
            {"engine": "fotage"},
            "command, not 'fotage'; did you mean 'footage'?",
        ),
        ({"engine": {}}, "not a table"),
        ({"preset": "x" * 9999}, "job 1, preset: must be one of"),
        ({"priority": "urgent"}, "high, normal, low"),
        ({"extend": "bouncy"}, "did you mean 'bounce'?"),
        ({"face": 3}, "must be one of largest, left, right, center, not 3"),
        ({"output": "../x"}, "must be a plain file name"),
        ({"output": "x/y.mp4"}, "must be a plain file name"),
        ({"output": "CON"}, "Windows"),
        ({"output": ".mp4"}, "must not start or end with a dot"),
        ({"output": ""}, "is empty"),
        ({"output": "film.mov"}, "films are always .mp4"),
        ({"output": 7}, "must be a name, not 7"),
        ({"output": "x" * 201}, "is longer than 200 bytes"),
    ],
)
def test_a_job_with_a_fault_is_refused_by_name(job: dict[str, Any], words: str) -> None:
    full = job if {"audio", "video"} & job.keys() else {"audio": "a.wav", "video": "b.mp4", **job}
    text = told(as_json({"jobs": [full]}))
    assert words in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b'{"audio": "a.wav"}', "must contain either 'videos' (with 'audio') or 'jobs'"),
        (b'{"audio": "a.wav", "videos": [], "jobs": []}', "not both"),
        (b'{"audio": "a.wav", "videos": []}', "at least one entry, not an empty list"),
        (b'{"audio": "a.wav", "videos": "b.mp4"}', "must be a list"),
        (b'{"videos": ["b.mp4", "c.mp4"]}', "'audio' is missing"),
        (b'{"jobs": ["b.mp4"]}', "job 1: must be a table"),
        (b"[]", "must be an object"),
        (b"7", "must be an object"),
        (b'{"audio": "a.wav", "audio": "b.wav", "videos": ["b.mp4"]}', "audio: is given 2 times"),
        (b'{"jobs": [{"audio": "a.wav", "video": "b.mp4", "video": "c.mp4"}]}', "video: is given 2 times"),
        (b'{"crf": NaN, "audio": "a.wav", "videos": ["b.mp4"]}', "NaN is not a number"),
        (b'{"crf": -Infinity, "audio": "a.wav", "videos": ["b.mp4"]}', "-Infinity is not a number"),
        (b'{"crf": 1e999, "audio": "a.wav", "videos": ["b.mp4"]}', "crf: must be a whole number"),
        (b'{"crf": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b'{"audio": "a.wav",}', "is not valid JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"audio": "\xff.wav"}', "is not UTF-8 text (byte 12)"),
        (b"\xff\xfeabc", "is not UTF-16 text"),
        (b"{}" + b" " * (1 << 20), "is larger than 1024 KiB"),
    ],
)
def test_a_bad_json_manifest_is_refused_with_its_reason(data: bytes, words: str) -> None:
    manifest = read(data, ".json")
    assert words in told(manifest)
    assert manifest.jobs == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("audio = 'a.wav'\naudio = 'b.wav'", "is not valid TOML"),
        ("audio = 'a.wav'\nvideos = ['b.mp4'", "is not valid TOML"),
        (
            "audio = 'a.wav'\nvideos = ['b.mp4']\ncrf = nan",
            "crf: must be a whole number from 0 to 51, not nan",
        ),
        ("audio = 'a.wav'\nvideos = ['b.mp4']\ncrf = 1979-05-27", "not a date"),
        ("audio = 'a.wav'\nvideos = [['b.mp4']]", "video 1, video: must be the name of a file, not a list"),
        ("a = " + "[" * 100_000, "is nested too deeply"),
        ("a = " + "9" * 5000, "is not valid TOML"),
        ("[jobs]\naudio = 'a.wav'", "'jobs' must be a list with at least one entry, not a table"),
        ("audio = 'a.wav'\nvideos = ['b.mp4']\n[options]\ncrf = 18", "unknown key 'options'"),
    ],
)
def test_a_bad_toml_manifest_is_refused_with_its_reason(text: str, words: str) -> None:
    assert words in told(toml(text))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["audio,video"], "has a header but no rows"),
        (["a.wav,b.mp4"], "must name the columns in its first line"),
        (["audio,video,crv", "a.wav,b.mp4,18"], "the heading: unknown key 'crv'; did you mean 'crf'?"),
        (["audio,video,Video", "a.wav,b.mp4,c.mp4"], "'video' is given 2 times"),
        (["audio,video", "a.wav,b.mp4,18"], "line 2: has 3 cells, but the header names 2 columns"),
        (
            ["audio,video,crf", "a.wav,b.mp4,18.5"],
            "line 2, crf: must be a whole number from 0 to 51, not '18.5'",
        ),
        (["audio,video", "a.wav"], "line 2: 'video' is missing"),
        (["audio,video", "", "a.wav,../../etc/passwd"], "line 3, video: '../../etc/passwd' leaves its folder"),
        (["audio,video", 'a.wav,"b.mp4'], "is not valid CSV"),
        (["audio,video", "a.wav,b\0.mp4"], "contains control characters"),
        (["audio,video", "a.wav," + "x" * 200_000], "is not valid CSV"),
        (["audio,video,output", "a.wav,b.mp4,x", "a.wav,c.mp4,X.mp4"], "'X' is already the output of line 2"),
    ],
)
def test_a_bad_csv_manifest_is_refused_with_its_reason(lines: list[str], words: str) -> None:
    assert words in told(as_csv(*lines))


def test_a_chinese_spreadsheet_in_its_old_coding_is_told_what_to_do() -> None:
    assert "save it as UTF-8" in told(read("audio,video\n课程.wav,课程.mp4".encode("gbk"), ".csv"))


def test_all_faults_are_told_at_once() -> None:
    manifest = as_json(
        {"audio": "/a.wav", "crf": 99, "color": 1, "jobs": [{"video": "b.mp4", "preset": "fastt"}, {}, 7]}
    )
    text = told(manifest)
    assert len(manifest.faults) == 6
    for word in ("audio: '/a.wav'", "crf", "unknown key 'color'", "did you mean 'fast'", "job 2", "job 3"):
        assert word in text


def test_a_faulty_sound_for_all_videos_is_told_once() -> None:
    manifest = as_json({"audio": "/a.wav", "videos": [f"{n}.mp4" for n in range(200)]})
    assert len(manifest.faults) == 1


def test_countless_faults_are_not_all_told() -> None:
    manifest = as_json({"audio": "a.wav", "videos": list(range(900))})
    assert len(manifest.faults) == MAX_FAULTS + 1
    assert len(told(as_json({f"key{n}": n for n in range(50_000)}))) < 4000


def test_too_many_jobs_are_refused() -> None:
    assert "requests 1001 films; at most 1000" in told(as_json({"audio": "a.wav", "videos": ["b.mp4"] * 1001}))
    rows = ["a.wav,b.mp4"] * 1001
    assert "requests more than 1000 films" in told(as_csv("audio,video", *rows))
    assert read(b"audio,video\na.wav,b.mp4\nb.wav,c.mp4", ".csv", max_jobs=2).faults == ()
    assert read(b"audio,video\na.wav,b.mp4\nb.wav,c.mp4", ".csv", max_jobs=1).faults


def test_a_problem_is_one_sentence_or_a_list() -> None:
    one = as_csv("audio,video", "a.wav,../../etc/passwd")
    assert problem("batch.csv", one.faults) == (
        "batch.csv cannot be used: line 2, video: '../../etc/passwd' leaves its folder with '..'; "
        "only files in the inbox and the library are read."
    )
    two = as_csv("audio,video", "a.txt,b.txt")
    assert problem("batch\n.csv", two.faults).startswith("batch\\x0a.csv cannot be used; it has 2 faults:\n  line 2")


def test_a_job_toml_gives_options_for_its_folder() -> None:
    folder = read_folder(b'audio = "speech.wav"\ncrf = 20\nface = "left"\npriority = "high"')
    assert folder == FolderOptions("speech.wav", JobOptions(crf=20, face="left", priority="high"))
    assert read_folder(b"") == FolderOptions()
    assert read_folder(b"\n# nothing yet\n") == FolderOptions()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"crv = 20", "unknown key 'crv'; did you mean 'crf'?"),
        (b"videos = []", "unknown key 'videos'"),
        (b'audio = "../a.wav"', "leaves its folder"),
        (b'audio = "sub/a.wav"', "must be the name of a file in this folder"),
        (b'audio = "a.mp4"', "is not a sound file"),
        (b"crf = 20\nx", "is not valid TOML"),
        (b"\xff", "is not UTF-8 text"),
        (b"#" * 2_000_000, "is larger than"),
    ],
)
def test_a_bad_job_toml_is_refused_with_its_reason(data: bytes, words: str) -> None:
    assert words in told(read_folder(data))
