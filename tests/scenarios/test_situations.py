"""Ten prepared situations on real daemons: what a person with nothing but a file manager can tell from the share.

``HEYGEMD_SCREENSHOTS=folder`` keeps each page, and its picture where Chromium is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.test_service import drop
from tests.fakes.stub import GIB, Driver, compiled, holder
from tests.site import ROOT, Site, ffmpeg

DATA = ROOT / "heygemd" / "data"
FROZEN = "crop=432:324:8:4,scale=640:480,format=yuv420p"  # a face, large enough, whose mouth never moves
COPY = 'ffmpeg -v error -y -nostdin -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac -shortest "$3"'

LINES: dict[str, dict[str, list[str]]] = {
    "en": {
        "partner missing": ["alone.wav", "waits for its partner: a video or picture named alone.*"],
        "still being copied": ["big.mp4", "still arriving"],
        "consent missing": ["consent of the person shown in anna.mp4", "anna.consent.pdf"],
        "bad audio": ["noise.wav is not a supported video or audio file", "reason.txt"],
        "no face": ["nobody", "no face"],
        "engine not allowed": ["strange", "is not allowed on the line main"],
        "poor, held": ["stiff", "poor; held in review", "mouth"],
        "memory held": ["MiB of GPU memory", "vllm-server", "since", "start by themselves"],
        "disk full": ["MiB of disk", "are free"],
        "paused by a file": ["Remove the file PAUSE from the inbox"],
    },
    "zh": {
        "partner missing": ["alone.wav", "等待配对文件：名为 alone.* 的视频或图片"],
        "still being copied": ["big.mp4", "仍在复制中"],
        "consent missing": ["anna.mp4 中人物的同意书", "anna.consent.pdf"],
        "bad audio": ["noise", "这不是音频或视频文件", "reason.txt"],
        "no face": ["nobody", "视频中找不到人脸"],
        "engine not allowed": ["strange", "不允许使用这个引擎"],
        "poor, held": ["stiff", "质量较差", "嘴"],
        "memory held": ["MiB 显存", "占用者：vllm-server", "自动继续"],
        "disk full": ["MiB 磁盘空间", "目前空闲"],
        "paused by a file": ["请删除收件夹中的 PAUSE 文件"],
    },
}
ELSEWHERE = {"memory held": "memory", "disk full": "disk", "paused by a file": "paused"}
"""Situations of a whole machine or line, each on a site of its own; the others share one."""


@dataclass
class Share:
    """The pages as people see them, by site."""

    language: str
    sites: dict[str, Site]

    def page(self, situation: str) -> str:
        """The status page of the situation's site."""
        page = self.sites[ELSEWHERE.get(situation, "main")].outbox / "STATUS.html"
        return page.read_text(encoding="utf-8") if page.exists() else ""

    def told(self, situation: str) -> bool:
        """Whether the page says all that a person needs."""
        return all(words in self.page(situation) for words in LINES[self.language][situation])


def site_of(folder: Path, language: str, extra: str = "", line: str = "", argv: list[str] | None = None) -> Site:
    site = Site(folder, extra=f"{extra}\n", report="on", status_page="on", argv=argv)
    text = site.config.read_text().replace("[daemon]", f'[daemon]\nlanguage = "{language}"', 1)
    site.config.write_text(text + line)
    return site


