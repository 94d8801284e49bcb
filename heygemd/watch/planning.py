"""What ``intake.plan`` asks for while it plans: the bytes of manifests, and the files of the libraries."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from heygemd.common.names import folded, split
from heygemd.common.request import Stamp
from heygemd.config.line import LineConfig
from heygemd.config.tables import IntakeConfig
from heygemd.intake import plan as intake_plan
from heygemd.intake.settling import Settled
from heygemd.intake.view import consent_of
from heygemd.share.client import UNREADABLE, ShareClient, ShareError
from heygemd.share.entry import InboxEntry


class InboxPlanner:
    """Plans one inbox; each version of a manifest is read once."""

    def __init__(self, share: ShareClient) -> None:
        self._share = share
        self._manifests: dict[str, tuple[Stamp, bytes | str]] = {}  # content, or why it cannot be read

    async def plan(
        self, now: float, entries: Sequence[InboxEntry], settled: Settled, line: LineConfig, rules: IntakeConfig
    ) -> intake_plan.InboxPlan:
        """The plan for what was scanned at ``now`` (monotonic clock).

        Raises ``StorageError`` where the share does not answer.
        """
        stamps = {entry.path: entry.stamp for entry in entries}
        self._manifests = {p: v for p, v in self._manifests.items() if stamps.get(p) == v[0]}
        while True:
            plan = intake_plan.plan(self._view(now, entries, settled, line, rules))
            wanted = [path for path in plan.manifests_to_read if path not in self._manifests]
            if not wanted:
                return plan
            for path in wanted:
                self._manifests[path] = (stamps[path], await self._read(f"{line.inbox}/{path}", rules))

    def _view(
        self, now: float, entries: Sequence[InboxEntry], settled: Settled, line: LineConfig, rules: IntakeConfig
    ) -> intake_plan.InboxView:
        contents: Mapping[str, bytes | str] = {path: content for path, (_, content) in self._manifests.items()}
        return intake_plan.InboxView(
            now=now,
            entries=tuple(entries),
            settled=settled.files,
            quiet_dirs=settled.quiet_dirs,
            first_seen=settled.first_seen,
            incomplete=settled.incomplete,
            manifest_bytes={p: content for p, content in contents.items() if isinstance(content, bytes)},
            unreadable={p: content for p, content in contents.items() if isinstance(content, str)},
            library_has=lambda path: library_file(line.library, path),
            library_consents=library_consents,
            line=line,
            rules=rules,
        )

    async def _read(self, path: str, rules: IntakeConfig) -> bytes | str:
        """A manifest's bytes, or a clause why it cannot be read.  Raises ``ShareError`` for a temporary error."""
        try:
            return await self._share.read(path, rules.max_manifest_kib * 1024)
        except ShareError as error:
            if error.errno not in UNREADABLE:
                raise
            return f"cannot be read: {os.strerror(error.errno).lower()}"


def library_file(library: Sequence[Path], path: str) -> str | None:
    """The absolute path of a library file.  Libraries are local or permanently mounted; a stat is enough."""
    for folder in library:
        with contextlib.suppress(OSError, RuntimeError):  # unreadable, or links in a circle: not there
            candidate = (folder / path).resolve()
            if candidate.is_relative_to(folder.resolve()) and candidate.is_file():
                return str(candidate)
    return None


def library_consents(path: str) -> tuple[str, ...]:
    """The non-empty consent files beside a library file, sorted."""
    folder, name = os.path.split(path)
    key = folded(split(name)[0])
    consents = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            whose = consent_of(entry.name)
            if whose is not None and folded(whose) == key and entry.is_file() and entry.stat().st_size:
                consents.append(entry.path)
    return tuple(sorted(consents))
