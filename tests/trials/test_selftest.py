"""The self-test: the daemon that runs makes one film on a real line, and the line is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heygemd.common.errors import NoDaemon, SetupError
from heygemd.config import load
from heygemd.trials import selftest
from tests.site import Site, make_film


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller film than the portrait's, which takes seconds to be made."""
    monkeypatch.setattr(selftest.portrait_film, "make_portrait_film", lambda out: make_film(out, 8))


def run(site: Site, line: str | None = None) -> int:
    return selftest.run(load.load(site.config), line, site.root / "proof", as_json=True)


def test_a_film_is_made_by_the_daemon_and_the_line_is_left_as_it_was(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.start()
    assert run(site) == 0
    told = json.loads(capsys.readouterr().out)
    log = json.loads(Path(told["log"]).read_text())
    assert Path(told["film"]).stat().st_size and log["verified"] and log["line"] == told["line"] == "main"
    assert site.tree("inbox") == site.tree("done") == site.tree("processing") == []
    assert {"STATUS.html", "status.json"} >= set(site.tree("outbox"))
    assert [row["state"] for row in site.status()["recent"]] == ["delivered"]


def test_a_job_that_fails_fails_the_test_and_stays_with_its_reason(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.argv = ["sh", "-c", "echo no luck >&2; exit 1", "sh", "{video}", "{audio}", "{output}"]
    site.write_config()
    site.start()
    assert run(site) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and told["reason"]
    site.until(lambda: any("reason.txt" in name for name in site.tree("failed")), "its reason stays")


def test_without_a_daemon_or_for_a_line_that_is_not_there_nothing_is_dropped(site: Site) -> None:
    with pytest.raises(NoDaemon):
        run(site)
    with pytest.raises(SetupError, match=r"has no line 'other'; its lines: main"):
        run(site, "other")
    assert site.tree("inbox") == []


def test_a_line_that_is_unavailable_is_told_at_once(site: Site) -> None:
    site.start()
    site.until(lambda: site.status()["lines"][0]["state"] == "ok", "the line is open")
    (site.inbox / ".heygemd-line").unlink()
    site.until(lambda: site.status()["lines"][0]["state"] == "unavailable", "the line is missed")
    with pytest.raises(SetupError, match="is unavailable"):
        run(site)
