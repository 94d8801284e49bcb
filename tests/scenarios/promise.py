"""The promise, as a judge: nothing lost, nothing twice, nothing half; at any instant, and at the end.

A test says what was dropped and which films are due (``Promise.put``, ``due``); the judge looks at the folders and says
every way in which the promise is broken.  Somebody may have taken films away: they are looked for in ``taken`` too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.site import Site

OURS = (".heygemd-line", ".heygemd-owner", "README.txt", "STATUS.html", "status.json")


@dataclass
class Promise:
    """What was dropped into a site, and what is due for it.

    ``due``: the films' names below the outbox, without suffix.  ``batches``: those of the batch logs (``None``: any).
    ``whole``: says whether bytes are a whole film.  ``failed``: the inputs' names that must end in failed/; all others
    end in done/.
    """

    site: Site
    whole: Callable[[bytes], bool]
    inputs: dict[str, str] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    batches: set[str] | None = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    aside: Path | None = None  # where somebody may have put inputs, out of the daemon's reach

    @property
    def taken(self) -> Path:
        """Where films go that somebody fetches."""
        return self.site.root / "taken"

    def put(self, path: str, data: bytes) -> None:
        """Drop one file, whole at once: a daemon that takes what it sees instantly would take it half written.

        Its bytes must be like no other's.
        """
        target, arriving = self.site.inbox / path, self.site.line / ".arriving"
        target.parent.mkdir(parents=True, exist_ok=True)
        arriving.write_bytes(data)
        arriving.rename(target)
        self.inputs[_sha(data)] = path

    def take(self) -> bool:
        """Somebody fetches all that is to be seen in the outbox; false where there is nothing."""
        taken = False
        for path in list(_visible(self.site.outbox)):
            number = len(list(self.taken.iterdir())) if self.taken.is_dir() else 0
            target = self.taken / str(number) / path.relative_to(self.site.outbox)
            target.parent.mkdir(parents=True)
            path.rename(target)
            taken = True
        return taken

    # ------------------------------------------------------------ the judgement

    def broken_now(self) -> list[str]:
        """What must not be, at any instant."""
        return [*self._inputs_anywhere(), *self._films()]

    def broken_at_end(self) -> list[str]:
        """The same, and what must not be once all is done."""
        return [*self.broken_now(), *self._not_delivered(), *self._not_filed(), *self._left()]

    def _inputs_anywhere(self) -> Iterator[str]:
        found: dict[str, set[tuple[str, int]]] = {sha: set() for sha in self.inputs}
        places = [self.site.line / name for name in ("inbox", "processing", "done", "failed")]
        for place in [*places, self.aside] if self.aside else places:
            for path in _files(place):
                sha = _sha(path.read_bytes())
                if sha in found:  # two names of one file, as link and unlink leave them, are one place
                    found[sha].add((place.name, path.stat().st_ino))
        for sha, places in found.items():
            inodes = {inode for _, inode in places}
            if len(inodes) != 1:
                yield f"input {self.inputs[sha]}: {len(inodes)} copies, {sorted(place for place, _ in places)}"

    def _films(self) -> Iterator[str]:
        """Whole or absent, none twice; each log speaks of a film that is there."""
        shas, names = set(), Counter[str]()
        for film, base in self._delivered(".mp4"):
            data = film.read_bytes()
            shas.add(_sha(data))
            names[base] += 1
            if not self.whole(data):
                yield f"film {base} is not whole ({len(data)} bytes)"
        yield from (f"film {base} is not due" for base in names if base not in self.due)
        yield from (f"film {base} was delivered {count} times" for base, count in names.items() if count > 1)
        jobs = Counter[str]()
        for path, base in self._delivered(".json"):
            try:
                log = json.loads(path.read_bytes())
            except ValueError:
                yield f"log {base} is not whole"
                continue
            if "film" in log:
                jobs[log["job"]] += 1
                if log["film"]["sha256"] not in shas or Path(base).name != log["film"]["file"].removesuffix(".mp4"):
                    yield f"log {base} speaks of a film that is not there: {log['film']['file']}"
        yield from (f"job {job} has {count} logs" for job, count in jobs.items() if count > 1)

    def _delivered(self, suffix: str) -> list[tuple[Path, str]]:
        """What people see or have fetched, with its name below the outbox, without suffix."""
        out = [(p, p.relative_to(self.site.outbox)) for p in _visible(self.site.outbox)]
        for folder in self.taken.iterdir() if self.taken.is_dir() else ():
            out += [(p, p.relative_to(folder)) for p in _visible(folder)]
        return [(path, str(name).removesuffix(suffix)) for path, name in out if path.suffix == suffix]

    def _not_delivered(self) -> Iterator[str]:
        for suffix, due in ((".mp4", self.due), (".json", self.due | {f"{name}.batch" for name in self.batches or ()})):
            found = Counter(base for _, base in self._delivered(suffix))
            if self.batches is None:
                found = Counter(base for base in found.elements() if not base.endswith(".batch"))
            if found != Counter(due):
                yield f"delivered as {suffix}: {dict(found)}, due: {sorted(due)}"

    def _not_filed(self) -> Iterator[str]:
        for folder in ("done", "failed"):
            held = {_sha(path.read_bytes()) for path in _files(self.site.line / folder)}
            for sha, name in self.inputs.items():
                if (sha in held) != ((name in self.failed) == (folder == "failed")):
                    yield f"input {name} is {'' if sha in held else 'not '}in {folder}/"

    def _left(self) -> Iterator[str]:
        for name in ("inbox", "processing"):
            yield from (f"left in {name}: {path.name}" for path in _files(self.site.line / name))
        yield from (f"left in processing: {path.name}/" for path in (self.site.processing).glob("*/"))
        yield from (f"left: {p}" for p in self.site.line.rglob(".heygemd-*") if p.name not in OURS)
        work = self.site.state / "work"
        yield from (f"left in the work folder: {path.name}" for path in (work.iterdir() if work.is_dir() else ()))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in OURS)


def _visible(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if not path.name.startswith(".")]
