"""Manifests that nobody sane writes: jobs whose every path is inside, or faults in words; in bounded memory."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any

import pytest

from heygemd.common import names
from heygemd.common.request import ENGINES, EXTENDS, FACES, PRESETS, PRIORITIES
from heygemd.intake import manifest

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

SUFFIXES = (".toml", ".json", ".csv")
PATHS = st.one_of(
    st.sampled_from(
        [
            "a.wav", "a.mp4", "../a.mp4", "a/../../b.wav", "/etc/passwd", "C:\\a.mp4", "\\\\srv\\a.wav", "a.mp4\0.wav",
            "..", "~/a.wav", "file:///etc/a.mp4", "http://x/a.mp4", "concat:a.mp4|b.mp4", "-i.mp4", "%03d.png",
            "\ud800.wav", ".hidden.mp4", "x" * 300 + ".wav", "a/" * 2000 + "a.mp4", "a\n.mp4", "sub/课程.mp4",
            "a.mp4 -f lavfi",
        ]
    ),
    st.text(max_size=30).map(lambda text: text + ".mp4"),
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40), PATHS,
    st.just(10**400), st.sampled_from(["-vf movie=/etc/passwd", "fast -f x", "ultrafast\0", "18", "NaN"]),
    st.sampled_from([*ENGINES, *PRESETS]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([*manifest.JOB_KEYS, "videos", "jobs", "argv", "Audio", "audio "]) | st.text(max_size=8)
JOBS = st.dictionaries(KEYS, SCALARS | PATHS, max_size=7)
WILD = st.dictionaries(KEYS, VALUES | PATHS | st.lists(JOBS, max_size=4) | st.lists(PATHS, max_size=4), max_size=6)
OPTIONS = {"crf": st.integers(-1, 60), "preset": st.sampled_from(PRESETS) | SCALARS, "face": st.sampled_from(FACES)}
CLOSE = st.fixed_dictionaries(
    {"audio": st.just("a.wav") | PATHS, "videos": st.lists(st.just("sub/a.mp4") | PATHS, min_size=1, max_size=4)},
    optional=OPTIONS,
) | st.fixed_dictionaries(
    {
        "jobs": st.lists(
            st.fixed_dictionaries(
                {"audio": st.just("a.wav"), "video": st.just("b.mp4") | PATHS},
                optional={"output": st.text(max_size=12) | PATHS, **OPTIONS},
            ),
            min_size=1,
            max_size=4,
        )
    }
)
TABLES = CLOSE | CLOSE | WILD


def toml_of(value: Any) -> str:
    """A value as TOML writes it, or nearly."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return '"nothing"' if value is None else json.dumps(value)


@st.composite
def written(draw: Any) -> tuple[bytes, str]:
    """A manifest's bytes and its suffix."""
    suffix, table = draw(st.sampled_from(SUFFIXES)), draw(TABLES)
    if suffix == ".json":
        text = json.dumps(table)
    elif suffix == ".toml":
        text = "\n".join(f"{json.dumps(str(key))} = {toml_of(value)}" for key, value in table.items())
    else:
        out = io.StringIO()
        rows = draw(st.lists(st.lists(SCALARS.map(str), max_size=6), max_size=5))
        csv.writer(out, delimiter=draw(st.sampled_from(",;\t"))).writerows([draw(st.lists(KEYS, max_size=6)), *rows])
        text = out.getvalue()
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])), "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 4)) :]
    return data, suffix


def test_some_of_what_is_tried_is_good() -> None:
    jobs = []

    @hypothesis.settings(max_examples=40, **CALM)
    @hypothesis.given(CLOSE)
    def gathered(table: Any) -> None:
        jobs.extend(manifest.read(json.dumps(table).encode(), ".json").jobs)

    gathered()
    assert jobs


