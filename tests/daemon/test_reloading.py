"""A changed configuration in a daemon that runs: whole or not at all."""

from __future__ import annotations

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from heygemd.common.errors import ConfigError
from heygemd.config import changes as config_changes
from heygemd.config.load import Config, IntakeConfig, LineConfig, RenderConfig
from tests.daemon.test_service import drop, wait_for
from tests.site import Site

A, B = LineConfig("a", Path("/srv/a")), LineConfig("b", Path("/srv/b"))
OLD = Config(lines=(A, B))


def test_nothing_new_changes_nothing() -> None:
    assert not any(config_changes.weigh(OLD, OLD, {}).names().values())


def test_lines_come_and_go_and_take_up_settings() -> None:
    new = Config(lines=(replace(B, allowed_engines=("command",)), LineConfig("c", Path("/srv/c"))))
    changes = config_changes.weigh(OLD, new, {})
    assert (changes.added, changes.removed, changes.changed) == (("c",), ("a",), ("b",))


def test_other_folders_are_another_line() -> None:
    changes = config_changes.weigh(OLD, Config(lines=(A, replace(B, outbox=Path("/elsewhere")))), {"a": 5})
    assert (changes.added, changes.removed, changes.changed) == (("b",), ("b",), ())


@pytest.mark.parametrize("lines", [(A,), (A, replace(B, outbox=Path("/elsewhere")))])
def test_a_line_with_unfinished_drops_keeps_its_folders_and_the_whole_file_is_refused(
    lines: tuple[LineConfig, ...],
) -> None:
    with pytest.raises(ConfigError, match=r"line 'b': cannot .* while 2 drops of it are unfinished"):
        config_changes.weigh(OLD, replace(OLD, lines=lines, render=RenderConfig(crf=30)), {"b": 2})


def test_intake_settings_reach_every_line() -> None:
    changes = config_changes.weigh(OLD, replace(OLD, intake=IntakeConfig(settle_seconds=9)), {"a": 1})
    assert changes.changed == ("a", "b") and changes.tables == ("[intake]",)


def test_where_the_daemon_lives_stays_until_it_is_started_anew() -> None:
    new = replace(OLD, daemon=replace(OLD.daemon, socket=Path("/tmp/new"), stop_seconds=1.0))
    changes = config_changes.weigh(OLD, new, {})
    assert changes.restart == ("[daemon] socket",) and changes.tables == ("[daemon]",)
    assert changes.config.daemon == replace(OLD.daemon, stop_seconds=1.0)


def reloaded(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    command = site.command("reload", "--wait", *words)
    return subprocess.run(command, env=site.env(), capture_output=True, text=True, timeout=60)


def test_the_command_says_what_has_changed_and_the_next_job_goes_by_it(site: Site, media: Path) -> None:
    site.start()
    site.extra = "attempts = 7\n"
    site.write_config()
    second = '[[line]]\nname = "new"\nroot = "new"\nallowed_engines = ["command"]\n'
    site.config.write_text(site.config.read_text() + f"crf = 30\n{second}")
    done = reloaded(site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["  new settings: [limits]", "  lines added: new", "  lines changed: main"]
    assert [line["state"] for line in site.status()["lines"]] == ["ok", "ok"]
    drop(media, site)
    site.until(lambda: site.tree("done"), "the film is delivered")
    assert '"crf": 30' in (site.outbox / "lesson.json").read_text()


def test_a_faulty_file_is_refused_with_every_fault_and_the_old_one_stays(site: Site) -> None:
    site.start()
    before = site.config.read_text()
    site.config.write_text(before + 'crf = 99\ncfr = 3\n[[line]]\nname = "new"\nroot = "new"\n')
    done = reloaded(site)
    assert done.returncode == 2 and "crf" in done.stderr and "cfr" in done.stderr
    answer = site.ask(cmd="reload")
    assert not answer["ok"] and "cfr" in answer["error"]
    assert [line["name"] for line in site.status()["lines"]] == ["main"]


def test_a_line_with_a_running_job_is_not_taken_away(site: Site, media: Path) -> None:
    flag = site.root / "go"
    site.argv = wait_for(flag)
    site.write_config()
    drop(media, site)
    site.start()
    site.until(lambda: site.status()["running"], "the job runs")
    before = site.config.read_text()
    site.config.write_text(before.replace('name = "main"', 'name = "other"'))
    assert "line 'main'" in reloaded(site).stderr
    flag.touch()
    site.until(lambda: site.tree("done"), "the film is delivered")
    site.until(lambda: not reloaded(site).returncode, "now it may go")
    assert [line["name"] for line in site.status()["lines"]] == ["other"]


def test_sighup_reloads_too(site: Site) -> None:
    site.start()
    site.extra = "attempts = 7\n"
    site.write_config()
    assert site.process is not None
    site.process.send_signal(signal.SIGHUP)
    site.until(lambda: any(e["event"] == "reloaded" for e in site.events()), "the file is read again")
    assert site.stop() == 0


def test_two_reloads_at_once_end_with_the_newest_file_and_one_line_of_each_name(site: Site) -> None:
    site.start()
    text = site.config.read_text()
    site.config.write_text(text.replace('name = "main"', 'name = "other"'))
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: site.ask(cmd="reload", wait=True), range(4)))
    assert all(reply["ok"] for reply in replies)
    assert sorted(len(reply["removed"]) for reply in replies) == [0, 0, 0, 1]
    assert [(line["name"], line["state"]) for line in site.status()["lines"]] == [("other", "ok")]


def test_a_changed_deadline_reaches_a_share_that_is_open_and_intake_settings_the_line(site: Site) -> None:
    site.start()
    site.intake = site.intake.replace("rescan_seconds = 0.3", "rescan_seconds = 0.2\nshare_seconds = 9")
    site.write_config()
    done = reloaded(site)
    assert done.returncode == 0 and "lines changed: main" in done.stdout
    assert site.status()["lines"][0]["state"] == "ok"
