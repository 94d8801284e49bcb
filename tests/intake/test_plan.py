from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from heygemd.common.request import DropRequest, JobOptions, Source, Stamp
from heygemd.intake.plan import InboxPlan, InboxView, Waiting, plan
from heygemd.share.entry import InboxEntry


@dataclass(frozen=True)
class IntakeRules:
    partner_minutes: float = 30.0
    incomplete_seconds: float = 60.0
    max_jobs: int = 1000
    max_manifest_kib: int = 1024


@dataclass(frozen=True)
class LineRules:
    name: str = "main"
    options: JobOptions = JobOptions()  # noqa: RUF009 - it is frozen
    folders: Mapping[str, JobOptions] = field(default_factory=dict)
    allowed_engines: tuple[str, ...] = ("footage", "command")
    require_consent: bool = False


STAMP = Stamp(100, 1, 1)
LATE = 31 * 60.0


class Inbox:
    """An inbox in words: paths, with their content where it matters; all of it at rest unless said otherwise."""

    def __init__(self, *paths: str, **contents: bytes) -> None:
        self.files: dict[str, bytes] = dict.fromkeys(paths, b"x" * 100)
        self.moving: set[str] = set()
        self.restless: set[str] = set()
        self.others: list[str] = []
        self.now = 100.0
        self.seen: dict[str, float] = {}
        self.incomplete: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        self.library: dict[str, str] = {}
        self.line: Any = LineRules()
        self.rules = IntakeRules()
        for path, data in contents.items():
            self.files[path] = data

    def put(self, path: str, data: bytes | str | dict[str, Any]) -> Inbox:
        if isinstance(data, dict):
            data = json.dumps(data)
        self.files[path] = data.encode() if isinstance(data, str) else data
        return self

    def folders(self) -> set[str]:
        found: set[str] = set()
        for path in [*self.files, *self.others]:
            while "/" in path:
                path = path.rpartition("/")[0]
                found.add(path)
        return found

    def view(self, read: Mapping[str, bytes]) -> InboxView:
        entries = [InboxEntry(path, True, Stamp(0, 1, 1)) for path in sorted(self.folders())]
        entries += [InboxEntry(path, False, Stamp(len(data), 1, 1)) for path, data in self.files.items()]
        entries += [InboxEntry(path, False, STAMP, True) for path in self.others]
        return InboxView(
            now=self.now,
            entries=entries,
            settled=frozenset(self.files.keys() - self.moving),
            quiet_dirs=frozenset(self.folders() - self.restless),
            first_seen={entry.path: self.seen.get(entry.path, 0.0) for entry in entries},
            line=self.line,
            rules=self.rules,
            incomplete=self.incomplete,
            manifest_bytes=read,
            unreadable=self.unreadable,
            library_has=self.library.get,
        )

    def plan(self) -> InboxPlan:
        """As the daemon does: what is asked for is read, then planned again."""
        read: dict[str, bytes] = {}
        while True:
            found = plan(self.view(read))
            if not set(found.manifests_to_read) - read.keys():
                return found
            read |= {path: self.files[path] for path in found.manifests_to_read}


def drops(found: InboxPlan) -> dict[str, list[str]]:
    """Each drop's first source with the names of its films."""
    return {drop.moves[0].source: [job.name for job in drop.jobs] for drop in found.drops}


def only(found: InboxPlan) -> DropRequest:
    assert len(found.drops) == 1, found
    return found.drops[0]


def waits(found: InboxPlan) -> dict[str, str]:
    assert len({w.path for w in found.waiting}) == len(found.waiting)
    return {w.path: w.reason for w in found.waiting}


# ------------------------------------------------------------ pairs


def test_a_sound_and_a_video_of_one_name_are_a_pair() -> None:
    found = Inbox("lesson.wav", "lesson.mp4").plan()
    drop = only(found)
    assert (drop.kind, drop.name, drop.folder, drop.priority, drop.problem) == ("pair", "lesson", "", "normal", None)
    assert [(m.source, m.target, m.stamps) for m in drop.moves] == [
        ("lesson.wav", "lesson.wav", {"lesson.wav": STAMP}),
        ("lesson.mp4", "lesson.mp4", {"lesson.mp4": STAMP}),
    ]
    job = drop.jobs[0]
    assert (job.name, job.audio, job.video) == ("lesson", Source("lesson.wav"), Source("lesson.mp4"))
    assert job.options == JobOptions(priority="normal")
    assert found.waiting == ()
    assert DropRequest.from_json(json.loads(json.dumps(drop.to_json()))) == drop


