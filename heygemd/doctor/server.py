"""Examines a server for the usual faults: folders, file systems, clock, kernel limits, metrics, hooks.

Whatever touches a line's folders runs in a thread with a deadline: a share that has gone away may never answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import secrets
import shutil
import stat
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from heygemd.config.line import LINE_PLACES
from heygemd.config.load import LINE_FOLDERS, Config, LineConfig
from heygemd.config.tables import MetricsConfig
from heygemd.doctor.finding import Finding, User, service_user
from heygemd.guard import host
from heygemd.share.filesystem import blind

FOLDER_SECONDS, PORT_SECONDS = 10.0, 3.0
HOOKS = ("on_done", "on_failed", "on_deferred")
OLDEST_CLOCK = 1_767_225_600.0  # 2026-01-01: heygemd is not older
TMP_MIB = 1024
"""ffmpeg, torch and pip put things there; the service has a /tmp of its own on the same file system."""
WATCHES, INSTANCES = 16_384, 64
"""inotify's limits for a user: one watch a subfolder of an inbox, one instance a line, and others want some too."""


def examine(config: Config) -> list[Finding]:
    """Every finding, in the order in which they are printed."""
    user = service_user()
    checks = [clock(config, time.time()), temporary(), *inotify_limits(), state(config, user)]
    for line in config.lines:
        checks += _in_time(f"line {line.name}", lambda line=line: list(folders(config, line, user)))  # type: ignore[misc]
    return [*checks, *metrics(config.metrics, user), *hooks(config)]


def _in_time(name: str, act: Callable[[], list[Finding]]) -> list[Finding]:
    answer: list[list[Finding]] = []
    asking = threading.Thread(target=lambda: answer.append(act()), daemon=True)
    asking.start()
    asking.join(FOLDER_SECONDS)
    problem = f"its folders did not answer within {FOLDER_SECONDS:g} s"
    return answer[0] if answer else [Finding(name, "warn", problem, "is the share mounted and reachable?")]


# ---------------------------------------------------------------- the machine


def clock(config: Config, now: float) -> Finding:
    """A clock that is years off makes dates in logs and names worthless, and shares refuse logins."""
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
    cure = "set it (timedatectl set-time) and configure a time server"
    if now < OLDEST_CLOCK:
        return Finding("clock", "warn", f"shows {date}, which is before heygemd's release", cure)
    with contextlib.suppress(OSError):
        last = (config.daemon.state_dir / "journal.sqlite").stat().st_mtime
        if last > now + 86_400:
            then = time.strftime("%Y-%m-%d %H:%M", time.localtime(last))
            return Finding("clock", "warn", f"shows {date}, but the journal was last written at {then}", cure)
    return Finding("clock", "ok", date)


def temporary() -> Finding:
    """The folder for temporary files."""
    folder = Path(tempfile.gettempdir())
    free = host.disk_free_mib(folder)
    if free is not None and free < TMP_MIB:
        problem = f"{folder}: {free} MiB free, up to {TMP_MIB} MiB are needed"
        return Finding("temporary files", "warn", problem, "free some space, or mount a larger file system there")
    return Finding("temporary files", "ok", f"{folder}: {free} MiB free")


def inotify_limits(folder: Path = Path("/proc/sys/fs/inotify")) -> Iterator[Finding]:
    """Low limits make a line fall back to polling, which costs the share more."""
    for name, wanted in (("max_user_watches", WATCHES), ("max_user_instances", INSTANCES)):
        try:
            limit = int((folder / name).read_text())
        except (OSError, ValueError):
            continue
        if limit < wanted:
            cure = f"put 'fs.inotify.{name} = {wanted * 4}' into /etc/sysctl.d/heygemd.conf and run sysctl --system"
            yield Finding(f"inotify {name}", "warn", f"{limit}; at least {wanted} are needed", cure)
        else:
            yield Finding(f"inotify {name}", "ok", str(limit))


def state(config: Config, user: User) -> Finding:
    """The state folder, which holds the journal."""
    folder = config.daemon.state_dir
    there = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    with contextlib.suppress(OSError):
        if blind(there):
            problem = f"{folder} is on a network file system or FUSE, where the journal is not safe"
            return Finding("state_dir", "fail", problem, "set state_dir in [daemon] to a folder on a local disk")
        if not user.may_write(there.stat()):
            cure = f"install -d -o {user.name} -m 0750 {folder}"
            return Finding("state_dir", "warn", f"{user.name} cannot write to {there}", cure)
    return Finding("state_dir", "ok", str(folder))


# ---------------------------------------------------------------- a line


