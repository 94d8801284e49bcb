"""Names that people and attackers type, and things that are no files, through the real daemon."""

from __future__ import annotations

import json
import os
import shutil
import socket
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.site import Site

RTL = "\u202e"
NFC, NFD = unicodedata.normalize("NFC", "Prüfung"), unicodedata.normalize("NFD", "Prüfung")
#: A stem as bytes -> the film's name.  Each is dropped as a pair.
STEMS: dict[bytes, str] = {
    b"caf\xe9": "caf_",
    "课程 😀 👨‍👩‍👧".encode(): "课程 😀 👨‍👩‍👧",
    b"x" * 251: "x" * 200,
    ("课" * 83).encode(): "课" * 66,
    b"two\nlines": "two_lines",
    b"tab\tand\x1b[31mred": "tab_and_[31mred",
    b"-rf": "-rf",
    b"--help": "--help",
    b"trailing ": "trailing",
    b"trailing. .": "trailing (2)",
    f"gpj.{RTL}exe".encode(): "gpj._exe",
    b"CON": "_CON",
    b"lpt1.old": "_lpt1.old",
    b"%s%n%(x)d": "%s%n%(x)d",
    b"{audio}{0}{x!r}": "{audio}{0}{x!r}",
    b"<script>alert(1)</script>".replace(b"/", b"|"): "_script_alert(1)__script_",
    b"\"quoted\" & 'so'": "_quoted_ & 'so'",
    b"$(reboot);`reboot`": "$(reboot);`reboot`",
    b"back\\slash": "back_slash",
    b"a.mp4": "a.mp4",
    NFD.encode(): NFC,
    b"new*?[a-z]": "new__[a-z]",
}
MADE = (b"caf\xe9", b"two\nlines", b"--help", b"{audio}{0}{x!r}")
"""Of these the films are made too; the renderer gets its files under names of ours, and theirs only to tell faults."""
LONE = "lone <i onclick=alert(1)>&amp;{x}%s.mp4"  # waits for its sound, and is named on the status page


