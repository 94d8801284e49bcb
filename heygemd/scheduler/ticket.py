"""What admission returns: a job that may start, must wait, or is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from heygemd.common.errors import HeygemdError
from heygemd.contract.job import Settings
from heygemd.guard.decide import Go, Need, Wait
from heygemd.guard.needs import Asked
from heygemd.guard.turns import Candidate
from heygemd.store.drops import Job


class Deferred(HeygemdError):
    """What was free when the job was chosen is not any more; it waits again, at no cost to it."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.reason)
        self.wait = wait


@dataclass(slots=True)
class Ticket:
    """A job's permission to run: where, how, and its measured use so far."""

    job: Job
    settings: Settings
    asked: Asked
    need: Need
    go: Go
    encoder: Go | None = None  #: leave to encode on a GPU, where the engine itself needs none
    overtaken: list[Candidate[str]] = field(default_factory=list)
    free_before: int = 0
    sampled_at: float = 0.0
    vram_mib: int | None = None
    ram_mib: int | None = None
    gone: int = 0  #: readings in a row in which its GPU was lost

    @property
    def device(self) -> str | None:
        """The UUID of the GPU that it uses."""
        return self.go.device or (self.encoder.device if self.encoder else None)

    @property
    def vram_mib_reserved(self) -> int:
        """What it may take of that GPU."""
        return (self.encoder or self.go).vram_mib


@dataclass(frozen=True, slots=True)
class Refused:
    """A job that can never be done here."""

    job: Job
    reason: str
