"""Bad input through the whole daemon with the default engine: each one ends in failed/ with its sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import wave
from pathlib import Path

import pytest

from tests.site import ROOT, Site, ffmpeg

PORTRAIT = ROOT / "heygemd" / "data" / "portrait.jpg"


def portrait_film(path: Path, width: int, seconds: float = 1.0) -> Path:
    """A film of the portrait at this width; its eyes are about 0.088 of it apart."""
    ffmpeg(
        "-loop", 1, "-i", PORTRAIT, "-t", seconds, "-r", 25, "-vf", f"scale={width}:{width}", "-c:v", "libx264",
        "-pix_fmt", "yuv420p", path,
    )  # fmt: skip
    return path


def lay_all(site: Site, media: Path) -> dict[str, str]:
    """One bad pair of each kind; what its reason must speak of, by drop name."""
    box = site.inbox
    films = {
        "empty": ("empty", lambda p: p.write_bytes(b"")),
        "letter": ("not", lambda p: p.write_text("Dear colleagues, please find attached…" * 50)),
        "truncated": ("", lambda p: p.write_bytes((media / "film.mp4").read_bytes()[:-600])),
        "faceless": ("face", lambda p: shutil.copy(media / "film.mp4", p)),
        "soundonly": ("no picture", lambda p: ffmpeg("-i", media / "voice.wav", "-c:a", "aac", "-vn", p)),
        "tiny": ("31 px", lambda p: portrait_film(p, 352)),
    }
    told = {}
    for name, (word, make) in films.items():
        shutil.copy(media / "voice.wav", box / f"{name}.wav")
        make(box / f"{name}.mp4")
        told[name] = word
    shutil.copy(media / "film.mp4", box / "mute.mp4")
    with wave.open(str(box / "mute.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
    told["mute"] = "mute.wav"
    (box / "keys.toml").write_text('audio = "a.wav"\nvideo_files = ["a.mp4"]\n')
    told["keys"] = "video_files"
    (box / "leaves.json").write_text('{"audio": "../../etc/passwd", "videos": ["a.mp4"]}')
    told["leaves"] = "etc/passwd"
    return told


def test_every_kind_of_bad_input_ends_in_failed_with_one_sentence_and_everything_kept(site: Site, media: Path) -> None:
    site.config.write_text(site.config.read_text().replace('engine = "command"', 'engine = "footage"'))
    told = lay_all(site, media)
    before = {path.name: path.stat().st_size for path in site.inbox.iterdir()}
    assert site.once(timeout=240) == 3
    assert sorted(path.name for path in site.failed.iterdir()) == sorted(told)
    assert site.tree("outbox") == site.tree("inbox") == site.tree("processing") == site.tree("done") == []
    kept = {p.name: p.stat().st_size for p in site.failed.rglob("*") if p.name not in ("reason.txt", "request.json")}
    assert {n: s for n, s in kept.items() if n in before} == {n: s for n, s in before.items() if n[0] != "."}
    for name, word in told.items():
        reason = (site.failed / name / "reason.txt").read_text()
        assert word in reason and "Traceback" not in reason and len(reason) < 600, (name, reason)
        assert name in reason, (name, reason)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_a_file_that_may_not_be_read_fails_with_its_reason(site: Site, media: Path) -> None:
    shutil.copy(media / "voice.wav", site.inbox / "locked.wav")
    shutil.copy(media / "film.mp4", site.inbox / "locked.mp4")
    (site.inbox / "locked.wav").chmod(0)
    command = site.command("run", "--once")
    if os.geteuid() == 0:  # root reads everything unless it gives up the right to
        os.chown(site.inbox / "locked.wav", 12345, 12345)
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *command]
    done = subprocess.run(command, env=site.env(), capture_output=True, timeout=60)
    assert done.returncode == 3, done.stderr
    assert "locked.wav cannot be read: permission denied" in (site.failed / "locked" / "reason.txt").read_text()
