"""Who speaks: espeak's own variants, and random ones (formants, pitch, breath, tone) that no list contains."""

from __future__ import annotations

import numpy as np

_STOCK = """
    m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Andy Denis Gene Lee Mario Michael adam anika announcer antonio
    belinda boris david ed edward grandma grandpa iven john linda max michel norbert pablo quincy rob sandro
    shelby steph travis victor klatt klatt2 klatt3 klatt4 whisper croak
"""
STOCK = tuple(_STOCK.split())
HELD_OUT = ("Alex", "Annie", "caleb", "aunty", "Storm", "Mike", "zac", "klatt6", "marcelo", "kaukovalta")
RANDOM = 110
FLITE = ("slt", "awb", "kal16")
FLITE_HELD_OUT = "rms"


def random_voices(seed: int) -> dict[str, str]:
    """RANDOM voice variants: file name -> text."""
    names = [f"r{number}" for number in range(RANDOM)]
    return {name: _variant(name, np.random.default_rng([seed, 77, place])) for place, name in enumerate(names)}


def _variant(name: str, rng: np.random.Generator) -> str:
    female = rng.random() < 0.5
    tract = rng.uniform(1.0, 1.28) if female else rng.uniform(0.84, 1.08)
    pitch = rng.uniform(115, 230) if female else rng.uniform(60, 125)
    lines = [
        "language variant",
        f"name {name}",
        f"gender {'female' if female else 'male'}",
        f"pitch {pitch:.0f} {pitch * rng.uniform(1.15, 1.7):.0f}",
    ]
    if rng.random() < 0.25:
        lines.append(f"klatt {rng.integers(1, 7)}")
    for formant in range(9):
        strength = rng.uniform(60, 150) if formant > 1 else rng.uniform(80, 120)
        frequency = 100 * tract * rng.normal(1, 0.05)
        lines.append(f"formant {formant} {frequency:.0f} {strength:.0f} {rng.uniform(80, 190):.0f}")
    if rng.random() < 0.5:
        lines.append("breath " + " ".join(str(rng.integers(0, 6)) for _ in range(8)))
    lines += [
        f"roughness {rng.integers(0, 6)}",
        f"flutter {rng.integers(0, 9)}",
        f"consonants {rng.integers(70, 151)} {rng.integers(70, 151)}",
        f"tone 600 {rng.integers(130, 221)} 1200 {rng.integers(100, 181)} "
        f"2200 {rng.integers(60, 161)} 3500 {rng.integers(30, 141)}",
    ]
    return "\n".join(lines) + "\n"
