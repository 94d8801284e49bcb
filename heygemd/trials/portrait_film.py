"""Makes what demo, bench and selftest drop: a film of the shipped portrait, and the shipped speech.

``data/portrait.md`` and ``data/demo_speech.md`` say where they come from.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from heygemd.common.errors import SetupError
from heygemd.common.shipped import shipped

SECONDS = 6
TIMEOUT = 300.0  # seconds

DRIFT_X = "7*sin(on/41)+3*sin(on/17)"
DRIFT_Y = "4*sin(on/29)"
TURN = "(0.006*sin(on/37)+0.003*sin(on/15))"  # radians
BREATHE = "(0.008*sin(on/53))"


def write_speech(out: Path) -> None:
    """Write the shipped sentence, a FLAC file of some seconds."""
    out.write_bytes(shipped("demo_speech.flac"))


def make_portrait_film(out: Path, seconds: int = SECONDS) -> None:
    """Film the shipped portrait (512 x 512 pixels) for ``seconds``: 960 x 720, 25 fps, H.264, without sound.

    The portrait itself is written beside ``out``, with the suffix ``.jpg``.

    The eyes are 45 pixels apart in the portrait and about 104 in the film.  The camera drifts by a few
    pixels, turns by half a degree and breathes by one percent, all by fractions of a pixel and on sines
    without a common period; a little grain keeps any two frames from being equal.  Without both, tracking
    would have nothing to do.

    Raises SetupError where ffmpeg is missing or cannot do it.
    """
    portrait = out.with_suffix(".jpg")
    portrait.write_bytes(shipped("portrait.jpg"))
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-loop", "1", "-framerate", "25", "-t", str(seconds)]
    argv += ["-i", str(portrait), "-vf", _filters(), "-c:v", "libx264", "-preset", "veryfast", "-crf", "16"]
    argv += ["-pix_fmt", "yuv420p", str(out)]
    try:
        done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT)
    except FileNotFoundError as error:
        cure = "Install it (Debian, Ubuntu: apt-get install ffmpeg)."
        raise SetupError(f"ffmpeg is not installed; heygemd needs it. {cure}") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"ffmpeg took more than {TIMEOUT:.0f} seconds for a film of {seconds} seconds.") from error
    if done.returncode != 0:
        raise SetupError(
            "ffmpeg could not make the demo's template; run 'heygemd doctor' to check that it has libx264.",
            detail=done.stderr[-2000:],
        )


def _filters() -> str:
    """ffmpeg's filter chain; ``on`` counts frames, W and H are the picture's size."""
    corners = []
    for n, (x, y) in enumerate((("0", "0"), ("W", "0"), ("0", "H"), ("W", "H"))):
        across, down = f"({x}-W/2)", f"({y}-H/2)"
        corners.append(f"x{n}='{x}+{DRIFT_X}+{BREATHE}*{across}-{TURN}*{down}'")
        corners.append(f"y{n}='{y}+{DRIFT_Y}+{BREATHE}*{down}+{TURN}*{across}'")
    steps = (
        "crop=432:324:8:0",  # head and shoulders
        "scale=1024:768:flags=lanczos",
        "format=yuv420p",
        # zoompan and crop move by whole pixels and would tremble; this one does not
        f"perspective={':'.join(corners)}:interpolation=cubic:sense=source:eval=frame",
        "crop=960:720",  # leaves a margin for what the motion draws in from outside
        "noise=alls=3:allf=t:all_seed=1",
    )
    return ",".join(steps)
