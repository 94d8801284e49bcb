"""The whole daemon as a process, on folders of its own, with the ``command`` engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from heygemd.common.request import DropRequest, JobRequest, Source
from heygemd.store.journal import Journal
from heygemd.store.states import JobState
from tests.site import Site, make_film, make_wav


def drop(media: Path, site: Site, name: str = "lesson", folder: str = "") -> None:
    """Put a pair into the inbox."""
    target = site.inbox / folder
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(media / "voice.wav", target / f"{name}.wav")
    shutil.copy(media / "film.mp4", target / f"{name}.mp4")


def wait_for(flag: Path) -> list[str]:
    """A command that makes its film only once ``flag`` is there."""
    film = 'ffmpeg -v error -y -nostdin -i "$1" -i "$2" -map 0:v -map 1:a -c:v copy -c:a aac -shortest "$3"'
    script = f"while [ ! -e {flag} ]; do sleep 0.05; done; {film}"
    return ["sh", "-c", script, "sh", "{video}", "{audio}", "{output}"]


def test_a_dropped_pair_becomes_a_film_and_a_log_and_its_inputs_go_to_done(site: Site, media: Path) -> None:
    drop(media, site)
    assert site.once() == 0
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"]
    assert site.tree("done") == ["lesson/lesson.mp4", "lesson/lesson.wav"]
    assert site.tree("inbox") == site.tree("processing") == site.tree("failed") == []
    log = json.loads((site.outbox / "lesson.json").read_text())
    assert log["film"]["file"] == "lesson.mp4" and log["engine"]["name"] == "command"
    assert log["inputs"]["audio"]["file"] == "lesson.wav" and len(log["film"]["sha256"]) == 64


def test_a_name_that_is_taken_in_the_outbox_gets_a_number_and_is_never_overwritten(site: Site, media: Path) -> None:
    site.of_bytes = True
    site.outbox.mkdir()
    (site.outbox / "LESSON.mp4").write_text("somebody's")
    drop(media, site)
    assert site.once() == 0
    assert site.tree("outbox") == ["LESSON.mp4", "lesson (2).json", "lesson (2).mp4"]
    assert (site.outbox / "LESSON.mp4").read_text() == "somebody's"


def test_a_film_that_is_no_film_goes_to_failed_with_its_reason(site: Site, media: Path) -> None:
    drop(media, site)
    (site.inbox / "lesson.mp4").write_text("this is a letter, not a film")
    assert site.once() == 3
    assert site.tree("outbox") == []
    assert site.tree("failed") == ["lesson/lesson.mp4", "lesson/lesson.wav", "lesson/reason.txt"]
    assert "lesson.mp4" in (site.failed / "lesson" / "reason.txt").read_text()


def test_a_job_folder_is_a_batch_with_one_film_a_video_and_a_batch_log(site: Site, media: Path) -> None:
    site.of_bytes = True
    folder = site.inbox / "zhang" / "course"
    folder.mkdir(parents=True)
    shutil.copy(media / "voice.wav", folder / "voice.wav")
    for name in ("a", "b"):
        shutil.copy(media / "film.mp4", folder / f"{name}.mp4")
    assert site.once() == 0
    assert site.tree("outbox") == [
        "zhang/course/a.json", "zhang/course/a.mp4", "zhang/course/b.json", "zhang/course/b.mp4",
        "zhang/course/course.batch.json",
    ]  # fmt: skip
    assert site.tree("done") == [f"zhang/course/course/{n}" for n in ("a.mp4", "b.mp4", "voice.wav")]


def test_a_manifest_delivers_what_it_can_and_names_what_it_cannot(site: Site, media: Path) -> None:
    site.of_bytes = True
    site.intake = site.intake.replace("partner_minutes = 60", "partner_minutes = 0.01")
    site.write_config()
    shutil.copy(media / "voice.wav", site.inbox / "voice.wav")
    shutil.copy(media / "film.mp4", site.inbox / "one.mp4")
    (site.inbox / "batch.toml").write_text('audio = "voice.wav"\nvideos = ["one.mp4", "two.mp4"]\n')
    site.start()
    site.until(lambda: site.tree("failed"), "the batch ends")
    site.stop()
    assert site.tree("outbox") == ["batch.batch.json", "one.json", "one.mp4"]
    assert site.tree("failed") == ["batch/batch.toml", "batch/one.mp4", "batch/reason.txt", "batch/voice.wav"]
    assert "two.mp4" in (site.failed / "batch" / "reason.txt").read_text()
    batch = json.loads((site.outbox / "batch.batch.json").read_text())
    assert [job["state"] for job in batch["jobs"]] == ["delivered", "failed"]


def test_a_stray_stays_where_it_is_and_is_named_in_status(site: Site, media: Path) -> None:
    shutil.copy(media / "voice.wav", site.inbox / "alone.wav")
    site.start()
    site.until(lambda: site.status()["waiting"], "the stray is named")
    assert site.status()["waiting"][0]["path"] == "alone.wav"
    assert site.tree("inbox") == ["alone.wav"]
    assert site.stop() == 0


def test_the_late_partner_is_taken_when_it_comes(site: Site, media: Path) -> None:
    site.of_bytes = True
    shutil.copy(media / "voice.wav", site.inbox / "lesson.WAV")
    site.start()
    site.until(lambda: site.status()["waiting"], "the stray is named")
    shutil.copy(media / "film.mp4", site.inbox / "Lesson.mp4")
    site.until(lambda: "Lesson.json" in site.tree("outbox"), "the film is delivered")


def test_pause_holds_the_queue_and_resume_lets_it_go_on(site: Site, media: Path) -> None:
    site.of_bytes = True
    site.start()
    assert site.ask(cmd="pause")["state"] == "paused"
    drop(media, site)
    site.until(lambda: site.status()["queue"], "the job is queued")
    assert site.tree("outbox") == []
    site.ask(cmd="resume")
    site.until(lambda: site.tree("done"), "the film is delivered")


def test_a_running_job_is_cancelled_with_its_inputs_kept_and_can_be_tried_again(site: Site, media: Path) -> None:
    flag = site.root / "go"
    site.argv = wait_for(flag)
    site.write_config()
    drop(media, site)
    site.start()
    site.until(lambda: site.status()["running"], "the job runs")
    job = site.status()["running"][0]["id"]
    assert site.ask(cmd="cancel", job=job)["ok"]
    site.until(lambda: site.tree("failed"), "the drop is filed")
    assert site.tree("failed") == ["lesson/lesson.mp4", "lesson/lesson.wav", "lesson/reason.txt"]
    flag.touch()
    assert site.ask(cmd="retry", job=job)["ok"]
    site.until(lambda: site.tree("done"), "the film is delivered")
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"]


def test_a_job_interrupted_by_a_stop_is_done_after_the_restart(site: Site, media: Path) -> None:
    flag = site.root / "go"
    site.argv = wait_for(flag)
    site.write_config()
    site.config.write_text(site.config.read_text().replace("stop_seconds = 5", "stop_seconds = 0.2"))
    drop(media, site)
    site.start()
    site.until(lambda: site.status()["running"], "the job runs")
    assert site.stop() == 0
    assert site.tree("outbox") == [] and len(site.tree("processing")) == 2
    flag.touch()
    assert site.once() == 0
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"]


def test_a_worker_that_dies_is_tried_again_and_then_given_up(site: Site, media: Path) -> None:
    site.argv = ["sh", "-c", "kill -9 $PPID # {audio} {video} {output}"]
    site.write_config()
    drop(media, site)
    assert site.once() == 3
    assert "Attempts: 3" in (site.failed / "lesson" / "reason.txt").read_text()


def test_the_next_job_is_staged_while_one_runs_and_is_not_copied_again(site: Site, media: Path) -> None:
    go = site.root / "go"
    site.argv = wait_for(go)
    site.write_config()
    drop(media, site, "a")
    site.start()
    site.until(lambda: site.status()["running"], "the first job runs")
    drop(media, site, "b")

    def staged() -> list[Path]:
        return [path for path in (site.state / "work").glob("*/1/*") if path.suffix in (".mp4", ".wav")]

    site.until(lambda: len(staged()) == 4, "both jobs' inputs are on the local disk")
    waiting = site.status()["queue"][0]["drop"]
    ahead = site.state / "work" / waiting / "1" / "video.mp4"
    before = ahead.stat().st_mtime_ns
    link = site.root / "video.mp4"
    os.link(ahead, link)  # outlives the work folder
    go.touch()
    site.until(lambda: len(site.tree("done")) == 4, "both films are delivered")
    assert link.stat().st_mtime_ns == before, "it was not copied a second time"


def test_what_was_staged_ahead_of_a_cancelled_job_is_gone_and_staged_anew_when_it_is_asked_for_again(
    site: Site, media: Path
) -> None:
    go = site.root / "go"
    site.argv = wait_for(go)
    site.write_config()
    for name in ("a", "b"):
        drop(media, site, name)
    site.start()
    site.until(lambda: site.status()["running"] and site.status()["queue"], "one runs, one waits")
    job, drop_id = (site.status()["queue"][0][key] for key in ("id", "drop"))
    folder = site.state / "work" / drop_id
    site.until(lambda: list(folder.glob("1/video.mp4")), "the second is staged")
    site.ask(cmd="cancel", job=job)
    site.until(lambda: site.tree("failed") and not folder.exists(), "it is filed, its copies are gone")
    site.ask(cmd="retry", job=job)
    go.touch()
    site.until(lambda: {"a.json", "b.json"} <= set(site.tree("outbox")), "both films are delivered")


def test_a_second_daemon_on_the_same_state_is_refused(site: Site) -> None:
    site.start()
    second = subprocess.run(site.command("run"), env=site.env(), capture_output=True, timeout=30)
    assert second.returncode == 5 and b"Another heygemd" in second.stderr


def test_an_inbox_whose_marker_is_gone_is_left_alone_until_it_returns(site: Site, media: Path) -> None:
    site.of_bytes = True
    site.start()
    site.until(lambda: site.status()["lines"][0]["state"] == "ok", "the line is open")
    marker = site.inbox / ".heygemd-line"
    marker.rename(site.root / "marker")
    site.until(lambda: site.status()["lines"][0]["state"] == "unavailable", "the line is missed")
    drop(media, site)
    assert "is the share mounted" in site.status()["lines"][0]["problem"]
    assert len(site.tree("inbox")) == 2
    (site.root / "marker").rename(marker)
    site.until(lambda: site.tree("done"), "the line goes on by itself")


def test_a_lost_journal_is_rebuilt_from_the_folders(site: Site, media: Path) -> None:
    site.of_bytes = True
    site.start()
    site.ask(cmd="pause")
    drop(media, site)
    site.until(lambda: len(site.tree("processing")) == 2, "the drop is claimed")
    site.kill()
    for file in site.state.glob("journal.sqlite*"):
        file.unlink()
    assert site.once() == 0
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"]
    assert site.tree("processing") == []


def test_the_idle_daemon_has_neither_torch_nor_numpy_nor_opencv_in_memory(site: Site) -> None:
    site.start()
    maps = Path(f"/proc/{site.process.pid}/maps").read_text()
    assert not [name for name in ("torch", "cv2", "numpy", "scipy") if f"/{name}/" in maps]
    status = Path(f"/proc/{site.process.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident < 120 * 1024


def test_names_that_people_type_come_back_as_they_were(site: Site, media: Path) -> None:
    names = ["课程 第一", "naïve 🎬", "-dash", "per%cent {x}", "a'b#c;d$(e)"]
    for name in names:
        drop(media, site, name)
    assert site.once() == 0
    assert site.tree("outbox") == sorted(f"{name}.{end}" for name in names for end in ("json", "mp4"))


def test_sigkill_of_the_daemon_takes_its_children_along(site: Site, media: Path) -> None:
    site.argv = ["sh", "-c", "sleep 60 # {audio} {video} {output}"]
    site.write_config()
    drop(media, site)
    site.start()
    site.until(lambda: site.status()["running"], "the job runs")
    site.process.send_signal(signal.SIGKILL)
    site.process.wait()
    site.process = None

    def ours() -> list[str]:
        """Processes that were told of this site."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(site.root).encode() in (folder / "cmdline").read_bytes():
                    found.append(folder.name)
        return found

    site.until(lambda: not ours(), "no child is left", timeout=10)


