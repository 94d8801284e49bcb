"""How the shipped lips network is made: synthesized speech, targets, recipe.

``main`` is ``heygemd train-lips``: it makes the data, trains, scores, and writes the weights and a score beside them.

May import: common, contract, pipeline.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from heygemd.common.errors import SetupError

if TYPE_CHECKING:
    from heygemd.training.network import LipsNet

SEED = 7


def main(argv: list[str]) -> int:
    """``train-lips --out FILE [--steps N] [--seed S] [--workers 2]``: 0 good enough, 1 trained but weaker than the
    bars in ``score``.  SetupError where libespeak-ng, flite, Babel or ffmpeg is missing, or FILE cannot be written."""
    from heygemd.training import dataset, recipe, score

    options = parser(recipe.STEPS).parse_args(argv)
    tell = _teller()
    _check_target(options.out)
    dataset.check_tools()
    examples = dataset.build(dataset.training_items(options.data), options.seed, options.workers, tell)
    tell(f"training on {dataset.hours(examples):.2f} h for {options.steps} steps")
    net = recipe.train(examples, options.steps, options.seed, _progress(tell, options.steps))
    held_out = dataset.build(dataset.held_out_items(options.data), options.seed, options.workers, tell)
    scores = score.score(held_out, net)
    save(net, options.out)
    facts = {"steps": options.steps, "seed": options.seed, "hours": round(dataset.hours(examples), 2), **scores}
    options.out.with_suffix(".json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    tell(json.dumps(scores, indent=1, ensure_ascii=False))
    tell(f"wrote {options.out} and {options.out.with_suffix('.json')}")
    return 0 if scores["passed"] else 1


def save(net: LipsNet, path: Path) -> None:
    """Write the weights as safetensors (float32), readable by ``lips.load``."""
    from safetensors.torch import save_file

    from heygemd.pipeline.speech import lips

    save_file(net.tensors(), path, {"format": lips.FORMAT})


def _check_target(path: Path) -> None:
    """SetupError now rather than after the training, where ``path`` cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").touch()
    except OSError as error:
        raise SetupError(f"The weights cannot be written to {path}: {error.strerror}. Choose another --out.") from error


def parser(steps: int = 0) -> argparse.ArgumentParser:
    """The command's words; ``steps`` is the usual number."""
    words = argparse.ArgumentParser(
        prog="heygemd train-lips",
        description="Train the lips network on synthesized speech (espeak-ng, flite), score it, write it.",
    )
    words.add_argument("--out", type=Path, required=True, help="weights to write; scores beside it (.json)")
    usual = f" (default {steps})" if steps else ""
    words.add_argument("--steps", type=int, default=steps, help=f"training steps{usual}")
    words.add_argument("--seed", type=int, default=SEED, help="of data, weights and crops (default %(default)s)")
    words.add_argument("--workers", type=int, default=2, help="processes that make data (default %(default)s)")
    words.add_argument("--data", type=float, default=1.0, help="share of the usual amount of data (default 1)")
    return words


def _teller() -> Callable[[str], None]:
    start = time.monotonic()

    def tell(message: str) -> None:
        print(f"[{time.monotonic() - start:6.0f} s] {message}", file=sys.stderr, flush=True)

    return tell


def _progress(tell: Callable[[str], None], steps: int) -> Callable[[int, float, LipsNet], None]:
    def progress(step: int, loss: float, _net: LipsNet) -> None:
        if step % 50 == 0 or step == steps:
            tell(f"step {step} of {steps}, loss {loss:.3f}")

    return progress
