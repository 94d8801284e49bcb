"""``STATUS.html`` for the people who see a line's folders and nothing else.  Pure: ``status.html.j2`` is its layout.

The page has no script and fetches nothing; it reads itself again every few seconds.  The template escapes every text.
"""

from __future__ import annotations

from collections.abc import Mapping

from heygemd.common.messages import say, waits, why
from heygemd.common.names import display
from heygemd.common.shipped import filled
from heygemd.status.page_data import PageData, PageWaiting, QueuedJob, RunningJob

PAGE, DATA = "STATUS.html", "status.json"
REFRESH_SECONDS = 10
_MOST = 30  # rows of a kind


def to_html(page: PageData, at: str, language: str, failed: str) -> bytes:
    """``STATUS.html``, written at the ISO 8601 time ``at``; ``failed`` is the name of the folder of failed inputs."""
    words = _Words(language)
    text = filled(
        "status.html.j2",
        page=page, at=at, language=language, failed=failed, headline=words.headline(page), most=_MOST,
        refresh_seconds=REFRESH_SECONDS, word=words.word, say=words.say, why=words.why,
        clock=clock, running_facts=words.running_facts, why_queued=words.why_queued, why_waiting=words.why_waiting,
    )  # fmt: skip
    return text.encode("utf-8", "backslashreplace")


class _Words:
    """The sentences of the page in one language, not yet escaped."""

    def __init__(self, language: str) -> None:
        self._language = language

    def word(self, name: str, **values: object) -> str:
        return say(self._language, f"page:{name}", values)

    def say(self, code: str, values: Mapping[str, object] | None = None) -> str:
        return say(self._language, code, values)

    def why(self, code: str | None) -> str:
        return why(self._language, code)

    def headline(self, page: PageData) -> str:
        """What goes on, in one sentence."""
        running = page["state"] == "running"
        if running and page["paused"]:
            return self.word("state_line_paused")
        if running and not page["running"] and not page["elsewhere"]:
            if not page["queue"]:
                return self.word("idle_waiting" if page["waiting"] else "idle")
            if all(job["waits_for"] for job in page["queue"]):
                return self.word("all_wait")
        return self.word(f"state_{page['state']}")

    def running_facts(self, job: RunningJob) -> list[str]:
        """The step, and what is known of its progress."""
        facts = [self.word("stage", stage=self.say(f"stage:{job['stage']}")) if job["stage"] else self.word("starting")]
        facts += [f"{job['percent']} %"] if job["percent"] is not None else []
        facts += [self.word("fps", fps=f"{job['fps']:.1f}")] if job["fps"] else []
        facts += [self.word("left", time=_span(job["eta"]))] if job["eta"] else []
        return facts

    def why_queued(self, job: QueuedJob) -> str:
        """What a job of the queue waits for; who holds it is named once."""
        if not job["waits_for"]:
            return self.word("next")
        reason = waits(self._language, job["code"], job["values"], job["waits_for"])
        unnamed = [holder for holder in job["holders"] if holder not in reason]
        holders = f" {self.word('held_by', who=display(', '.join(unnamed)))}" if unnamed else ""
        return f"{display(reason)}{holders}{self._since(job['since'])}"

    def why_waiting(self, file: PageWaiting) -> str:
        """What a file of the inbox waits for."""
        reason = waits(self._language, file["code"], file["values"], file["reason"])
        return f"{display(reason)}{self._since(file['since'])}"

    def _since(self, stamp: str | None) -> str:
        return f" · {self.word('since', at=clock(stamp))}" if stamp else ""


def clock(stamp: str | None) -> str:
    """``11-22 14:03`` of an ISO 8601 time."""
    return stamp[5:16].replace("T", " ") if stamp else ""


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