@pytest.mark.parametrize(
    ("sound", "video", "film"),
    [
        ("LESSON.WAV", "lesson.Mp4", "lesson"),
        ("lesson.mp3", "Lesson.MOV", "Lesson"),
        (unicodedata.normalize("NFD", "Prüfung é.wav"), unicodedata.normalize("NFC", "Prüfung É.mkv"), "Prüfung É"),
        (unicodedata.normalize("NFC", "Café.flac"), unicodedata.normalize("NFD", "Café.webm"), "Café"),
        ("课程 一😀.m4a", "课程 一😀.avi", "课程 一😀"),
        ("a.b.c.opus", "a.b.c.jpeg", "a.b.c"),
        ("line\nbreak.ogg", "line\nbreak.png", "line_break"),
        ("caf\udce9.wma", "caf\udce9.ts", "caf_"),
        ("x" * 251 + ".aac", "x" * 251 + ".m4v", "x" * 200),
        ("CON.wav", "con.mpg", "_con"),
    ],
)
def test_pairs_whatever_the_case_the_unicode_form_and_the_characters(sound: str, video: str, film: str) -> None:
    drop = only(Inbox(sound, video).plan())
    assert [job.name for job in drop.jobs] == [film]
    assert {move.source for move in drop.moves} == {sound, video}


@pytest.mark.parametrize(
    "three",
    [
        ("a.wav", "a.mp4", "a.mov"),
        ("a.wav", "a.mp3", "a.mp4"),
        ("a.wav", "a.mp4", "a.jpg"),
        ("a.wav", "a.mp4", "A.wav"),
        ("é.wav", "é.mp4", "e\u0301.mp4"),
        ("a.wav", "a.mp3"),
        ("a.mp4", "a.jpg"),
    ],
)
def test_more_than_a_pair_of_one_name_waits_and_says_so(three: tuple[str, ...]) -> None:
    found = Inbox(*three).plan()
    assert found.drops == ()
    (reason,) = waits(found).values()
    assert all(name in reason for name in three)
    assert "it is unclear which belong together" in reason


def test_a_file_alone_waits_for_its_partner_by_name() -> None:
    found = Inbox("lesson.wav", "other.mp4").plan()
    assert waits(found) == {
        "lesson.wav": "waits for its partner: a video or picture named lesson.*",
        "other.mp4": "waits for its partner: a sound file named other.*",
    }
    assert found.drops == ()
    assert found.due == 1800.0
    assert all(w == Waiting(w.path, w.reason, 0.0, False) for w in found.waiting)


def test_a_partner_that_does_not_come_is_named_more_strongly() -> None:
    inbox = Inbox("lesson.wav")
    inbox.now = LATE
    (waiting,) = inbox.plan().waiting
    assert waiting.overdue
    assert waiting.reason == (
        "has had no partner for 30 minutes: add a video or picture named lesson.*, or remove this file"
    )
    inbox.put("lesson.mp4", b"late but welcome")
    assert drops(inbox.plan()) == {"lesson.wav": ["lesson"]}


@pytest.mark.parametrize("moving", ["lesson.wav", "lesson.mp4"])
def test_both_partners_must_have_arrived(moving: str) -> None:
    inbox = Inbox("lesson.wav", "lesson.mp4")
    inbox.moving = {moving}
    found = inbox.plan()
    assert found.drops == ()
    assert list(waits(found).values()) == [f"{moving} is still arriving"]
    inbox.incomplete = {moving: "its index (moov) is not there yet"}
    (reason,) = waits(inbox.plan()).values()
    assert reason == (
        f"{moving} looks unfinished: its index (moov) is not there yet; "
        "it is taken anyway after 60 seconds without a change"
    )
    inbox.moving = set()
    assert len(inbox.plan().drops) == 1


def test_an_empty_file_that_has_settled_is_taken_and_fails_later() -> None:
    assert len(Inbox("lesson.wav").put("lesson.mp4", b"").plan().drops) == 1


def test_litter_and_strangers_stay_and_only_strangers_are_named() -> None:
    inbox = Inbox("lesson.wav", "lesson.mp4", "lesson.txt", "Thumbs.db", "._lesson.mp4", "lesson.mov.part", "job.toml")
    found = inbox.plan()
    assert drops(found) == {"lesson.wav": ["lesson"]}
    assert waits(found) == {
        "lesson.txt": "is not a supported kind of file",
        "job.toml": "job.toml belongs in a job folder (a folder with one sound file and its videos), not here",
    }


def test_links_pipes_and_sockets_are_left_alone() -> None:
    inbox = Inbox("lesson.wav")
    inbox.others = ["lesson.mp4", "zhang/fifo"]
    found = inbox.plan()
    assert found.drops == ()
    assert "partner" in waits(found)["lesson.wav"]
    for path in inbox.others:
        assert "is not a regular file" in waits(found)[path]


