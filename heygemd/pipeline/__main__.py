"""The child: ``python -m heygemd.pipeline`` does one task after the other.

stdin has one request a line, stdout the messages about it; ``contract/renderer.py`` describes both.

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
from typing import IO

from heygemd.common.errors import EngineError, GpuMemoryError, HeygemdError, WorkerDied
from heygemd.common.spawn import end_with_parent
from heygemd.contract import wire
from heygemd.contract.figures import PagedReport
from heygemd.contract.film_facts import PeakUse
from heygemd.contract.job import Probed
from heygemd.contract.renderer import (
    DoneMessage,
    EventMessage,
    FailedMessage,
    LookRequest,
    Message,
    PingReply,
    PingRequest,
    PlanReply,
    PlanRequest,
    ProbeRequest,
    ProgressMessage,
    RenderRequest,
    ReportRequest,
    Request,
    SheetReply,
    SheetRequest,
    WarmRequest,
    decode_request,
    encode_message,
)

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CONTEXT_MIB = 500  # what CUDA itself takes of a GPU for a process, beside what torch's allocator counts
_PROGRESS_SECONDS = 0.25  # between two progress lines of one stage
_AGAIN_SECONDS = 1.4  # of silence, after which the last line is said again


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

    def _tell(self, now: float, *, again: bool = False) -> None:
        self._sent = now
        (frame, of), spent = self._frames, now - self._began
        fps = frame / spent if spent > 0 else 0.0
        eta = round((of - frame) / fps, 1) if fps > 0 and of >= frame else None
        self._write(ProgressMessage(self._stage, frame, of, round(fps, 2), eta, again))

    def event(self, name: str, level: str = "info", **fields: object) -> None:
        """One line for the job's log."""
        self.send(EventMessage(name, level, fields))

    def send(self, message: Message) -> None:
        """Write one line."""
        with self._lock:
            self._write(message)

    def _write(self, message: Message) -> None:
        self._out.write(encode_message(self._id, message))
        self._out.flush()


def _render(request: RenderRequest, tell: Reporter) -> dict[str, object]:
    from heygemd.pipeline import lipsync

    task = request.job
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


def _peak() -> PeakUse:
    """What the task took at its peak, in MiB: this process and twice the largest of those it has started, because
    two run at a time; CUDA's allocator where CUDA was used."""
    lines = Path("/proc/self/status").read_text().splitlines()
    own = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    torch = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_initialized()
    vram = (int(torch.cuda.max_memory_reserved()) >> 20) + _CONTEXT_MIB if torch is not None and used else None
    return {"ram_mib": own + 2 * children >> 10, "vram_mib": vram}


def _probe(request: ProbeRequest) -> dict[str, object]:
    from heygemd.pipeline.media.read.probe import probe

    return probe(request.path, request.name, request.settings, want=request.kind).to_json()


def _look(request: LookRequest) -> Probed:
    from heygemd.pipeline import look
    from heygemd.pipeline.media.info import exact

    audio, video = request.audio, request.video
    sound, template = look(audio.path, audio.name, video.path, video.name, request.settings)
    assert template.video is not None
    return Probed(exact(sound), exact(template), (template.video.width, template.video.height))


def _plan(request: PlanRequest, tell: Reporter) -> PlanReply:
    from heygemd.pipeline import plan_ahead

    with _temporary_files_in(request.job.work):
        return {"planned": plan_ahead(request.job, tell)}


def _sheet(request: SheetRequest) -> SheetReply:
    from heygemd.pipeline import sheet

    return wire.checked(
        SheetReply,
        sheet.make(request.before, request.after, request.out, request.columns, request.crop, request.extend),
    )


def _report(request: ReportRequest, tell: Reporter) -> PagedReport:
    _load_arithmetic()
    from heygemd.pipeline.quality import deliver

    return deliver.any_film(request.film, request.video, request.audio, request.settings, tell)


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


def _warm(request: WarmRequest) -> None:
    """Load what the default engine takes: half a second in which the daemon still copies and looks.  Nothing of a GPU
    is touched before the guard has looked again."""
    if request.engine == "footage":
        _load_arithmetic()
        from heygemd.pipeline import plan_file, render  # noqa: F401
        from heygemd.pipeline.engines import footage  # noqa: F401
        from heygemd.pipeline.face import track  # noqa: F401
        from heygemd.pipeline.marking import label, metadata  # noqa: F401


def _ping() -> PingReply:
    return {"pid": os.getpid()}


def _result(request: Request[object], tell: Reporter) -> object:
    """Do the request; its result, of which ``contract.renderer`` says the type."""
    match request:
        case RenderRequest():
            return _render(request, tell)
        case PlanRequest():
            return _plan(request, tell)
        case ReportRequest():
            return _report(request, tell)
        case LookRequest():
            return _look(request)
        case ProbeRequest():
            return _probe(request)
        case SheetRequest():
            return _sheet(request)
        case WarmRequest():
            _warm(request)
            return None
        case PingRequest():
            return _ping()
    raise EngineError(f"The renderer cannot do {request.task}.")


def serve(requests: queue.SimpleQueue[str], out: IO[str]) -> None:
    """Do one request after the other, for ever."""
    while True:
        line = json.loads(requests.get())
        answer(line, Reporter(out, str(line.get("id", ""))))


def answer(line: Mapping[str, object], tell: Reporter) -> None:
    """Do the request of one line and write its one final message, whatever happens."""
    try:
        request = decode_request(line)
        with tell.repeating():
            result = wire.plain(_result(request, tell))
        tell.send(DoneMessage(result))
    except HeygemdError as error:
        tell.send(FailedMessage.of(error))
    except MemoryError:
        tell.send(FailedMessage.of(EngineError("The renderer ran out of memory.", detail=traceback.format_exc())))
    except Exception as error:  # noqa: BLE001  the child's one boundary: a defect fails the job, not the daemon
        tell.send(FailedMessage.of(_unforeseen(error)))


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
