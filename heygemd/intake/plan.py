"""Turns settled files into drops and gives every other file the reason why it waits.

    plan(view) -> InboxPlan
        batches    manifests, and the files that they name               (batches.py)
        folders    job folders: one sound, many videos                   (job_folders.py)
        pairs      one sound and one video or picture of the same name   (here)

Pure: a view of one inbox in, requests out.  Nothing is guessed: what is ambiguous waits, with words for a
person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heygemd.common.request import DropRequest
from heygemd.intake.batches import sort_batches
from heygemd.intake.job_folders import sort_folders
from heygemd.intake.pairs import Pairs
from heygemd.intake.view import InboxView, IntakeRules, LineRules, Listing, Waiting

__all__ = ["InboxPlan", "InboxView", "IntakeRules", "LineRules", "Waiting", "plan"]


@dataclass(frozen=True, slots=True)
class InboxPlan:
    """The drops to claim now, oldest first, and the waiting files.

    ``manifests_to_read``: settled files whose bytes the next view must hold.  ``reserved``: inbox files by
    the manifest that owns them.  ``looked_up``: what ``library_has`` was asked for.  ``due``: when waiting
    alone changes something, on the view's clock.
    """

    drops: tuple[DropRequest, ...]
    waiting: tuple[Waiting, ...]
    manifests_to_read: tuple[str, ...] = ()
    reserved: Mapping[str, str] = field(default_factory=dict)
    looked_up: frozenset[str] = frozenset()
    due: float | None = None


def plan(view: InboxView) -> InboxPlan:
    """The drops that the inbox of ``view`` holds."""
    listing = Listing(view)
    batches = sort_batches(listing)
    folders = sort_folders(listing, batches)
    pairs = Pairs(listing, batches, folders)
    pairs.sort()
    drops = [*batches.drops, *folders.drops, *pairs.drops]
    drops.sort(key=lambda drop: (min(view.since(move.source) for move in drop.moves), drop.moves[0].source))
    due = [at for at in (*batches.due, *folders.due, *pairs.due) if at > view.now]
    return InboxPlan(
        tuple(drops),
        (*batches.waiting, *folders.waiting, *pairs.waiting),
        (*batches.to_read, *folders.to_read),
        batches.reserved,
        frozenset(batches.looked_up),
        min(due, default=None),
    )
