"""An input that changes between settling and claim: nothing is taken, nothing is lost, and it settles again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from heygemd.common.request import DropRequest, JobRequest, Move, Source
from heygemd.config.line import LineConfig
from heygemd.config.tables import DaemonConfig
from heygemd.config.whole import Config
from heygemd.share import nofollow, operations
from heygemd.share.owner import OWNER
from heygemd.share.queries import stamp_of
from heygemd.store import recovery
from heygemd.store.drops import DropStore, Journal
from heygemd.store.states import Drop, DropState, JobState
from tests.share.here import Here, client

BATCH = ("zhang/batch.toml", "zhang/voice.wav", "zhang/films/one.mp4", "zhang/films/two.mp4")
COURSE = ("course/voice.wav", "course/one.mp4", "course/two.mp4")


class Death(BaseException):
    """The daemon is killed."""


class Shop:
    """A store with one line; ``reopened`` is what the next start makes of its folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.line = root, LineConfig(name="main", root=root / "line")
        self.config = Config(source=root / "c", daemon=DaemonConfig(state_dir=root / "state"), lines=(self.line,))
        (root / "state").mkdir(parents=True, exist_ok=True)
        self.share = Here()
        self.journal = Journal(root / "state" / "journal.sqlite")
        self.store = DropStore(self.config, self.journal, {"main": client(self.share)})
        asyncio.run(self.store.look_at(self.line))

    def reopened(self, *, forgotten: bool = False) -> Shop:
        self.journal.close()
        (self.line.processing / OWNER).unlink()  # of a process that is not dead in truth
        if forgotten:
            for file in (self.root / "state").glob("journal.sqlite*"):
                file.unlink()
        return Shop(self.root)

    def recover(self) -> None:
        asyncio.run(recovery.line(self.store, self.line))

    def put(self, *paths: str) -> None:
        for path in paths:
            file = self.line.inbox / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"the first {path}")

    def pair(self) -> DropRequest:
        self.put("a.wav", "a.mp4")
        return DropRequest("pair", "a", "", (self.move("a.wav"), self.move("a.mp4")), (job("a", "a.wav", "a.mp4"),))

    def batch(self) -> DropRequest:
        self.put(*BATCH)
        moves = tuple(self.move(path, path.removeprefix("zhang/")) for path in BATCH)
        jobs = tuple(job(name, "voice.wav", f"films/{name}.mp4") for name in ("one", "two"))
        return DropRequest("manifest", "batch", "zhang", moves, jobs)

    def course(self) -> DropRequest:
        self.put(*COURSE)
        stamps = {path: stamp_of(os.stat(self.line.inbox / path)) for path in COURSE}
        jobs = tuple(job(name, "course/voice.wav", f"course/{name}.mp4") for name in ("one", "two"))
        return DropRequest("folder", "course", "course", (Move("course", "course", stamps),), jobs)

    def move(self, path: str, target: str | None = None) -> Move:
        return Move(path, target or path, {target or path: stamp_of(os.stat(self.line.inbox / path))})

    def claim(self, request: DropRequest) -> Drop:
        return asyncio.run(self.store.claim(self.line, request))

    @property
    def inbox(self) -> list[str]:
        return files(self.line.inbox)

    def nothing_is_held(self) -> bool:
        """Neither in processing/ nor in the journal."""
        folders = [path.name for path in self.line.processing.iterdir() if not path.name.startswith(".")]
        return folders == [] and self.journal.drops(*DropState) == [] and self.journal.counts() == {}


def job(name: str, audio: str, video: str) -> JobRequest:
    return JobRequest(name, Source(audio), Source(video))


