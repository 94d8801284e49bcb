"""Following a job by the daemon's status, without a daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heygemd.common.checked import Row
from heygemd.status.progress import View
from heygemd.trials.follow_job import Ending, follow

OURS = {"line": "main", "name": "a"}
OTHER = {"line": "main", "name": "b", "state": "failed", "reason": "no_face"}


class Recorder:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tell(self, view: View) -> None:
        self.texts.append(view.text)


def followed(*replies: Row, patience: float = 9.0) -> tuple[Ending, list[str]]:
    recorder, left = Recorder(), list(replies)
    reply: Iterator[Row] = iter(lambda: left.pop(0) if len(left) > 1 else left[0], None)
    ending = follow(lambda: next(reply), lambda row: row.get("name") == "a", recorder, patience=patience, poll=0.0)
    return ending, recorder.texts


def test_a_job_is_followed_from_the_inbox_to_its_film() -> None:
    ending, texts = followed(
        {"running": [], "queue": [], "recent": [OTHER]},
        {"queue": [OURS]},
        {"queue": [OURS | {"deferred_reason": "no memory"}]},
        {"running": [OTHER | {"stage": "face"}], "queue": [OURS]},
        {"running": [OURS | {"stage": "render", "frame": 3, "of": 9, "fps": 2.5}]},
        {"recent": [OURS | {"state": "delivered", "reason": None}]},
    )
    assert ending == Ending("delivered")
    assert texts == ["in the inbox", "queued", "waiting: no memory", "after b: face", "render"]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_ends_badly_gives_its_reason(state: str) -> None:
    assert followed({"recent": [OURS | {"state": state, "reason": "no_face"}]})[0] == Ending(state, "no_face")


def test_a_job_that_does_not_move_is_given_up() -> None:
    ending, _ = followed({"waiting": [OURS | {"reason": "its partner is not here"}]}, patience=0.0)
    assert ending.state == "stalled" and "waiting: its partner is not here" in ending.reason
