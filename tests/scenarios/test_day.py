"""A day in small: drops of all kinds through one daemon; exactly what was to be expected comes out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.site import ROOT, Site


class Day:
    """Puts things into an inbox and remembers what must come of them."""

    def __init__(self, site: Site, media: Path) -> None:
        self.site, self.media = site, media
        self.outbox: set[str] = set()
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.stay: set[str] = set()
        self.late: list[tuple[str, str]] = []

    def put(self, kind: str, path: str) -> str:
        """Copy the voice or the film, or write a text, to a place in the inbox."""
        target = self.site.inbox / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind in ("voice.wav", "film.mp4"):
            shutil.copy(self.media / kind, target)
        else:
            target.write_text(kind)
        return path

    def film(self, name: str) -> None:
        """A film and its log are expected."""
        self.outbox |= {f"{name}.mp4", f"{name}.json"}

    def pair(self, folder: str, stem: str, keep: str | None = None) -> None:
        """A good pair; ``keep``: the folder that the outbox keeps, where it is another one."""
        base = folder if keep is None else keep
        self.put("voice.wav", f"{folder}{stem}.wav")
        self.put("film.mp4", f"{folder}{stem}.mp4")
        self.film(f"{base}{stem}")
        self.done |= {f"{base}{stem}/{stem}.wav", f"{base}{stem}/{stem}.mp4"}

    def broken_pair(self, stem: str) -> None:
        """A pair whose film is a letter."""
        self.put("voice.wav", f"{stem}.wav")
        self.put("Dear all, the film is in the other folder.", f"{stem}.mp4")
        self.failed |= {f"{stem}/{stem}.wav", f"{stem}/{stem}.mp4", f"{stem}/reason.txt"}

    def folder(self, name: str, videos: int) -> None:
        """A job folder."""
        self.put("voice.wav", f"{name}/voice.wav")
        for number in range(videos):
            self.put("film.mp4", f"{name}/take-{number}.mp4")
            self.film(f"{name}/take-{number}")
            self.done.add(f"{name}/{name}/take-{number}.mp4")
        self.done.add(f"{name}/{name}/voice.wav")
        if videos > 1:
            self.outbox.add(f"{name}/{name}.batch.json")

    def manifest(self, name: str, suffix: str) -> None:
        """A manifest with two jobs, each format once."""
        self.put("voice.wav", f"{name}-voice.wav")
        videos = [self.put("film.mp4", f"{name}-{number}.mp4") for number in (1, 2)]
        texts = {
            "toml": f'audio = "{name}-voice.wav"\nvideos = {json.dumps(videos)}\n',
            "json": json.dumps({"audio": f"{name}-voice.wav", "videos": videos}),
            "csv": "audio,video\n" + "".join(f"{name}-voice.wav,{video}\n" for video in videos),
        }
        self.put(texts[suffix], f"{name}.{suffix}")
        for video in videos:
            self.film(video.removesuffix(".mp4"))
        self.outbox.add(f"{name}.batch.json")
        self.done |= {f"{name}/{file}" for file in (f"{name}.{suffix}", f"{name}-voice.wav", *videos)}

    def bad_manifest(self, name: str, text: str) -> None:
        """A manifest that is refused."""
        self.put(text, name)
        stem = name.rpartition(".")[0]
        self.failed |= {f"{stem}/{name}", f"{stem}/reason.txt"}

    def stray(self, kind: str, path: str) -> None:
        """Something that must stay where it is."""
        self.stay.add(self.put(kind, path))

    def late_pair(self, stem: str) -> None:
        """A pair whose film comes later."""
        self.put("voice.wav", f"{stem}.wav")
        self.late.append(("film.mp4", f"{stem}.mp4"))
        self.film(stem)
        self.done |= {f"{stem}/{stem}.wav", f"{stem}/{stem}.mp4"}


def drops_of_all_kinds(day: Day) -> None:
    """What a small studio drops in a day, good and bad."""
    for number in range(4):
        day.pair("", f"lesson {number}")
    for number in range(2):
        day.pair("zhang/", f"课程-{number}")
    day.pair("high/", "urgent", keep="")
    day.pair("low/", "some day", keep="")
    for number in range(2):
        day.folder(f"course {number}", number + 1)
    for suffix in ("toml", "json", "csv"):
        day.manifest(f"batch-{suffix}", suffix)
    day.broken_pair("broken")
    day.bad_manifest("climbs.toml", 'audio = "../../etc/passwd"\nvideos = ["a.mp4"]\n')
    day.bad_manifest("typo.json", '{"adio": "voice.wav", "videos": ["a.mp4"]}')
    day.stray("voice.wav", "alone.wav")
    day.stray("film.mp4", "lonely.mp4")
    day.stray("notes", "notes.txt")
    for suffix in ("wav", "mp4", "mov"):
        day.stray("voice.wav" if suffix == "wav" else "film.mp4", f"three.{suffix}")
    for litter in ("Thumbs.db", "._lesson 1.mp4", "copying.mp4.part", "~$plan.docx"):
        day.stray("litter", litter)
    day.late_pair("late")


def test_drops_of_all_kinds_give_exactly_what_was_expected(site: Site, media: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    day = Day(site, media)
    drops_of_all_kinds(day)
    site.start()
    site.until(lambda: site.status()["recent"], "the first film is delivered")
    for kind, path in day.late:
        day.put(kind, path)
    expected = len(day.done) + len(day.failed)
    site.until(lambda: len(site.tree("done")) + len(site.tree("failed")) >= expected, "all drops end", 120)
    assert site.stop() == 0
    assert set(site.tree("outbox")) == day.outbox
    assert set(site.tree("done")) == day.done
    assert set(site.tree("failed")) == day.failed
    assert set(site.tree("inbox")) == day.stay
    assert site.tree("processing") == []
    schema = json.loads((ROOT / "heygemd" / "data" / "film-log.schema.json").read_text())
    for path in site.outbox.rglob("*.json"):
        if not path.name.endswith(".batch.json"):
            jsonschema.validate(json.loads(path.read_text()), schema)
