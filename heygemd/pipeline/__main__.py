"""The child: ``python -m heygemd.pipeline`` does one task after the other, spoken to in JSON lines.

stdin, one request a line::

    {"id", "task": "render", "job": Task}          -> the result of lipsync
    {"id", "task": "probe", "path", "name", "kind": "audio"|"video"|"still"}   -> what the file is
    {"id", "task": "look", "audio": {"path", "name"}, "video": {"path", "name"}, "settings"}
                                                   -> {"audio", "video"}: a render's Task.probed
    {"id", "task": "plan", "job": Task}            -> {"planned": whether a render will find its plan}
    {"id", "task": "sheet", …}                     -> what heygemd.pipeline.sheet.make returns
    {"id", "task": "report", "film", "video", "audio", "settings"}   -> the film's figures, and a page of them
    {"id", "task": "ping"}                         -> {"pid": int}

stdout: any number of ``{"id", "type": "progress", "stage", "frame", "of", "fps", "eta"}`` and ``{"id", "type":
"event", "level", "event", …}``, then one ``{"id", "type": "done", "result"}`` or ``{"id", "type": "failed", "error":
{"code", "reason", "message", "detail"}}``.  Seconds; ``eta`` is ``null`` while nothing can be said.  A progress line
with ``"again": true`` repeats the last one, so that two seconds never pass without any.

The end of stdin means that nobody waits for an answer any more: the child ends at once, with everything that it has
started.  It dies with its parent thread too, so it must be started by a thread that lives as long as it is wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import queue
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from heygemd.common.errors import EngineError, GpuMemoryError, HeygemdError, WorkerDied
from heygemd.common.spawn import end_with_parent
from heygemd.contract.job import Settings, Task

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CONTEXT_MIB = 500  # what CUDA itself takes of a GPU for a process, beside what torch's allocator counts
_PROGRESS_SECONDS = 0.25  # between two progress lines of one stage
_AGAIN_SECONDS = 1.4  # of silence, after which the last line is said again

Request = Mapping[str, Any]


class Reporter:
    """The ``Tell`` that writes JSON lines."""

    def __init__(self, out: IO[str], request_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``out`` is the protocol's stream."""
        self._out = out
        self._id = request_id
        self._clock = clock
        self._lock = threading.Lock()  # lines are written by the task and by ``repeating``'s thread
        self._stage = ""
        self._began = 0.0
        self._sent = 0.0
        self._frames = (0, 0)

    def progress(self, stage: str, frame: int, of: int) -> None:
        """At most four lines a second; a stage's begin, its first frame and its last are always written."""
        now = self._clock()
        with self._lock:
            fresh, first = stage != self._stage, self._frames[0] == 0 < frame
            if fresh:
                self._stage, self._began = stage, now
            self._frames = (frame, of)
            if not (fresh or first) and now - self._sent < _PROGRESS_SECONDS and not 0 < of <= frame:
                return
            self._tell(now)

    def again(self) -> None:
        """Say once more what was said last, where nothing was said for a while: a stage that cannot count goes on."""
        now = self._clock()
        with self._lock:
            if self._stage and now - self._sent >= _AGAIN_SECONDS:
                self._tell(now, again=True)

    @contextlib.contextmanager
    def repeating(self) -> Iterator[None]:
        """Within, something is said every two seconds at least, whatever the task is at."""
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(_AGAIN_SECONDS / 4):
                self.again()

        thread = threading.Thread(target=repeat, name="again", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _tell(self, now: float, **more: Any) -> None:
        self._sent = now
        (frame, of), spent = self._frames, now - self._began
        fps = frame / spent if spent > 0 else 0.0
        eta = round((of - frame) / fps, 1) if fps > 0 and of >= frame else None
        self._write("progress", stage=self._stage, frame=frame, of=of, fps=round(fps, 2), eta=eta, **more)

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """One line for the job's log."""
        self.send("event", **{**fields, "level": level, "event": name})

    def send(self, kind: str, **fields: Any) -> None:
        """Write one line."""
        with self._lock:
            self._write(kind, **fields)

    def _write(self, kind: str, **fields: Any) -> None:
        line = json.dumps({**fields, "id": self._id, "type": kind}, ensure_ascii=True, default=_plain)
        self._out.write(line + "\n")
        self._out.flush()


def _plain(value: Any) -> Any:
    """What ``json`` does not know: numpy's numbers and arrays, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _render(request: Request, tell: Reporter) -> Any:
    from heygemd.pipeline import lipsync

    task = Task.from_json(request["job"])
    if task.settings.engine != "command":
        _load_arithmetic()
    _forget_peak()
    with _temporary_files_in(task.work):
        result = lipsync(task, tell).to_json()
    return {**result, "peak": _peak()}


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """The work folder is what room was measured for; /tmp may be small, or in memory."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _forget_peak() -> None:
    """Begin to measure anew: this process may have done other jobs before."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark, proc(5)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> dict[str, int | None]:
    """What the task took at its peak, in MiB: this process and twice the largest of those it has started, because
    two run at a time; CUDA's allocator where CUDA was used."""
    lines = Path("/proc/self/status").read_text().splitlines()
    own = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    torch = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_initialized()
    vram = (int(torch.cuda.max_memory_reserved()) >> 20) + _CONTEXT_MIB if torch is not None and used else None
    return {"ram_mib": own + 2 * children >> 10, "vram_mib": vram}


def _probe(request: Request, tell: Reporter) -> Any:
    del tell
    from heygemd.pipeline.media.read.probe import probe

    settings = Settings.from_json(request.get("settings", {}))
    return probe(Path(request["path"]), request["name"], settings, want=request["kind"]).to_json()


def _look(request: Request, tell: Reporter) -> Any:
    del tell
    from heygemd.pipeline import look
    from heygemd.pipeline.media.info import exact

    audio, video = request["audio"], request["video"]
    settings = Settings.from_json(request["settings"])
    found = look(Path(audio["path"]), audio["name"], Path(video["path"]), video["name"], settings)
    return dict(zip(("audio", "video"), map(exact, found), strict=True))


def _plan(request: Request, tell: Reporter) -> Any:
    from heygemd.pipeline import plan_ahead

    task = Task.from_json(request["job"])
    with _temporary_files_in(task.work):
        return {"planned": plan_ahead(task, tell)}


def _sheet(request: Request, tell: Reporter) -> Any:
    del tell
    from heygemd.pipeline import sheet

    return sheet.make(**{key: value for key, value in request.items() if key not in ("id", "task")})


def _report(request: Request, tell: Reporter) -> Any:
    _load_arithmetic()
    from heygemd.pipeline.quality import deliver

    film, video, audio = (Path(request[key]) if request.get(key) else None for key in ("film", "video", "audio"))
    assert film is not None
    return deliver.any_film(film, video, audio, Settings.from_json(request["settings"]), tell)


def _load_arithmetic() -> None:
    """Load what multiplies matrices, told to use one thread: it reads that once, and what we start shall not read it.

    Our matrices are small; a second thread waits for the next one in a loop, which took a film's processor time while
    ffmpeg wanted it.
    """
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = before or "1"
    try:
        import numpy  # noqa: F401
        import scipy.linalg  # noqa: F401  it brings a second one
    finally:
        if before is None:
            del os.environ[name]


def _warm(request: Request, tell: Reporter) -> Any:
    """Load what the default engine takes: half a second in which the daemon still copies and looks.  Nothing of a GPU
    is touched before the guard has looked again."""
    del tell
    if request["engine"] == "footage":
        _load_arithmetic()
        from heygemd.pipeline import plan_file, render  # noqa: F401
        from heygemd.pipeline.engines import footage  # noqa: F401
        from heygemd.pipeline.face import track  # noqa: F401
        from heygemd.pipeline.marking import label, metadata  # noqa: F401
    return {}


def _ping(request: Request, tell: Reporter) -> Any:
    del request, tell
    return {"pid": os.getpid()}


TASKS: dict[str, Callable[[Request, Reporter], Any]] = {
    "render": _render,
    "probe": _probe,
    "look": _look,
    "plan": _plan,
    "sheet": _sheet,
    "report": _report,
    "warm": _warm,
    "ping": _ping,
}


def serve(requests: queue.SimpleQueue[str], out: IO[str]) -> None:
    """Do one request after the other, for ever."""
    while True:
        request = json.loads(requests.get())
        answer(request, Reporter(out, str(request.get("id", ""))))


def answer(request: Request, tell: Reporter) -> None:
    """Do one request and write its one final line, whatever happens."""
    try:
        task = TASKS.get(str(request.get("task")))
        if task is None:
            raise EngineError(f"The renderer does not know the task {request.get('task')!r}.")
        with tell.repeating():
            result = task(request, tell)
        tell.send("done", result=result)
    except HeygemdError as error:
        tell.send("failed", error=_told(error))
    except MemoryError:
        tell.send("failed", error=_told(EngineError("The renderer ran out of memory.", detail=traceback.format_exc())))
    except Exception as error:  # noqa: BLE001  the child's one boundary: a defect fails the job, not the daemon
        tell.send("failed", error=_told(_unforeseen(error)))


def _unforeseen(error: Exception) -> HeygemdError:
    """What an exception that no module foresaw means to the parent.

    A CUDA error sticks to the process that met it: the parent takes it for this process's death, ends it and tries
    the job again in another.
    """
    detail = traceback.format_exc()
    if type(error).__name__ == "OutOfMemoryError":  # torch's; torch need not be imported to know it
        return GpuMemoryError("The renderer ran out of GPU memory.", detail=detail)
    if "CUDA error" in str(error):
        return WorkerDied(f"The GPU failed during rendering: {str(error).splitlines()[0]}", detail=detail)
    return EngineError(f"Internal error in the renderer: {error!r}", detail=detail)


def _told(error: HeygemdError) -> dict[str, str]:
    reason = getattr(error, "reason", error.code)
    return {"code": error.code, "reason": reason, "message": error.message, "detail": error.detail}


def _listen(requests: queue.SimpleQueue[str]) -> None:
    """Hand on what stdin says; at its end, end everything (a thread's whole life)."""
    for line in sys.stdin:
        if line.strip():
            requests.put(line)
    with contextlib.suppress(ProcessLookupError):
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Serve requests until stdin ends; ``--nice=N``: at a priority that is so much lower."""
    chosen = argparse.ArgumentParser()
    chosen.add_argument("--nice", type=int, default=0)
    os.nice(chosen.parse_args().nice)  # before there is a thread or a child, which inherit it
    end_with_parent()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that nothing a command starts can leave the tree below
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # a stray print must not break the protocol
    sys.stdout = sys.stderr
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    serve(requests, out)


if __name__ == "__main__":
    main()
