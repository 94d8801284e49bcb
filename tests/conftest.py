"""Shared fixtures: media that the tests make themselves, and a daemon on folders of its own."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from tests.site import ROOT, Site, make_film, make_wav

CLIPS = ROOT.parent / "shared" / "clips"
LONG_FOLDERS = ("bundle", "models", "pipeline", "scenarios", "systemd", "training", "trials")
"""Below ``tests``: stories with a real daemon, and what installs, imports, renders, trains or times."""
LONG_FILES = ("cli/test_render.py",)
QUICK_FILES = (
    "pipeline/engines/duix/test_api.py",
    "pipeline/engines/duix/test_chunks.py",
    "pipeline/engines/footage/test_parts.py",
    "pipeline/face/test_scrfd.py",
    "pipeline/image/test_compose.py",
    "pipeline/image/test_parallel.py",
    "pipeline/image/test_smoothing.py",
    "pipeline/media/test_segment_bounds.py",
    "pipeline/quality/test_parts.py",
    "pipeline/speech/test_mel.py",
    "pipeline/test_ffmpeg.py",
    "pipeline/test_result.py",
)
"""Of ``LONG_FOLDERS``, and yet quick: each took less than 4 s of processor time (2026-12-01)."""
LONG_NAMES = frozenset({"Site", "site", "make_site"})
"""Fixtures and functions that start a daemon."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the soak takes, and what befalls it."""
    parser.addoption("--hours", type=float, default=0.0, help="how long the long soak takes (0: 600 deeds)")
    parser.addoption("--seed", type=int, default=7, help="of the soaks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this machine cannot run, and say why."""
    slow_wanted = "slow" in (config.getoption("-m") or "")
    for item in items:
        if is_long(item):
            item.add_marker(pytest.mark.daemon)
        if item.get_closest_marker("clips") and not CLIPS.is_dir():
            item.add_marker(pytest.mark.skip(reason="the real clips in ../shared/clips are not here"))
        if item.get_closest_marker("slow") and not slow_wanted:
            item.add_marker(pytest.mark.skip(reason="takes long; ask for it with -m slow"))


def is_long(item: pytest.Item) -> bool:
    """Whether a test starts a daemon or takes long: by its place, its fixtures and what it calls."""
    place = item.path.relative_to(ROOT / "tests")
    if item.get_closest_marker("slow") or str(place) in LONG_FILES:
        return True
    if place.parts[0] in LONG_FOLDERS and str(place) not in QUICK_FILES:
        return True
    if not isinstance(item, pytest.Function):
        return False
    annotations = re.findall(r"\w+", " ".join(map(str, item.function.__annotations__.values())))
    return not LONG_NAMES.isdisjoint([*item.fixturenames, *annotations, *called(item.function.__code__)])


def called(code: CodeType) -> Iterator[str]:
    """The global names in a function's code, and in the functions and comprehensions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from called(constant)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``voice.wav`` (1 s) and ``film.mp4`` (1 s, 25 frames)."""
    folder = tmp_path_factory.mktemp("media")
    make_wav(folder / "voice.wav")
    make_film(folder / "film.mp4")
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A line with the command engine; its daemon, if one was started, is ended."""
    site = Site(tmp_path / "site")
    yield site
    site.kill()


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would all that is started here; some tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
