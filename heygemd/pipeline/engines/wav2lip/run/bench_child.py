"""The child of ``heygemd bench --engine wav2lip``; its arguments are WEIGHTS and THREADS.

Writes a checkpoint of seeded random weights to WEIGHTS, as one that could be imported, and tells in one line of JSON
how fast the network alone is here (``runners.compared``).  Speed does not depend on what the weights are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from heygemd.pipeline.engines.wav2lip.network import from_weights, random_weights
from heygemd.pipeline.engines.wav2lip.run import runners

SEED = 1


def main(path: Path, threads: int) -> None:
    """Write the checkpoint, measure, tell."""
    weights = random_weights(SEED)
    torch.save(weights, path)
    net = from_weights(weights)
    runner = runners.on_cuda(net) if torch.cuda.is_available() else runners.on_cpu(net, threads)
    print(json.dumps(runners.compared(net, runner, threads)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