def test_older_drops_come_first() -> None:
    inbox = Inbox("a.wav", "a.mp4", "b.wav", "b.mp4")
    inbox.seen = {"a.wav": 50.0, "a.mp4": 60.0, "b.wav": 70.0, "b.mp4": 40.0}
    assert list(drops(inbox.plan())) == ["b.wav", "a.wav"]


# ------------------------------------------------------------ folders


def test_a_pair_in_a_plain_subfolder_is_kept_there_in_the_outbox() -> None:
    inbox = Inbox("zhang/kurs/a.wav", "zhang/kurs/a.mp4", "zhang/kurs/b.wav", "zhang/kurs/b.mp4")
    for drop in inbox.plan().drops:
        assert (drop.kind, drop.folder) == ("pair", "zhang/kurs")
        assert [move.target for move in drop.moves] == [f"{drop.name}.wav", f"{drop.name}.mp4"]


def test_a_folder_with_nothing_but_a_pair_is_plain_but_must_be_quiet_first() -> None:
    inbox = Inbox("zhang/a.wav", "zhang/a.mp4", "zhang/notes.txt")
    inbox.restless = {"zhang"}
    found = inbox.plan()
    assert found.drops == ()
    assert waits(found)["zhang/a.wav"] == "waits until nothing more arrives in its folder"
    inbox.restless = set()
    drop = only(inbox.plan())
    assert (drop.kind, drop.folder) == ("pair", "zhang")
    assert "zhang/notes.txt" in waits(inbox.plan())


def test_one_sound_and_its_videos_in_a_folder_are_a_batch() -> None:
    drop = only(Inbox("zhang/course1/speech.wav", "zhang/course1/b.mp4", "zhang/course1/a.png").plan())
    assert (drop.kind, drop.name, drop.folder) == ("folder", "course1", "zhang/course1")
    (move,) = drop.moves
    assert (move.source, move.target) == ("zhang/course1", "course1")
    assert move.stamps == {f"course1/{name}": STAMP for name in ("speech.wav", "b.mp4", "a.png")}
    assert [(j.name, j.audio, j.video) for j in drop.jobs] == [
        ("b", Source("course1/speech.wav"), Source("course1/b.mp4")),
        ("a", Source("course1/speech.wav"), Source("course1/a.png")),
    ]


def test_one_sound_and_one_video_of_different_names_in_a_folder_are_a_batch_of_one() -> None:
    assert only(Inbox("course/speech.wav", "course/anna.mp4").plan()).kind == "folder"


def test_a_job_folder_is_taken_only_when_all_has_arrived_and_it_is_quiet() -> None:
    inbox = Inbox("course/speech.wav", "course/a.mp4", "course/b.mp4")
    inbox.moving, inbox.restless = {"course/b.mp4"}, {"course"}
    assert waits(inbox.plan()) == {"course": "waits until all its files have arrived: b.mp4 is still arriving"}
    inbox.moving = set()
    assert waits(inbox.plan()) == {"course": "waits until its content stops changing"}
    inbox.restless = set()
    assert drops(inbox.plan()) == {"course": ["a", "b"]}


def test_a_folder_that_trickles_in_gives_nothing_away_before_its_time() -> None:
    inbox = Inbox()
    for name in ("lesson.wav", "lesson.mp4", "notes.txt", "b.mp4", "c.mp4"):
        inbox.put(f"course/{name}", b"x")
        inbox.restless, inbox.moving = {"course"}, {f"course/{name}"}
        assert inbox.plan().drops == ()
        inbox.moving = set()
        assert inbox.plan().drops == ()
    inbox.restless = set()
    assert drops(inbox.plan()) == {"course": ["lesson", "b", "c"]}


def test_strangers_and_litter_in_a_job_folder_go_along() -> None:
    inbox = Inbox("course/s.wav", "course/a.mp4", "course/b.mp4", "course/notes.txt", "course/Thumbs.db")
    (move,) = only(inbox.plan()).moves
    assert set(move.stamps) == {"course/s.wav", "course/a.mp4", "course/b.mp4", "course/notes.txt"}
    assert inbox.plan().waiting == ()


def test_two_videos_of_one_name_in_a_job_folder_make_two_films_told_apart() -> None:
    found = Inbox("c/s.wav", "c/a.mp4", "c/a.mov", "c/A.mp4", "c/b.mp4").plan()
    assert drops(found) == {"c": ["a (mp4)", "a (mov)", "A (mp4) (2)", "b"]}


