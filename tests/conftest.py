"""Shared fixtures: media that the tests make themselves, and a daemon on folders of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site import ROOT, Site, make_film, make_wav

CLIPS = ROOT.parent / "shared" / "clips"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the soak takes, and what befalls it."""
    parser.addoption("--hours", type=float, default=0.0, help="how long the long soak takes (0: 600 deeds)")
    parser.addoption("--seed", type=int, default=7, help="of the soaks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this machine cannot run, and say why."""
    slow_wanted = "slow" in (config.getoption("-m") or "")
    for item in items:
        if item.get_closest_marker("clips") and not CLIPS.is_dir():
            item.add_marker(pytest.mark.skip(reason="the real clips in ../shared/clips are not here"))
        if item.get_closest_marker("slow") and not slow_wanted:
            item.add_marker(pytest.mark.skip(reason="takes long; ask for it with -m slow"))


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
