"""Consents: which files are one, what waits without, and that they are filed with the job."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.common.request import DropRequest, Source
from heygemd.intake.view import consent_of
from tests.daemon.test_service import drop
from tests.intake.test_plan import LATE, Inbox, LineRules, drops, only, waits
from tests.site import Site

ASKING = LineRules(require_consent=True)


def inbox(*paths: str) -> Inbox:
    found = Inbox(*paths)
    found.line = ASKING
    return found


@pytest.mark.parametrize(
    ("name", "whose"),
    [("anna.consent.pdf", "anna"), ("Anna.CONSENT.JPG", "Anna"), ("anna.consent", "anna"),
     ("a.b.consent.mp4", "a.b"), ("李.consent.docx", "李"), ("consent.pdf", None), ("anna.pdf", None),
     (".consent.pdf", None), ("anna.consent.tar.gz", None), ("anna.consents.pdf", None)],
)  # fmt: skip
def test_a_consent_carries_the_templates_name(name: str, whose: str | None) -> None:
    assert consent_of(name) == whose


def test_a_pair_waits_for_its_consent_and_takes_it_along() -> None:
    pair = inbox("anna.wav", "anna.mp4")
    assert not pair.plan().drops
    (reason,) = waits(pair.plan()).values()
    assert "consent of the person shown in anna.mp4" in reason and "anna.consent.pdf" in reason
    pair.now = LATE
    assert not pair.plan().drops and pair.plan().waiting[0].overdue, "it is named more strongly, and never taken"
    drop = only(inbox("anna.wav", "anna.mp4", "anna.consent.pdf").plan())
    assert [move.source for move in drop.moves] == ["anna.wav", "anna.mp4", "anna.consent.pdf"]
    assert drop.jobs[0].consents == (Source("anna.consent.pdf"),)
    assert DropRequest.from_json(json.loads(json.dumps(drop.to_json()))) == drop


def test_case_and_unicode_form_of_a_consents_name_do_not_matter() -> None:
    decomposed = unicodedata.normalize("NFD", "Zoë")
    drop = only(inbox("Zoë.wav", "Zoë.mp4", f"{decomposed}.Consent.PDF").plan())
    assert len(drop.moves) == 3


def test_a_consent_that_is_a_film_is_no_template() -> None:
    found = inbox("anna.wav", "anna.mp4", "anna.consent.mp4", "anna.consent.wav").plan()
    assert drops(found) == {"anna.wav": ["anna"]} and len(only(found).jobs[0].consents) == 2


def test_a_consent_that_is_still_arriving_is_waited_for() -> None:
    pair = inbox("anna.wav", "anna.mp4", "anna.consent.pdf")
    pair.moving.add("anna.consent.pdf")
    assert waits(pair.plan()) == {"anna.wav": "anna.consent.pdf is still arriving"}


def test_an_empty_consent_is_none() -> None:
    pair = inbox("anna.wav", "anna.mp4").put("anna.consent.pdf", b"")
    assert not pair.plan().drops
    assert "is empty" in waits(pair.plan())["anna.consent.pdf"]


def test_a_consent_alone_is_no_drop_and_says_what_it_is() -> None:
    found = inbox("anna.consent.pdf", "zhang/li.consent.jpg").plan()
    assert not found.drops
    assert all("is a consent" in reason for reason in waits(found).values()) and len(found.waiting) == 2


def test_a_line_that_does_not_ask_takes_pairs_as_ever() -> None:
    found = Inbox("anna.wav", "anna.mp4", "anna.consent.pdf").plan()
    assert [move.source for move in only(found).moves] == ["anna.wav", "anna.mp4"]


def test_each_video_of_a_job_folder_needs_one_or_job_toml_names_one_for_all() -> None:
    course = inbox("course/voice.wav", "course/a.mp4", "course/b.mp4", "course/a.consent.pdf")
    course.now = LATE
    assert waits(course.plan()) == {
        "course": "waits for the consent of the person shown in b.mp4: "
        "add it as a file such as b.consent.pdf in the same folder"
    }
    course.put("course/b.consent.png", b"x")
    drop = only(course.plan())
    assert [job.consents for job in drop.jobs] == [
        (Source("course/a.consent.pdf"),), (Source("course/b.consent.png"),)
    ]  # fmt: skip
    named = inbox("course/voice.wav", "course/a.mp4", "course/b.mp4", "course/all.pdf")
    named.put("course/job.toml", 'consent = "all.pdf"')
    assert {job.consents for job in only(named.plan()).jobs} == {(Source("course/all.pdf"),)}
    del named.files["course/all.pdf"]
    assert "all.pdf" in waits(named.plan())["course"]


def test_a_manifest_names_consents_or_has_them_beside_its_templates() -> None:
    batch = inbox("v.wav", "anna.mp4", "li.mp4", "wu.mp4", "agreed.pdf", "anna.consent.pdf")
    rows = [{"video": "anna.mp4"}, {"video": "li.mp4", "consent": "agreed.pdf"}, {"video": "wu.mp4"}]
    batch.put("batch.json", {"audio": "v.wav", "jobs": rows})
    assert "wu.consent.pdf" in waits(batch.plan())["batch.json"]
    batch.now = LATE
    drop = only(batch.plan())
    assert {"agreed.pdf", "anna.consent.pdf"} < {move.source for move in drop.moves}
    anna, li, wu = drop.jobs
    assert anna.problem is None and anna.consents == (Source("anna.consent.pdf"),)
    assert li.problem is None and li.consents == (Source("agreed.pdf"),)
    assert wu.problem_code == "no_consent" and "wu.consent.pdf" in (wu.problem or "") and not wu.consents


def test_one_consent_may_stand_for_all_of_a_manifest() -> None:
    for text in ('audio = "v.wav"\nvideos = ["a.mp4", "b.mp4"]\nconsent = "all.pdf"\n',):
        batch = inbox("v.wav", "a.mp4", "b.mp4", "all.pdf").put("batch.toml", text)
        assert {job.consents for job in only(batch.plan()).jobs} == {(Source("all.pdf"),)}
    batch = inbox("v.wav", "a.mp4", "all.pdf").put("batch.csv", "audio,video,consent\nv.wav,a.mp4,all.pdf\n")
    assert only(batch.plan()).jobs[0].consents == (Source("all.pdf"),)


def test_a_consent_that_a_manifest_names_and_that_does_not_come_fails_its_job() -> None:
    batch = Inbox("v.wav", "a.mp4").put("b.json", {"audio": "v.wav", "videos": ["a.mp4"], "consent": "no.pdf"})
    assert "no.pdf" in waits(batch.plan())["b.json"], "what is named must be there, whether or not the line asks"
    batch.now = LATE
    assert "no.pdf" in (only(batch.plan()).jobs[0].problem or "")


def test_a_library_template_has_its_consent_beside_it_in_the_library() -> None:
    batch = inbox("v.wav").put("b.json", {"audio": "v.wav", "videos": ["li.mp4"]})
    batch.library["li.mp4"] = "/library/li.mp4"
    assert "li.consent.pdf" in waits(batch.plan())["b.json"]
    view = batch.view({"b.json": batch.files["b.json"]})
    from heygemd.intake.plan import plan

    found = plan(replace(view, library_consents=lambda path: (f"{path[:-4]}.consent.pdf",)))
    drop = only(found)
    assert drop.jobs[0].consents == (Source("/library/li.consent.pdf", library=True),)
    assert [move.source for move in drop.moves] == ["b.json", "v.wav"], "the library is only ever read"


@pytest.mark.parametrize("path", ["../secret.pdf", "/etc/passwd", "a/../../b"])
def test_a_consents_path_only_leads_down(path: str) -> None:
    batch = inbox("v.wav", "a.mp4").put("b.json", {"audio": "v.wav", "videos": ["a.mp4"], "consent": path})
    assert "cannot be used" in (only(batch.plan()).problem or "")


def test_the_daemon_files_the_consent_with_the_job_and_its_hash_in_the_log(site: Site, media: Path) -> None:
    site.of_bytes = True
    site.config.write_text(site.config.read_text() + "require_consent = true\n")
    drop(media, site, "anna")
    assert site.once() == 0
    assert site.tree("inbox") == ["anna.mp4", "anna.wav"]
    (site.inbox / "anna.consent.txt").write_text("I agree. 安娜")
    assert site.once() == 0
    log = json.loads((site.outbox / "anna.json").read_text())
    agreed = "I agree. 安娜".encode()
    assert log["consents"] == [
        {"file": "anna.consent.txt", "library": False, "sha256": hashlib.sha256(agreed).hexdigest(),
         "bytes": len(agreed)}
    ]  # fmt: skip
    assert (site.done / "anna/anna.consent.txt").read_bytes() == agreed
    assert not site.inbox.joinpath("anna.consent.txt").exists()