@pytest.mark.parametrize("folder", ["zhang", "high", "Low", "high/zhang", "zhang/kurs"])
def test_a_configured_or_priority_folder_is_never_a_job_folder(folder: str) -> None:
    inbox = Inbox(f"{folder}/s.wav", f"{folder}/a.mp4", f"{folder}/b.mp4")
    inbox.line = LineRules(folders={"Zhang": JobOptions(), "zhang/kurs": JobOptions()})
    found = inbox.plan()
    assert found.drops == ()
    assert len(found.waiting) == 3


def test_a_folder_with_files_in_folders_below_is_plain() -> None:
    inbox = Inbox("zhang/s.wav", "zhang/a.mp4", "zhang/b.mp4", "zhang/deep/c.wav", "zhang/deep/c.mp4")
    assert drops(inbox.plan()) == {"zhang/deep/c.wav": ["c"]}


def test_two_sounds_in_a_folder_without_job_toml_follow_the_plain_rules() -> None:
    found = Inbox("c/a.wav", "c/a.mp4", "c/b.wav", "c/c.mp4").plan()
    assert drops(found) == {"c/a.wav": ["a"]}
    assert set(waits(found)) == {"c/b.wav", "c/c.mp4"}


def test_a_link_in_a_job_folder_keeps_it_where_it_is() -> None:
    inbox = Inbox("c/s.wav", "c/a.mp4", "c/b.mp4")
    inbox.others = ["c/link.mp4"]
    found = inbox.plan()
    assert found.drops == ()
    assert "link.mp4, which is not a regular file" in waits(found)["c"]


def test_a_job_folder_called_like_a_file_of_ours_does_not_collide_with_it() -> None:
    drop = only(Inbox("request.json/s.wav", "request.json/a.mp4").plan())
    assert drop.moves[0].target == "input-request.json"
    assert drop.jobs[0].video == Source("input-request.json/a.mp4")
    assert set(drop.moves[0].stamps) == {"input-request.json/s.wav", "input-request.json/a.mp4"}


def test_too_many_videos_in_a_folder_are_refused() -> None:
    inbox = Inbox("c/s.wav", *(f"c/{n}.mp4" for n in range(4)))
    inbox.rules = IntakeRules(max_jobs=3)
    assert only(inbox.plan()).problem == "The folder requests 4 films; at most 3 are allowed."


# ------------------------------------------------------------ job.toml


def test_a_job_toml_sets_options_for_its_folder_and_chooses_the_sound() -> None:
    inbox = Inbox("c/one.wav", "c/two.wav", "c/a.mp4", "c/data.json")
    inbox.put("c/job.toml", 'audio = "TWO.wav"\ncrf = 20\npriority = "high"')
    drop = only(inbox.plan())
    assert (drop.kind, drop.priority) == ("folder", "high")
    assert drop.jobs[0].audio == Source("c/two.wav")
    assert drop.jobs[0].options == JobOptions(crf=20, priority="high")
    assert set(drop.moves[0].stamps) == {"c/one.wav", "c/two.wav", "c/a.mp4", "c/data.json", "c/job.toml"}


def test_a_pair_beside_a_job_toml_is_a_job_folder() -> None:
    assert only(Inbox("c/a.wav", "c/a.mp4").put("c/Job.TOML", "").plan()).kind == "folder"


def test_a_faulty_job_toml_fails_the_folder_with_every_fault() -> None:
    drop = only(Inbox("c/a.wav", "c/a.mp4").put("c/job.toml", "crv = 1\nengine = 'x'").plan())
    assert drop.jobs == ()
    assert drop.moves[0].source == "c"
    assert drop.problem is not None
    assert "unknown key 'crv'" in drop.problem
    assert "engine: must be one of" in drop.problem


@pytest.mark.parametrize(
    ("files", "text", "words"),
    [
        (("c/a.mp4",), "", "has no sound file"),
        (("c/a.wav",), "", "has no video or picture"),
        (("c/a.wav", "c/b.wav", "c/a.mp4"), "", "has 2 sound files (a.wav and b.wav): name one of them as 'audio'"),
        (("c/a.wav", "c/a.mp4"), "audio = 'b.wav'", "lacks the sound file b.wav"),
    ],
)
def test_a_job_folder_that_lacks_something_waits_and_then_fails(files: tuple[str], text: str, words: str) -> None:
    inbox = Inbox(*files).put("c/job.toml", text)
    found = inbox.plan()
    assert found.drops == ()
    assert words in waits(found)["c"]
    assert found.due == 1800.0
    inbox.now = LATE
    drop = only(inbox.plan())
    assert words in (drop.problem or "")
    assert drop.jobs == ()


