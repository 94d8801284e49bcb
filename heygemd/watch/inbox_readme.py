"""``README.txt`` in each inbox: file names, accepted kinds, place of the films.  English and Chinese."""

from __future__ import annotations

from heygemd.common.messages import LANGUAGES, say
from heygemd.common.request import AUDIO_SUFFIXES, STILL_SUFFIXES, VIDEO_SUFFIXES
from heygemd.common.shipped import DATA
from heygemd.config.load import Config, LineConfig

NAME = "README.txt"
_OWN = (("readme:consent", "require_consent"), ("readme:orders", "folder_control"))
"""Paragraphs for lines with these settings."""
_TEMPLATE = DATA / "inbox-readme.txt"


def text(config: Config, line: LineConfig) -> bytes:
    """The file for one line, readable on old Windows: CRLF and a UTF-8 mark."""
    values = {
        "audio": _listed(AUDIO_SUFFIXES), "video": _listed(VIDEO_SUFFIXES), "still": _listed(STILL_SUFFIXES),
        "eye": f"{config.render.min_eye_px:g}",
        "outbox": line.outbox.name, "done": line.done.name, "failed": line.failed.name,
    }  # fmt: skip
    whole = _TEMPLATE.read_text(encoding="utf-8")
    for language in LANGUAGES:
        asked = [say(language, code) for code, key in _OWN if getattr(line, key)]
        whole = whole.replace(f"{{own_{language}}}\n", "".join(f"{rule}\n" for rule in asked))
    for name, value in values.items():
        whole = whole.replace(f"{{{name}}}", value)
    return whole.replace("\n", "\r\n").encode("utf-8-sig")


def _listed(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffix[1:] for suffix in suffixes))