def test_media_of_the_suite_are_what_they_should_be(tmp_path: Path) -> None:
    assert make_wav(tmp_path / "a.wav").stat().st_size > 30_000
    assert make_film(tmp_path / "a.mp4").stat().st_size > 1_000


def test_ctrl_c_lets_the_job_end_and_a_second_one_does_not_wait_for_it(site: Site, media: Path) -> None:
    site.argv = wait_for(site.root / "go")
    site.write_config()
    site.config.write_text(site.config.read_text().replace("stop_seconds = 5", "stop_seconds = 300"))
    site.start()
    assert site.process is not None
    drop(media, site)
    site.until(lambda: site.status()["running"], "the job runs")
    os.killpg(site.process.pid, signal.SIGINT)  # as a terminal does: everybody in the foreground hears it
    site.until(lambda: site.status().get("state") == "stopping", "it is stopping")
    with pytest.raises(subprocess.TimeoutExpired):
        site.process.wait(1.5)
    os.killpg(site.process.pid, signal.SIGINT)
    assert site.process.wait(30) == 0
    assert "Traceback" not in (site.root / "stderr").read_text()
    site.process = None
    (site.root / "go").touch()
    assert site.once() == 0
    assert site.tree("outbox") == ["lesson.json", "lesson.mp4"]


def test_an_interrupted_job_of_a_line_that_is_no_longer_configured_does_not_keep_the_daemon_from_starting(
    site: Site,
) -> None:
    assert site.once() == 0
    journal = Journal(site.state / "journal.sqlite")
    wanted = JobRequest("a", Source("a.wav"), Source("a.mp4"))
    drop = journal.add_drop("d1", "gone", DropRequest("pair", "a", "", (), (wanted,)), None)
    job = journal.set_job(journal.jobs_of(drop.id)[0], JobState.RUNNING, attempts=99)
    journal.close()
    assert site.once() in (0, 3)
    journal = Journal.read_only(site.state / "journal.sqlite")
    assert journal.job(job.id).state is JobState.FAILED
    journal.close()
