"""Examines the Duix.Avatar container: whether it answers, sees the same folder, and may be used by the service.

Imports nothing heavy.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from heygemd.config.tables import DuixConfig
from heygemd.contract import duix_api as api
from heygemd.contract.duix_api import Client, Unclear, Unreachable
from heygemd.contract.duix_folder import TEMP, Shared, inputs_of, new_code
from heygemd.doctor.finding import Finding, User, service_user
from heygemd.guard import host

NAME = "engine duix"
TRIAL_SECONDS, LOOK_SECONDS = 20.0, 0.5
ANSWER_SECONDS = 5.0
DROP_IN = "systemd/examples/localhost-network.conf"
UNIT = "heygemd.service"
_ASKED = ("LoadState", "PrivateNetwork", "ProtectHome", "ReadWritePaths")
_SILENCE = b"RIFF" + (36 + 16000).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\x01\0\x01\0" + (
    (16000).to_bytes(4, "little") + (32000).to_bytes(4, "little") + b"\x02\0\x10\0data" + (16000).to_bytes(4, "little")
) + bytes(16000)  # fmt: skip
"""Half a second of silence as WAV, 16 kHz, 16 bits, mono."""


def examine(
    config: DuixConfig, wanted: bool, clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Finding]:  # fmt: skip
    """Everything, in order.  ``wanted``: whether some line may use the engine.

    Where the container answers it is given a task that must fail at once (its pictures are missing), to see whether it
    finds the sound that is laid down beside it: it should not come as far as its GPU.
    """
    if config.shared == Path():
        cure = "to use it, run a Duix.Avatar (HeyGem) container and set shared in [duix]"
        return [Finding(NAME, "warn", "not configured", cure)]
    folder = _folder(config.shared, service_user())
    service = _service(config, _unit_properties()) if wanted else []
    client = Client(config.url, ANSWER_SECONDS)
    try:
        reply = client.query("heygemd-doctor")
    except Unreachable as error:
        cure = "start the container and publish its port 8383 on 127.0.0.1, or correct url in [duix]"
        return [Finding(NAME, "warn", f"no answer at {config.url}: {error}", cure), folder, *service]
    except Unclear as error:
        cure = "restart it if it is a Duix.Avatar container, else correct url in [duix]"
        return [
            Finding(NAME, "warn", f"{config.url} does not answer like a Duix.Avatar container: {error}", cure),
            folder,
            *service,
        ]
    answer = f"{config.url} answers ({reply.server or 'server name unknown'}; image version unknown)"
    knows = reply.code == api.NO_TASK
    first = (
        Finding(NAME, "ok", answer)
        if knows
        else Finding(NAME, "warn", f"{answer}, but with code {reply.code} {reply.msg}")
    )
    if folder.verdict != "ok":
        return [first, folder, *service]
    return [first, folder, _trial(config, client, clock, sleep), *service]


def _folder(shared: Path, user: User) -> Finding:
    name = "duix folder"
    temp = shared / TEMP
    try:
        status = temp.stat()
    except OSError as error:
        cure = (
            "set shared in [duix] to the folder that the container mounts as /code/data; it creates temp/ at its start"
        )
        return Finding(name, "warn", f"{temp}: {error.strerror}", cure)
    if not user.may_write(status):
        cure = f"setfacl -m u:{user.name}:rwx,d:u:{user.name}:rwX {temp} (the container writes there as root)"
        return Finding(name, "warn", f"{user.name} cannot write to {temp}", cure)
    return Finding(name, "ok", f"{temp}: {host.disk_free_mib(temp)} MiB free")


def _trial(config: DuixConfig, client: Client, clock: Callable[[], float], sleep: Callable[[float], None]) -> Finding:
    """Whether the container finds a sound that we put there: it then makes files of its own beside ours."""
    name, shared, code = "duix folder inside", Shared(config.shared), new_code()
    sound, pictures = inputs_of(code)
    try:
        with tempfile.NamedTemporaryFile() as trial:
            trial.write(_SILENCE)
            trial.flush()
            shared.put(Path(trial.name), sound)
        reply = client.submit(code, sound, pictures)
        if reply.code == api.BUSY:
            return Finding(name, "ok", "not tested: the container is busy")
        ends, message = clock() + TRIAL_SECONDS, ""
        while True:
            others = [file for file in shared.of(code) if file != sound]
            task = api.task_state(client.query(code))
            message = task.message or message
            if others or task.state != "running" or clock() > ends:
                break
            sleep(LOOK_SECONDS)
        return _judged(name, config, others or [file for file in shared.of(code) if file != sound], message)
    except (OSError, Unreachable, Unclear) as error:
        return Finding(name, "warn", f"could not be tested: {error}")
    finally:
        _clean(shared, code)


def _judged(name: str, config: DuixConfig, others: list[str], message: str) -> Finding:
    if others:
        return Finding(name, "ok", "the container finds files written there")
    quoted = f": {message}" if message else ""
    if "时长" in message:
        cure = f"the container must mount {config.shared} as /code/data (volumes: {config.shared}:/code/data)"
        return Finding(name, "warn", f"the container does not find files written there{quoted}", cure)
    return Finding(name, "ok", f"it could not be determined whether the container mounts the same folder{quoted}")


def _clean(shared: Shared, code: str) -> None:
    try:
        shared.clean(code)
    except OSError:
        return


# ---------------------------------------------------------------- the service's sandbox


def _unit_properties() -> Mapping[str, str]:
    """The service's properties in systemd; empty where there is no such service."""
    if shutil.which("systemctl") is None:
        return {}
    argv = ["systemctl", "show", UNIT, *(f"--property={name}" for name in _ASKED)]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = done.stdout.decode(errors="replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _service(config: DuixConfig, unit: Mapping[str, str]) -> list[Finding]:
    """Whether the installed service may reach the container and write to the folder: by itself it has no network."""
    name = "duix from the service"
    if unit.get("LoadState") != "loaded":
        return []
    cure = (
        f"install {DROP_IN} as /etc/systemd/system/{UNIT}.d/localhost-network.conf, adapt it, and restart the service"
    )
    faults = ["has no network"] if unit.get("PrivateNetwork") == "yes" else []
    paths = [word.lstrip("-+") for word in unit.get("ReadWritePaths", "").split()]
    if not any(config.shared.is_relative_to(path) for path in paths if path):
        faults.append(f"is not allowed to write to {config.shared}")
    if unit.get("ProtectHome") in ("yes", "tmpfs") and config.shared.parts[1:2] in (("home",), ("root",)):
        faults.append("cannot see home folders: move the folder, for example to /srv/duix")
    if not faults:
        return [Finding(name, "ok", f"{UNIT} can reach it and write to its folder")]
    return [Finding(name, "warn", f"{UNIT} {' and '.join(faults)}", cure)]