def sane(found: manifest.Manifest, most: int) -> None:
    """Either faults in printable words, or jobs that stay inside and ask only for what there is."""
    assert bool(found.faults) != bool(found.jobs)
    told = manifest.problem("m.toml", found.faults) if found.faults else ""
    assert all(names.display(line) == line for line in told.split("\n")) and len(told.encode()) < 60_000
    assert len(found.jobs) <= most
    assert len({names.folded(job.name) for job in found.jobs}) == len(found.jobs)
    for job in found.jobs:
        assert names.name_fault(job.name) is None, job.name
        for path in (job.audio, job.video):
            assert names.inside(path) == (path, None)
            assert ".." not in path.split("/") and not path.startswith(("/", "\\")) and "\0" not in path
        options = job.options
        assert options.crf is None or (type(options.crf) is int and 0 <= options.crf <= 51)
        for value, known in (
            (options.engine, ENGINES), (options.priority, PRIORITIES), (options.preset, PRESETS),
            (options.extend, EXTENDS), (options.face, FACES),
        ):  # fmt: skip
            assert value is None or value in known


CALM = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(hypothesis.HealthCheck)}


@hypothesis.settings(max_examples=120, **CALM)
@hypothesis.given(written())
def test_any_manifest_gives_jobs_that_stay_inside_or_faults_in_words(given: tuple[bytes, str]) -> None:
    sane(manifest.read(*given, max_jobs=50), 50)


@pytest.mark.slow
@hypothesis.settings(max_examples=3000, **CALM)
@hypothesis.given(written())
def test_many_more_manifests(given: tuple[bytes, str]) -> None:
    sane(manifest.read(*given, max_jobs=50), 50)


@hypothesis.settings(max_examples=100, **CALM)
@hypothesis.given(st.binary(max_size=200), st.sampled_from(SUFFIXES))
def test_any_bytes_at_all_are_refused_in_words(data: bytes, suffix: str) -> None:
    sane(manifest.read(data, suffix, max_jobs=50), 50)
    manifest.read_folder(data)


MIB = 1 << 20
MONSTERS = {
    "nested lists": (b'{"jobs":' + b"[" * 400_000, ".json"),
    "nested tables": (b'{"a":' * 150_000, ".json"),
    "nested toml": (b"a = " + b"[" * 400_000, ".toml"),
    "a key of many parts": (b"a." * 100_000 + b"b = 1", ".toml"),
    "a huge number": (b'{"crf": ' + b"9" * 900_000 + b"}", ".json"),
    "a huge number in toml": (b"crf = " + b"9" * 900_000, ".toml"),
    "a huge exponent": (b'{"audio":"a.wav","videos":["a.mp4"],"crf":1e999999}', ".json"),
    "not a number": (b'{"audio":"a.wav","videos":["a.mp4"],"crf":NaN}', ".json"),
    "one key often": (b"{" + b",".join([b'"audio":"a.wav"'] * 60_000) + b"}", ".json"),
    "as many rows as fit": (b"audio,video\n" + b"a.wav,b.mp4\n" * 80_000, ".csv"),
    "as many keys as fit": (b"\n".join(b"k%d = 1" % n for n in range(80_000)), ".toml"),
    "a million rows": (b"audio,video\n" + b"a.wav,b.mp4\n" * 1_000_000, ".csv"),
    "an endless cell": (b'audio,video\n"' + b"a" * 900_000, ".csv"),
    "many columns": (b",".join([b"audio"] * 100_000), ".csv"),
    "two marks of order": (b"\xff\xfe\xff\xfe" + '{"audio":"a.wav"}'.encode("utf-16-le"), ".json"),
}


@pytest.mark.parametrize("name", MONSTERS)
def test_a_monstrous_manifest_is_refused_in_words_and_little_memory(name: str) -> None:
    data, suffix = MONSTERS[name]
    tracemalloc.start()
    found = manifest.read(data, suffix, max_jobs=1000, max_bytes=MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.faults
    sane(found, 1000)
    assert peak < 200 * MIB
