"""The ``command`` engine: a program of the operator's makes the film; it is verified like any other.

The argv template comes from configuration only and is run without a shell.  The program stays in the child's own
session and process group, so that whoever ends the child's group ends the program and all that it has started;
it is also killed by the kernel when the child dies alone.  What it leaves running when it has ended, or when its
time is over, is found by walking the process tree and ended here: the child is a subreaper, so nothing that the
program started can leave that tree.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Set
from pathlib import Path

from heygemd.common.errors import EngineError, SetupError
from heygemd.contract.job import Settings, Task, Tell
from heygemd.pipeline.ffmpeg import Child
from heygemd.pipeline.marking import metadata
from heygemd.pipeline.media import SAMPLE_RATE, Media, VideoInfo, measure, sound_of
from heygemd.pipeline.media.write.segments import content_of, key_of
from heygemd.pipeline.media.write.verify import agree, describe
from heygemd.pipeline.result import Result, Stages, advice

_PLACE = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("audio", "video", "output")
_BEAT = 1.0  # seconds between two signs of life
_SLACK = 0.1  # seconds by which a program's film may be shorter or longer than the sound, beside one frame
_GRACE = 5.0  # seconds between asking the program to end and ending it


def make_film(task: Task, audio: Media, video: Media, stages: Stages) -> Result:
    """The whole job by the operator's program: ``task.work / "film.mp4"``, verified.

    The program chooses frames and size; the film must be an mp4 with picture and sound that decodes without an
    error and lasts as long as the sound that was given, to one frame and a tenth of a second.
    """
    settings, made, film = task.settings, task.work / "command.mp4", task.work / "film.mp4"
    with stages("command"):
        run_command(task, made, stages.tell)
    with stages("verify"):
        due = len(sound_of(task.audio, audio, settings, task.audio_name)) / SAMPLE_RATE
        measured, frames, heard = measure(made, settings, stages.tell)
        assert measured.video is not None
        fps = measured.video.fps
        agree(float(frames / fps), heard, due, float(1 / fps) + _SLACK)
    words = _labelled(task, made, measured.video, frames, stages)
    key = key_of(settings, content_of(task), frames)
    marks = metadata.made(settings, key, "command") | (words[1] if words is not None else {})
    if marks:
        metadata.stamp(made, film, marks, settings)
        made.unlink()
    else:
        made.rename(film)
    return Result(
        film=film,
        engine={
            "name": "command",
            "renderer": Path(settings.command.argv[0]).name,
            "reasons": ["the operator's command makes the film"],
            "argv": list(settings.command.argv),
        },
        inputs={"audio": audio.to_json(), "video": video.to_json()},
        output=describe(measured, frames, heard)
        | {"mark": marks.get("AIGC"), "label": words[0] if words is not None else None},
        stages=stages.done,
        warnings=advice(audio, video, task.audio_name, task.video_name),
    )


def _labelled(
    task: Task, made: Path, info: VideoInfo, frames: int, stages: Stages
) -> tuple[dict[str, object] | None, dict[str, str]] | None:
    """Lay the label over the film, which costs a second encode, and look at it again: what the log and the metadata
    tell of it.  ``None`` where labels are off."""
    if task.settings.label.when == "off":
        return None
    from heygemd.pipeline.marking import label

    whole, settings = made.with_name("labelled.mp4"), task.settings
    with stages("label", frames):
        words = label.onto(made, whole, info, frames, settings, stages.tell)
        _, again, _ = measure(whole, settings, stages.tell, frames)
        if again != frames:
            raise EngineError(f"The labelled film has {again} frames instead of {frames}.")
    whole.replace(made)
    told = label.facts(words, info.fps, settings)
    return {**told, "encoded_again": True} if told else None, label.entries(words, settings)


def run_command(task: Task, output: Path, tell: Tell) -> float:
    """Let the program make ``output`` from the task's files; the seconds that it took.

    Raises ``SetupError`` where the template is faulty or the program missing, ``EngineError`` where it fails, takes
    longer than ``command_seconds`` or leaves no file.
    """
    argv = fill(task.settings, task.audio, task.video, output)
    output.unlink(missing_ok=True)  # of an earlier attempt: an old result must not pass for a new one
    began = time.monotonic()
    code, tail = _watch(argv, task, tell, began)
    if code != 0:
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise EngineError(f"The command {Path(argv[0]).name} {how}.  {_last_line(tail)}".rstrip(), detail=tail)
    if not output.is_file() or output.stat().st_size == 0:
        raise EngineError(
            f"The command {Path(argv[0]).name} succeeded but wrote no film at {{output}}.", detail=tail or "(no output)"
        )
    return time.monotonic() - began


def fill(settings: Settings, audio: Path, video: Path, output: Path) -> list[str]:
    """The argv with its places filled in; ``SetupError`` names every fault of the template."""
    if not settings.command.argv:
        raise SetupError('The engine "command" has no command.  Cure: set argv in [command] of config.toml.')
    places = {"audio": str(audio), "video": str(video), "output": str(output)}
    used = {place for word in settings.command.argv for place in _PLACE.findall(word)}
    unknown = sorted(used - places.keys())
    missing = [place for place in _KNOWN if place not in used]
    if unknown or missing:
        faults = [f"{{{place}}} is unknown" for place in unknown] + [f"{{{place}}} is missing" for place in missing]
        raise SetupError(
            f"argv in [command] of config.toml is faulty: {', '.join(faults)}; it must contain {audio}, {video} "
            f"and {output}."
        )
    return [_PLACE.sub(lambda found: places[found.group(1)], word) for word in settings.command.argv]


def _watch(argv: list[str], task: Task, tell: Tell, began: float) -> tuple[int, str]:
    """Run it to its end or its deadline, with a sign of life each second: exit code and the end of its output."""
    seconds = task.settings.command.seconds
    spared = descendants(os.getpid())
    child = Child(argv, stall=_GRACE, merged=True, folder=task.work)
    try:
        tell.event("command_started", argv=argv, pid=child.pid)
        while (code := child.poll(_BEAT)) is None:
            tell.progress("command", 0, 0)
            if time.monotonic() - began > seconds:
                _stop(child)
                raise EngineError(
                    f"The command {Path(argv[0]).name} took longer than {seconds:g} seconds and was stopped.",
                    detail=child.tail,
                )
    finally:
        end_descendants(spared)
        child.kill()
    return code, child.tail


def _stop(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGTERM)
    child.poll(_GRACE)


def end_descendants(spared: Set[int] = frozenset()) -> None:
    """Kill every process below this one, except ``spared``, and those that they start meanwhile."""
    for _ in range(100):
        below = descendants(os.getpid()) - spared
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def descendants(root: int) -> set[int]:
    """The processes below ``root`` that have not ended."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(entry.name)] = int(parent)
    return {pid for pid in parents if _is_below(pid, root, parents)}


def _is_below(pid: int, root: int, parents: dict[int, int]) -> bool:
    seen: set[int] = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
        if pid == root:
            return True
    return False


def _last_line(tail: str) -> str:
    lines = tail.strip().splitlines()
    return f"Its last output: {lines[-1][:300]}" if lines else ""