def files(folder: Path) -> list[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(str(p.relative_to(folder)) for p in found)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.journal.close()


def grow(path: Path) -> None:
    with path.open("a") as file:
        file.write(", and more")


def replace(path: Path) -> None:
    """By a file of the same size and time."""
    info, other = path.stat(), path.with_name("other")
    other.write_text("X" * info.st_size)
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    other.rename(path)


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [grow, replace, touch])
@pytest.mark.parametrize("changed", BATCH)
def test_where_one_input_changed_after_it_settled_all_go_back_and_are_claimed_later(
    shop: Shop, change: Callable[[Path], None], changed: str
) -> None:
    request = shop.batch()
    change(shop.line.inbox / changed)
    contents = (shop.line.inbox / changed).read_text()
    drop = shop.claim(request)
    assert drop.state is DropState.CLAIMING and shop.nothing_is_held()
    assert shop.inbox == sorted(BATCH) and (shop.line.inbox / changed).read_text() == contents
    moves = tuple(shop.move(move.source, move.target) for move in request.moves)
    again = shop.claim(DropRequest("manifest", "batch", "zhang", moves, request.jobs))
    assert again.state is DropState.HELD and shop.inbox == []
    assert (Path(shop.store.held(again)) / changed.removeprefix("zhang/")).read_text() == contents


def add(folder: Path) -> None:
    (folder / "three.mp4").write_text("a film that nobody has seen settle")


def take_away(folder: Path) -> None:
    (folder / "two.mp4").unlink()


def link(folder: Path) -> None:
    (folder / "two.mp4").unlink()
    (folder / "two.mp4").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    "change", [add, take_away, link, lambda f: grow(f / "one.mp4"), lambda f: replace(f / "voice.wav")]
)
def test_a_job_folder_in_which_something_changed_stays_whole(shop: Shop, change: Callable[[Path], None]) -> None:
    request = shop.course()
    change(shop.line.inbox / "course")
    before = files(shop.line.inbox)
    assert shop.claim(request).state is DropState.CLAIMING
    assert shop.nothing_is_held() and shop.inbox == before


def test_litter_that_arrives_in_a_job_folder_does_not_hold_it_up(shop: Shop) -> None:
    request = shop.course()
    (shop.line.inbox / "course" / "Thumbs.db").write_bytes(b"small pictures")
    assert shop.claim(request).state is DropState.HELD and shop.inbox == []