def test_a_job_folder_with_folders_of_its_own_says_so() -> None:
    inbox = Inbox("c/a.wav", "c/a.mp4", "c/deep/b.wav").put("c/job.toml", "")
    assert "contains subfolders with files" in waits(inbox.plan())["c"]


def test_a_job_toml_that_cannot_be_read_or_is_huge_fails_the_folder() -> None:
    inbox = Inbox("c/a.wav", "c/a.mp4").put("c/job.toml", "")
    inbox.unreadable = {"c/job.toml": "cannot be read: permission denied"}
    assert only(inbox.plan()).problem == "job.toml cannot be read: permission denied."
    inbox = Inbox("c/a.wav", "c/a.mp4").put("c/job.toml", b"#" * 3000)
    inbox.rules = IntakeRules(max_manifest_kib=2)
    assert "is larger than 2 KiB" in (only(inbox.plan()).problem or "")


# ------------------------------------------------------------ options and priority


@pytest.mark.parametrize(
    ("path", "folder", "priority"),
    [
        ("high", "", "high"),
        ("HIGH/zhang", "zhang", "high"),
        ("low", "", "low"),
        ("low/zhang/deep", "zhang/deep", "low"),
        ("zhang/high", "zhang/high", "normal"),
    ],
)
def test_high_and_low_at_the_top_give_priority_and_are_not_kept(path: str, folder: str, priority: str) -> None:
    drop = only(Inbox(f"{path}/a.wav", f"{path}/a.mp4").plan())
    assert (drop.folder, drop.priority, drop.jobs[0].options.priority) == (folder, priority, priority)


def test_a_job_folder_in_high_lands_below_the_top() -> None:
    drop = only(Inbox("high/c/s.wav", "high/c/a.mp4", "high/c/b.mp4").plan())
    assert (drop.folder, drop.priority, drop.moves[0].target) == ("c", "high", "c")


def test_options_come_from_the_job_then_the_manifest_then_the_folder_then_the_line() -> None:
    line = LineRules(
        options=JobOptions("footage", "low", 10, "slow", "hold", "right"),
        folders={"zhang": JobOptions(crf=11, preset="fast"), "zhang/kurs": JobOptions(preset="faster")},
    )
    inbox = Inbox("a.wav", "a.mp4", "zhang/b.wav", "zhang/b.mp4", "zhang/x/c.wav", "zhang/x/c.mp4")
    inbox.put("Zhang/Kurs/m.json", {"crf": 12, "extend": "loop", "jobs": [{"audio": "d.wav", "video": "d.mp4"}]})
    inbox.put("Zhang/Kurs/d.wav", b"x").put("Zhang/Kurs/d.mp4", b"x")
    inbox.line = line
    options = {drop.jobs[0].name: drop.jobs[0].options for drop in inbox.plan().drops}
    assert options == {
        "a": JobOptions("footage", "low", 10, "slow", "hold", "right"),
        "b": JobOptions("footage", "low", 11, "fast", "hold", "right"),
        "c": JobOptions("footage", "low", 11, "fast", "hold", "right"),
        "d": JobOptions("footage", "low", 12, "faster", "loop", "right"),
    }


def test_an_engine_that_the_line_does_not_allow_fails_that_job_only() -> None:
    inbox = Inbox("a.wav", "a.mp4", "b.mp4")
    inbox.put("m.json", {"audio": "a.wav", "jobs": [{"video": "a.mp4", "engine": "duix"}, {"video": "b.mp4"}]})
    drop = only(inbox.plan())
    assert drop.problem is None
    assert [job.problem for job in drop.jobs] == [
        "The engine 'duix' is not allowed on the line main; allowed: footage, command.",
        None,
    ]


# ------------------------------------------------------------ manifests


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("batch.toml", 'audio = "s.wav"\nvideos = ["a.mp4", "sub/b.mp4"]'),
        ("batch.JSON", '{"jobs": [{"audio": "s.wav", "video": "a.mp4"}, {"audio": "S.WAV", "video": "SUB\\\\b.mp4"}]}'),
        ("batch.csv", "audio;video\ns.wav;a.mp4\ns.wav;sub/b.mp4\n"),
    ],
)
@pytest.mark.parametrize("folder", ["", "zhang/"])
def test_a_manifest_and_the_files_it_names_are_one_drop(name: str, text: str, folder: str) -> None:
    inbox = Inbox(folder + "s.wav", folder + "a.mp4", folder + "sub/b.mp4", folder + "other.mp4")
    inbox.put(folder + name, text)
    found = inbox.plan()
    drop = only(found)
    assert (drop.kind, drop.name, drop.folder, drop.problem) == ("manifest", "batch", folder.rstrip("/"), None)
    assert [(move.source, move.target) for move in drop.moves] == [
        (folder + path, path) for path in (name, "s.wav", "a.mp4", "sub/b.mp4")
    ]
    assert all(list(move.stamps) == [move.target] for move in drop.moves)
    assert [(j.name, j.audio, j.video, j.problem) for j in drop.jobs] == [
        ("a", Source("s.wav"), Source("a.mp4"), None),
        ("b", Source("s.wav"), Source("sub/b.mp4"), None),
    ]
    assert set(waits(found)) == {folder + "other.mp4"}


