"""The journal: which drops and jobs there are and how far each has come.  SQLite, on a local disk.

Every change is one committed transaction before the act that it announces (``synchronous=FULL``), so that after any
death the next start finds in it what was about to happen.  It is the only owner of states; ``set_job`` and
``set_drop`` are the only ways to change them, and log each change.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heygemd.common import log
from heygemd.common.errors import SetupError
from heygemd.common.request import DropRequest
from heygemd.contract.status import GradeReason, JobRow
from heygemd.guard.needs import Kind, Peak
from heygemd.share.filesystem import network_file_system
from heygemd.store.states import ENDED, Drop, DropState, Job, JobState, now

SCHEMA = 2
Column = str | int | None | Mapping[str, object]
"""A column's value; an object is stored as JSON."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE lines (name TEXT PRIMARY KEY, marker TEXT NOT NULL);
CREATE TABLE drops (
  id TEXT PRIMARY KEY, line TEXT NOT NULL, state TEXT NOT NULL, request TEXT NOT NULL, submitter TEXT,
  created TEXT NOT NULL, ended TEXT, home TEXT, verdict TEXT, batch TEXT, batch_ready INTEGER NOT NULL DEFAULT 0);
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, drop_id TEXT NOT NULL REFERENCES drops(id), number INTEGER NOT NULL, state TEXT NOT NULL,
  rank INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, created TEXT NOT NULL, started TEXT, ended TEXT,
  reason TEXT, reason_code TEXT, result TEXT, base TEXT, inputs TEXT,
  deferred_since TEXT, deferred_reason TEXT, deferrals INTEGER NOT NULL DEFAULT 0);
CREATE INDEX jobs_state ON jobs(state);
CREATE INDEX jobs_drop ON jobs(drop_id);
CREATE INDEX drops_state ON drops(state);
"""
_PEAKS = """
CREATE TABLE peaks (
  id INTEGER PRIMARY KEY, engine TEXT NOT NULL, model TEXT NOT NULL, frame TEXT NOT NULL, batch_size INTEGER NOT NULL,
  precision TEXT NOT NULL, at TEXT NOT NULL, vram_mib INTEGER, ram_mib INTEGER);
CREATE INDEX peaks_kind ON peaks(engine, model, frame, batch_size, precision);
"""
_STEPS = {1: _PEAKS}
"""SQL that migrates one schema to the next."""
_IN_TURN = """
WITH turns AS (
  SELECT drop_id, MAX(julianday(ended)) AS served, MAX(state IN ('running','rendered','publishing','revealing')) AS busy
  FROM jobs GROUP BY drop_id)
SELECT jobs.* FROM jobs JOIN turns USING (drop_id) JOIN drops ON drops.id = jobs.drop_id WHERE jobs.state IN ({})
ORDER BY jobs.rank, ROW_NUMBER() OVER (PARTITION BY jobs.rank, drop_id ORDER BY number), turns.busy,
  MAX(COALESCE(turns.served, 0), julianday(drops.created)), drops.created, drops.rowid