class Page(HTMLParser):
    """Counts what must not be in a page of ours, and gathers its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.text = 0, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def lay(site: Site, media: Path, stem: bytes) -> None:
    inbox = os.fsencode(site.inbox)
    shutil.copy(media / "voice.wav", os.path.join(inbox, stem + b".wav"))
    shutil.copy(media / "film.mp4", os.path.join(inbox, stem + b".mp4"))


def told_of(site: Site, media: Path, stems: dict[bytes, str]) -> list[dict[str, Any]]:
    """A run with pairs of these names; each is delivered and told of without harm.  The logs of the films."""
    for stem in stems:
        lay(site, media, stem)
    shutil.copy(media / "film.mp4", site.inbox / LONE)
    status = site.once(timeout=300)
    assert {path.name for path in site.outbox.glob("*.mp4")} == {f"{name}.mp4" for name in stems.values()}
    assert (site.tree("inbox"), site.tree("processing")) == ([LONE], [])
    assert {os.fsencode(path.name) for path in site.done.rglob("*.wav")} == {stem + b".wav" for stem in stems}
    page = Page((site.outbox / "STATUS.html").read_text(encoding="utf-8"))
    assert page.scripts == 0
    assert LONE in page.text
    json.loads((site.outbox / "status.json").read_text(encoding="utf-8"))
    assert all("\x1b" not in line for line in (site.state / "heygemd.log").read_text().splitlines())
    assert {event["event"] for event in site.events()} >= {"film_delivered", "drop_claimed"}
    assert (status == 3) == bool(site.tree("failed"))
    logs = [path for path in site.outbox.glob("*.json") if path.name != "status.json"]
    return [json.loads(path.read_text(encoding="utf-8")) for path in logs]


def test_every_name_is_delivered_and_told_of_without_harm(tmp_path: Path, media: Path) -> None:
    site = Site(tmp_path / "site", status_page="on", of_bytes=True)
    assert len(told_of(site, media, STEMS)) == len(STEMS)


def test_films_of_such_names_are_made_and_faults_of_theirs_told_without_harm(tmp_path: Path, media: Path) -> None:
    site = Site(tmp_path / "site", status_page="on")
    for stem in (b"bad <b>\n{x}", b"caf\xe9 bad"):  # these fail, for reason.txt
        lay(site, media, stem)
        (site.inbox / os.fsdecode(stem + b".mp4")).write_text("Dear all")
    for told in told_of(site, media, {stem: STEMS[stem] for stem in MADE}):
        assert told["film"]["frames"] > 0
    reasons = [path.read_text(encoding="utf-8") for path in site.failed.rglob("reason.txt")]
    assert len(reasons) == 2
    assert any("bad <b>\\x0a{x}.mp4" in reason for reason in reasons)
    assert any("caf\\xe9 bad.mp4" in reason for reason in reasons)


def test_twins_in_case_and_unicode_form_wait_and_are_named(site: Site, media: Path) -> None:
    for name in ("Twin.wav", "twin.wav", "TWIN.mp4"):
        shutil.copy(media / ("voice.wav" if name.endswith("wav") else "film.mp4"), site.inbox / name)
    for name in (f"{NFC}.wav", f"{NFD}.wav", f"{NFC}.mp4"):
        shutil.copy(media / ("voice.wav" if name.endswith("wav") else "film.mp4"), site.inbox / name)
    before = site.tree("inbox")
    assert site.once() == 0
    assert site.tree("inbox") == before
    assert site.tree("outbox") == site.tree("failed") == []


def lay_no_files(site: Site, media: Path) -> set[str]:
    """One of everything that is no regular file, each with a good sound beside it."""
    box = site.inbox
    secret = site.root / "secret.mp4"
    shutil.copy(media / "film.mp4", secret)
    (box / "link.mp4").symlink_to(secret)
    (box / "dangling.mp4").symlink_to(site.root / "nothing")
    os.mkfifo(box / "pipe.mp4")
    (box / "folder.mp4").mkdir()
    left = {"link", "dangling", "pipe", "socket"}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(box / "socket.mp4"))
    listener.close()
    if os.geteuid() == 0:
        os.mknod(box / "zero.mp4", 0o666 | 0o020000, os.makedev(1, 5))
        left.add("zero")
    for stem in (*left, "folder"):
        shutil.copy(media / "voice.wav", box / f"{stem}.wav")
    return left


def test_what_is_no_regular_file_is_never_opened_and_stays(site: Site, media: Path) -> None:
    site.of_bytes = True
    left = lay_no_files(site, media)
    lay(site, media, b"good")
    assert site.once() in (0, 3)
    assert {path.name for path in site.outbox.glob("*.mp4")} == {"good.mp4"}
    stayed = {path.name for path in site.inbox.iterdir() if path.suffix == ".mp4"}
    assert stayed == {f"{stem}.mp4" for stem in (*left, "folder")}
    assert not [path for path in site.root.rglob("*.mp4") if path.is_file() and path.stat().st_size == 0]


def test_a_sparse_file_as_large_as_the_file_system_takes_fails_and_fills_nothing(site: Site, media: Path) -> None:
    site.of_bytes = True
    lay(site, media, b"huge")
    size = 1 << 62
    while size > 1 << 40:
        try:
            os.truncate(site.inbox / "huge.mp4", size)
            break
        except OSError:
            size >>= 1
    site.start()
    lay(site, media, b"good")
    site.until(lambda: (site.outbox / "good.mp4").exists(), "others go on")
    site.until(lambda: site.tree("failed"), "it fails")
    assert "MiB in total" in (site.failed / "huge" / "reason.txt").read_text()
    assert sum(path.stat().st_blocks * 512 for path in site.root.rglob("*") if path.is_file()) < 100 << 20
    assert site.stop() == 0
