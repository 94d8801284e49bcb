"""A machine of its own for each file of tests, with the service as just installed for each test."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site import ROOT
from tests.systemd.machine import Machine, lacking
from tests.systemd.service import RUN, Service


@pytest.fixture(scope="module")
def machine(media: Path) -> Iterator[Machine]:
    if why := lacking():
        pytest.skip(why)
    packages = Path(sysconfig.get_paths()["purelib"])
    binds = {
        ROOT: "/opt/heygemd-source",
        packages: "/opt/heygemd-packages",
        Path(sys.base_prefix): "/opt/heygemd-python",
    }
    with Machine({**binds, media: "/tmp/media"}) as machine:
        machine.sh("systemd-sysusers", "/opt/heygemd-source/systemd/heygemd.sysusers")
        machine.sh("useradd", "--groups", "heygemd-users", "alice")
        machine.write("/opt/heygemd/bin/heygemd", RUN)
        machine.sh("chmod", "755", "/opt/heygemd/bin/heygemd")
        machine.sh("cp", "-r", "/tmp/media", "/opt/media")
        machine.sh("chmod", "-R", "a+rX", "/opt/media")
        yield machine


@pytest.fixture
def service(machine: Machine) -> Service:
    service = Service(machine)
    service.fresh()
    return service
