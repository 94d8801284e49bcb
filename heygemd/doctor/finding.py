"""``Finding``: one result of ``heygemd doctor``; ``User``: the user that the service runs as."""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import dataclass
from typing import Literal

SERVICE_USER = "heygemd"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: the sentence ``said``, and in ``cure`` what to do where it is not ok."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    said: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """Who will run the daemon."""

    name: str
    uid: int
    gids: frozenset[int]

    def may_write(self, status: os.stat_result) -> bool:
        """Whether the mode bits let this user make and remove names in a folder."""
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        return (status.st_mode >> shift) & 3 == 3


def service_user() -> User:
    """The service's user where root asks and there is one, else whoever asks."""
    uid = os.geteuid()
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(SERVICE_USER) if uid == 0 else pwd.getpwuid(uid)
        return User(entry.pw_name, entry.pw_uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    return User("root" if uid == 0 else str(uid), uid, frozenset({os.getegid(), *os.getgroups()}))