def test_files_that_a_manifest_names_are_no_pair() -> None:
    inbox = Inbox("lesson.wav", "lesson.mp4", "free.wav", "free.mp4")
    inbox.put("batch.json", {"audio": "lesson.wav", "videos": ["lesson.mp4", "later.mp4"]})
    found = inbox.plan()
    assert drops(found) == {"free.wav": ["free"]}
    assert waits(found) == {"batch.json": "waits for files that it names and that have not arrived: later.mp4"}
    assert found.reserved == {"lesson.wav": "batch.json", "lesson.mp4": "batch.json"}


def test_no_pair_is_taken_before_a_manifest_beside_or_above_it_has_been_read() -> None:
    inbox = Inbox("zhang/a.wav", "zhang/a.mp4", "zhang/b.wav", "c/s.wav", "c/a.mp4", "c/b.mp4")
    inbox.put("batch.json", {"audio": "zhang/a.wav", "videos": ["zhang/a.mp4"]})
    first = plan(inbox.view({}))
    assert first.drops == ()
    assert first.manifests_to_read == ("batch.json",)
    assert waits(first)["zhang/a.wav"] == waits(first)["c"] == "waits until batch.json has been read"
    inbox.moving, inbox.now = {"batch.json"}, 59.0
    assert inbox.plan().drops == ()
    assert waits(inbox.plan())["batch.json"] == "batch.json is still arriving"
    inbox.now = 61.0  # a file that is rewritten for ever does not stop the inbox
    assert set(drops(inbox.plan())) == {"zhang/a.wav", "c"}
    inbox.moving = set()
    assert drops(inbox.plan()) == {"batch.json": ["a"], "c": ["a", "b"]}


def test_a_manifest_below_holds_up_nothing_above_it() -> None:
    inbox = Inbox("a.wav", "a.mp4").put("zhang/batch.json", b"")
    assert list(drops(plan(inbox.view({})))) == ["a.wav"]


def test_a_manifest_waits_for_files_that_are_still_arriving() -> None:
    inbox = Inbox("a.wav", "a.mp4").put("m.csv", "audio,video\na.wav,a.mp4\n")
    inbox.moving = {"a.mp4"}
    inbox.now = LATE
    found = inbox.plan()
    assert found.drops == ()
    assert waits(found) == {"m.csv": "a.mp4 is still arriving"}


def test_a_file_that_does_not_come_fails_its_job_and_not_the_others() -> None:
    inbox = Inbox("s.wav", "lesson-1.mp4").put(
        "m.csv", "audio,video\ns.wav,lesson-1.mp4\ns.wav,lesson-3.mp4\nt.wav,lesson-4.mp4\n"
    )
    inbox.seen = {"m.csv": 50.0}
    inbox.now = 50.0 + 1799.0
    found = inbox.plan()
    assert found.drops == ()
    assert found.due == 1850.0
    assert waits(found)["m.csv"] == (
        "waits for files that it names and that have not arrived: lesson-3.mp4, t.wav and lesson-4.mp4"
    )
    inbox.now = 50.0 + 1800.0
    drop = only(inbox.plan())
    assert drop.problem is None
    assert [job.problem for job in drop.jobs] == [
        None,
        "lesson-3.mp4 was not dropped within 30 minutes.",
        "t.wav and lesson-4.mp4 were not dropped within 30 minutes.",
    ]
    assert [(j.audio, j.video) for j in drop.jobs][1:] == [(Source("s.wav"), None), (None, None)]
    assert [move.source for move in drop.moves] == ["m.csv", "s.wav", "lesson-1.mp4"]


def test_a_late_file_completes_a_manifest_at_once() -> None:
    inbox = Inbox("s.wav").put("m.csv", "audio,video\ns.wav,a.mp4\n")
    assert inbox.plan().drops == ()
    inbox.put("a.mp4", b"x")
    assert drops(inbox.plan()) == {"m.csv": ["a"]}


