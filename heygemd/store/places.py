"""Where a drop's folders and a job's files are: paths only, nothing is opened.  Pure but for the lines' settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heygemd.config.load import LineConfig
from heygemd.store.states import Drop, Job


@dataclass(frozen=True, slots=True)
class Places:
    """Paths of drops and jobs, by the lines that are configured now; ``lines`` may come and go."""

    lines: Mapping[str, LineConfig]
    work: Path

    def line(self, drop: Drop) -> LineConfig:
        """The line of a drop."""
        return self.lines[drop.line]

    def held(self, drop: Drop) -> str:
        """``processing/<drop>``."""
        return os.path.join(self.line(drop).processing, drop.id)

    def outbox(self, drop: Drop) -> str:
        """The outbox folder in which the drop's films appear."""
        return os.path.join(self.line(drop).outbox, drop.request.folder)

    def outlet(self, drop: Drop, job: Job) -> str:
        """The job's target folder: the outbox, or the same subfolder of review/ for a held film."""
        held = (job.result or {}).get("held", False)
        return os.path.join(self.line(drop).review, drop.request.folder) if held else self.outbox(drop)

    def root_of(self, drop: Drop, path: str) -> str:
        """The folder of the line, review/ or the outbox, in which a delivered file is."""
        line = self.line(drop)
        return str(line.review if Path(path).is_relative_to(line.review) else line.outbox)

    def part(self, drop: Drop, job: Job, suffix: str) -> str:
        """The name of a job's file in the outbox until it is whole."""
        return os.path.join(self.outlet(drop, job), f".heygemd-{job.id}.{suffix}.part")

    def batch_part(self, drop: Drop) -> str:
        """The name of a drop's batch log in the outbox until it is whole."""
        return os.path.join(self.outbox(drop), f".heygemd-{drop.id}.batch.part")

    def shelf(self, drop: Drop, verdict: str) -> str:
        """``done/`` or ``failed/``."""
        line = self.line(drop)
        return str(line.done if verdict == "done" else line.failed)

    def home(self, drop: Drop) -> str:
        """Where a FILING, ENDED or RETURNING drop is, under the journalled name."""
        assert drop.verdict is not None and drop.home is not None
        return os.path.join(self.shelf(drop, drop.verdict), drop.home)

    def above_home(self, drop: Drop) -> str:
        """The subfolder of done/ and failed/: a job folder's own name is the drop's, so only what is above it."""
        return os.path.dirname(drop.request.folder) if drop.request.kind == "folder" else drop.request.folder

    def scratch(self, job: Job) -> Path:
        """The job's local work folder."""
        return self.work / job.drop_id / str(job.number)

    def film(self, job: Job) -> Path:
        """The job's film in its work folder."""
        return self.scratch(job) / "film.mp4"
