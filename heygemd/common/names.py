"""File names: compares and checks what people typed, and makes names that every share can hold.

Names are ``str`` as ``os.fsdecode`` gives them, so bytes that are not UTF-8 appear as lone surrogates.  Two
names are the same to a person when they differ only in case or in Unicode form (a Mac writes ``é`` as two
characters, Windows as one); ``folded`` is that notion of "the same".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container

#: Bytes left for a film's name: of the usual 255, the rest is for `` (99)``, ``.batch.json``, an id and
#: ``.part``.
FILM_BYTES = 200
#: The same for a drop's folder, which also carries a time and an id.
FOLDER_BYTES = 180
#: Bytes of a path in a manifest: Linux takes 4095 for all of it, the folder that it is relative to included.
PATH_BYTES = 2000

#: Device names that Windows refuses, whatever their extension (learn.microsoft.com, "Naming Files, Paths").
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
#: Characters that Windows refuses in a name.
_FORBIDDEN = frozenset('<>:"|?*\\/')
#: Characters that turn the reading direction around and so can make a name look like another one.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def nfc(name: str) -> str:
    """``name`` in the composed Unicode form, the one that Windows and Linux keyboards give."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A key under which names that differ only in case or Unicode form are equal."""
    return name.lower() if name.isascii() else nfc(nfc(name).casefold())


def split(name: str) -> tuple[str, str]:
    """Stem and lower-case suffix: ``Lesson.1.MP4`` gives ``("Lesson.1", ".mp4")``; no suffix gives ``""``."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or not suffix:
        return name, ""
    return stem, "." + suffix.lower()


def parent(path: str) -> str:
    """The folder of a ``/``-separated relative path; ``""`` at the top."""
    return path.rpartition("/")[0]


def leaf(path: str) -> str:
    """The last component of a ``/``-separated path."""
    return path.rpartition("/")[2]


def join(folder: str, name: str) -> str:
    """``folder/name``, or ``name`` where ``folder`` is the top."""
    return f"{folder}/{name}" if folder else name


def display(name: str) -> str:
    """``name`` on one printable line: bytes that are no text and control characters appear as ``\\xNN``."""
    if name.isprintable():
        return name
    return "".join(_shown(c) for c in name)


def _shown(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:  # a raw byte, by os.fsdecode's surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100 and unicodedata.category(c) == "Cc":
        return f"\\x{code:02x}"
    if c in _TURNING or unicodedata.category(c) in ("Cs", "Zl", "Zp"):
        return f"\\u{code:04x}"
    return c


def _unusable(c: str) -> bool:
    return c == "/" or c in _TURNING or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")


def clipped(text: str, limit: int) -> str:
    """``text`` cut to at most ``limit`` UTF-8 bytes, between characters and not before a combining mark."""
    if len(text.encode("utf-8", "surrogateescape")) <= limit:
        return text
    cut = len(text.encode("utf-8", "surrogateescape")[:limit].decode("utf-8", "ignore"))
    while cut > 1 and (unicodedata.combining(text[cut]) or text[cut] in "\u200d\ufe0f"):
        cut -= 1
    return text[:cut].rstrip("\u200d")


def safe_component(name: str, limit: int = FOLDER_BYTES) -> str:
    """``name`` as one that any file system and any Windows client can hold: at most ``limit`` bytes, never
    empty.

    Control characters, ``/`` and what else Windows refuses, characters that turn the reading direction and bytes that
    are not UTF-8 become ``_``; dots and spaces at the end and dots at the beginning go; a device name such as ``CON``
    gets a ``_``.
    """
    text = "".join("_" if c in _FORBIDDEN or _unusable(c) else c for c in nfc(name))
    text = clipped(text.strip().lstrip("."), limit).rstrip(". ")
    if not text:
        return "unnamed"
    if _DEVICES.match(text):
        text = "_" + clipped(text, limit - 1)
    return text


def film_name(stem: str) -> str:
    """The name of a film (without ``.mp4``) made from a file with this stem."""
    return safe_component(stem, FILM_BYTES)


def name_fault(name: str) -> str | None:
    """The fault of ``name`` as a requested film name; ``None`` if it is valid.

    A name that is made up by us is repaired (``safe_component``); one that was asked for is refused, so that
    nobody looks for a film under a name that it does not have.
    """
    if not name.strip():
        return "is empty"
    bad = sorted({c for c in name if c in _FORBIDDEN})
    if bad:
        return f"contains {' '.join(bad)}: it must be a plain file name"
    if any(_unusable(c) for c in name):
        return "contains control characters"
    if name.startswith(".") or name.strip() != name or name.endswith("."):
        return "must not start or end with a dot or a space"
    if _DEVICES.match(name):
        return "is reserved for a device on Windows"
    if len(name.encode()) > FILM_BYTES:
        return f"is longer than {FILM_BYTES} bytes"
    return None


def inside(text: str) -> tuple[str, str | None]:
    """A path from a manifest as a clean relative path, or ``("", fault)``.

    Only paths that go down are let through: relative, no ``..``.  Backslashes are taken as ``/``.
    """
    if any(_unusable(c) and c != "/" for c in text):
        return "", "contains control characters or bytes that are not text"
    path = text.strip().replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "", "is an absolute path; only paths relative to the manifest or to a library folder are allowed"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if any(part.strip() == ".." for part in parts):
        return "", "leaves its folder with '..'; only files in the inbox and the library are read"
    if not parts:
        return "", "names no file"
    if any(len(part.encode()) > 255 for part in parts) or len(path.encode()) > PATH_BYTES:
        return "", "is too long"
    return "/".join(parts), None


def free_name(base: str, taken: Callable[[str], bool] | Container[str]) -> str:
    """``base``, or ``base (2)``, ``base (3)``… : the first that is not taken.

    ``taken`` is asked with the name itself if it is a function, else holds names as ``folded`` gives them.
    """
    is_taken = taken if callable(taken) else (lambda name: folded(name) in taken)
    name, number = base, 1
    while is_taken(name):
        number += 1
        tail = f" ({number})"
        name = clipped(base, FILM_BYTES - len(tail)) + tail
    return name
