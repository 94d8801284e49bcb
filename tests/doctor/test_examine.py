"""The doctor: each thing that may be missing is named with its cure.  The tests make up programs and machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.config import load
from heygemd.config.tables import HooksConfig, RenderConfig
from heygemd.config.whole import Config
from heygemd.doctor import examine, onnxruntime, server
from heygemd.doctor.examine import Finding
from heygemd.guard import machine, readings
from heygemd.models.store import File, Model, digest
from tests.fakes.nvml import Card, FakeNvml
from tests.site import ROOT

Fake = Callable[[str, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Programs of one's own, the only ones on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return write


def ffmpeg(version: str = "5.1.6-0+deb12u1", encoders: str = "libx264 aac h264_nvenc", trial: int = 0) -> str:
    """A script that answers as ffmpeg does; ``trial`` is the code of anything but a question."""
    listed = "".join(f" V..... {name} x\\n" for name in encoders.split())
    return (
        f'case "$*" in -version) echo "ffmpeg version {version} Copyright";; '
        f'*-encoders*) printf "{listed}";; *) exit {trial};; esac'
    )


def by_name(checks: list[Finding]) -> dict[str, Finding]:
    return {check.name: check for check in checks}


def test_a_good_ffmpeg_is_ok_with_its_encoders(fake: Fake) -> None:
    fake("ffmpeg", ffmpeg())
    fake("ffprobe", 'echo "ffprobe version n7.1"')
    found = by_name(examine._ffmpeg(Config()))
    assert {c.verdict for c in found.values()} == {"ok"}
    assert "5.1.6-0+deb12u1" in found["ffmpeg"].said and "test of one frame worked" in found["encoder h264_nvenc"].said


def test_a_missing_ffmpeg_is_the_end_of_it_and_says_what_to_install(fake: Fake) -> None:
    del fake
    found = by_name(examine._ffmpeg(Config()))
    assert found["ffmpeg"].verdict == found["ffprobe"].verdict == "fail"
    assert "apt-get install ffmpeg" in found["ffmpeg"].cure


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (ffmpeg("4.4.2"), "too old"),
        ("exit 1", "does not report a version"),
        ("echo hello", "does not report a version"),
    ],
)
def test_an_ffmpeg_that_would_not_do_fails(fake: Fake, script: str, said: str) -> None:
    fake("ffmpeg", script)
    assert examine._tool("ffmpeg").verdict == "fail" and said in examine._tool("ffmpeg").said


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("ffmpeg version 5.1.6-0+deb12u1 Copyright (c)", (5, "5.1.6-0+deb12u1")),
        ("ffmpeg version n7.1 Copyright", (7, "n7.1")),
        ("ffmpeg version N-118000-gabc Copyright", (None, "N-118000-gabc")),
        ("hello", None),
    ],
)
def test_versions_of_ffmpeg_are_read_as_distributions_write_them(
    banner: str, version: tuple[int | None, str] | None
) -> None:
    assert examine.version_of(banner) == version


def test_a_missing_encoder_fails_and_nvenc_is_only_missed(fake: Fake) -> None:
    fake("ffmpeg", ffmpeg(encoders="aac"))
    fake("ffprobe", 'echo "ffprobe version 5.1"')
    found = by_name(examine._ffmpeg(Config()))
    assert found["encoder libx264"].verdict == "fail"
    assert (found["encoder aac"].verdict, found["encoder h264_nvenc"].verdict) == ("ok", "warn")


def test_an_nvenc_that_is_listed_but_does_not_work_is_found_out(fake: Fake) -> None:
    fake("ffmpeg", ffmpeg(trial=1))
    assert "test of one frame failed" in by_name(examine._ffmpeg(Config()))["encoder h264_nvenc"].said


def test_memory_is_judged_by_what_a_film_needs() -> None:
    settings = load.default_config()
    plenty = readings.Readings(ram_total_mib=16_000, ram_available_mib=8_000)
    assert examine._memory(plenty, settings).verdict == "ok"
    assert examine._memory(replace(plenty, ram_available_mib=2_000), settings).verdict == "warn"
    tiny = examine._memory(readings.Readings(ram_total_mib=2_000, ram_available_mib=1_900), settings)
    assert tiny.verdict == "fail" and "free_ram_mib" in tiny.cure


def test_each_disk_is_named_and_a_full_one_is_warned_of(tmp_path: Path) -> None:
    line = load.LineConfig(name="main", root=tmp_path / "main")
    settings = replace(
        load.default_config(), daemon=load.DaemonConfig(state_dir=tmp_path), lines=(line,),
        limits=load.LimitsConfig(free_disk_mib=1 << 40),
    )  # fmt: skip
    found = examine._disks(settings)
    assert [c.name for c in found] == ["disk of state_dir", "disk of work_dir", "disk of line main"]
    assert all(c.verdict == "warn" and c.cure == "make room" for c in found)


def test_a_gpu_is_described_and_its_absence_is_no_failure() -> None:
    told = examine._gpus(machine.Machine(FakeNvml([Card(processes=((1, 50),))])).read())
    assert told[0].verdict == "ok"
    assert all(word in told[0].said for word in ("NVIDIA Fake 24", "4000 of 24000 MiB", "550.54", "GPU-0", "50 MiB"))
    none = examine._gpus(machine.Machine(FakeNvml(error=18)).read())
    assert none[0].verdict == "warn" and "restart the machine" in none[0].said


def test_libraries_are_tried_in_a_process_of_their_own() -> None:
    assert examine._try("print('{\"a\": 1}')") == {"a": 1}
    assert examine._try("import sys; sys.exit('libGL.so.1: cannot open')") == "libGL.so.1: cannot open"
    assert examine._try("import os; os._exit(7)") == "it exited with code 7"


def test_a_library_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "LIBRARY_SECONDS", 0.2)
    assert examine._try("import time; time.sleep(60)") == "no answer within 0.2 s"


def test_what_opencv_lacks_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_try", lambda *_: "ImportError: libGL.so.1")
    assert "libgl1" in examine._faces(Config())[0].cure
    monkeypatch.setattr(examine, "_try", lambda *_: {"version": "5.0.0", "missing": ["x.xml"]})
    found = examine._faces(Config())[0]
    assert found.verdict == "fail" and "dropped the cascades" in found.cure
    monkeypatch.setattr(examine, "_try", lambda *_: {"version": "4.14.0", "missing": []})
    assert "no face model is imported" in examine._faces(Config())[1].said
    asked = Config(render=RenderConfig(finder="insightface"))
    assert examine._faces(asked)[1].verdict == "fail" and "models import" in examine._faces(asked)[1].cure


def test_the_cascades_asked_for_are_those_that_the_face_finder_opens() -> None:
    finder = (ROOT / "heygemd" / "pipeline" / "face" / "detect.py").read_text()
    assert all(name in finder for name in examine.CASCADES)
    assert finder.count(".xml") == len(examine.CASCADES)


def test_footage_works_only_where_nothing_failed() -> None:
    settings = load.default_config()
    good, bad = Finding("torch", "ok", "x"), Finding("ffmpeg", "fail", "y", "z")
    assert examine.would_work([good, *examine._engines(settings, [good])])
    found = by_name(examine._engines(settings, [good, bad]))
    assert found["engine footage"].said == "lacks ffmpeg"
    assert {found[f"engine {name}"].verdict for name in ("command", "wav2lip", "duix")} == {"warn"}
    assert "not configured" in found["engine duix"].said


@pytest.mark.parametrize(("program", "verdict"), [("sh", "ok"), ("/no/such/program", "warn")])
def test_the_command_engine_is_ok_where_its_program_can_be_run(program: str, verdict: str) -> None:
    argv = (program, "{audio}", "{video}", "{output}")
    settings = replace(load.default_config(), command=load.CommandConfig(argv=argv, gpu_need_mib=100))
    assert examine._command(settings).verdict == verdict


def test_the_findings_are_told_in_lines_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Finding("a", "ok", "fine"), Finding("long name", "fail", "gone", "fetch it")]
    examine.print_findings(checks, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "ok    a          fine",
        "fail  long name  gone",
        "                 → fetch it",
        "",
        "footage does not work here",
    ]
    examine.print_findings(checks, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and told["checks"][1]["cure"] == "fetch it"


def test_an_nvenc_that_is_asked_for_and_does_not_work_is_a_fault(fake: Fake) -> None:
    fake("ffmpeg", ffmpeg(trial=1))
    asked = Config(render=RenderConfig(encoder="h264_nvenc"))
    found = by_name(examine._ffmpeg(asked))["encoder h264_nvenc"]
    assert found.verdict == "fail" and "set encoder in [render]" in found.cure
    fake("ffmpeg", ffmpeg(encoders="libx264 aac"))
    assert "requires it" in by_name(examine._ffmpeg(asked))["encoder h264_nvenc"].said


def imported(tmp_path: Path, role: str) -> load.DaemonConfig:
    """A models folder with one Wav2Lip."""
    folder = tmp_path / "models" / "mouths"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"net")
    file = File("file", *digest(folder / "file"), role)
    model = Model("mouths", "wav2lip", 96, (file,), "x", "ab" * 32, None, "none", "No terms.", None, "2026")
    (folder / "model.json").write_text(json.dumps(model.to_json()))
    return load.DaemonConfig(state_dir=tmp_path, models_dir=tmp_path / "models")


def test_a_network_that_onnxruntime_keeps_on_the_processor_is_told_where_cuda_is_asked_for(
    tmp_path: Path,
) -> None:
    own = imported(tmp_path, "onnx")
    found = examine._wav2lip(Config(daemon=own, render=RenderConfig(device="cuda")))
    assert found.verdict == "warn" and "[render] requires cuda" in found.said and ".pth" in found.cure
    found = examine._wav2lip(Config(daemon=own))
    assert found.verdict == "ok" and "on the CPU with onnxruntime" in found.said


def onnx(cuda: bool, *packages: str) -> dict[str, object]:
    return {"version": "1.32.0", "cuda": cuda, "insightface": "2.1", "packages": list(packages)}


def test_the_two_packages_of_onnxruntime_over_one_another_are_told_with_the_cure() -> None:
    both = onnx(False, "onnxruntime", "onnxruntime-gpu")
    (found,) = onnxruntime.judge(both, gpu=True)
    assert (
        found.verdict == "warn"
        and "overwritten each other's files" in found.said
        and "--no-deps onnxruntime-gpu" in found.cure
    )
    (found,) = onnxruntime.judge(both, gpu=False)
    assert found.verdict == "warn" and found.cure.endswith("pip install onnxruntime")


def test_onnxruntime_is_told_with_what_it_can_do() -> None:
    (found,) = onnxruntime.judge(onnx(False, "onnxruntime"), gpu=False)
    assert (found.verdict, found.cure) == ("ok", "") and "1.32.0, without CUDA" in found.said
    (found,) = onnxruntime.judge(onnx(False, "onnxruntime"), gpu=True)
    assert found.verdict == "ok" and "onnxruntime-gpu" in found.cure
    (found,) = onnxruntime.judge(onnx(True, "onnxruntime-gpu"), gpu=True)
    assert (found.verdict, found.cure) == ("ok", "") and "with CUDA" in found.said
    (found,) = onnxruntime.judge("ImportError: libcudart.so.12", gpu=True)
    assert found.verdict == "warn" and "libcudart" in found.said


def test_the_installed_onnxruntime_answers_the_question() -> None:
    (found,) = examine._onnxruntime()
    assert "insightface 2" in found.said


def test_a_network_of_weights_is_what_cuda_is_for(tmp_path: Path) -> None:
    found = examine._wav2lip(Config(daemon=imported(tmp_path, "weights"), render=RenderConfig(device="cuda")))
    assert found.verdict == "ok"


def test_a_hook_whose_program_is_not_there_is_named(tmp_path: Path) -> None:
    assert server.hooks(Config()) == []
    own = HooksConfig(on_done=("sh", "-c", "true"), on_failed=("/no/such",), socket=tmp_path / "none")
    done, failed = server.hooks(Config(hooks=own))
    assert done.verdict == "ok" and "by the daemon itself" in done.said
    assert failed.verdict == "warn" and "/no/such" in failed.said


def test_a_driver_that_does_not_fit_its_library_is_told_with_the_cure() -> None:
    told = examine._gpus(machine.Machine(FakeNvml(error=18)).read())[0]
    assert told.verdict == "warn" and "restart the machine" in told.said
