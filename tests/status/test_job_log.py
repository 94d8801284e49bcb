"""One job's story out of the run log, and jobs of a certain time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heygemd.common.errors import SetupError
from heygemd.status import job_log
from tests.daemon.test_service import drop
from tests.site import Site


def lines(*events: dict[str, str]) -> str:
    return "".join(json.dumps({"time": "2026-03-04T10:00:00", "level": "info", **event}) + "\n" for event in events)


def test_the_story_goes_over_the_older_files_in_their_order(tmp_path: Path) -> None:
    log = tmp_path / "heygemd.log"
    (tmp_path / "heygemd.log.10").write_text(lines({"event": "one", "job": "d.1"}))
    (tmp_path / "heygemd.log.2").write_text(lines({"event": "two", "job": "d.1"}, {"event": "other", "job": "d.11"}))
    log.write_text(
        lines({"event": "three", "drop": "d"}, {"event": "four", "job": "d.2", "drop": "d"}) + '{"job": "d.1"'
    )
    assert [event["event"] for event in job_log.events(log, "d.1")] == ["one", "two", "three"]
    assert [event["event"] for event in job_log.events(log, "d")] == ["one", "two", "other", "three", "four"]
    assert list(job_log.events(log, "e.1")) == []


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        list(job_log.events(tmp_path / "none.log", "d.1"))


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)])
def test_a_span_has_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert job_log.span(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "7 days"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="7d"):
        job_log.span(text)


def test_jobs_count_by_when_they_ended_else_by_when_they_were_asked_for() -> None:
    now = datetime(2026, 3, 4, 12, tzinfo=UTC)
    rows = [
        {"id": "a", "created": "2026-02-01T00:00:00+00:00", "ended": "2026-03-04T14:00:00+08:00"},
        {"id": "b", "created": "2026-03-04T11:00:00+00:00", "ended": None},
        {"id": "c", "created": "2026-03-03T11:00:00+00:00", "ended": "2026-03-03T12:00:00+00:00"},
    ]
    assert [row["id"] for row in job_log.since(rows, timedelta(hours=8), now)] == ["a", "b"]


def test_the_commands_tell_of_a_job_that_failed(site: Site, media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from heygemd.cli import main

    site.argv = ["false", "{audio}", "{video}", "{output}"]
    site.write_config()
    drop(media, site)
    assert site.once() == 3
    assert main.main(["jobs", "--failed", "--since", "1h", "--json", "--config", str(site.config)]) == 0
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert main.main(["log", job["id"], "--config", str(site.config)]) == 0
    told = capsys.readouterr().out
    assert "job_ended_badly" in told and "exit code 1" in told
    assert main.main(["log", "19990101-000000-abcdef.1", "--config", str(site.config)]) == 3
