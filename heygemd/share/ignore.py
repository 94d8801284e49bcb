"""Names in an inbox that are not a drop: our own, the system's, and files still being written."""

from __future__ import annotations

import re

_LITTER = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "desktop.ini", "readme.txt", "lost+found", "__macosx", "@eadir",
        "system volume information", "$recycle.bin", "#recycle", "@recycle", "#snapshot", "~snapshot",
        "@recently-snapshot",
    }
)  # fmt: skip
_UNDERWAY_ENDS = (
    ".part", ".partial", ".tmp", ".crdownload", ".filepart", ".opdownload", ".download", ".downloading",
    ".aria2", ".xltd", ".~tmp~",
)  # fmt: skip
_LITTER_STARTS = (".", "~$", "._", ".smbdelete", ".nfs", ".fuse_hidden")
#: rsync writes ``.NAME.XXXXXX`` beside the file; an editor's or Syncthing's work file is a dot-file too.
_RSYNC = re.compile(r"\..+\.[a-z0-9]{6}$")


def ignored(name: str) -> bool:
    """Whether one path component is litter of a system or a file on its way that the inbox does not take.

    Case does not matter.  All dot-files are ignored, so our own marker is too; so is the ``README.txt`` that
    explains the folder to people.
    """
    low = name.lower()
    return low in _LITTER or low.startswith(_LITTER_STARTS) or low.endswith("~") or underway(low)


def underway(name: str) -> bool:
    """Whether ``name`` is a temporary name of a program that is still copying.

    Such names are ``ignored``, but a scan does well to list them all the same: ``Settler`` then knows that
    the folder around them is not at rest.
    """
    low = name.lower()
    if low.endswith(_UNDERWAY_ENDS) or low.startswith("~syncthing~"):
        return True
    return _RSYNC.match(low) is not None
