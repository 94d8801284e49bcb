"""The one runner of ffmpeg and ffprobe children.  Imports nothing heavy.

Media come from people who are not trusted, so each child is *tethered*: a few lines of Python in the new
process set its limits and ask the kernel to kill it when this process dies, then become ffmpeg.
(``preexec_fn`` would do the same after ``fork`` in a process with threads, which may deadlock.)  Nobody
waits without end: a child that gives no sign of life is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict

from heygemd.common.errors import EngineError, SetupError
from heygemd.common.spawn import PR_SET_PDEATHSIG

_TETHER = f"""
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {signal.SIGKILL:d})
if os.getppid() != int(sys.argv[1]):
    os._exit(125)
for limit in filter(None, sys.argv[2].split(",")):
    name, value = limit.split("=")
    which = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(which)[1]
    bound = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
    resource.setrlimit(which, (bound, bound))
os.execvp(sys.argv[3], sys.argv[3:])
"""

_GIB = 1 << 30
_READ = 1 << 16
_TAIL_LINES = 30
_LAST_WORDS = 5.0  # seconds that stderr may stay open after the end: something else may hold it
_PIPE = 1 << 20  # bytes that a pipe of pictures holds, the most that an ordinary user may ask for; 64 KiB is usual
_FRAME = re.compile(rb"^frame=\s*(\d+)", re.MULTILINE)  # of ffmpeg's -progress
_MAX_CAPTURE = 64 << 20  # bytes of a child's stdout that are kept at most: a listing is never larger

DEMUXERS = "mov,matroska,avi,gif,mpeg,mpegts,asf,flv,wav,w64,aiff,mp3,aac,flac,ogg,jpeg_pipe,png_pipe"


@dataclass(frozen=True, slots=True)
class Limits:
    """Kernel limits of one child; ``None`` leaves the limit alone."""

    memory: int | None = None  # bytes of address space
    cpu: int | None = None  # seconds over all threads
    writes: bool = True  # False: may not write a single byte to a file (pipes are no files)

    def spell(self) -> str:
        """As the tether reads it."""
        bounds = {"CORE": 0, "AS": self.memory, "CPU": self.cpu, "FSIZE": None if self.writes else 0}
        return ",".join(f"{name}={value}" for name, value in bounds.items() if value is not None)


OURS = Limits()  # a child that reads only what we made
UNTRUSTED = Limits(memory=16 * _GIB, writes=False)  # a child that opens a user's file and answers through a pipe
UNTRUSTED_WRITER = Limits(memory=16 * _GIB)  # the same, writing a file of ours

FFMPEG = ("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "repeat+level+warning")


@dataclass(frozen=True, slots=True)
class Done:
    """A child that has ended.  ``code`` is negative for a signal, as in ``subprocess``."""

    code: int
    stdout: bytes
    stderr: str


class Child:
    """A running tethered child.  Its stderr is drained by a thread, its pipes are never waited on without
    end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        limits: Limits = OURS,
        stall: float = 600.0,
        feed: bool | int = False,
        merged: bool = False,
        folder: Path | None = None,
        on_line: Callable[[str], bool] | None = None,
    ) -> None:
        """Start ``argv``.

        ``stall``: seconds of silence after which the child is killed and ``EngineError`` is raised.
        ``feed``: its stdin is a pipe of ours (true) or an open file (a descriptor).  ``merged``: its stdout
        is drained like its stderr.  ``folder``: where it runs.  ``on_line`` is called in a thread with each
        line of stderr; a line for which it returns true is consumed and does not show up in ``tail``.
        """
        self.name = argv[0]
        self._stall = stall
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        tether = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), limits.spell()]
        self._process = subprocess.Popen(
            [*tether, require(argv[0]), *argv[1:]],
            stdin=_stdin(feed),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            cwd=folder,
            env=os.environ | {"AV_LOG_FORCE_NOCOLOR": "1"},
        )
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()
        self.pid = self._process.pid
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(pipe)

    def _read_stderr(self) -> None:
        pipe = self._process.stderr or self._process.stdout
        assert pipe is not None
        for raw in pipe:
            line = raw.decode("utf-8", "replace").rstrip()
            if not (self._on_line and self._on_line(line)) and line:
                self._lines.append(line)

    @property
    def tail(self) -> str:
        """The last lines of stderr."""
        return "\n".join(tuple(self._lines))

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` from stdout; fewer bytes than asked for mean its end."""
        stdout = self._process.stdout
        assert stdout is not None
        got = 0
        while got < len(view):
            self._await(stdout.fileno(), for_reading=True)
            read = os.readv(stdout.fileno(), [view[got:]])
            if not read:
                break
            got += read
        return got

    def read_some(self, size: int = _READ) -> bytes:
        """What stdout holds now, at least one byte; empty at its end."""
        stdout = self._process.stdout
        assert stdout is not None
        self._await(stdout.fileno(), for_reading=True)
        return os.read(stdout.fileno(), size)

    def write(self, data: memoryview) -> bool:
        """Hand ``data`` to stdin.  False: the child no longer reads; ``finish`` tells why."""
        stdin = self._process.stdin
        assert stdin is not None
        os.set_blocking(stdin.fileno(), False)
        view = data.cast("B")
        while len(view):
            self._await(stdin.fileno(), for_reading=False)
            try:
                view = view[os.write(stdin.fileno(), view) :]
            except BrokenPipeError:
                return False
        return True

    def poll(self, seconds: float) -> int | None:
        """Wait at most ``seconds`` for its end: the exit code, or ``None`` while it runs."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def close_feed(self) -> None:
        """Tell it that nothing more will be handed to its stdin."""
        self._close_pipe(self._process.stdin)

    def finish(self) -> int:
        """Close stdin, wait for the end (killing it after ``stall`` seconds), return the exit code."""
        self._close_pipe(self._process.stdin)
        try:
            code = self._process.wait(self._stall)
        except subprocess.TimeoutExpired:
            self._give_up()
        self._drain.join(_LAST_WORDS)
        self._close_pipe(self._process.stdout)
        return code

    def kill(self) -> None:
        """End it at once and free its pipes; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        self._drain.join(_LAST_WORDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            self._close_pipe(pipe)

    @staticmethod
    def _close_pipe(pipe: IO[bytes] | None) -> None:
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _await(self, descriptor: int, *, for_reading: bool) -> None:
        waiter = select.poll()  # select() cannot take descriptors above 1023
        waiter.register(descriptor, select.POLLIN if for_reading else select.POLLOUT)
        if not waiter.poll(self._stall * 1000):
            self._give_up()

    def _give_up(self) -> None:
        self.kill()
        raise EngineError(
            f"{self.name} made no progress for {self._stall:g} seconds and was stopped.", detail=self.tail
        )


def run(
    argv: Sequence[str],
    *,
    limits: Limits = OURS,
    stall: float = 600.0,
    feed: bytes = b"",
    on_line: Callable[[str], bool] | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> Done:
    """Run a child to its end, feeding it ``feed``; its stdout is kept up to 64 MiB.

    ``on_frames``: the child is an ffmpeg that may write a file for hours and would say nothing meanwhile; it is asked
    to report its progress, and ``on_frames`` is called about twice a second with the number of frames.

    Raises ``EngineError`` when it says nothing for ``stall`` seconds or too much, ``SetupError`` when it is
    not installed.
    """
    if on_frames is not None:
        argv = [argv[0], "-progress", "pipe:1", *argv[1:]]
    with _in_memory(feed) as descriptor:
        child = Child(argv, limits=limits, stall=stall, feed=descriptor, on_line=on_line)
    try:
        out = bytearray()
        while chunk := child.read_some():
            if on_frames is not None:
                on_frames(max(map(int, _FRAME.findall(chunk)), default=0))
                continue
            out += chunk
            if len(out) > _MAX_CAPTURE:
                raise EngineError(
                    f"{argv[0]} wrote more than {_MAX_CAPTURE >> 20} MiB of output; a short answer was expected."
                )
        return Done(child.finish(), bytes(out), child.tail)
    finally:
        child.kill()


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold more: a picture then takes two turns instead of twenty.  Refused where the user has many."""
    if pipe is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _stdin(feed: bool | int) -> int:
    if feed is False:
        return subprocess.DEVNULL
    return subprocess.PIPE if feed is True else feed


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A file without a name that holds ``content``: unlike a pipe it needs nobody to keep it filled."""
    with os.fdopen(os.memfd_create("feed"), "w+b") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file.fileno()


@functools.lru_cache(maxsize=8)
def require(program: str) -> str:
    """The full path of a program; ``SetupError`` where it is not installed."""
    path = shutil.which(program)
    if path is None:
        cure = "  Cure: apt-get install ffmpeg" if program in ("ffmpeg", "ffprobe") else ""
        raise SetupError(f"{program} is not installed, not on PATH or not executable.{cure}")
    return path


class FfmpegFacts(TypedDict):
    """The installed ffmpeg: its version, where it lies, and which encoders it was built with."""

    version: str
    path: str
    encoders: dict[str, bool]


def ffmpeg_facts(stall: float = 20.0) -> FfmpegFacts:
    """What the installed ffmpeg is and can do.

    ``{"version": "5.1.9", "path": str, "encoders": {"libx264": bool, "h264_nvenc": bool, "aac": bool}}``;
    an encoder counts as present when ffmpeg was built with it, which says nothing yet of the hardware
    behind it. Raises ``SetupError`` where ffmpeg or ffprobe is missing.
    """
    require("ffprobe")
    listing = run([*FFMPEG, "-encoders"], stall=stall).stdout.decode("utf-8", "replace")
    present = {line.split()[1] for line in listing.splitlines() if len(line.split()) > 1}
    encoders = {name: name in present for name in ("libx264", "h264_nvenc", "aac")}
    return {"version": ffmpeg_version(), "path": require("ffmpeg"), "encoders": encoders}


@functools.lru_cache(maxsize=1)
def ffmpeg_version() -> str:
    """Such as ``5.1.9-0+deb12u1``."""
    first = run(["ffmpeg", "-version"], stall=20.0).stdout.decode("utf-8", "replace").splitlines()[:1]
    match = re.match(r"ffmpeg version (\S+)", first[0]) if first else None
    return match.group(1) if match else "unknown"


@functools.lru_cache(maxsize=8)
def has_filters(*names: str) -> bool:
    """Whether the installed ffmpeg was built with all of these filters."""
    listing = run([*FFMPEG, "-filters"], stall=20.0).stdout.decode("utf-8", "replace")
    return set(names) <= {line.split()[1] for line in listing.splitlines() if len(line.split()) > 1}


@functools.lru_cache(maxsize=1)
def nvenc_works() -> bool:
    """Whether one frame can really be encoded by NVENC on this machine (driver, card and build all fit)."""
    size = 256  # pixels a side: NVENC refuses very small pictures
    argv = [*FFMPEG, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{size}x{size}", "-i", "pipe:0"]
    argv += ["-frames:v", "1", "-c:v", "h264_nvenc", "-f", "null", "-"]
    return run(argv, stall=60.0, feed=bytes(size * size * 3 // 2)).code == 0


def give_back() -> None:
    """Hand the memory that was freed back to the system: glibc keeps free pieces between those still in use."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def cores(threads: int) -> int:
    """``threads``, or the number of cores this process may use where it is 0, at most 16: beyond that ffmpeg gains
    nothing and needs a picture's memory for each.  An explicit number, because an encoder's output depends on it."""
    return min(16, threads or len(os.sched_getaffinity(0)))
