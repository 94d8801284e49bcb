"""Whose turn it is; and a day of jobs on a card that strangers use too, simulated."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from heygemd.config.tables import GuardConfig, LimitsConfig
from heygemd.guard.decide import Go, Need, Never, Verdict, Wait, Way, decide
from heygemd.guard.readings import Gpu, Readings
from heygemd.guard.turns import Ageing, Candidate, choose_next

BIG, SMALL, NONE = Need((Way(9000),)), Need((Way(2000),)), Need(ram_mib=1)


def queue(*needs: Need) -> list[Candidate[int]]:
    return [Candidate(number, need) for number, need in enumerate(needs)]


def judge(free: int) -> Callable[[Need], Verdict]:
    def verdict(need: Need) -> Verdict:
        return Go("GPU-a" if need.ways else None) if need.vram_mib <= free else Wait("short")

    return verdict


def test_the_first_that_fits_goes_and_those_before_it_are_overtaken() -> None:
    turn = choose_next(queue(BIG, BIG, SMALL, SMALL), judge(4000))
    assert turn.chosen is not None and turn.chosen.key == 2
    assert [candidate.key for candidate in turn.overtaken] == [0, 1]
    assert [candidate.key for candidate, _ in turn.waiting] == [0], "an equal need is not judged twice"


def test_who_needs_no_gpu_overtakes_nobody_who_waits_for_one() -> None:
    turn = choose_next(queue(BIG, NONE), judge(0), kept_for=0)
    assert turn.chosen is not None and turn.chosen.key == 1 and turn.overtaken == []


def test_while_the_gpu_is_kept_for_one_nobody_overtakes_it() -> None:
    turn = choose_next(queue(BIG, SMALL), judge(4000), kept_for=0)
    assert turn.chosen is None
    before = choose_next(queue(SMALL, BIG), judge(4000), kept_for=1)
    assert before.chosen is not None and before.chosen.key == 0, "who stands before it goes all the same"


def test_an_impossible_job_is_told_and_ends_the_look() -> None:
    turn = choose_next(queue(BIG, SMALL), lambda need: Never("no") if need is BIG else Go())
    assert turn.never is not None and turn.never[0].key == 0 and turn.chosen is None


def test_the_gpu_is_kept_for_who_has_lost_too_much_until_it_starts_or_the_time_is_over() -> None:
    ageing: Ageing[str] = Ageing(60)
    ageing.lose("a", 59)
    assert ageing.keep_for(0, ["a", "b"]) is None
    ageing.lose("a", 1)
    assert ageing.keep_for(0, ["a", "b"]) == "a" and ageing.keep_for(59, ["a", "b"]) == "a"
    assert ageing.keep_for(60, ["a", "b"]) is None and ageing.lost == {}
    ageing.lose("b", 60)
    assert ageing.keep_for(100, ["a", "b"]) == "b"
    ageing.forget("b")
    assert ageing.keep_for(100, ["a", "b"]) is None
    ageing.lose("b", 60)
    assert ageing.keep_for(200, ["b"]) == "b" and ageing.keep_for(201, []) is None, "it is gone"


# ---------------------------------------------------------------- a day


CARD, UUID, STEP, DAY = 24_000, "GPU-day", 2, 86_400
LIMITS, RULES = LimitsConfig(free_disk_mib=0, free_ram_mib=0), GuardConfig(hold_readings=3)


@dataclass
class SimJob:
    key: int
    arrives: int
    seconds: int
    need: Need
    lost: float = 0.0


@dataclass
class Figures:
    admitted: int = 0
    misfits: int = 0
    overtakings: int = 0
    idle_fitting: int = 0
    idle_kept: int = 0
    busy: int = 0
    longest: int = 0
    lost: list[float] = field(default_factory=list)


class Day:
    """One card, strangers whose use jumps about, and this daemon's queue; steps of two seconds."""

    def __init__(self, seed: int, jobs: int, mean_seconds: int, ageing_seconds: int) -> None:
        self.random = random.Random(seed)
        sizes, weights = (1500, 4000, 8000, 13_000, 19_000), (40, 30, 15, 10, 5)
        self.coming = []
        for mib in self.random.choices(sizes, weights, k=jobs):
            seconds = 4 + int(self.random.expovariate(1 / mean_seconds))
            self.coming.append(SimJob(0, self.random.randrange(DAY), seconds, Need((Way(mib),))))
        self.coming.sort(key=lambda job: job.arrives)
        for number, job in enumerate(self.coming):
            job.key = number
        self.queue: list[SimJob] = []
        self.running: SimJob | None = None
        self.overtaken: list[Candidate[int]] = []
        self.ends = self.foreign = self.jump_at = 0
        self.history: list[Readings] = []
        self.ageing: Ageing[int] = Ageing(ageing_seconds)
        self.figures = Figures(longest=max(job.seconds for job in self.coming))

    def run(self) -> Figures:
        for now in range(0, DAY, STEP):
            while self.coming and self.coming[0].arrives <= now:
                self.queue.append(self.coming.pop(0))
            self.strangers(now)
            self.read()
            if self.running is not None:
                self.work(now)
            else:
                self.choose_next(now)
        self.figures.lost += [job.lost for job in self.queue]
        return self.figures

    def strangers(self, now: int) -> None:
        """Others take and free memory when they like, as far as there is any."""
        if now >= self.jump_at:
            self.jump_at = now + 10 + int(self.random.expovariate(1 / 240))
            ours = self.running.need.vram_mib if self.running else 0
            wanted = self.random.choice((0, 1000, 3000, 6000, 11_000, 16_000, 21_000))
            self.foreign = min(wanted, CARD - ours)

    def read(self) -> None:
        """As the daemon sees it: what its own worker holds is free for it."""
        free = CARD - self.foreign
        gpu = Gpu(UUID, 0, "sim", CARD, CARD - free, free)
        self.history = [*self.history, Readings((gpu,), ram_total_mib=1, ram_available_mib=1)][-RULES.hold_readings :]

    def work(self, now: int) -> None:
        assert self.running is not None
        self.figures.busy += STEP
        free = CARD - self.foreign
        for job in self.queue:  # the truth, counted apart from what the code under test believes
            if job.key < self.running.key and job.need.vram_mib <= free:
                job.lost += STEP
        for candidate in self.overtaken:
            if isinstance(decide(candidate.need, self.history, LIMITS, RULES), Go):
                self.ageing.lose(candidate.key, STEP)
        if now >= self.ends:
            self.figures.lost.append(self.running.lost)
            self.running = None

    def choose_next(self, now: int) -> None:
        kept = self.ageing.keep_for(now, [job.key for job in self.queue])
        candidates = (Candidate(job.key, job.need) for job in self.queue)
        turn = choose_next(candidates, lambda need: decide(need, self.history, LIMITS, RULES), kept)
        free = CARD - self.foreign
        if turn.chosen is None:
            if any(job.need.vram_mib <= free for job in self.queue):
                self.figures.idle_fitting += STEP
                self.figures.idle_kept += STEP if kept is not None else 0
            return
        self.running = next(job for job in self.queue if job.key == turn.chosen.key)
        self.queue.remove(self.running)
        self.ageing.forget(self.running.key)
        self.overtaken, self.ends = turn.overtaken, now + self.running.seconds
        self.figures.admitted += 1
        self.figures.overtakings += bool(turn.overtaken)
        self.figures.misfits += self.running.need.vram_mib > free