def folders(config: Config, line: LineConfig, user: User) -> Iterator[Finding]:
    """The folders of a line: there, ours, on one file system, where renaming works and changes are noticed."""
    name, missing = f"line {line.name}", []
    for part in LINE_PLACES if line.on_poor == "hold" else LINE_FOLDERS:
        folder: Path = getattr(line, part)
        try:
            if str(folder) not in line.trusted and folder.is_symlink():
                problem = f"{folder} is a symbolic link; links below a line's root are not followed"
                cure = f"set the link's target in the line: {part} = {json.dumps(str(folder.resolve()))}"
                yield Finding(f"{name} {part}", "fail", problem, cure)
                return
            status = folder.stat()
        except FileNotFoundError:
            missing.append(part)
            continue
        except OSError as error:
            yield Finding(
                f"{name} {part}", "warn", f"{folder}: {error.strerror}", "is the share mounted and reachable?"
            )
            return
        if not stat.S_ISDIR(status.st_mode):
            yield Finding(f"{name} {part}", "warn", f"{folder} is not a folder", "move the file away")
            return
        if not user.may_write(status):
            yield _foreign(f"{name} {part}", folder, status, user)
    if missing:
        note = f"{', '.join(missing)} do not exist yet; the daemon makes them if it has permission"
        yield Finding(f"{name} folders", "ok", note)
    if "inbox" not in missing:
        yield _watching(config, name, line.inbox)
        if "processing" not in missing:
            yield _renaming(name, line)


def _foreign(name: str, folder: Path, status: os.stat_result, user: User) -> Finding:
    denied = (
        f"{folder} belongs to {_owner(status.st_uid)} with mode {stat.filemode(status.st_mode)}; {user.name} cannot"
    )
    cure = f"run chown {user.name} {folder}, or assign it to a group of {user.name} with mode 2770"
    return Finding(name, "warn", f"{denied} write there", cure)


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _watching(config: Config, name: str, inbox: Path) -> Finding:
    name = f"{name} watching"
    if not blind(inbox):
        return Finding(name, "ok", f"{inbox}: with inotify")
    if config.intake.watch == "inotify":
        problem = f"{inbox} is a share or FUSE, where inotify does not report files that others write"
        return Finding(name, "warn", problem, "set watch in [intake] to auto")
    return Finding(
        name, "ok", f"{inbox}: by polling, because inotify does not report files that others write to a share"
    )


def _renaming(name: str, line: LineConfig) -> Finding:
    """Test the rename of a claim, from the inbox to processing/, with a name that intake ignores."""
    name = f"{name} renaming"
    trial = f".heygemd-doctor-{secrets.token_hex(4)}"
    source, target = line.inbox / trial, line.processing / trial
    try:
        source.touch(exist_ok=False)
        source.rename(target)
    except PermissionError as error:
        return Finding(name, "ok", f"not tested: this user cannot write to {error.filename2 or error.filename}")
    except OSError as error:
        cure = "processing/ must be on the inbox's file system, and that file system must support renaming"
        return Finding(name, "warn", f"from {line.inbox} to {line.processing}: {error.strerror}", cure)
    finally:
        for path in (source, target):
            with contextlib.suppress(OSError):
                path.unlink()
    return Finding(name, "ok", "from inbox to processing/")


# ---------------------------------------------------------------- metrics


def metrics(wanted: MetricsConfig, user: User) -> Iterator[Finding]:
    """Whether what ``[metrics]`` asks for would work: a folder that can be written, a port that is free or ours."""
    if wanted.textfile != Path():
        yield _textfile(wanted.textfile, user)
    if wanted.port:
        yield _port(wanted.port)


def _textfile(file: Path, user: User) -> Finding:
    name, folder = "metrics textfile", file.parent
    try:
        status = folder.stat()
    except OSError as error:
        cure = f"create it (install -d -o {user.name} {folder}), or correct textfile in [metrics]"
        return Finding(name, "warn", f"{folder}: {error.strerror}", cure)
    if not stat.S_ISDIR(status.st_mode):
        return Finding(name, "warn", f"{folder} is not a folder", "correct textfile in [metrics]")
    if not user.may_write(status):
        return _foreign(name, folder, status, user)
    return Finding(name, "ok", f"{file}; the service needs the drop-in systemd/examples/prometheus.conf to write it")


def _port(port: int) -> Finding:
    name, url = "metrics port", f"http://127.0.0.1:{port}/metrics"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever $http_proxy says
    try:
        with direct.open(url, timeout=PORT_SECONDS) as answer:
            ours = b"heygemd_build_info" in answer.read(1 << 20)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return Finding(name, "ok", f"{port}: free; heygemd will listen there")
        ours = False
    except (OSError, http.client.HTTPException):
        ours = False
    if ours:
        return Finding(name, "ok", f"heygemd answers at {url}")
    problem = f"another program listens on port {port} of this machine, so the daemon cannot"
    return Finding(name, "warn", problem, "choose another port in [metrics]")


# ---------------------------------------------------------------- hooks


def hooks(config: Config) -> list[Finding]:
    """Each configured hook, whether its program is there, and who would run it."""
    own = config.hooks
    by = "by heygemd-hook@.service" if own.socket.is_socket() else "by the daemon itself"
    cure = f"correct its program in [hooks] of {config.source}"
    checks = []
    for name in HOOKS:
        argv: tuple[str, ...] = getattr(own, name)
        if argv and shutil.which(argv[0]) is None:
            checks.append(
                Finding(f"hook {name}", "warn", f"{argv[0]} is not a program that this user can execute", cure)
            )
        elif argv:
            checks.append(Finding(f"hook {name}", "ok", f"{shutil.which(argv[0])}, run {by}"))
    return checks