def test_of_two_manifests_that_name_a_file_the_earlier_has_it() -> None:
    inbox = Inbox("s.wav", "a.mp4", "b.mp4")
    inbox.put("1.json", {"audio": "s.wav", "videos": ["a.mp4"]})
    inbox.put("2.json", {"audio": "s.wav", "videos": ["b.mp4"]})
    inbox.seen = {"1.json": 20.0, "2.json": 10.0}
    found = inbox.plan()
    assert drops(found) == {"2.json": ["b"]}
    assert waits(found) == {"1.json": "waits: s.wav is also named by 2.json, which arrived first"}
    assert found.reserved == {"s.wav": "2.json", "b.mp4": "2.json", "a.mp4": "1.json"}


def test_a_file_named_by_several_jobs_of_a_manifest_is_moved_once() -> None:
    inbox = Inbox("s.wav", "t.wav", "a.mp4").put("m.csv", "audio,video\ns.wav,a.mp4\nt.wav,A.MP4\n")
    drop = only(inbox.plan())
    assert [move.source for move in drop.moves] == ["m.csv", "s.wav", "a.mp4", "t.wav"]
    assert [job.video for job in drop.jobs] == [Source("a.mp4"), Source("a.mp4")]


def test_a_file_in_the_library_is_read_where_it_is() -> None:
    inbox = Inbox("s.wav").put("zhang/m.csv", "audio,video\nvoices/s.wav,Büro/anna.mp4\n")
    nfd = unicodedata.normalize("NFD", "Büro/anna.mp4")
    inbox.library = {"voices/s.wav": "/lib/voices/s.wav", nfd: "/lib/" + nfd}
    found = inbox.plan()
    drop = only(found)
    assert drop.jobs[0].audio == Source("/lib/voices/s.wav", library=True)
    assert drop.jobs[0].video == Source("/lib/" + nfd, library=True)
    assert [move.source for move in drop.moves] == ["zhang/m.csv"]
    assert {"voices/s.wav", nfd} <= found.looked_up


def test_the_library_is_never_asked_for_a_name_longer_than_a_file_can_have() -> None:
    name = "é" * 120 + ".mp4"
    looked_up = Inbox("s.wav").put("m.json", {"audio": "s.wav", "videos": [name]}).plan().looked_up
    assert looked_up == {name}


def test_a_file_beside_the_manifest_comes_before_the_library() -> None:
    inbox = Inbox("s.wav", "anna.mp4").put("m.csv", "audio,video\ns.wav,anna.mp4\n")
    inbox.library = {"anna.mp4": "/lib/anna.mp4"}
    assert only(inbox.plan()).jobs[0].video == Source("anna.mp4")


@pytest.mark.parametrize("path", ["../../etc/passwd", "..\\secret.mp4", "/etc/passwd", "C:\\secret.mp4"])
def test_a_manifest_that_climbs_is_refused_and_nothing_is_looked_up(path: str) -> None:
    inbox = Inbox("s.wav", "secret.mp4")
    inbox.put("zhang/m.json", {"audio": "s.wav", "videos": [path]})
    found = inbox.plan()
    (drop,) = found.drops
    assert [move.source for move in drop.moves] == ["zhang/m.json"]
    assert drop.jobs == ()
    assert drop.folder == "zhang"
    assert path in (drop.problem or "")
    assert found.looked_up == frozenset()
    assert found.reserved == {}


def test_a_faulty_manifest_fails_alone_and_lets_its_files_go() -> None:
    inbox = Inbox("a.wav", "a.mp4").put("m.json", {"audio": "a.wav", "videos": ["a.mp4"], "crv": 1})
    found = inbox.plan()
    assert {drop.kind: bool(drop.problem) for drop in found.drops} == {"pair": False, "manifest": True}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.json", b"", "m.json cannot be used: the file: is empty."),
        ("m.toml", b"\xff\xff", "is not UTF-8 text"),
        ("m.csv", b"a,b\n1,2\n", "unknown key 'a'"),
        ("m.json", b"[" * 2000, "nested too deeply"),
        ("m.json", b"x" * 2049, "is larger than 2 KiB"),
    ],
)
def test_a_bad_manifest_goes_to_failed_with_its_reason(name: str, data: bytes, words: str) -> None:
    inbox = Inbox().put(name, data)
    inbox.rules = IntakeRules(max_manifest_kib=2)
    drop = only(inbox.plan())
    assert words in (drop.problem or "")
    assert [move.source for move in drop.moves] == [name]


def test_a_manifest_too_large_is_never_asked_for() -> None:
    inbox = Inbox().put("m.json", b"x" * 2049)
    inbox.rules = IntakeRules(max_manifest_kib=2)
    assert plan(inbox.view({})).manifests_to_read == ()


