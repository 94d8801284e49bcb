"""Makes a checkpoint for ``heygemd bench --engine wav2lip`` and measures its network alone.

Imports nothing heavy; a child makes the seeded random weights and measures (``bench_child`` of the engine).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TypedDict

from heygemd.common.errors import EngineError
from heygemd.common.spawn import environment, python
from heygemd.models.importing import import_model
from heygemd.models.store import ModelStore

SECONDS = 900.0


class Speed(TypedDict):
    """Frames a second, and the frames that are made at a time."""

    fps: float
    batch: int


class Plain(Speed):
    """The plain float32 module, and the batch with which it is fastest."""

    best: Speed


class Chosen(Speed):
    """As heygemd runs the network."""

    backend: str
    precision: str
    device: str


class NetworkSpeed(TypedDict):
    """The network alone: both ways of running it, how they compare, and the rows of the picture that are made."""

    plain: Plain
    chosen: Chosen
    ratio: float
    cpu_ratio: float
    error: float
    psnr_db: float
    rows: tuple[int, int]


def prepare(home: Path, models: Path) -> NetworkSpeed:
    """Fill the folder ``models`` with a seeded random Wav2Lip, imported like anybody's, and measure how fast its
    network is here (``bench_child``).  Raises ``EngineError`` where that cannot be measured."""
    weights = home / "seeded.pth"
    argv = [*python("heygemd.pipeline.engines.wav2lip.run.bench_child"), str(weights), "0"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, env=environment())
    except subprocess.TimeoutExpired:
        raise EngineError(f"The measurement of the network took longer than {SECONDS:.0f} s.") from None
    if done.returncode:
        raise EngineError("The network cannot be run here.", detail=done.stderr[-2000:])
    facts: NetworkSpeed = json.loads(done.stdout.splitlines()[-1])
    import_model(ModelStore(models), weights, accept=True)
    weights.unlink()
    return facts


def print_network(facts: NetworkSpeed) -> None:
    """Print the measurement."""
    plain, chosen = facts["plain"], facts["chosen"]
    best = plain["best"]
    print("network only, random weights with a fixed seed, 96 px")
    print(f"  plain float32 module   {plain['fps']:7.1f} frames/s, {plain['batch']} at a time", end="")
    print(f"; {best['fps']:.1f}, {best['batch']} at a time" if best["batch"] != plain["batch"] else "")
    how = f"{chosen['backend']}, {chosen['precision']}, {chosen['device']}"
    print(f"  as heygemd runs it     {chosen['fps']:7.1f} frames/s, {chosen['batch']} at a time ({how})")
    print(f"  {facts['ratio']:.2f} times as fast, {facts['cpu_ratio']:.2f} by processor time; at most {facts['error']}")
    top, rows = facts["rows"]
    print(f"  of 255 levels off, PSNR {facts['psnr_db']:.0f} dB", end="")
    print(f"; {rows - top} of {rows} rows are computed: films do not show the others\n" if top else "\n")
