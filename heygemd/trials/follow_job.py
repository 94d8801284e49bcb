"""Follows a job by the daemon's status until it has ended, and shows its progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from heygemd.common import checked
from heygemd.common.checked import Row
from heygemd.status.progress import ProgressView, Show

ENDED_BADLY = frozenset({"failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended.  ``state``: ``delivered``, ``failed``, ``cancelled``, or ``stalled``, where nothing moved any
    more; ``reason``: a sentence for people, or the word that the daemon gave."""

    state: str
    reason: str = ""


def follow(
    status: Callable[[], Row], is_ours: Callable[[Row], bool], show: Show, *, patience: float, poll: float
) -> Ending:
    """Wait for the end of the job whose rows in the status ``is_ours`` recognises.

    ``patience``: seconds without any change after which it counts as stalled; ``poll``: seconds between two looks.
    """
    view, since = ProgressView(""), time.monotonic()
    while True:
        reply = status()
        for job in filter(is_ours, checked.rows(reply, "recent")):
            state = checked.text(job, "state")
            if state == "delivered" or state in ENDED_BADLY:
                return Ending(state, checked.text(job, "reason"))
        latest = _view(reply, is_ours)
        if latest != view:
            view, since = latest, time.monotonic()
            show.tell(view)
        if time.monotonic() - since > patience:
            minutes = patience / 60
            return Ending("stalled", f"No progress for {minutes:.0f} minutes; the last step was: {view.text}.")
        time.sleep(poll)


def _view(reply: Row, is_ours: Callable[[Row], bool]) -> ProgressView:
    """What a status reply says about our job, in one line."""
    for job in checked.rows(reply, "running"):
        stage = checked.text(job, "stage") or "starting the renderer"
        text = stage if is_ours(job) else f"after {checked.text(job, 'name')}: {stage}"
        return ProgressView(text, checked.whole(job, "frame"), checked.whole(job, "of"), checked.number(job, "fps"))
    for job in filter(is_ours, checked.rows(reply, "queue")):
        reason = checked.text(job, "deferred_reason")
        return ProgressView(f"waiting: {reason}" if reason else "queued")
    for waiting in filter(is_ours, checked.rows(reply, "waiting")):
        return ProgressView(f"waiting: {checked.text(waiting, 'reason')}")
    return ProgressView("in the inbox")