@pytest.mark.parametrize(
    ("seed", "jobs", "mean_seconds", "ageing_seconds"),
    [(4, 3500, 16, 900), (3, 1000, 60, 120), (4, 500, 120, 120)],
    ids=["short jobs", "an ageing limit of two minutes", "jobs as long as the limit"],
)
def test_a_day_on_a_shared_card(seed: int, jobs: int, mean_seconds: int, ageing_seconds: int) -> None:
    figures = Day(seed, jobs, mean_seconds, ageing_seconds).run()
    idle, kept = 100 * figures.idle_fitting / DAY, 100 * figures.idle_kept / DAY
    print(
        f"\n{figures.admitted} of {jobs} jobs ran, {figures.overtakings} overtook, {figures.misfits} did not fit; "
        f"the card was busy {100 * figures.busy / DAY:.1f} % of the day, idle while something fitted {idle:.2f} % "
        f"({kept:.2f} % kept for one that had lost too much); lost by being overtaken at most "
        f"{max(figures.lost):.0f} s, limit {ageing_seconds} s and the longest job {figures.longest} s"
    )
    assert figures.misfits == 0
    assert figures.admitted > 0.95 * jobs and figures.overtakings > 50
    assert max(figures.lost) <= ageing_seconds + figures.longest
    assert idle < 1.0
