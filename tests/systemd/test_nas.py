"""A line on a NAS: mounted by the options of the example, by a kernel that can (user-mode-linux); cifs and NFS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.systemd, pytest.mark.slow]

HERE = Path(__file__).resolve().parent
NEEDED = {
    "cifs": ("linux.uml", "modprobe", "smbd", "smbpasswd", "mount.cifs"),
    "nfs": ("linux.uml", "modprobe", "rpc.nfsd", "mount.nfs4"),
}


@pytest.mark.parametrize("kind", ["cifs", "nfs"])
def test_what_others_drop_on_the_nas_is_done_and_a_nas_that_was_away_is_taken_up_again(
    kind: str, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if missing := [tool for tool in NEEDED[kind] if shutil.which(tool) is None]:
        pytest.skip(
            f"{', '.join(missing)} is not installed (user-mode-linux, kmod, samba, cifs-utils, nfs-kernel-server)"
        )
    machine = subprocess.run(
        [HERE / "uml.sh", tmp_path, HERE / "nas.sh", kind], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=700, errors="replace", env={**os.environ, "HEYGEMD_PYTHON": sys.executable, "LANG": "C.UTF-8"},
    )  # fmt: skip
    said = machine.stdout
    print(said, machine.stderr)
    assert "WATCH polling" in said
    for seen in (
        "a film for what others have dropped", "the inputs are filed", "the line is called unavailable",
        "a film after the share has returned",
    ):  # fmt: skip
        assert f"SEEN {seen}" in said
    assert "OUTBOX ['first.mp4', 'second.mp4']" in said and "STOPPED 0" in said