def test_a_manifest_that_cannot_be_read_says_why() -> None:
    inbox = Inbox().put("high/m.json", b"x")
    inbox.unreadable = {"high/m.json": "cannot be read: permission denied"}
    drop = only(inbox.plan())
    assert (drop.problem, drop.priority) == ("m.json cannot be read: permission denied.", "high")


def test_a_link_or_twins_that_a_manifest_names_are_not_taken() -> None:
    inbox = Inbox("s.wav", "é.mp4", "E\u0301.mp4").put("m.json", {"audio": "s.wav", "videos": ["link.mp4", "É.MP4"]})
    inbox.others = ["link.mp4"]
    reason = waits(inbox.plan())["m.json"]
    assert "link.mp4 (it is a link or another special file, which heygemd does not read)" in reason
    assert "É.MP4 (two files have this name" in reason
    inbox.now = LATE
    drop = next(drop for drop in inbox.plan().drops if drop.kind == "manifest")
    assert "which heygemd does not read" in (drop.jobs[0].problem or "")
    assert {move.source for move in drop.moves} == {"m.json", "s.wav"}


def test_one_of_two_twins_is_meant_where_it_is_named_exactly() -> None:
    inbox = Inbox("s.wav", "a.mp4", "A.mp4").put("m.json", {"audio": "s.wav", "videos": ["A.mp4"]})
    assert only(inbox.plan()).jobs[0].video == Source("A.mp4")


def test_a_manifest_in_a_folder_makes_it_plain_and_may_take_from_job_folders() -> None:
    inbox = Inbox("c/s.wav", "c/a.mp4", "c/b.mp4", "d/s.wav", "d/a.mp4", "d/b.mp4")
    inbox.put("c/m.json", {"audio": "s.wav", "videos": ["a.mp4"]})
    inbox.put("m.json", {"audio": "d/s.wav", "videos": ["d/a.mp4"]})
    found = inbox.plan()
    assert drops(found) == {"c/m.json": ["a"], "m.json": ["a"]}
    assert set(waits(found)) == {"c/b.mp4", "d/b.mp4"}


def test_a_folder_with_job_toml_waits_for_a_manifest_that_owns_a_file_of_it() -> None:
    inbox = Inbox("c/s.wav", "c/a.mp4").put("c/job.toml", "").put("m.json", {"audio": "c/s.wav", "videos": ["x.mp4"]})
    assert waits(inbox.plan())["c"] == "waits: s.wav in this folder belongs to the manifest m.json"


def test_a_manifest_called_like_a_file_of_ours_does_not_collide_with_it() -> None:
    inbox = Inbox("s.wav", "a.mp4").put("Request.json", {"audio": "s.wav", "videos": ["a.mp4"]})
    move = only(inbox.plan()).moves[0]
    assert (move.source, move.target) == ("Request.json", "input-Request.json")
    assert list(move.stamps) == ["input-Request.json"]


def test_the_most_urgent_job_gives_a_manifest_its_priority() -> None:
    inbox = Inbox("s.wav", "a.mp4", "b.mp4")
    jobs = [{"audio": "s.wav", "video": "a.mp4", "priority": "low"}, {"audio": "s.wav", "video": "b.mp4"}]
    drop = only(inbox.put("m.json", {"jobs": jobs}).plan())
    assert drop.priority == "normal"
    assert [job.options.priority for job in drop.jobs] == ["low", "normal"]


# ------------------------------------------------------------ many


def test_ten_thousand_files_are_planned_correctly() -> None:
    inbox = Inbox()
    for n in range(2500):
        inbox.put(f"p{n % 40}/课程 {n}.wav", b"x").put(f"p{n % 40}/课程 {n}.MP4", b"x")
    for n in range(500):
        for name in ("s.wav", "a.mp4", "b.mp4"):
            inbox.put(f"batch {n}/{name}", b"x")
    for n in range(3400):
        inbox.put(f"lone {n}.wav", b"x")
    names = [f"m{n}.mp4" for n in range(99)]
    for name in ("sound.wav", *names):
        inbox.put(name, b"x")
    inbox.put("all.json", {"audio": "sound.wav", "videos": names})
    found = inbox.plan()
    kinds = [drop.kind for drop in found.drops]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"pair": 2500, "folder": 500, "manifest": 1}
    assert sum(len(drop.jobs) for drop in found.drops) == 2500 + 1000 + 99
    assert len(found.waiting) == 3400
    sources = [move.source for drop in found.drops for move in drop.moves]
    assert len(sources) == len(set(sources))