@pytest.mark.parametrize("kind", ["pair", "course"])
def test_a_change_between_the_look_and_the_rename_is_seen_after_it(
    shop: Shop, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, renamed = getattr(shop, kind)(), operations.rename_new
    changed = shop.line.inbox / ("a.mp4" if kind == "pair" else "course/one.mp4")

    def late(source: str, target: str) -> bool:
        if changed.exists() and str(changed).startswith(source) and "processing" in target:
            grow(changed)
        return renamed(source, target)

    monkeypatch.setattr(operations, "rename_new", late)
    assert shop.claim(request).state is DropState.CLAIMING
    assert shop.nothing_is_held() and changed.read_text().endswith(", and more")


def test_a_share_whose_inode_numbers_change_with_the_path_gets_its_films(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = operations._stamp

    def by_path(info: os.stat_result) -> tuple[int, int, int]:
        size, mtime, inode = seen(info)
        return size, mtime, inode if (shop.line.inbox / "a.wav").exists() else inode + 1

    request = shop.pair()
    monkeypatch.setattr(operations, "_stamp", by_path)
    swapped = DropRequest("pair", "a", "", request.moves[:1], request.jobs)
    assert shop.claim(swapped).state is DropState.HELD


def during(shop: Shop, operation: str, about: str, act: Callable[[], None]) -> None:
    """Somebody acts once, before the first ``operation`` on a path that ends in ``about``."""
    todo = [act]

    def before(name: str, args: Sequence[object]) -> None:
        if todo and name == operation and str(args[0]).endswith(about):
            todo.pop()()

    shop.share.before = before


def test_a_newer_file_under_the_name_of_one_that_goes_back_stays_and_both_are_there(shop: Shop) -> None:
    request = shop.pair()
    grow(shop.line.inbox / "a.mp4")
    during(shop, "put_back", "a.wav", lambda: shop.put("a.wav", "A (2).WAV"))
    shop.claim(request)
    assert shop.nothing_is_held()
    assert shop.inbox == ["A (2).WAV", "a (3).wav", "a.mp4", "a.wav"]


def test_where_the_inboxs_subfolder_is_gone_it_is_made_and_where_a_link_is_there_the_inbox_must_do(
    shop: Shop, tmp_path: Path
) -> None:
    request, away = shop.batch(), tmp_path / "away"
    zhang = shop.line.inbox / "zhang"
    grow(zhang / "films/two.mp4")

    def swap() -> None:
        zhang.rename(away)
        zhang.symlink_to(away)

    during(shop, "put_back", "batch.toml", swap)
    nofollow.trust([str(shop.line.root)])
    try:
        shop.claim(request)
    finally:
        nofollow.trust([])
    assert shop.nothing_is_held() and files(away) == ["films/two.mp4"]
    assert [p.name for p in sorted(shop.line.inbox.glob("*.*")) if not p.name.startswith(".")] == [
        "batch.toml", "one.mp4", "voice.wav",
    ]  # fmt: skip


def test_a_newer_file_of_the_name_does_not_call_back_what_was_taken_before(shop: Shop) -> None:
    request = shop.pair()
    drop = shop.journal.add_drop("d-1", "main", request, None)
    operations.open_drop(shop.store.held(drop), {})
    (shop.line.inbox / "a.wav").rename(Path(shop.store.held(drop)) / "a.wav")
    (shop.line.inbox / "a.wav").write_text("another sound")
    shop.recover()
    assert shop.journal.drop("d-1").state is DropState.HELD and shop.inbox == ["a.wav"]
    assert (Path(shop.store.held(drop)) / "a.wav").read_text() == "the first a.wav"


def test_an_adopted_drop_whose_inputs_got_other_times_by_a_restore_is_not_given_back(shop: Shop) -> None:
    drop = shop.claim(shop.pair())
    touch(Path(shop.store.held(drop)) / "a.mp4")
    shop = shop.reopened(forgotten=True)
    shop.recover()
    assert shop.journal.drop(drop.id).state is DropState.HELD and shop.inbox == []
    assert [j.state for j in shop.journal.jobs_of(drop.id)] == [JobState.QUEUED]
    shop.journal.close()


def test_a_share_that_goes_away_while_inputs_go_back_is_asked_again(shop: Shop) -> None:
    request = shop.batch()
    grow(shop.line.inbox / "zhang/films/two.mp4")
    for operation in ("take_input", "put_back", "sync_folders", "discard_drop"):
        shop.share.refuse[operation] = OSError(f"{operation} went wrong")
    with pytest.raises(OSError, match="take_input"):
        shop.claim(request)
    for operation in ("put_back", "sync_folders", "discard_drop"):
        with pytest.raises(OSError, match=operation):
            shop.recover()
    shop.recover()
    assert shop.nothing_is_held() and shop.inbox == sorted(BATCH)


# ------------------------------------------------------------ deaths


@pytest.mark.parametrize("forgotten", [False, True], ids=["with the journal", "without the journal"])
@pytest.mark.parametrize("changed", [BATCH[0], BATCH[2], BATCH[3]])
def test_killed_before_any_operation_of_a_claim_that_is_given_back_nothing_is_lost(
    tmp_path: Path, changed: str, forgotten: bool
) -> None:
    at = 0
    while True:
        at += 1
        shop = Shop(tmp_path / str(at))
        request = shop.batch()
        grow(shop.line.inbox / changed)
        if not killed(shop, request, at):
            break
        assert len(files(shop.line.inbox)) + len(held(shop)) == len(BATCH), at
        shop = shop.reopened(forgotten=forgotten)
        shop.recover()
        assert shop.inbox == sorted(BATCH) and shop.nothing_is_held(), at
        shop.journal.close()
    shop.journal.close()
    assert at >= 12


def killed(shop: Shop, request: DropRequest, at: int) -> bool:
    """A claim that dies before its operation or commit ``at``; false where it ended before."""
    count, change = 0, shop.journal.change

    def step(*_: object) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise Death

    def commit() -> object:
        step()
        return change()

    shop.share.before = step
    shop.journal.change = commit  # type: ignore[method-assign, assignment]
    try:
        shop.claim(request)
    except Death:
        return True
    finally:
        shop.share.before = lambda operation, args: None
        shop.journal.change = change  # type: ignore[method-assign]
    return False


def held(shop: Shop) -> list[str]:
    return [path for path in files(shop.line.processing) if not path.endswith("request.json")]