@pytest.fixture(params=["en", "zh"], scope="module")
def share(request: pytest.FixtureRequest, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Share]:
    """Four daemons, ten situations."""
    folder, language = tmp_path_factory.mktemp("share"), str(request.param)
    driver = Driver(compiled(folder), folder / "machine.ini")
    vllm = holder(folder, "vllm-server")
    driver.write(count=1, gpu0_total=24 * GIB, gpu0_used=23 * GIB, gpu0_procs=f"{vllm.pid}:{22 * GIB}")
    sites = {
        "main": site_of(folder / "main", language, line='require_consent = true\non_poor = "hold"\n'),
        "memory": site_of(folder / "memory", language),
        "disk": site_of(folder / "disk", language),
        "paused": site_of(folder / "paused", language, line="folder_control = true\n"),
    }
    disk = sites["disk"].config
    room = shutil.disk_usage(folder)
    wanted = (room.free + room.total) // 2 >> 20  # more than there is, less than there could be
    disk.write_text(disk.read_text().replace("free_disk_mib = 1\n", f"free_disk_mib = {wanted}\n"))
    memory = sites["memory"].config
    memory.write_text(memory.read_text().replace("[command]\n", "[command]\ngpu_need_mib = 8000\n"))
    end = threading.Event()
    try:
        for name, site in sites.items():
            site.start(**(driver.environment if name == "memory" else {}))
            if name != "main":
                drop(media, site, "lesson")
        (sites["paused"].inbox / "PAUSE").touch()
        threading.Thread(target=prepare, args=(sites["main"], media, end), daemon=True).start()
        yield Share(language, sites)
    finally:
        end.set()
        for site in sites.values():
            site.kill()
        vllm.kill()
        vllm.wait()


def prepare(site: Site, media: Path, end: threading.Event) -> None:
    """Seven drops, one of which goes on arriving until ``end``."""
    inbox = site.inbox
    shutil.copy(media / "voice.wav", inbox / "alone.wav")
    drop(media, site, "anna")
    for name in ("noise", "nobody", "stiff", "strange"):
        (inbox / f"{name}.consent.txt").write_text("I agree.")
    (inbox / "noise.wav").write_bytes(b"this is no sound" * 100)
    shutil.copy(media / "film.mp4", inbox / "noise.mp4")
    shutil.copy(media / "film.mp4", inbox / "strange.mp4")
    shutil.copy(media / "voice.wav", inbox / "strange-voice.wav")
    (inbox / "strange-job.json").write_text(
        '{"audio": "strange-voice.wav", "videos": ["strange.mp4"], "engine": "wav2lip"}'
    )
    shutil.copy(media / "film.mp4", inbox / "nobody.mp4")
    shutil.copy(media / "voice.wav", inbox / "nobody-voice.wav")
    (inbox / "nobody-job.json").write_text(
        '{"jobs": [{"audio": "nobody-voice.wav", "video": "nobody.mp4", "engine": "footage"}]}'
    )
    ffmpeg("-i", DATA / "demo_speech.flac", "-t", "3", inbox / ".stiff.wav")
    still = ("-loop", "1", "-i", DATA / "portrait.jpg", "-vf", FROZEN, "-r", "25", "-t", "3.5")
    ffmpeg(*still, "-c:v", "libx264", "-preset", "ultrafast", inbox / ".stiff.mp4")
    for suffix in ("wav", "mp4"):
        (inbox / f".stiff.{suffix}").rename(inbox / f"stiff.{suffix}")
    with (inbox / "big.mp4").open("wb") as growing:
        while not end.wait(0.05):
            growing.write(b"x" * 4096)
            growing.flush()


@pytest.mark.slow
@pytest.mark.parametrize("situation", LINES["en"])
def test_the_share_says_why_it_is_as_it_is(share: Share, situation: str) -> None:
    site = share.sites[ELSEWHERE.get(situation, "main")]
    site.until(lambda: share.told(situation), f"{situation}: the page tells it", timeout=180)
    keep(site.outbox / "STATUS.html", f"{share.language}-{ELSEWHERE.get(situation, 'main')}")
    if situation in ("bad audio", "no face", "engine not allowed"):
        assert any(path.endswith("reason.txt") for path in site.tree("failed"))


def keep(page: Path, name: str) -> None:
    """For people's eyes, where they asked for it."""
    folder = os.environ.get("HEYGEMD_SCREENSHOTS")
    if not folder:
        return
    shutil.copy(page, f"{folder}/{name}.html")
    if chromium := shutil.which("chromium"):
        argv = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--no-first-run", f"--user-data-dir={folder}/profile", "--window-size=1000,1400",
                f"--screenshot={folder}/{name}.png", f"file://{folder}/{name}.html"]  # fmt: skip
        subprocess.run(argv, capture_output=True, timeout=120, check=False)