"""
"""Drops take turns, a job each, so that a hundred jobs in one drop do not make everybody wait: whose last job ended
longest ago is next, a new drop is behind those that wait already, and one that has a job in hand is last.  Drops of one
millisecond come in the order in which they were noted."""
_DROP = "id,line,state,submitter,created,ended,home,verdict,batch,batch_ready"  # all but the request
REQUESTS_KEPT = 256
PEAKS_KEPT = 50  # of each kind: machines and versions change


_RANK = {"high": 0, "normal": 1, "low": 2}


class Journal:
    """The journal file, opened."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the journal.  Raises ``SetupError`` with the cure if it is damaged."""
        self.path = path
        self.read_only_mode = read_only
        self.changed: Callable[[Job, Job], None] = lambda _before, _after: None
        """Called with a job as it was and as it is, after each change of it."""
        self._requests: dict[str, DropRequest] = {}  # by drop: a manifest of a thousand jobs is not parsed for each
        self._log = log.get()
        try:
            self._db = self._open()
            self._check()
        except sqlite3.DatabaseError as error:
            raise SetupError(
                f"The journal {path} cannot be read ({error}). Move it away and restart: it is rebuilt from the "
                "line's folders."
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self.read_only_mode:
            db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
        else:
            self._refuse_network()
            db = sqlite3.connect(self.path, isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
        db.row_factory = sqlite3.Row
        return db

    def _refuse_network(self) -> None:
        """SQLite's locks and shared memory are not safe on a network file system."""
        folder = self.path.parent
        try:
            name = network_file_system(folder)
        except OSError:
            return  # SQLite says better what is wrong with the folder
        if name is not None:
            raise SetupError(
                f"state_dir {folder} is on a network file system or FUSE ({name}), where the journal is not safe; it "
                "needs a local disk. Set [daemon] state_dir to a local folder."
            )

    def _check(self) -> None:
        """Make the tables in a new file; refuse a newer one."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
            if self.read_only_mode:
                return
            steps = "".join(_STEPS.values())
            self._db.executescript(f"BEGIN; {_TABLES} {steps} INSERT INTO meta VALUES ('schema', '{SCHEMA}'); COMMIT;")
        fault = self._db.execute("PRAGMA quick_check").fetchone()[0]
        if fault != "ok":
            raise sqlite3.DatabaseError(fault)
        for table, column in (("drops", "request"), ("jobs", "result"), ("jobs", "inputs")):
            # quick_check does not see a last page cut short: what was in its end reads as zeros.
            if self._db.execute(f"SELECT 1 FROM {table} WHERE {column} <> '' AND NOT json_valid({column})").fetchone():
                raise sqlite3.DatabaseError(f"{table}.{column} contains damaged data")
        schema = int(self._db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()[0])
        if schema > SCHEMA:
            raise SetupError(
                f"The journal {self.path} was written by a newer heygemd (schema {schema}, this version reads "
                f"{SCHEMA}). Install that version again, or move the journal away: it is rebuilt from the line's "
                "folders."
            )
        if schema < SCHEMA and not self.read_only_mode:
            steps = "".join(_STEPS[step] for step in range(schema, SCHEMA))
            self._db.executescript(f"BEGIN; {steps} UPDATE meta SET value='{SCHEMA}' WHERE key='schema'; COMMIT;")
            self._log.info("journal_migrated", **{"from": schema, "to": SCHEMA})

    @staticmethod
    def read_only(path: Path) -> Journal:
        """Open for commands while the daemon is down.  Raises ``SetupError`` if it does not exist."""
        if not path.exists():
            raise SetupError(f"No daemon answers, and there is no journal at {path}.")
        return Journal(path, read_only=True)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction: all of it is in the journal, durably, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ------------------------------------------------------------ lines

    def marker(self, line: str) -> str | None:
        """The id in the marker file of the line's inbox, as it was last seen."""
        row = self._db.execute("SELECT marker FROM lines WHERE name=?", (line,)).fetchone()
        return row["marker"] if row else None

    def set_marker(self, line: str, marker: str) -> None:
        """Remember the marker of a line."""
        with self.change():
            self._db.execute("INSERT OR REPLACE INTO lines VALUES (?,?)", (line, marker))

    # ------------------------------------------------------------ drops

    def add_drop(self, drop_id: str, line: str, request: DropRequest, submitter: str | None) -> Drop:
        """Record the intent to take a drop, with its jobs."""
        stamp = now()
        with self.change():
            self._db.execute(
                "INSERT INTO drops(id,line,state,request,submitter,created) VALUES (?,?,?,?,?,?)",
                (drop_id, line, DropState.CLAIMING, json.dumps(request.to_json()), submitter, stamp),
            )
            for number, job in enumerate(request.jobs, 1):
                rank = _RANK[job.options.priority or request.priority]
                self._db.execute(
                    "INSERT INTO jobs(id,drop_id,number,state,rank,created) VALUES (?,?,?,?,?,?)",
                    (f"{drop_id}.{number}", drop_id, number, JobState.QUEUED, rank, stamp),
                )
        self._log.info("drop_claimed", drop=drop_id, line=line, name=request.name, jobs=len(request.jobs))
        return self.drop(drop_id)

    def drop(self, drop_id: str) -> Drop:
        """One drop; ``KeyError`` if it does not exist."""
        row = self._db.execute(f"SELECT {_DROP} FROM drops WHERE id=?", (drop_id,)).fetchone()
        if row is None:
            raise KeyError(drop_id)
        return _drop(row, self._request(drop_id))

    def drops(self, *states: DropState) -> list[Drop]:
        """Drops in these states, oldest first."""
        marks = ",".join("?" * len(states))
        query = f"SELECT {_DROP} FROM drops WHERE state IN ({marks}) ORDER BY created,id"
        return [_drop(row, self._request(row["id"])) for row in self._db.execute(query, states).fetchall()]

    def filed_before(self, line: str, verdict: str, stamp: str, limit: int) -> list[Drop]:
        """Drops of a line that were filed as ``verdict`` before then, and whose inputs have not been removed since."""
        query = (
            f"SELECT {_DROP} FROM drops WHERE state=? AND line=? AND verdict=? AND home IS NOT NULL "
            "AND julianday(ended) < julianday(?) ORDER BY ended LIMIT ?"
        )
        rows = self._db.execute(query, (DropState.ENDED, line, verdict, stamp, limit)).fetchall()
        return [_drop(row, self._request(row["id"])) for row in rows]

    def held_before(self, line: str, stamp: str, limit: int) -> list[Job]:
        """Jobs of a line whose films went to review before then, and have not been removed since."""
        where = (
            "JOIN drops ON drops.id=jobs.drop_id WHERE jobs.state=? AND drops.line=? AND jobs.base IS NOT NULL "
            "AND json_extract(jobs.result, '$.held') AND julianday(jobs.ended) < julianday(?) "
            "ORDER BY jobs.ended LIMIT ?"
        )
        return self._jobs(where, (JobState.DELIVERED, line, stamp, limit))

    def set_drop(self, drop: Drop, state: DropState, **columns: Column) -> Drop:
        """Change a drop's state and any of its columns, durably."""
        with self.change():
            self._update("drops", drop.id, {"state": state, **columns})
        if state != drop.state:
            self._log.info("drop_state", drop=drop.id, line=drop.line, **{"from": drop.state, "to": state})
        return self.drop(drop.id)

    def forget_drop(self, drop: Drop) -> None:
        """Remove a drop of which nothing was ever moved."""
        with self.change():
            self._db.execute("DELETE FROM jobs WHERE drop_id=?", (drop.id,))
            self._db.execute("DELETE FROM drops WHERE id=?", (drop.id,))
        self._requests.pop(drop.id, None)

    # ------------------------------------------------------------ jobs

    def job(self, job_id: str) -> Job:
        """One job; ``KeyError`` if it does not exist."""
        rows = self._jobs("WHERE jobs.id=?", (job_id,))
        if not rows:
            raise KeyError(job_id)
        return rows[0]

    def jobs_of(self, drop_id: str) -> list[Job]:
        """All jobs of a drop, in the order in which it named them."""
        return self._jobs("WHERE drop_id=? ORDER BY number", (drop_id,))

    def jobs_in(self, *states: JobState) -> list[Job]:
        """Jobs in these states, in the order in which they are due: by priority, then drop by drop in turn."""
        query = _IN_TURN.format(",".join("?" * len(states)))
        return [_job(row, self._request(row["drop_id"])) for row in self._db.execute(query, states).fetchall()]

    def set_job(self, job: Job, state: JobState, **columns: Column) -> Job:
        """Change a job's state and any of its columns, durably."""
        if state in ENDED:
            columns.setdefault("ended", now())
        with self.change():
            self._update("jobs", job.id, {"state": state, **columns})
        if state != job.state:
            extra = {"reason": columns["reason"]} if columns.get("reason") else {}
            self._log.info("job_state", job=job.id, **{"from": job.state, "to": state}, **extra)
        after = self.job(job.id)
        self.changed(job, after)
        return after

    def _update(self, table: str, row_id: str, columns: Mapping[str, Column]) -> None:
        names = ",".join(f"{name}=?" for name in columns)
        values = [json.dumps(value) if isinstance(value, Mapping) else value for value in columns.values()]
        self._db.execute(f"UPDATE {table} SET {names} WHERE id=?", (*values, row_id))

    def _jobs(self, where: str, values: Iterable[str | int]) -> list[Job]:
        rows = self._db.execute(f"SELECT jobs.* FROM jobs {where}", tuple(values)).fetchall()
        return [_job(row, self._request(row["drop_id"])) for row in rows]

    def _request(self, drop_id: str) -> DropRequest:
        """The request of a drop, which never changes."""
        if drop_id not in self._requests:
            if len(self._requests) >= REQUESTS_KEPT:
                self._requests.pop(next(iter(self._requests)))
            row = self._db.execute("SELECT request FROM drops WHERE id=?", (drop_id,)).fetchone()
            self._requests[drop_id] = DropRequest.from_json(json.loads(row["request"]))
        return self._requests[drop_id]

    # ------------------------------------------------------------ what jobs took

    def add_peak(self, peak: Peak) -> None:
        """Store a finished job's peak; delete the oldest of its kind."""
        kind = (peak.kind.engine, peak.kind.model, peak.kind.frame, peak.kind.batch_size, peak.kind.precision)
        mine = "engine=? AND model=? AND frame=? AND batch_size=? AND precision=?"
        with self.change():
            self._db.execute(
                "INSERT INTO peaks(engine,model,frame,batch_size,precision,at,vram_mib,ram_mib) "
                "VALUES (?,?,?,?,?,?,?,?)",
                (*kind, now(), peak.vram_mib, peak.ram_mib),
            )
            self._db.execute(
                f"DELETE FROM peaks WHERE {mine} AND id NOT IN "
                f"(SELECT id FROM peaks WHERE {mine} ORDER BY id DESC LIMIT {PEAKS_KEPT})",
                (*kind, *kind),
            )

    def peaks(self) -> list[Peak]:
        """Peaks of finished jobs, oldest first; empty for an older journal opened read-only."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name='peaks'").fetchone():
            return []
        return [
            Peak(
                Kind(row["engine"], row["model"], row["frame"], row["batch_size"], row["precision"]),
                row["vram_mib"],
                row["ram_mib"],
            )
            for row in self._db.execute("SELECT * FROM peaks ORDER BY id")
        ]

    # ------------------------------------------------------------ reports

    def jobs(self, states: set[str] | None = None, limit: int = 100) -> list[JobRow]:
        """Jobs as plain rows for ``heygemd jobs``, newest first."""
        where, values = "", tuple(sorted(states or ()))
        if states:
            where = f"WHERE jobs.state IN ({','.join('?' * len(values))})"
        rows = self._jobs(f"{where} ORDER BY COALESCE(jobs.ended, jobs.created) DESC LIMIT {limit}", values)
        return [self.row(job) for job in rows]

    def row(self, job: Job) -> JobRow:
        """One job as ``status`` and ``jobs`` show it."""
        drop = self.drop(job.drop_id)
        options, result = job.request.options, job.result or {}
        return {
            "id": job.id, "drop": drop.id, "line": drop.line, "name": job.request.name, "folder": drop.request.folder,
            "state": job.state.value, "priority": options.priority or drop.request.priority,
            "engine": options.engine, "attempts": job.attempts, "created": job.created, "started": job.started,
            "ended": job.ended, "reason": job.reason, "reason_code": job.reason_code, "film": job.base,
            "grade": (result.get("quality") or {}).get("grade"), "held": bool(result.get("held")),
            "has_page": bool(result.get("has_page")), "grade_reason": _worst(result.get("quality") or {}),
            "deferred_since": job.deferred_since if job.waits else None,
            "deferred_reason": job.deferred_reason if job.waits else None,
        }  # fmt: skip

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return dict(self._db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())

    def failed_since(self, stamp: str) -> int:
        """How many drops have gone to failed/ since then."""
        query = "SELECT COUNT(*) FROM drops WHERE verdict='failed' AND julianday(ended) >= julianday(?)"
        return int(self._db.execute(query, (stamp,)).fetchone()[0])

    def line_names(self) -> list[str]:
        """The lines that the daemon has opened, sorted."""
        return [row["name"] for row in self._db.execute("SELECT name FROM lines ORDER BY name")]

    def queue(self) -> list[JobRow]:
        """Unfinished jobs, in order."""
        open_states = [state for state in JobState if state not in ENDED and state != JobState.RUNNING]
        return [self.row(job) for job in self.jobs_in(*open_states)]

    def recent(self, limit: int = 10) -> list[JobRow]:
        """What ended last."""
        return self.jobs({str(state) for state in ENDED}, limit)


def _worst(quality: Mapping[str, Any]) -> GradeReason | None:
    """The first of the reasons that gave a film its grade."""
    reasons = (r for r in quality.get("reasons") or [] if r.get("level") == quality.get("grade"))
    return next((GradeReason(code=r["code"], values=r["values"]) for r in reasons), None)


def _drop(row: sqlite3.Row, request: DropRequest) -> Drop:
    return Drop(
        row["id"], row["line"], DropState(row["state"]), request, row["submitter"], row["created"], row["ended"],
        row["home"], row["verdict"], row["batch"], bool(row["batch_ready"]),
    )  # fmt: skip


def _job(row: sqlite3.Row, request: DropRequest) -> Job:
    asked = request.jobs[row["number"] - 1]
    return Job(
        row["id"], row["drop_id"], row["number"], JobState(row["state"]), asked, row["attempts"], row["created"],
        row["started"], row["ended"], row["reason"], row["reason_code"], _loads(row["result"]), row["base"],
        _loads(row["inputs"]), row["deferred_since"], row["deferred_reason"], row["deferrals"],
    )  # fmt: skip


def _loads(text: str | None) -> Any:  # our own record, of whatever version
    return json.loads(text) if text else None
