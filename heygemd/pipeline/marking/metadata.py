"""The mark that a film was made by a machine, in its metadata.

China's GB 45438-2025 (in force since September 2025) asks for one metadata entry ``AIGC`` whose value is a JSON object
of seven strings; ffmpeg writes it into an mp4 as a key of its own (``use_metadata_tags``).  What each is for:

    Label              "1": the content was generated (2: may have been, 3: is suspected to)
    ContentProducer    name or code of who made it: ``[mark] producer``
    ProduceID          the maker's number of this content: here a hash of inputs, settings and version
    ReservedCode1      the maker's own signature, if any
    ContentPropagator, PropagateID, ReservedCode2    the same for who spreads it, who fills them in
"""

from __future__ import annotations

import json
from pathlib import Path

from heygemd import __version__
from heygemd.common.errors import EngineError
from heygemd.contract.job import Settings
from heygemd.pipeline.ffmpeg import FFMPEG, OURS, UNTRUSTED, run
from heygemd.pipeline.media.json_fields import json_object, member
from heygemd.pipeline.media.read.probe import input_argv
from heygemd.pipeline.media.write.soundtrack import metadata_argv

KEYS = (
    "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2",
)  # fmt: skip
GENERATED = "1"


def made(settings: Settings, key: str, engine: str) -> dict[str, str]:
    """The metadata entries of a film; none where marks are off.  ``key`` names the film's content (hex)."""
    if settings.mark == "off":
        return {}
    values = {"Label": GENERATED, "ContentProducer": settings.producer, "ProduceID": key[:32]}
    mark = {name: values.get(name, "") for name in KEYS}
    return {
        "AIGC": json.dumps(mark, ensure_ascii=False),
        "comment": f"Made by a machine: heygemd {__version__}, engine {engine}",
    }


def stamp(film: Path, out: Path, entries: dict[str, str], settings: Settings) -> None:
    """Copy ``film`` (mp4) to ``out`` with the entries, its streams as they are.  Raises ``EngineError``."""
    words = [*FFMPEG, "-y", *input_argv(film), "-map", "0:v", "-map", "0:a", "-c", "copy", *metadata_argv(entries)]
    done = run([*words, "-f", "mp4", f"file:{out}"], limits=OURS, stall=settings.media_seconds)
    if done.code:
        raise EngineError("The mark of AI-generated content could not be written into the film.", detail=done.stderr)


def tags(film: Path, settings: Settings) -> dict[str, str]:
    """The metadata entries of a file; none where they cannot be read."""
    words = ["ffprobe", "-v", "error", *input_argv(film), "-show_entries", "format_tags", "-of", "json"]
    done = run(words, limits=UNTRUSTED, stall=settings.media_seconds)
    try:
        entries = member(member(json_object(done.stdout), "format"), "tags")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in entries.items()}


def found(film: Path, settings: Settings) -> dict[str, str] | None:
    """The mark that a file carries; ``None`` where it carries none that can be read."""
    try:
        mark = json.loads(next(value for name, value in tags(film, settings).items() if name.upper() == "AIGC"))
    except (ValueError, StopIteration):
        return None
    return {name: str(mark.get(name, "")) for name in KEYS} if isinstance(mark, dict) else None
