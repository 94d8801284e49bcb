"""The part of ``heygemd bench`` that only an engine with a network has: a checkpoint to run, and the network alone.

Imports nothing heavy; a child makes the seeded random weights and measures (``pipeline/engines/wav2lip/trial.py``).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heygemd.common.errors import EngineError
from heygemd.common.spawn import environment, python
from heygemd.models.importing import bring
from heygemd.models.store import Store

SECONDS = 900.0


def prepare(home: Path, models: Path) -> dict[str, Any]:
    """Fill the folder ``models`` with a seeded random Wav2Lip, imported as one that somebody brings, and tell how fast
    its network is here (``runtime.compared``).  Raises ``EngineError`` where that cannot be measured."""
    weights = home / "seeded.pth"
    argv = [*python("heygemd.pipeline.engines.wav2lip.run.bench_child"), str(weights), "0"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, env=environment())
    except subprocess.TimeoutExpired:
        raise EngineError(f"The measurement of the network took longer than {SECONDS:.0f} s.") from None
    if done.returncode:
        raise EngineError("The network cannot be run here.", detail=done.stderr[-2000:])
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    bring(Store(models), weights, accept=True)
    weights.unlink()
    return facts


def tell(facts: Mapping[str, Any]) -> None:
    """Print it."""
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
